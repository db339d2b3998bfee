"""Liveness (``/healthz``) and readiness (``/readyz``)."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
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

STORAGE_SECONDS = 3.0  # the probes of the chart and the image give up after 6 and 5 seconds
_asking = ThreadPoolExecutor(1, thread_name_prefix="health")


@csrf_exempt  # the check would parse the body; these views read none
@require_safe
def alive(request: HttpRequest) -> JsonResponse:
    """``/healthz``: 200 while the process answers."""
    return JsonResponse({"status": "ok"})


@csrf_exempt
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """``/readyz``: 200 if the database answers, else 503. The JSON body has its state, and those of storage and broker.

    All servers share these parts. Nothing is served without the database. Without storage or broker much is, so a load
    balancer must not take all servers away at once.
    """
    states = {name: _state(name, probe) for name, probe in _PROBES.items()}
    is_ready = states["database"] == "ok"
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


def _storage() -> None:
    """Raises TimeoutError after STORAGE_SECONDS: a silent S3 is waited for longer, by one thread of the process."""
    asked = _asking.submit(lambda: blob_storage().check())
    try:
        asked.result(STORAGE_SECONDS)
    finally:
        asked.cancel()


def _broker() -> None:
    with app.connection_for_read() as broker:
        broker.ensure_connection(max_retries=1, timeout=2)


_PROBES: dict[str, Callable[[], object]] = {"database": _database, "storage": _storage, "broker": _broker}
