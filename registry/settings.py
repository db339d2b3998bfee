"""All settings of the installation, from the environment (registry/env.py); see docs/reference/settings.md."""

from __future__ import annotations

import os
from pathlib import Path

from registry import env, pools

BASE_DIR = Path(__file__).resolve().parent.parent

# ── Where this installation lives ────────────────────────────────────────────────────────────────────────────────────
os.umask(0o077)  # every process imports the settings first, so all files it creates are private to its user
DATA_DIR = env.private_directory("KCR_DATA_DIR", BASE_DIR / "data")
PUBLIC = env.public_url("KCR_PUBLIC_URL", "http://localhost:8080")
PUBLIC_URL = PUBLIC.geturl()
LISTEN = env.text("KCR_LISTEN", "127.0.0.1:8080")
# By name, as in urls.py: only a process that serves metrics imports them.
METRICS_READERS = ["registry.metrics.rows.read", "scanning.metrics.read"]
DOCTOR_PROBES = ["registry.doctor.services.PROBES", "scanning.doctor.PROBES", "registry.doctor.address.PROBES"]
METRICS_LISTEN = env.metrics_address("KCR_METRICS_LISTEN", LISTEN)
WEB_WORKERS = env.number("KCR_WEB_WORKERS", min(4, os.cpu_count() or 1), least=1)
WEB_THREADS = env.number("KCR_WEB_THREADS", 256, least=16)
DOMAIN = env.text("KCR_DOMAIN", "kcr.localhost").lower()
REGION = env.text("KCR_REGION", "kr-central-2").lower()
BARE_HOST_NAMES = env.switch("KCR_BARE_HOST_NAMES", default=True)
TRUSTED_PROXIES = env.networks("KCR_TRUSTED_PROXIES")
FURTHER_HOSTS = env.words("KCR_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
ALLOWED_HOSTS = [PUBLIC.hostname, f".{REGION}.{DOMAIN}", *FURTHER_HOSTS]

# ── Secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────
SECRET_KEY = env.secret("KCR_SECRET_KEY", DATA_DIR / "secret_key")
SECRET_KEY_FALLBACKS = env.words("KCR_SECRET_KEY_FALLBACKS")

# ── Code ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
DEBUG = False
ROOT_URLCONF = "registry.urls"
WSGI_APPLICATION = "registry.wsgi.application"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "guardian",
    "lucide",
    "rest_framework",
    "accounts",
    "registry",
    "scanning",
    "console",
]
MIDDLEWARE = [
    "registry.middleware.RequestMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "registry.middleware.FormLimitMiddleware",
    "console.middleware.CompressPagesMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "console.middleware.ConsoleMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "django.template.context_processors.i18n",
            ],
        },
    },
]

# ── Database ─────────────────────────────────────────────────────────────────────────────────────────────────────────
DATABASES = {"default": env.database("KCR_DATABASE_URL", DATA_DIR / "kcr.sqlite3")}
if DATABASES["default"]["ENGINE"].endswith("postgresql"):
    DATABASES["default"]["OPTIONS"] |= {
        # The size is that of a command: web server and workers resize it. Retry every 4 seconds: with longer pauses the
        # service stays down after the database is back.
        "pool": {"min_size": 0, "max_size": pools.SMALL, "timeout": 1, "reconnect_timeout": 4},
        "prepare_threshold": 5,  # lets registry.database.drivers prepare statements; Django's own cursors never do
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ── Bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────────
MAX_BLOB_SIZE = env.number("KCR_MAX_BLOB_SIZE", 64 * 1024**3, least=1)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    "blobs": env.storage("KCR_STORAGE_URL", DATA_DIR / "storage"),
}
STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True

