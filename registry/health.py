"""Liveness (``/healthz``) and readiness (``/readyz``)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import connection
from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from registry.celery import app
from registry.storage import blob_storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

logger = logging.getLogger(__name__)


@csrf_exempt  # the check would parse the body; these views read none
@require_safe
def alive(request: HttpRequest) -> JsonResponse:
    """``/healthz``: 200 while the process answers."""
    return JsonResponse({"status": "ok"})


@csrf_exempt
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """``/readyz``: 200 if database and storage answer, else 503. The JSON body has the states, that of the broker too.

    Without the broker people push and pull, so a load balancer must go on with these servers.
    """
    states = {name: _state(name, probe) for name, probe in _PROBES.items()}
    is_ready = all(state == "ok" for name, state in states.items() if name != "broker")
    return JsonResponse({"status": "ok" if is_ready else "unavailable", **states}, status=200 if is_ready else 503)


def _state(name: str, probe: Callable[[], object]) -> str:
    try:
        probe()
    except Exception:
        logger.exception("%s is not ready", name)
        return "unavailable"
    return "ok"


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _broker() -> None:
    with app.connection_for_read() as broker:
        broker.ensure_connection(max_retries=1, timeout=2)


_PROBES: dict[str, Callable[[], object]] = {
    "database": _database,
    "storage": lambda: blob_storage().check(),
    "broker": _broker,
}
