"""Access keys: made, checked, revoked, restored.

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
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from . import audit, guesses, passwords
from .actors import Actor
from .errors import Refusal
from .models import AccessKey, User

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from .models import Project

KEYS_PER_USER = 10
RESTORE_TIME = timedelta(minutes=10)
IDENTIFIER_PREFIX = "KCRK"
SECRET_PREFIX = "kcrs_"  # noqa: S105  a prefix, not a secret
LAST_USED_RESOLUTION = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key and its secret in the clear, which is not stored."""

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


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def create(
    user: User,
    name: str,
    *,
    project: Project | None = None,
    pull_only: bool = False,
    counts_pulls: bool = True,
    expires_at: datetime | None = None,
    form_id: uuid.UUID | None = None,
    by: Actor | None = None,
) -> NewKey:
    """Make a key; a form that is sent twice makes one. ``by``: who makes it, the holder when it is None.

    Raises Refusal when the user has ten already, or the limits make no sense.
    """
    if not name.strip() or len(name) > 64:
        raise Refusal(_("give the key a name of at most 64 characters"))
    if expires_at and expires_at <= timezone.now():
        raise Refusal(_("the expiry date has passed"))
    secret = new_secret(SECRET_PREFIX)
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        _check_number(user)
        if form_id and AccessKey.objects.filter(form_id=form_id).exists():
            raise Refusal(_("this key was created already; its secret is shown only once"))
        key = AccessKey.objects.create(
            user=user,
            name=name.strip(),
            identifier=IDENTIFIER_PREFIX + base64.b32encode(secrets.token_bytes(10)).decode(),
            secret_hash=hash_secret(secret),
            project=project,
            pull_only=pull_only,
            counts_pulls=counts_pulls,
            expires_at=expires_at,
            form_id=form_id,
        )
        _record(by, audit.Action.KEY_CREATE, key)
    return NewKey(key, secret)


def revoke(key: AccessKey, *, by: Actor | None = None) -> bool:
    """End a key at once: its tokens fail at their next request. ``by``: who ends it, the holder when it is None.

    Doing it twice changes nothing; returns whether it was done now.
    """
    revoked_by = by.user_id if by else key.user_id
    with transaction.atomic():
        alive = AccessKey.objects.filter(pk=key.pk, revoked_at=None)
        if not alive.update(revoked_at=timezone.now(), revoked_by=revoked_by):
            return False
        _record(by, audit.Action.KEY_REVOKE, key)
    return True


def may_restore(key: AccessKey, by: Actor) -> bool:
    """Whether the actor revoked the key less than RESTORE_TIME ago. Until it is restored, the key does not work."""
    if key.revoked_at is None or by.user_id is None or key.revoked_by_id != by.user_id:
        return False
    return timezone.now() < key.revoked_at + RESTORE_TIME


