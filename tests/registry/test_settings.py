"""Settings: read from the environment only, documented, validated, without default secrets."""

from __future__ import annotations

import ast
import os
import re
import runpy
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.conf import settings as django_settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError

from registry import checks, env
from registry.celery import app
from registry.management.commands import quickstart

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).resolve().parents[2]
CODE = ("accounts", "api", "console", "registry", "scanning")
SECRET = "f49d1c0c7be3a2905e68d7f1b4a6c3e8d2"
FOR_TESTS = {"KCR_FAILPOINT"}  # the failpoint of crash tests


def sources() -> Iterator[Path]:
    for folder in CODE:
        yield from (SOURCE / folder).rglob("*.py")


def load(monkeypatch: pytest.MonkeyPatch, folder: Path, **values: str) -> dict[str, object]:
    """Load the settings of a new process with these values in its environment."""
    monkeypatch.setenv("KCR_DATA_DIR", str(folder))
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return runpy.run_path(str(SOURCE / "registry" / "settings.py"))


# ── Documentation ────────────────────────────────────────────────────────────────────────────────────────────────────
def names_in_code() -> set[str]:
    """Return the names of all settings in the code."""
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.fullmatch(r"KCR_[A-Z_]+", node.value)
            ):
                found.add(node.value)
    return found - FOR_TESTS


def names_in(text: str) -> set[str]:
    return {name for name in re.findall(r"\bKCR_[A-Z_]*[A-Z]", text) if not name.startswith("KCR_TEST_")}


def documented() -> dict[str, str]:
    """Return the defaults by name, as docs/reference/settings.md has them."""
    rows = (SOURCE / "docs" / "reference" / "settings.md").read_text().splitlines()
    return {row.split("`")[1]: row.split("|")[2].strip() for row in rows if row.startswith("| `KCR_")}


def test_settings_and_their_documentation_match():
    assert set(documented()) == names_in_code()


def test_every_documented_setting_exists():
    others = [SOURCE / name for name in ("docker-compose.yml", "Dockerfile", "Makefile")]
    known = names_in_code()
    for path in (*others, *SOURCE.glob("*.md"), *(SOURCE / "docs").rglob("*.md")):
        assert names_in(path.read_text()) <= known, path


def test_only_registry_env_reads_the_environment():
    """Only registry.env reads the environment; others set or remove variables of Django, gunicorn and Prometheus."""
    readers = {"registry/env.py", "registry/failpoints.py"}
    starters = {"registry/celery.py", "registry/metrics/__init__.py", "registry/server/worker.py", "registry/wsgi.py"}
    for path in sources():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        of_os = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
        imported = {ast.unparse(node) for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "os"}
        if {"os.environ", "os.getenv"} & of_os or any("env" in line for line in imported):
            assert path.relative_to(SOURCE).as_posix() in readers | starters


def test_every_default_matches_the_documentation(monkeypatch, tmp_path):
    for name in documented():
        monkeypatch.delenv(name, raising=False)
    data = tmp_path / "data"
    default = load(monkeypatch, data)
    mail = default["MAIL"] or "files"
    found = {
        "KCR_DATA_DIR": "`./data`",  # the tests never write there
        "KCR_BARE_HOST_NAMES": "`on`" if default["BARE_HOST_NAMES"] else "`off`",
        "KCR_ALLOWED_HOSTS": f"`{','.join(default['FURTHER_HOSTS'])}`",
        "KCR_STORAGE_URL": "the folder `storage` in the data directory",
        "KCR_DATABASE_URL": {"registry.database.sqlite": "SQLite"}[default["DATABASES"]["default"]["ENGINE"]],
        "KCR_REDIS_URL": default["REDIS_URL"] or "files",
        "KCR_SECRET_KEY": "made in the data directory" if (data / "secret_key").exists() else "",
        "KCR_WEB_WORKERS": "one a processor, at most 4",
        "KCR_MAIL_URL": mail,
        "KCR_MAIL_FROM": f"`{default['DEFAULT_FROM_EMAIL']}`".replace("localhost", "host"),
        "KCR_TRIVY_DB_REPOSITORY": default["TRIVY_DB_REPOSITORY"] or "Trivy's own",
        "KCR_SCAN_DIR": "the data directory" if default["SCAN_DIR"] == data else "",
        "KCR_ADMIN_EMAIL": f"`{default['ADMIN_EMAIL']}`",
        "KCR_ADMIN_PASSWORD": "generated",
    }
    same_name = {name: default[name.removeprefix("KCR_")] for name in documented().keys() - found.keys()}
    found |= {
        name: "none" if value in ("", []) or value == frozenset() else f"`{value}`" for name, value in same_name.items()
    }
    assert documented() == found
    assert default["WEB_WORKERS"] == min(4, os.cpu_count() or 1)


