"""Read and check settings from the environment, their only source.

Every name begins with ``KCR_``, except variables that other programs use as well. See docs/reference/settings.md.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

_TRUE = frozenset({"on", "true", "yes", "1"})
_FALSE = frozenset({"off", "false", "no", "0"})
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._/-]{0,200}")
PRESIGN_FROM = 1024 * 1024  # bytes: for a smaller blob, a second request costs clients more than its bytes
LEAST_SECRET, LEAST_DIFFERENT = 32, 8  # characters


def text(name: str, default: str = "") -> str:
    """Return the value without surrounding space, or the default when it is absent or empty."""
    return os.environ.get(name, "").strip() or default


def switch(name: str, *, default: bool) -> bool:
    """An on/off setting. Raises ImproperlyConfigured for any other word."""
    value = text(name).lower()
    if value and value not in _TRUE | _FALSE:
        raise ImproperlyConfigured(f"{name} must be on or off, not {value!r}")
    return value in _TRUE if value else default


def number(name: str, default: int, *, least: int = 0) -> int:
    """A whole number of at least ``least``. Raises ImproperlyConfigured."""
    value = text(name)
    if value and not (value.isascii() and value.isdigit() and int(value) >= least):
        raise ImproperlyConfigured(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value) if value else default


def words(name: str, default: str = "") -> list[str]:
    """A list separated by commas."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    """Networks separated by commas, such as 10.0.0.0/8. Raises ImproperlyConfigured."""
    try:
        return [ip_network(word) for word in words(name)]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must hold networks such as 10.0.0.0/8: {error}") from error


def ports(name: str) -> frozenset[int]:
    """Port numbers separated by commas. Raises ImproperlyConfigured."""
    found = words(name)
    if not all(word.isascii() and word.isdigit() and 0 < int(word) < 65_536 for word in found):
        raise ImproperlyConfigured(f"{name} must hold port numbers such as 8444,9000, not {text(name)!r}")
    return frozenset(map(int, found))


def metrics_address(name: str, listen: str) -> str:
    """HOST:PORT, or "" when it is absent. Raises ImproperlyConfigured, also for a port of ``listen``.

    The port tells requests for metrics from others.
    """
    value = text(name)
    host, _, port = value.rpartition(":")
    if value and not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ImproperlyConfigured(f"{name} must look like 127.0.0.1:9464, not {value!r}")
    if port and port in {address.rpartition(":")[2] for address in listen.split(",")}:
        raise ImproperlyConfigured(f"{name} must have a port of its own: KCR_LISTEN has {port} already")
    return value


def tracing() -> bool:
    """Whether the variables of OpenTelemetry name a collector of traces, and do not turn tracing off."""
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    is_off = text("OTEL_SDK_DISABLED").lower() == "true" or text("OTEL_TRACES_EXPORTER", "otlp").lower() != "otlp"
    return any(map(text, names)) and not is_off


def public_url(name: str, default: str) -> SplitResult:
    """Scheme, host and port, nothing else. Raises ImproperlyConfigured."""
    value = text(name, default).rstrip("/")
    try:
        parts = urlsplit(value)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
    if not is_good or value != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc:
        raise ImproperlyConfigured(f"{name} must look like https://registry.example.com, not {value!r}")
    return parts


def of_the_system(*names: str) -> dict[str, str]:
    """Return the given environment variables that are set, such as HTTPS_PROXY."""
    return {name: os.environ[name] for name in names if name in os.environ}


class Mail(NamedTuple):
    """How to reach a mail server, in the order of Django's settings."""

    host: str
    port: int
    use_ssl: bool
    use_tls: bool
    user: str
    password: str


def mail(name: str) -> Mail | None:
    """``smtp://user:password@host:587`` (with STARTTLS), ``smtps://`` (TLS from the start), ``smtp+plain://`` (none).

    None when it is not set. Raises ImproperlyConfigured.
    """
    value = text(name)
    if not value:
        return None
    ports = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
    try:
        parts = urlsplit(value)
        port = parts.port or ports.get(parts.scheme, 0)
    except ValueError:
        parts, port = urlsplit(""), 0
    if not parts.hostname or not port or parts.path not in {"", "/"}:
        raise ImproperlyConfigured(f"{name} must look like smtp://user:password@mail.example.com:587")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Mail(parts.hostname, port, parts.scheme == "smtps", parts.scheme == "smtp", user, password)


def database(name: str, sqlite: Path) -> dict[str, Any]:
    """The database, for Django's DATABASES. Without a value it is the SQLite file. Raises ImproperlyConfigured."""
    value = text(name)
    if value and not value.startswith(("postgres://", "postgresql://")):
        raise ImproperlyConfigured(f"{name} must be a postgres:// address; leave it empty for SQLite")
    return database_at(value or sqlite.absolute().as_uri().replace("file:", "sqlite:"))


