"""The audit log of an organization: a page, and a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from accounts import audit
from registry.audit import csv_cell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import QuerySet

    from accounts.models import AuditEvent

CSV_HEADER = ("time", "action", "person", "who", "address", "client", "count", "last time", "detail", "event")


def csv_rows(found: QuerySet[AuditEvent]) -> Iterator[tuple[str, ...]]:
    """The events as rows of text for a CSV file, newest first, CSV_HEADER first. No cell begins like a formula."""
    yield CSV_HEADER
    for event in audit.rows(found):
        cells = (
            *(event.at.isoformat(), event.action, event.subject, event.actor, event.address, event.client),
            *(str(event.count), event.last_at.isoformat() if event.last_at else ""),
            *(json.dumps(event.detail, ensure_ascii=False, sort_keys=True) if event.detail else "", str(event.pk)),
        )
        yield tuple(csv_cell(cell) for cell in cells)
