"""Pages and files of the audit logs of a project and of an organization."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from accounts import audit as accounts_audit
from console.queries.shared import listing
from registry import audit
from registry.audit import csv_cell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import QuerySet
    from django.http import QueryDict

    from accounts.models import AuditEvent
    from registry.audit import Wanted


PAGE = 50
CSV_HEADER = ("time", "action", "person", "who", "address", "client", "count", "last time", "detail", "event")


def page(wanted: Wanted, asked: QueryDict) -> dict[str, Any]:
    """Fifty events, and the ids from which the neighbouring pages go on."""
    before, after = listing.identifier(asked.get("before")), listing.identifier(asked.get("after"))
    found = audit.page(wanted, PAGE, before=before, after=after)
    return {
        "events": found.events,
        "newer": found.events[0].pk if found.events and found.has_newer else None,
        "older": found.events[-1].pk if found.events and found.has_older else None,
        "is_filtered": wanted != type(wanted)(wanted.project, wanted.repository, wanted.image),
    }


def csv_rows(found: QuerySet[AuditEvent]) -> Iterator[tuple[str, ...]]:
    """The events as rows of text for a CSV file, newest first, CSV_HEADER first. No cell begins like a formula."""
    yield CSV_HEADER
    for event in accounts_audit.rows(found):
        cells = (
            *(event.at.isoformat(), event.action, event.subject, event.actor, event.address, event.client),
            *(str(event.count), event.last_at.isoformat() if event.last_at else ""),
            *(json.dumps(event.detail, ensure_ascii=False, sort_keys=True) if event.detail else "", str(event.pk)),
        )
        yield tuple(csv_cell(cell) for cell in cells)
