"""Sessions of the console, kept so that people can see where they are signed in, and end it.

The table holds the SHA-256 of each session's key: a copy of the database opens no session.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.db import OperationalError
from django.utils import timezone
from django.utils.crypto import salted_hmac

from .models import ConsoleSession, User

SEEN_RESOLUTION = timedelta(minutes=5)
_ORIGIN = "origin"


def stored(key: str) -> str:
    """The primary key for the key in a cookie: 64 hexadecimal digits. A key has 165 random bits: no salt."""
    return hashlib.sha256(key.encode()).hexdigest()


class SessionStore(DatabaseStore):
    """Django's store in the database; user and origin of each session have columns of their own.

    ``session_key`` is what the cookie holds, ``row_key`` the key of the row.
    """

    seen_at: datetime | None = None

    @property
    def row_key(self) -> str:
        """The key of the row, "" when there is no session."""
        return stored(self.session_key) if self.session_key else ""

    @classmethod
    def get_model_class(cls) -> type[Any]:
        """The table."""
        return ConsoleSession

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        """The row of these data."""
        row: Any = super().create_model_instance(data)
        row.session_key = self.row_key
        row.user_id = data.get(SESSION_KEY)
        if origin := data.get(_ORIGIN):
            row.address, row.client = origin["address"], origin["client"]
            row.created_at = datetime.fromisoformat(origin["at"])
        return row

    def note_origin(self, address: str, client: str) -> None:
        """Keep where and when the session began."""
        self[_ORIGIN] = {"address": address[:45], "client": client[:200], "at": timezone.now().isoformat()}

    def note_seen(self) -> None:
        """Save that the session is in use, every five minutes at most; a full disk does not keep pages from working."""
        now = timezone.now()
        if self.seen_at and now - self.seen_at >= SEEN_RESOLUTION:
            with suppress(OperationalError):
                ConsoleSession.objects.filter(pk=self.row_key).update(seen_at=now)

    def save(self, must_create: bool = False) -> None:
        """Save the session. Raises OperationalError when the database cannot be written: a 503, not the user's mistake.

        Django raises UpdateError for every error of the database, which says that the session has ended meanwhile.
        """
        try:
            super().save(must_create)
        except UpdateError as error:
            if isinstance(error.__context__, OperationalError):
                raise error.__context__ from None
            raise

    def exists(self, session_key: str) -> bool:
        """Whether there is a session with this key."""
        return super().exists(stored(session_key))

    def delete(self, session_key: str | None = None) -> None:
        """End the session with this key, or this one."""
        if key := session_key or self.session_key:
            super().delete(stored(key))

    def _get_session_from_db(self) -> Any:
        row = ConsoleSession.objects.filter(pk=self.row_key, expire_date__gt=timezone.now()).first()
        if row is None:
            self._session_key = None
        self.seen_at = row.seen_at if row else None
        return row


def of_user(user: User) -> list[ConsoleSession]:
    """The user's sessions that have not ended, the one used last first."""
    return list(ConsoleSession.objects.filter(user=user, expire_date__gt=timezone.now()).order_by("-seen_at"))


def end(user: User, row_keys: list[str]) -> int:
    """End these sessions of the user; returns how many there were."""
    return ConsoleSession.objects.filter(user=user, pk__in=row_keys).delete()[0]


def public_id(row_key: str) -> str:
    """A name for a session that may be shown: it does not open the session."""
    return salted_hmac("kcr.session", row_key).hexdigest()[:16]
