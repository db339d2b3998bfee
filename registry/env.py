"""Settings come from the environment and from nowhere else: this module reads and checks them.

Every name begins with ``KCR_``, but for what other programs are told as well; README.md lists them (a test compares).
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

_TRUE = frozenset({"on", "true", "yes", "1"})
_FALSE = frozenset({"off", "false", "no", "0"})


def text(name: str, default: str = "") -> str:
    """The setting as it was written, without surrounding space; the default when it is absent or empty."""
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
    """Those of these variables that are set: what every program is told, such as the way through a proxy."""
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


def private_directory(name: str, default: Path) -> Path:
    """A directory, made for this user alone when it is missing; ``manage.py check`` says what is wrong with it."""
    path = Path(text(name, str(default))).absolute()
    with suppress(OSError):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def secret(name: str, path: Path) -> str:
    """A secret from the environment, or from a file that is made, readable by its owner only, when it is missing.

    There is no default that two installations could share.
    """
    if value := text(name):
        if len(value) < 32:
            raise ImproperlyConfigured(f"{name} must have at least 32 characters")
        return value
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if value := path.read_text().strip():
            return value
        raise ImproperlyConfigured(f"{path} is empty: set {name}, or delete the file") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(value := secrets.token_urlsafe(48))
    return value