# ── Valid and invalid values ─────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("KCR_PUBLIC_URL", value)
            for value in ("registry.example.com", "ftp://example.com", "http://", "//example.com")
        ),
        *(
            ("KCR_PUBLIC_URL", value)
            for value in ("https://example.com/kcr", "https://example.com?a=b", "https://example.com#a")
        ),
        *(
            ("KCR_PUBLIC_URL", value)
            for value in ("http://example.com:port", "http://example.com:99999", "http://[::1")
        ),
        ("KCR_PUBLIC_URL", "https://user:secret@example.com"),
        *(("KCR_WEB_WORKERS", value) for value in ("0", "-1", "two", "1.5", "٣", "1_0", "+2")),
        ("KCR_WEB_THREADS", "15"),
        *(
            ("KCR_METRICS_LISTEN", value)
            for value in ("9464", ":9464", "localhost:http", "localhost:0", "127.0.0.1:8080")
        ),
        *(("KCR_BARE_HOST_NAMES", value) for value in ("maybe", "2", "onn")),
        *(("KCR_TRUSTED_PROXIES", value) for value in ("nonsense", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1,,x")),
        *(("KCR_WEBHOOK_ALLOWED_NETWORKS", value) for value in ("nonsense", "10.0.0.1/8", "10.0.0.0/33", "*")),
        *(("KCR_WEBHOOK_ALLOWED_PORTS", value) for value in ("0", "65536", "http", "80-90", "-1")),
        *(("KCR_SECRET_KEY", value) for value in ("short", SECRET[:31], "a" * 40, "x" * 1_000, "changeme" * 8)),
        *(("KCR_SECRET_KEY", value) for value in ("abcdefg" * 9, "1234567" * 8 + "1234567", "password " * 10)),
        *(
            ("KCR_DATABASE_URL", value)
            for value in ("mysql://a:b@c/d", "sqlite:///kcr.sqlite3", "nonsense", "localhost/kcr")
        ),
        *(("KCR_MAX_BLOB_SIZE", value) for value in ("0", "64G", "1e9", "-5")),
        *(
            ("KCR_STORAGE_URL", value)
            for value in (
                *(
                    "/srv/blobs",
                    "file://host/srv",
                    "file:relative",
                    "file:///srv?a=b",
                    "ftp://host/srv",
                    "s3:///prefix",
                ),
                *("s3://B_CKET", "s3://ab", "s3://blobs/../other", "s3://blobs/a b", "s3://blobs#a", "s3://[::1"),
                *(
                    "s3://blobs?unknown=1",
                    "s3://blobs?region=a&region=b",
                    "s3://blobs?region",
                    "s3://blobs?presign=maybe",
                ),
                *("s3://blobs?presign_from=1M", "s3://blobs?presign_from=-1", "s3://blobs?endpoint=s3.example.com"),
                *(
                    "s3://blobs?endpoint=https://s3.example.com/path",
                    "s3://blobs?public_endpoint=https://a:b@s3.example.com",
                ),
                "s3://blobs?endpoint=https://s3.example.com:99999",
            )
        ),
        *(("KCR_API_RATE", value) for value in ("0", "-1", "many")),
        *(("KCR_RECOVERY_DAYS", value) for value in ("-1", "two weeks", "14d")),
        *(("KCR_HISTORY_DAYS", value) for value in ("-1", "a year", "365d")),
    ],
)
def test_invalid_value_is_refused_with_the_name_of_the_setting(monkeypatch, tmp_path, name, value):
    with pytest.raises(ImproperlyConfigured, match=rf"{name}\b"):
        load(monkeypatch, tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("KCR_PUBLIC_URL", "https://registry.example.com/", "PUBLIC_URL", "https://registry.example.com"),
        ("KCR_PUBLIC_URL", " http://localhost:8090 ", "PUBLIC_URL", "http://localhost:8090"),
        ("KCR_BARE_HOST_NAMES", "OFF", "BARE_HOST_NAMES", False),
        ("KCR_BARE_HOST_NAMES", "no", "BARE_HOST_NAMES", False),
        ("KCR_BARE_HOST_NAMES", "1", "BARE_HOST_NAMES", True),
        ("KCR_BARE_HOST_NAMES", "", "BARE_HOST_NAMES", True),
        ("KCR_WEB_WORKERS", "3", "WEB_WORKERS", 3),
        ("KCR_DOMAIN", "KCR.Dev", "DOMAIN", "kcr.dev"),
        ("KCR_RECOVERY_DAYS", "0", "RECOVERY_DAYS", 0),
        ("KCR_SECRET_KEY", SECRET[:32], "SECRET_KEY", SECRET[:32]),
        ("KCR_SECRET_KEY", "3f" * 8 + "0123456789abcdef", "SECRET_KEY", "3f" * 8 + "0123456789abcdef"),
        ("KCR_SECRET_KEY_FALLBACKS", "one, two ,", "SECRET_KEY_FALLBACKS", ["one", "two"]),
    ],
)
def test_value_is_parsed(monkeypatch, tmp_path, name, value, attribute, expected):
    assert load(monkeypatch, tmp_path, **{name: value})[attribute] == expected


