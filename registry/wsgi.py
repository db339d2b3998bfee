"""The WSGI entry point."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "registry.settings")

_pages = get_wsgi_application()

from registry.metrics import page as metrics  # noqa: E402  these need the settings
from registry.middleware import is_registry_api  # noqa: E402
from registry.v2.handler import Handler  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable

_api = Handler()


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer at KCR_METRICS_LISTEN with metrics, elsewhere with the registry API or a page, by the path."""
    if metrics.is_asked(environ):
        return metrics.application(environ, start_response)
    return (_api if is_registry_api(environ["PATH_INFO"]) else _pages)(environ, start_response)
