"""Django's entry to the scanning app."""

from django.apps import AppConfig


class ScanningConfig(AppConfig):
    name = "scanning"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Listen to the registry."""
        from . import receivers  # noqa: F401, PLC0415  a receiver listens from when it is imported
