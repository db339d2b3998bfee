"""The WSGI entry point."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from django.core.wsgi import get_wsgi_application
from django.utils.module_loading import import_string

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "registry.settings")

_pages = get_wsgi_application()

from registry.metrics import page as metrics  # noqa: E402  these need the settings
from registry.middleware import is_management_api, is_registry_api  # noqa: E402
from registry.v2.handler import Handler  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable

_api = Handler()
_management: Any = import_string("api.handler.Handler")()  # a package above this one, as in urls.py


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer at KCR_METRICS_LISTEN with metrics, elsewhere with one of the two APIs or a page, by the path."""
    if metrics.is_asked(environ):
        return metrics.application(environ, start_response)
    path = environ["PATH_INFO"]
    answer = _api if is_registry_api(path) else _management if is_management_api(path) else _pages
    found: Iterable[bytes] = answer(environ, start_response)
    return found
