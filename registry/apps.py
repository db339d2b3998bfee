"""Django's entry to the registry app."""

import ctypes
import sys

from django.apps import AppConfig
from django.conf import settings

PR_SET_DUMPABLE = 4


class RegistryConfig(AppConfig):
    name = "registry"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks. Block ptrace and /proc access by other processes of the same user."""
        if sys.platform == "linux":  # execve resets the flag
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        if settings.TRACING:
            from . import tracing  # noqa: PLC0415

            tracing.install()
        from . import checks  # noqa: F401, PLC0415  Django finds checks by importing them
