"""Access keys: made, checked, revoked; and the brake on guessing.

A secret holds 256 random bits, so a fast keyed hash keeps it as safe as a slow one would. The prefix and the checksum
let people, log scrubbers and secret scanners recognise a key without asking the server.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.db.models import Count, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from .actors import Actor
from .models import AccessKey, SignInFailure, User

if TYPE_CHECKING:
    import uuid

    from .models import Project

KEYS_PER_USER = 10
IDENTIFIER_PREFIX = "KCRK"
SECRET_PREFIX = "kcrs_"  # noqa: S105  a prefix, not a secret
FAILURES_ALLOWED = 10
FAILURE_WINDOW = timedelta(minutes=5)
LAST_USED_RESOLUTION = timedelta(minutes=1)
# Looking at a password takes 100 MB for a moment, on purpose: a process looks at a few at once.
HASHING_PATIENCE = 2.0  # seconds
_HASHING = threading.BoundedSemaphore(3)


class KeyRefused(ValueError):
    """A key cannot be made so; the message says why."""


class WrongCredentials(Exception):
    """The name and secret do not belong together; the message may be shown."""


class TooManyFailures(Exception):
    """Too many wrong secrets lately; the only argument is the number of seconds to wait."""

    @property
    def seconds(self) -> int:
        """How long to wait before another try counts."""
        return int(self.args[0])


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key and its secret: the only moment at which the secret exists in the clear."""

    key: AccessKey
    secret: str


def hash_secret(secret: str, installation_secret: str | None = None) -> str:
    """The keyed hash under which a secret is stored (64 hexadecimal digits)."""
    installation_secret = settings.SECRET_KEY if installation_secret is None else installation_secret
    key = hashlib.sha256(b"kcr.secrets:" + installation_secret.encode()).digest()
    return hmac.new(key, secret.encode("utf-8", "surrogatepass"), "sha256").hexdigest()


def new_secret(prefix: str) -> str:
    """256 random bits and a checksum behind a recognisable prefix."""
    body = base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
    return f"{prefix}{body}{_checksum(body)}"


def looks_like_secret(text: str) -> bool:
    """Whether the text has the form of one of our secrets, checksum included (for secret scanners)."""
    body = text.removeprefix(SECRET_PREFIX)
    return text.startswith(SECRET_PREFIX) and len(body) == 60 and _checksum(body[:52]) == body[52:]


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def create(
    user: User,
    name: str,
    *,
    project: Project | None = None,
    pull_only: bool = False,
    expires_at: datetime | None = None,
    form_id: uuid.UUID | None = None,
) -> NewKey:
    """Make a key; a form that is sent twice makes one.

    Raises KeyRefused when the user has ten already, or the limits make no sense.
    """
    if not name.strip() or len(name) > 64:
        raise KeyRefused(_("give the key a name of at most 64 characters"))
    if expires_at and expires_at <= timezone.now():
        raise KeyRefused(_("the expiry date has passed"))
    secret = new_secret(SECRET_PREFIX)
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        if AccessKey.objects.alive().filter(user=user).count() >= KEYS_PER_USER:
            raise KeyRefused(
                _("%(user)s has %(count)s access keys already: revoke one first")
                % {"user": user, "count": KEYS_PER_USER}
            )
        if form_id and AccessKey.objects.filter(form_id=form_id).exists():
            raise KeyRefused(_("this key has been made already; its secret was shown then, and only then"))
        key = AccessKey.objects.create(
            user=user,
            name=name.strip(),
            identifier=IDENTIFIER_PREFIX + base64.b32encode(secrets.token_bytes(10)).decode(),
            secret_hash=hash_secret(secret),
            project=project,
            pull_only=pull_only,
            expires_at=expires_at,
            form_id=form_id,
        )
    return NewKey(key, secret)


def revoke(key: AccessKey) -> None:
    """End a key at once: its tokens fail at their next request. Doing it twice changes nothing."""
    AccessKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())


def authenticate(identifier: str, secret: str, *, address: str, client: str) -> AccessKey:
    """Return the living key with this identifier and secret, in one query when all is well.

    Raises WrongCredentials, or TooManyFailures: an address with ten failures in five minutes is not heard at all; an
    account with ten is still opened by its right secret, so that nobody can be locked out from elsewhere.
    """
    failures = SignInFailure.objects.since(timezone.now() - FAILURE_WINDOW).filter(address=address)
    count = failures.order_by().values("address").annotate(count=Count("pk")).values("count")
    key = (
        AccessKey.objects.select_related("user")
        .annotate(failures=Coalesce(Subquery(count), 0))
        .filter(identifier=identifier[:32])
        .first()
    )
    if (failures.count() if key is None else key.failures) >= FAILURES_ALLOWED:  # type: ignore[attr-defined]
        raise TooManyFailures(_seconds_to_wait(address))
    if not _matches(secret, key.secret_hash if key else ""):
        _note_failure(identifier, address)
        raise WrongCredentials(_hint(identifier, secret))
    assert key is not None  # an empty hash matches nothing
    if key.state != "alive":
        raise WrongCredentials(
            {
                "revoked": f"access key {key.identifier} was revoked",
                "expired": f"access key {key.identifier} has expired: make a new one",
                "inactive": "this user is not active any more",
            }[key.state]
        )
    last_used.note(key.pk, address, client)
    return key