# ── People ───────────────────────────────────────────────────────────────────────────────────────────────────────────
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "guardian.backends.ObjectPermissionBackend",
]
ANONYMOUS_USER_NAME = None  # guardian: do not create a user row for anonymous access
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
SESSION_ENGINE = "accounts.sessions"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
LOGIN_URL = "console:sign_in"
PASSWORD_RESET_TIMEOUT = 24 * 3600
# The first user, whom quickstart makes; without a password here it makes one up and shows it.
ADMIN_EMAIL = env.text("KCR_ADMIN_EMAIL", "admin@kcr.localhost")
ADMIN_PASSWORD = env.text("KCR_ADMIN_PASSWORD")
RECOVERY_DAYS = env.number("KCR_RECOVERY_DAYS", 14)
HISTORY_DAYS = env.number("KCR_HISTORY_DAYS", 0)

# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
APPEND_SLASH = False
API_RATE = env.number("KCR_API_RATE", 600, least=1)  # requests a minute of an access key to the management API
FORCE_SCRIPT_NAME = ""  # KCR lives at the root of its host: a SCRIPT_NAME that a client sends moves no path
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000  # bytes of a form (registry.middleware refuses more)
FILE_UPLOAD_HANDLERS: list[str] = []  # no form takes files: a file in a form is dropped while it is read
IS_HTTPS = PUBLIC.scheme == "https"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SESSION_COOKIE_NAME = "kcr_session"
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "console.views.errors.csrf_failure"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
# The proxy that ends TLS redirects to it, and decides about other hosts of its domain and about preloading.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021"]

# ── Mail ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
MAIL = env.mail("KCR_MAIL_URL")
DEFAULT_FROM_EMAIL = env.text("KCR_MAIL_FROM", f"KCR <kcr@{PUBLIC.hostname}>")
EMAIL_TIMEOUT = 20
if MAIL:
    EMAIL_HOST, EMAIL_PORT, EMAIL_USE_SSL, EMAIL_USE_TLS, EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = MAIL
else:  # no mail server is configured: Django writes mails to files
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = DATA_DIR / "mail"
    env.close_to_others(EMAIL_FILE_PATH)

# ── Notices ──────────────────────────────────────────────────────────────────────────────────────────────────────────
WEBHOOK_ALLOWED_NETWORKS = env.networks("KCR_WEBHOOK_ALLOWED_NETWORKS")
WEBHOOK_ALLOWED_PORTS = env.ports("KCR_WEBHOOK_ALLOWED_PORTS")

# ── Work in the background ───────────────────────────────────────────────────────────────────────────────────────────
REDIS_URL = env.text("KCR_REDIS_URL")

# ── Tracing ──────────────────────────────────────────────────────────────────────────────────────────────────────────
TRACING = env.tracing()
TRACING_RESOURCE = {} if env.of_the_system("OTEL_SERVICE_NAME") else {"service.name": "kcr"}
LOG_FILTERS = {"secrets": {"()": "registry.logs.SecretsFilter"}}
if TRACING:
    MIDDLEWARE.insert(0, "registry.tracing.TracingMiddleware")
    LOG_FILTERS["trace"] = {"()": "registry.tracing.TraceFilter"}

# ── Scans ────────────────────────────────────────────────────────────────────────────────────────────────────────────
TRIVY_DB_REPOSITORY = env.text("KCR_TRIVY_DB_REPOSITORY")
SCAN_DIR = env.private_directory("KCR_SCAN_DIR", DATA_DIR)
TRIVY_SOCKET = env.text("KCR_TRIVY_SOCKET")

# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ko", "한국어")]
LOCALE_PATHS = [BASE_DIR / "console" / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"default": {"()": "registry.logs.formatter"}},
    "filters": LOG_FILTERS,
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "default", "filters": [*LOG_FILTERS]}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "botocore": {"level": "WARNING"},  # each process would say where it found credentials
    },
}

# ── The registry API ─────────────────────────────────────────────────────────────────────────────────────────────────
REST_FRAMEWORK = {
    "EXCEPTION_HANDLER": "registry.v2.errors.answer",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