def test_a_database_address_is_used(monkeypatch, tmp_path):
    loaded = load(monkeypatch, tmp_path, KCR_DATABASE_URL="postgres://kcr:p%40ss@db.example.com:5433/registry")
    database = loaded["DATABASES"]["default"]
    assert database["ENGINE"] == "registry.database.postgresql"
    named = {key: database[key] for key in ("HOST", "PORT", "NAME", "USER", "PASSWORD")}
    assert named == {"HOST": "db.example.com", "PORT": 5433, "NAME": "registry", "USER": "kcr", "PASSWORD": "p@ss"}


FILES = "registry.storage.filesystem.FileSystemBlobStorage"
S3 = {"bucket_name": "blobs", "location": "", "region_name": None, "endpoint_url": None, "public_endpoint": ""}


@pytest.mark.parametrize(
    ("value", "backend", "options"),
    [
        ("file:///srv/some%20blobs", FILES, {"location": Path("/srv/some blobs")}),
        ("s3://blobs", "registry.storage.s3.S3BlobStorage", S3 | {"presign_from": 2**20}),
        ("s3://blobs?presign=off", "registry.storage.s3.S3BlobStorage", S3 | {"presign_from": None}),
        (
            "s3://blobs/some/prefix/?region=eu-central-1&endpoint=http://10.0.0.1:9000/",
            "registry.storage.s3.S3BlobStorage",
            S3
            | {"location": "some/prefix", "region_name": "eu-central-1", "endpoint_url": "http://10.0.0.1:9000"}
            | {"presign_from": None},  # clients may not reach an internal endpoint
        ),
        (
            "s3://blobs?endpoint=http://s3:9000&public_endpoint=https%3A%2F%2Fs3.example.com&presign_from=0",
            "registry.storage.s3.S3BlobStorage",
            S3 | {"endpoint_url": "http://s3:9000", "public_endpoint": "https://s3.example.com"} | {"presign_from": 0},
        ),
    ],
)
def test_storage_url_chooses_the_storage(monkeypatch, tmp_path, value, backend, options):
    loaded = load(monkeypatch, tmp_path, KCR_STORAGE_URL=value)
    assert loaded["STORAGES"]["blobs"] == {"BACKEND": backend, "OPTIONS": options}


