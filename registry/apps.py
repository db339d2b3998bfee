"""Django's entry to the registry app."""

import ctypes
import sys

from django.apps import AppConfig

PR_SET_DUMPABLE = 4


class RegistryConfig(AppConfig):
    name = "registry"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks; keep other processes of this user out of this one's memory and environment."""
        if sys.platform == "linux":  # until it starts another program
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        from . import checks  # noqa: F401, PLC0415  Django finds checks by importing them