def database_at(url: str) -> dict[str, Any]:
    """Parse ``postgres://user:password@host/name``, or ``sqlite:///path``. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme in {"postgres", "postgresql"}:
        found: dict[str, Any] = dict(dj_database_url.parse(url, engine="registry.database.postgresql"))
        # End connections to a machine that is gone. For one that is there and silent: registry.database.postgresql.
        options = {
            "connect_timeout": 3,
            "tcp_user_timeout": 5_000,  # milliseconds
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 2,
        }
        return found | {"OPTIONS": options | found.get("OPTIONS", {})}
    is_good = parts.scheme == "sqlite" and not parts.netloc and parts.path.startswith("/") and not parts.query
    _require(is_good, "it must look like postgres://user:password@host/name or sqlite:///path")
    path = Path(unquote(parts.path))
    close_to_others(path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))
    return {
        "ENGINE": "registry.database.sqlite",  # Django's, with a queue of writers
        "CONN_MAX_AGE": None,
        "NAME": str(path),
        "OPTIONS": {
            # A write transaction takes the lock when it begins: a later upgrade would fail instead of waiting.
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            # An answered push survives a power cut. registry.database.sqlite syncs the log itself, and sets NORMAL.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
        },
    }


def storage(name: str, default: Path) -> dict[str, Any]:
    """Where blobs are, for Django's STORAGES. See ``storage_at``. Raises ImproperlyConfigured."""
    try:
        return storage_at(text(name, default.absolute().as_uri()))
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} cannot be used: {error}") from error


def storage_at(url: str) -> dict[str, Any]:
    """Parse ``file:///path``, or ``s3://BUCKET/optional/prefix?region=…``.

    Parameters of S3: ``region``, ``endpoint``, ``public_endpoint``, ``presign`` (on or off), ``presign_from`` (bytes).
    Clients are sent to S3 unless ``presign`` is off, or the only address that is known is an internal endpoint.
    Raises ValueError.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return {"BACKEND": "registry.storage.s3.S3BlobStorage", "OPTIONS": _s3_options(parts)}
    is_good = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/") and not parts.query
    _require(is_good, "it must look like file:///path or s3://bucket/prefix?region=eu-central-1")
    location = Path(unquote(parts.path))
    return {"BACKEND": "registry.storage.filesystem.FileSystemBlobStorage", "OPTIONS": {"location": location}}


def _s3_options(parts: SplitResult) -> dict[str, Any]:
    """The options of S3BlobStorage. Raises ValueError."""
    _require(bool(_BUCKET.fullmatch(parts.netloc)), f"{parts.netloc!r} is not the name of a bucket")
    prefix = parts.path.strip("/")
    _require(bool(_PREFIX.fullmatch(prefix)) and ".." not in prefix.split("/"), f"{prefix!r} is not a usable prefix")
    _require(not parts.fragment, "there is a # in it")
    given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    found = dict(given)
    unknown = found.keys() - {"region", "endpoint", "public_endpoint", "presign", "presign_from"}
    _require(not unknown and len(given) == len(found), f"unknown or repeated parameter: {sorted(unknown or found)}")
    endpoint, public = (_endpoint(part, found.get(part, "")) for part in ("endpoint", "public_endpoint"))
    word = found.get("presign", "on" if public or not endpoint else "off").lower()
    _require(word in _TRUE | _FALSE, f"presign must be on or off, not {word!r}")
    least = found.get("presign_from", str(PRESIGN_FROM))
    _require(least.isascii() and least.isdigit(), f"presign_from must be a number of bytes, not {least!r}")
    return {
        "bucket_name": parts.netloc,
        "location": prefix,
        "region_name": found.get("region") or None,
        "endpoint_url": endpoint or None,
        "public_endpoint": public,
        "presign_from": int(least) if word in _TRUE else None,
    }


def _endpoint(name: str, value: str) -> str:
    parts = urlsplit(value)
    is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    is_bare = "@" not in parts.netloc and value.rstrip("/") == f"{parts.scheme}://{parts.netloc}"
    _require(not value or (is_good and is_bare), f"{name} must look like https://s3.example.com, not {value!r}")
    return value.rstrip("/")


def _require(condition: bool, words: str) -> None:
    if not condition:
        raise ValueError(words)


def private_directory(name: str, default: Path) -> Path:
    """Return the directory; create it with mode 0700 if it is missing. ``manage.py check`` reports problems with it."""
    path = Path(text(name, str(default))).absolute()
    with suppress(OSError):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def close_to_others(*paths: Path) -> None:
    """Remove the permissions of group and others from these paths. Skip missing paths and those of other users.

    Older versions created them with the umask of the user.
    """
    for path in paths:
        with suppress(OSError):
            if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
                path.chmod(mode & 0o700)


def write_private(path: Path, content: str) -> None:
    """Write the file with mode 0600; replace an existing file."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)


def secret(name: str, path: Path) -> str:
    """Return the secret from the environment or the file. Create the file with a random secret if it is missing.

    There is no default value: two installations would share it. Raises ImproperlyConfigured for a weak secret.
    """
    if value := text(name):
        _require_random(name, value)
        return value
    path.parent.mkdir(parents=True, exist_ok=True)
    close_to_others(path)
    if not path.exists():
        with suppress(FileExistsError):  # another process was faster
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(48))
    value = path.read_text().strip()
    if not value:
        raise ImproperlyConfigured(f"{path} is empty: set {name}, or delete the file")
    _require_random(str(path), value)
    return value


def _require_random(name: str, value: str) -> None:
    """Raises ImproperlyConfigured for a secret that is short, has few different characters, or repeats a part."""
    if len(value) < LEAST_SECRET:
        raise ImproperlyConfigured(f"{name} must have at least {LEAST_SECRET} characters")
    repeats = any(value[part:] == value[:-part] for part in range(1, len(value) // 2 + 1))
    if len(set(value)) < LEAST_DIFFERENT or repeats:
        raise ImproperlyConfigured(
            f"{name} can be guessed: take random characters (openssl rand -hex 32). What was hashed and encrypted with"
            " this one stays readable while it stands in KCR_SECRET_KEY_FALLBACKS"
        )