def test_default_storage_is_in_the_data_directory(monkeypatch, tmp_path):
    blobs = load(monkeypatch, tmp_path / "with space%20")["STORAGES"]["blobs"]
    assert blobs == {"BACKEND": FILES, "OPTIONS": {"location": tmp_path / "with space%20" / "storage"}}


def test_lists_of_proxies_and_hosts_are_parsed(monkeypatch, tmp_path):
    loaded = load(
        monkeypatch, tmp_path, KCR_TRUSTED_PROXIES="10.0.0.0/8, 192.0.2.1", KCR_ALLOWED_HOSTS="a.test, b.test"
    )
    assert [str(network) for network in loaded["TRUSTED_PROXIES"]] == ["10.0.0.0/8", "192.0.2.1/32"]
    assert loaded["ALLOWED_HOSTS"][-2:] == ["a.test", "b.test"]


def test_networks_for_notifications_are_parsed(monkeypatch, tmp_path):
    assert load(monkeypatch, tmp_path)["WEBHOOK_ALLOWED_NETWORKS"] == []
    loaded = load(monkeypatch, tmp_path, KCR_WEBHOOK_ALLOWED_NETWORKS="10.1.0.0/16, fd00::/8")
    assert [str(network) for network in loaded["WEBHOOK_ALLOWED_NETWORKS"]] == ["10.1.0.0/16", "fd00::/8"]


def test_data_directory_is_private_to_its_user(monkeypatch, tmp_path, settings):
    settings.DATA_DIR = load(monkeypatch, tmp_path / "new" / "data")["DATA_DIR"]
    assert settings.DATA_DIR.stat().st_mode & 0o777 == 0o700
    assert checks.data_directory(None) == []
    for mode in (0o755, 0o750, 0o710, 0o701, 0o770):
        settings.DATA_DIR.chmod(mode)
        (warning,) = checks.data_directory(None)
        assert (warning.id, warning.hint) == ("registry.W001", f"chmod go= {settings.DATA_DIR}")
    settings.DATA_DIR = load(monkeypatch, Path("/proc/nowhere"), KCR_SECRET_KEY=SECRET)["DATA_DIR"]
    assert [found.id for found in checks.data_directory(None)] == ["registry.E002"]


def test_files_of_a_process_are_private_to_its_user(monkeypatch, tmp_path):
    """This holds in a directory that the group may read, because these files contain sessions and password links."""
    before = os.umask(0o022)
    try:
        load(monkeypatch, tmp_path)
        (tmp_path / "new").touch()
        (tmp_path / "folder").mkdir()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700


