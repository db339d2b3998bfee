"""The WSGI entry point."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "registry.settings")

_pages = get_wsgi_application()

from registry.metrics import page as metrics  # noqa: E402  needs the settings

if TYPE_CHECKING:
    from collections.abc import Iterable


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer at KCR_METRICS_LISTEN with metrics, elsewhere with Django."""
    return (metrics.application if metrics.is_asked(environ) else _pages)(environ, start_response)
