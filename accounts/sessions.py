"""Sessions of the console, kept so that people can see where they are signed in, and end it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.utils import timezone
from django.utils.crypto import salted_hmac

from .models import ConsoleSession, User

SEEN_RESOLUTION = timedelta(minutes=5)
_ORIGIN = "origin"


class SessionStore(DatabaseStore):
    """Django's store in the database, with the user and origin of each session in columns of their own."""

    seen_at: datetime | None = None

    @classmethod
    def get_model_class(cls) -> type[Any]:
        """The table."""
        return ConsoleSession

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        """The row of these data."""
        row: Any = super().create_model_instance(data)
        row.user_id = data.get(SESSION_KEY)
        if origin := data.get(_ORIGIN):
            row.address, row.client = origin["address"], origin["client"]
            row.created_at = datetime.fromisoformat(origin["at"])
        return row

    def note_origin(self, address: str, client: str) -> None:
        """Remember where this session was begun, and when."""
        self[_ORIGIN] = {"address": address[:45], "client": client[:200], "at": timezone.now().isoformat()}

    def note_seen(self) -> None:
        """Write down, every five minutes at most, that the session is in use."""
        now = timezone.now()
        if self.seen_at and now - self.seen_at >= SEEN_RESOLUTION:
            ConsoleSession.objects.filter(pk=self.session_key).update(seen_at=now)

    def _get_session_from_db(self) -> Any:
        row = super()._get_session_from_db()  # type: ignore[misc]  # the stubs leave it out
        self.seen_at = row.seen_at if row else None
        return row


def of_user(user: User) -> list[ConsoleSession]:
    """The living sessions of somebody, the one used last first."""
    return list(ConsoleSession.objects.filter(user=user, expire_date__gt=timezone.now()).order_by("-seen_at"))


def end(user: User, session_keys: list[str]) -> int:
    """End these sessions of the user; returns how many there were."""
    return ConsoleSession.objects.filter(user=user, session_key__in=session_keys).delete()[0]


def public_id(session_key: str) -> str:
    """A name for a session that may be shown: it does not open the session."""
    return salted_hmac("kcr.session", session_key).hexdigest()[:16]