def authenticate_password(email: str, password: str, *, address: str) -> User:
    """Return the active user with this e-mail address and console password; slowed exactly as for keys.

    Raises WrongCredentials or TooManyFailures. An unknown address costs as much time as a wrong password.
    """
    failures = SignInFailure.objects.since(timezone.now() - FAILURE_WINDOW).filter(address=address)
    if failures.count() >= FAILURES_ALLOWED:
        raise TooManyFailures(_seconds_to_wait(address))
    user = _user_with_password(email, password)
    if user is None:
        _note_failure(email, address)
        raise WrongCredentials("wrong e-mail address or password")
    return user


def actor(key: AccessKey, *, address: str = "", client: str = "") -> Actor:
    """The actor that a key makes of its holder."""
    return Actor(
        user_id=key.user_id,
        key_id=key.pk,
        key_expires_at=key.expires_at.timestamp() if key.expires_at else None,
        label=key.user.email,
        pull_only=key.pull_only,
        project_id=key.project_id,
        address=address,
        client=client,
    )


def _matches(secret: str, stored: str) -> bool:
    """Compare in constant time, under today's installation secret or one that was rotated out."""
    candidates = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return any(constant_time_compare(hash_secret(secret, candidate), stored) for candidate in candidates)


def _user_with_password(email: str, password: str) -> User | None:
    """The user of this e-mail address and password. Raises TooManyFailures when many passwords are being looked at."""
    if not _HASHING.acquire(timeout=HASHING_PATIENCE):
        raise TooManyFailures(HASHING_PATIENCE)
    try:
        return _matching_user(email, password)
    finally:
        _HASHING.release()


def _matching_user(email: str, password: str) -> User | None:
    user = User.objects.filter(email=email.lower()[:254], is_active=True).first()
    if user is None:
        make_password(password)  # an unknown address must not answer faster than a wrong password
        return None
    return user if user.check_password(password) else None


def _hint(identifier: str, secret: str) -> str:
    """What went wrong, told only to those who proved that they may know."""
    if "@" in identifier and _user_with_password(identifier, secret):
        return "the console password is not accepted here: make an access key, and log in with its ID and secret"
    return "unknown access key, or wrong secret"


def _note_failure(account: str, address: str) -> None:
    """Count a failure. Raises TooManyFailures when the account has had too many, wherever they came from."""
    hashed = hashlib.sha256(account.lower().encode("utf-8", "surrogatepass")).hexdigest()
    SignInFailure.objects.create(account=hashed, address=address)
    since = timezone.now() - FAILURE_WINDOW
    if SignInFailure.objects.since(since).filter(account=hashed).count() > FAILURES_ALLOWED:
        raise TooManyFailures(int(FAILURE_WINDOW.total_seconds()))


def _seconds_to_wait(address: str) -> int:
    """Until the tenth latest failure is old enough."""
    latest = SignInFailure.objects.filter(address=address).order_by("-at")[:FAILURES_ALLOWED]
    oldest = min(failure.at for failure in latest)
    return max(1, int((oldest + FAILURE_WINDOW - timezone.now()).total_seconds()) + 1)


class LastUsed:
    """When each key was used last, gathered in memory and written at most once a minute a key.

    A request notes; ``flush()`` writes, from a thread of its own that lives while there is something to write.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notes: dict[int, tuple[datetime, str, str]] = {}
        self._written: dict[int, datetime] = {}

    def note(self, key_id: int, address: str, client: str) -> None:
        """Remember a use; costs no query."""
        now = timezone.now()
        with self._lock:
            if now - self._written.get(key_id, now - LAST_USED_RESOLUTION) >= LAST_USED_RESOLUTION:
                self._notes[key_id] = (now, address[:45], client[:200])

    def flush(self) -> int:
        """Write what was gathered; returns how many keys were written."""
        with self._lock:
            notes, self._notes = self._notes, {}
            self._written |= {key_id: at for key_id, (at, _, _) in notes.items()}
        for key_id, (at, address, client) in notes.items():
            AccessKey.objects.filter(pk=key_id).exclude(last_used_at__gte=at).update(
                last_used_at=at, last_used_address=address, last_used_client=client
            )
        return len(notes)


last_used = LastUsed()


def forget_failures() -> int:
    """Delete failures that no longer count; returns how many."""
    return SignInFailure.objects.filter(at__lt=timezone.now() - FAILURE_WINDOW).delete()[0]