def restore(key: AccessKey, *, by: Actor) -> None:
    """Undo a revocation: the key works as before, and so do its refresh tokens.

    Raises Refusal when another person revoked the key, when RESTORE_TIME is over, or when the holder has ten others.
    """
    with transaction.atomic():
        User.objects.select_for_update().get(pk=key.user_id)
        locked = AccessKey.objects.select_for_update().select_related("user", "project").get(pk=key.pk)
        if not may_restore(locked, by):
            raise Refusal(
                _("A revoked key can be restored for %(minutes)s minutes, by the person who revoked it.")
                % {"minutes": RESTORE_TIME // timedelta(minutes=1)}
            )
        _check_number(locked.user)
        AccessKey.objects.filter(pk=key.pk).update(revoked_at=None, revoked_by=None)
        _record(by, audit.Action.KEY_RESTORE, locked)


def _check_number(user: User) -> None:
    if AccessKey.objects.alive().filter(user=user).count() >= KEYS_PER_USER:
        raise Refusal(
            _("%(user)s has %(count)s access keys already: revoke one first") % {"user": user, "count": KEYS_PER_USER}
        )


def _record(by: Actor | None, action: audit.Action, key: AccessKey) -> None:
    """A key for one project is recorded in that project's organization, any other key in all of its holder's."""
    by = by or Actor(user_id=key.user_id, label=key.user.email)
    detail = {
        "key": key.identifier,
        "name": key.name,
        "project": key.project.name if key.project else "",
        "pull_only": key.pull_only,
        "counts_pulls": key.counts_pulls,
        "expires_at": key.expires_at.isoformat() if key.expires_at else "",
    }
    organizations = [key.project.organization_id] if key.project else None
    audit.record(by, action, person=key.user, organizations=organizations, detail=detail)


def find(identifier: str) -> AccessKey | None:
    """The key with this identifier, and its user. One query."""
    return AccessKey.objects.select_related("user").filter(identifier=identifier).first()


def authenticate(
    identifier: str, secret: str, *, address: str, client: str, find: Callable[[str], AccessKey | None] = find
) -> AccessKey:
    """Return the living key with this identifier and secret, in one query when all is well.

    ``find``: a faster way to the key. The secret is compared before any failure is counted: a right secret is never
    refused for the failures of others.
    Raises WrongCredentials; TooManyFailures for a wrong secret after ten of its network, or of its account.
    """
    key = find(identifier[:32])
    if not _matches(secret, key.secret_hash if key else ""):
        raise guesses.WrongCredentials(_reason(identifier, secret, address))
    assert key is not None  # an empty hash matches nothing
    if key.state != "alive":
        raise guesses.WrongCredentials(
            {
                "revoked": f"access key {key.identifier} was revoked",
                "expired": f"access key {key.identifier} has expired: make a new one",
                "inactive": "this user is not active any more",
            }[key.state]
        )
    last_used.note(key.pk, address, client)
    return key


def actor(key: AccessKey, *, address: str = "", client: str = "") -> Actor:
    """The holder of a key as an actor, with the limits of the key."""
    return Actor(
        user_id=key.user_id,
        key_id=key.pk,
        key_expires_at=key.expires_at.timestamp() if key.expires_at else None,
        label=key.user.email,
        pull_only=key.pull_only,
        project_id=key.project_id,
        counts_pulls=key.counts_pulls,
        address=address,
        client=client,
    )


def _matches(secret: str, stored: str) -> bool:
    """Compare in constant time, under KCR_SECRET_KEY and each of KCR_SECRET_KEY_FALLBACKS."""
    candidates = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return any(constant_time_compare(hash_secret(secret, candidate), stored) for candidate in candidates)


def _reason(identifier: str, secret: str, address: str) -> str:
    """Count a wrong secret, and return the reason for the refusal. Raises TooManyFailures.

    The reason names the mistake only to a client that gave the right console password. An empty secret is not counted:
    it is a variable without a value, not a guess.
    """
    if not secret:
        return "the secret is empty"
    if "@" not in identifier:
        guesses.begin(identifier, address, of_key=True)
    elif passwords.is_right(identifier, secret, address=address):
        return "the console password is not accepted here: make an access key, and log in with its ID and secret"
    return "unknown access key, or wrong secret"


class LastUsed:
    """When each key was used last, collected in memory and written at most once a minute for each key.

    Requests call ``note``. ``registry.background`` calls ``flush`` from its own thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget what was gathered, and what was written when."""
        with self._lock:
            self._notes: dict[int, tuple[datetime, str, str]] = {}
            self._written: dict[int, datetime] = {}

    def note(self, key_id: int, address: str, client: str) -> None:
        """Remember a use; costs no query."""
        now = timezone.now()
        with self._lock:
            if now - self._written.get(key_id, now - LAST_USED_RESOLUTION) >= LAST_USED_RESOLUTION:
                self._notes[key_id] = (now, address[:45], client[:200])

    def flush(self) -> int:
        """Write the noted uses; returns how many keys were written."""
        with self._lock:
            notes, self._notes = self._notes, {}
            self._written |= {key_id: at for key_id, (at, _, _) in notes.items()}
        for key_id, (at, address, client) in notes.items():
            AccessKey.objects.filter(pk=key_id).exclude(last_used_at__gte=at).update(
                last_used_at=at, last_used_address=address, last_used_client=client
            )
        return len(notes)


last_used = LastUsed()