def test_files_of_a_former_version_are_made_private(monkeypatch, tmp_path):
    files = [tmp_path / name for name in ("kcr.sqlite3", "kcr.sqlite3-wal", "kcr.sqlite3-shm", "secret_key")]
    for file in files:
        file.write_text(SECRET)
        file.chmod(0o644)
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail").chmod(0o755)
    load(monkeypatch, tmp_path)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "mail").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("url", "listen", "named"),
    [
        ("http://localhost:8080", "127.0.0.1:8080", []),
        ("http://kcr.localhost:8080", "[::1]:8080,localhost:8080", []),
        ("http://[::1]:8080", "127.1.2.3:8080", []),
        ("https://registry.example.com", "0.0.0.0:8080", []),
        ("http://registry.example.com", "127.0.0.1:8080", ["KCR_PUBLIC_URL http://registry.example.com"]),
        ("http://192.0.2.1:8080", "127.0.0.1:8080", ["KCR_PUBLIC_URL http://192.0.2.1:8080"]),
        ("http://localhost:8080", "0.0.0.0:8080", ["KCR_LISTEN 0.0.0.0:8080"]),
        ("http://localhost:8080", "127.0.0.1:1,[::]:8080,:80", ["KCR_LISTEN [::]:8080", "KCR_LISTEN :80"]),
    ],
)
def test_plain_http_for_other_machines_is_warned_of(monkeypatch, tmp_path, settings, url, listen, named):
    loaded = load(monkeypatch, tmp_path, KCR_PUBLIC_URL=url, KCR_LISTEN=listen)
    for name in ("PUBLIC", "PUBLIC_URL", "LISTEN", "IS_HTTPS"):
        setattr(settings, name, loaded[name])
    found = run_checks(tags=["security"])
    said = [warning.msg for warning in found if warning.id == "registry.W002"]
    assert [words.partition(" can be reached")[0] for words in said] == named


@pytest.mark.parametrize("listen", ["127.0.0.1:80800", "127.0.0.1:-1", "127.0.0.1:x", "nowhere", "256.1.1.1:80"])
def test_unusable_listen_address_is_refused_with_the_reason(settings, listen):
    settings.LISTEN = listen
    with pytest.raises(CommandError, match="KCR cannot listen at"):
        quickstart.check_addresses()


@pytest.mark.parametrize("attribute", ["DOMAIN", "REGION"])
@pytest.mark.parametrize("value", ["", "a b", "a/b", "a_b", "-a", "a..b", ".a", "a.", "ä", "a:1", "*"])
def test_check_reports_a_domain_without_valid_host_names(settings, attribute, value):
    setattr(settings, attribute, value)
    assert [found.id for found in checks.names_of_hosts(None)] == ["registry.E001"]
    assert f"KCR_{attribute}" in checks.names_of_hosts(None)[0].msg


@pytest.mark.parametrize(
    ("domain", "region"), [("kcr.dev", "kr-central-2"), ("kcr.localhost", "eu.west.1"), ("kcr", "x")]
)
def test_check_accepts_a_domain_with_valid_host_names(settings, domain, region):
    settings.DOMAIN, settings.REGION = domain, region
    assert checks.names_of_hosts(None) == []


# ── Secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_two_installations_have_two_secrets_and_each_keeps_its_own(monkeypatch, tmp_path):
    first = load(monkeypatch, tmp_path / "one" / "data")["SECRET_KEY"]
    second = load(monkeypatch, tmp_path / "two" / "data")["SECRET_KEY"]
    assert first != second
    assert min(len(first), len(second)) >= 50
    assert load(monkeypatch, tmp_path / "one" / "data")["SECRET_KEY"] == first
    (tmp_path / "one" / "data" / "secret_key").write_text("x" * 50)
    with pytest.raises(ImproperlyConfigured, match=r"secret_key can be guessed"):
        load(monkeypatch, tmp_path / "one" / "data")
    (tmp_path / "one" / "data" / "secret_key").write_text(str(first))
    assert (tmp_path / "one" / "data" / "secret_key").read_text() == first


def test_the_secret_is_readable_by_its_owner_only(monkeypatch, tmp_path):
    load(monkeypatch, tmp_path)
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600


def test_a_secret_from_the_environment_leaves_no_file(monkeypatch, tmp_path):
    load(monkeypatch, tmp_path, KCR_SECRET_KEY=SECRET)
    assert list(tmp_path.iterdir()) == []


def test_empty_secret_is_refused(monkeypatch, tmp_path):
    """A full disk can leave an empty file, and keys must not be hashed without a secret."""
    path = tmp_path / "secret_key"
    path.touch()
    with pytest.raises(ImproperlyConfigured, match=r"is empty: set KCR_SECRET_KEY, or delete the file"):
        env.secret("KCR_SECRET_KEY", path)
    monkeypatch.setenv("KCR_SECRET_KEY", "   ")
    with pytest.raises(ImproperlyConfigured):
        env.secret("KCR_SECRET_KEY", path)


