"""System checks of the settings (``manage.py check``)."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from accounts.management.json_command import CHECKS
from registry import migrated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from urllib.parse import SplitResult

_HOST_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.ASCII)


@checks.register(CHECKS)
def names_of_hosts(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """KCR_DOMAIN and KCR_REGION make host names."""
    wrong = [name for name in ("DOMAIN", "REGION") if not _HOST_NAME.fullmatch(getattr(settings, name))]
    return [checks.Error(f"KCR_{name} is not part of a host name", id="registry.E001") for name in wrong]


@checks.register(CHECKS)
def data_directory(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """The data directory is writable, and private to this user: it holds sessions, mails and secrets."""
    directory = settings.DATA_DIR
    if not os.access(directory, os.W_OK):
        return [checks.Error(f"KCR_DATA_DIR {directory} cannot be written to", id="registry.E002")]
    if directory.stat().st_mode & 0o077:
        words = f"KCR_DATA_DIR {directory} is open to other users of this machine"
        return [checks.Warning(words, hint=f"chmod go= {directory}", id="registry.W001")]
    return []


@checks.register(checks.Tags.database)
def database_from_before_the_first_release(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Asked before ``migrate``, which would end with a list of models that it does not find."""
    if databases and migrated.is_in_between(MigrationLoader(connection)):
        return [checks.Error(migrated.IN_BETWEEN, id="registry.E003")]
    return []


@checks.register(checks.Tags.security)
def transport(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Without TLS, passwords and access keys cross the network in the clear."""
    if settings.IS_HTTPS:
        return []
    found = [
        f"KCR_LISTEN {address}" for address in settings.LISTEN.split(",") if not _is_local(urlsplit(f"//{address}"))
    ]
    if not _is_local(settings.PUBLIC):
        found.append(f"KCR_PUBLIC_URL {settings.PUBLIC_URL}")
    hint = "Let a proxy end TLS, and set KCR_PUBLIC_URL to its https:// address."
    words = "can be reached from other machines over plain HTTP: passwords and access keys can be read on the way"
    return [checks.Warning(f"{each} {words}", hint=hint, id="registry.W002") for each in found]


def _is_local(address: SplitResult) -> bool:
    """Whether this address is reached from this machine alone."""
    host = address.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost") or address.netloc.startswith("unix:")
