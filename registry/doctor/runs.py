"""Runs all probes side by side, each within its time, and stores what they found."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext_noop as _

from registry.models import DoctorRun

from . import proxies
from .results import Ended, Result, State, Text
from .visit import Probe, Visit, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.models import QuerySet

logger = logging.getLogger(__name__)

KEPT = 10  # runs
HIDDEN = "***"
_starting = threading.Lock()


def probes() -> list[Probe]:
    """All probes, in the order of their results (settings.DOCTOR_PROBES)."""
    return [probe for name in settings.DOCTOR_PROBES for probe in import_string(name)]


def run(visit: Visit, wanted: list[Probe], ended: Callable[[Result], object]) -> Iterator[Result]:
    """Run these probes at once. Yield their results in this order; call ``ended`` as soon as each is there.

    A probe that takes too long, or raises an exception, is a failure.
    """
    known = _secrets()
    threads = [_Thread(probe, visit, known, ended) for probe in wanted]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    for thread in threads:
        thread.join(max(0.0, began + thread.probe.seconds + visit.wait - time.monotonic()))
        yield thread.result or _late(thread.probe, round(time.monotonic() - began))


class _Thread(threading.Thread):
    """Runs one probe."""

    def __init__(self, probe: Probe, visit: Visit, secrets: set[str], ended: Callable[[Result], object]) -> None:
        super().__init__(name=f"doctor {probe.name}", daemon=True)
        self.probe, self._visit, self._secrets, self._ended = probe, visit, secrets, ended
        self.result: Result | None = None

    def run(self) -> None:
        """Set ``result``."""
        try:
            self.result = _clean(_result(self.probe, self._visit), self._secrets)
            self._ended(self.result)
        except Exception:
            logger.exception("the result of the probe %s could not be used", self.probe.name)
        finally:
            with suppress(Exception):
                connection.close()


def _result(probe: Probe, visit: Visit) -> Result:
    try:
        probe.call(visit)
    except Ended as end:
        return Result(probe.name, end.state, end.seen, end.change, proxies.LINES.get(end.fault, {}))
    except Exception as error:
        logger.warning("the probe %s of the doctor failed", probe.name, exc_info=error)
        words = {"kind": type(error).__name__, "error": reason(error)}
        return Result(probe.name, State.FAILURE, Text(_("the probe itself failed: %(kind)s: %(error)s"), words))
    return Result(probe.name, State.FAILURE, Text(_("the probe came to no result")))


def _late(probe: Probe, seconds: int) -> Result:
    return Result(probe.name, State.FAILURE, Text(_("no result within %(seconds)s seconds"), {"seconds": seconds}))


def _secrets() -> set[str]:
    """Texts that no result may have: the words of errors come from libraries and other servers."""
    found = {settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS, settings.EMAIL_HOST_PASSWORD}
    found |= {str(settings.DATABASES["default"].get("PASSWORD") or ""), urlsplit(settings.REDIS_URL).password or ""}
    return {text for text in found if len(text) > 3}


def _clean(result: Result, secrets: set[str]) -> Result:
    def cleaned(text: Text) -> Text:
        return Text(text.words, {name: _without(secrets, value) for name, value in text.values.items()})

    return Result(result.probe, result.state, cleaned(result.seen), cleaned(result.change), result.lines)


def _without(secrets: set[str], value: object) -> object:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
    return value


# ── Stored runs ──────────────────────────────────────────────────────────────────────────────────────────────────────
def last() -> DoctorRun | None:
    """The last run, finished or not."""
    return DoctorRun.objects.order_by("-pk").first()


def under_way() -> QuerySet[DoctorRun]:
    """Runs that have not ended, and whose process should be alive."""
    return DoctorRun.objects.filter(finished_at=None, started_at__gt=timezone.now() - DoctorRun.LONGEST)


def open_run(by: str) -> DoctorRun:
    """Store that a run begins; forget old ones."""
    with transaction.atomic():
        made = DoctorRun.objects.create(requested_by=by[:254])
        kept = DoctorRun.objects.order_by("-pk").values_list("pk", flat=True)[:KEPT]
        DoctorRun.objects.exclude(pk__in=list(kept)).delete()
    return made


def note(run_id: int, results: list[Result], *, is_done: bool = False) -> None:
    """Store the results so far, in the order of the probes."""
    order = {probe.name: number for number, probe in enumerate(probes())}
    rows = [result.written() for result in sorted(results, key=lambda each: order[each.probe])]
    DoctorRun.objects.filter(pk=run_id).update(results=rows, **({"finished_at": timezone.now()} if is_done else {}))


def answer(run_id: int, column: str) -> None:
    """Called by a task: a worker of a queue runs. ``column``: worker_at or scanner_at."""
    DoctorRun.objects.filter(pk=run_id).update(**{column: timezone.now()})


def start(by: str) -> bool:
    """Start a run in a thread of this process; False if one is under way.

    It is no task of a worker: the doctor is needed most while the queue stands still.
    """
    with _starting:
        if under_way().exists():
            return False
        made = open_run(by)
    threading.Thread(target=_run_and_store, args=(made.pk,), name="doctor", daemon=True).start()
    return True


def _run_and_store(run_id: int) -> None:
    found: list[Result] = []
    lock = threading.Lock()

    def ended(result: Result) -> None:
        with lock:
            found.append(result)
            note(run_id, found)

    try:
        all_of_them = list(run(Visit(run=run_id), probes(), ended))
        with lock:
            note(run_id, all_of_them, is_done=True)
    except Exception:
        logger.exception("a run of the doctor could not be stored")
    finally:
        connection.close()
