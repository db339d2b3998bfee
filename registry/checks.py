"""What must be right before the server starts (``manage.py check``)."""

from __future__ import annotations

import os
import re
from typing import Any

from django.conf import settings
from django.core import checks

#: The tag of these checks. Commands ask for them alone: looking through pages and models takes longer than they do.
OURS = "kcr"
_HOST_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.ASCII)


@checks.register(OURS)
def names_of_hosts(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """KCR_DOMAIN and KCR_REGION make host names."""
    wrong = [name for name in ("DOMAIN", "REGION") if not _HOST_NAME.fullmatch(getattr(settings, name))]
    return [checks.Error(f"KCR_{name} is not part of a host name", id="registry.E001") for name in wrong]


@checks.register(OURS)
def data_directory(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """The data directory can be written to, and is not everybody's: sessions, mails and secrets are in it."""
    directory = settings.DATA_DIR
    if not os.access(directory, os.W_OK):
        return [checks.Error(f"KCR_DATA_DIR {directory} cannot be written to", id="registry.E002")]
    if directory.stat().st_mode & 0o007:
        words = f"KCR_DATA_DIR {directory} is open to every user of this machine"
        return [checks.Warning(words, hint=f"chmod o= {directory}", id="registry.W001")]
    return []