def test_source_contains_no_secret():
    """The repository contains no credentials (CVE-2026-4404: a default password)."""
    for path in (*sources(), *(SOURCE / name for name in ("docker-compose.yml", "Dockerfile", "README.md"))):
        text = path.read_text()
        assert not re.search(r"kcrs_[a-z2-7]{52}|django-insecure|BEGIN [A-Z ]*PRIVATE KEY", text), path
        if path.suffix != ".py":
            assert not re.search(r"(SECRET|PASSWORD|TOKEN)[A-Z_]*: *['\"]?[A-Za-z0-9]", text), path


# ── Safe by default ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_defaults_are_safe(monkeypatch, tmp_path):
    plain = load(monkeypatch, tmp_path)
    assert plain["DEBUG"] is False
    assert "*" not in plain["ALLOWED_HOSTS"]
    assert plain["LISTEN"].startswith("127.0.0.1:")
    assert plain["PASSWORD_HASHERS"][0].endswith("Argon2PasswordHasher")
    assert plain["SECURE_PROXY_SSL_HEADER"] is None
    assert len(plain["AUTH_PASSWORD_VALIDATORS"]) == 4
    assert plain["CSRF_COOKIE_HTTPONLY"]
    assert plain["X_FRAME_OPTIONS"] == "DENY"
    assert not any("pickle" in str(value).lower() for value in plain.values())


def test_https_makes_cookies_secure(monkeypatch, tmp_path):
    https = load(monkeypatch, tmp_path, KCR_PUBLIC_URL="https://registry.example.com")
    assert https["SESSION_COOKIE_SECURE"]
    assert https["CSRF_COOKIE_SECURE"]
    assert https["SECURE_HSTS_SECONDS"] >= 31_536_000
    plain = load(monkeypatch, tmp_path, KCR_PUBLIC_URL="http://localhost:8080")
    assert not plain["SESSION_COOKIE_SECURE"]  # browsers never send a secure cookie over http: no sign-in would work


def test_tasks_are_serialized_as_json_only():
    """CVE-2026-32590: pickled state is code (docs/design/security.md 34)."""
    assert app.conf.accept_content == ["json"]
    assert (app.conf.task_serializer, app.conf.result_serializer) == ("json", "json")


@pytest.mark.parametrize(
    "word", ["pickle", "marshal", "shelve", "yaml.load", "eval(", "exec(", "os.system", "shell=True"]
)
def test_code_never_executes_data(word):
    assert [
        str(path.relative_to(SOURCE))
        for path in sources()
        if re.search(rf"(?<![\w.]){re.escape(word)}", path.read_text())
    ] == []


def test_no_module_unpacks_a_layer():
    """Trivy unpacks layers in its own process. scanning.trivy.database reads an archive of the operator."""
    archives = {"tarfile", "zipfile", "lzma", "bz2", "zstandard", "shutil.unpack_archive"}
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Attribute) and archives & set(names_of(node))
    }
    assert found == {"scanning/trivy/database.py"}


def names_of(node: ast.Import | ast.ImportFrom | ast.Attribute) -> list[str]:
    """Return the modules that a statement imports, or the function that an expression names."""
    if isinstance(node, ast.Attribute):
        return [ast.unparse(node)]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [alias.name for alias in node.names]


def test_the_tests_have_a_data_directory_of_their_own():
    assert SOURCE not in Path(django_settings.DATA_DIR).parents


def test_compose_file_has_each_setting_once():
    """Docker Compose refuses a mapping with a duplicate key."""
    names = re.findall(r"^    (KCR_\w+):", (SOURCE / "docker-compose.yml").read_text(), re.MULTILINE)
    assert len(names) > 10
    assert sorted(names) == sorted(set(names))
