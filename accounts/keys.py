"""Access keys: made, checked, rotated, revoked, restored.

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
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from . import audit, guesses, limits, passwords
from .actors import Actor
from .errors import Refusal
from .models import AccessKey, FederatedSession, FormerSecret, RefreshToken, User

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterator

    from .models import Project

KEYS_PER_USER = 10
KEYS_PER_SERVICE_ACCOUNT = 50
RESTORE_TIME = timedelta(minutes=10)
FORMER_LIFETIME = timedelta(days=30)  # at most, of a former secret after the rotation
IDENTIFIER_PREFIX = "KCRK"
SECRET_PREFIX = "kcrs_"  # noqa: S105  a prefix, not a secret
LAST_USED_RESOLUTION = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key, or a key with a new secret, and the secret in the clear, which is not stored."""

    key: AccessKey
    secret: str


@dataclass(frozen=True, slots=True)
class Login:
    """A living key, and the stored hash of the secret that was given: its newest or its former one."""

    key: AccessKey
    secret_hash: str


def hash_secret(secret: str, installation_secret: str | None = None) -> str:
    """The keyed hash under which a secret is stored (64 hexadecimal digits)."""
    installation_secret = settings.SECRET_KEY if installation_secret is None else installation_secret
    key = hashlib.sha256(b"kcr.secrets:" + installation_secret.encode()).digest()
    return hmac.new(key, secret.encode("utf-8", "surrogatepass"), "sha256").hexdigest()


def possible_hashes(secret: str) -> Iterator[str]:
    """The hashes under which a secret may be stored: with KCR_SECRET_KEY and each of KCR_SECRET_KEY_FALLBACKS."""
    return (hash_secret(secret, each) for each in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


def new_secret(prefix: str) -> str:
    """256 random bits and a checksum behind a recognisable prefix."""
    body = base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
    return f"{prefix}{body}{_checksum(body)}"


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def create(  # noqa: PLR0913  each is a field of the form
    user: User,
    name: str,
    *,
    project: Project | None = None,
    only: limits.Limits = limits.NONE,
    counts_pulls: bool = True,
    management: bool = False,
    expires_at: datetime | None = None,
    form_id: uuid.UUID | None = None,
    by: Actor | None = None,
) -> NewKey:
    """Make a key; a form that is sent twice makes one. ``by``: who makes it, the holder when it is None.

    Raises Refusal when the user has ten already (a service account: 50), or the limits make no sense.
    """
    only_actions = limits.read_actions(only.actions)
    home = project or user.project  # of a service account
    only_repositories = limits.read_repositories(only.repositories, home.name if home else "")
    only_networks = limits.read_networks(only.networks)
    if not name.strip() or len(name) > 64:
        raise Refusal(_("give the key a name of at most 64 characters"))
    if expires_at and expires_at <= timezone.now():
        raise Refusal(_("the expiry date has passed"))
    if management and only_actions:
        raise Refusal(_("a key that is limited to some actions cannot use the management API"))
    secret = new_secret(SECRET_PREFIX)
    with transaction.atomic():
        if User.objects.select_for_update().get(pk=user.pk).deleted_at:
            raise Refusal(_("%(user)s has been deleted") % {"user": user})
        _check_number(user)
        if form_id and AccessKey.objects.filter(form_id=form_id).exists():
            raise Refusal(_("this key was created already; its secret is shown only once"))
        key = AccessKey.objects.create(
            user=user,
            name=name.strip(),
            identifier=IDENTIFIER_PREFIX + base64.b32encode(secrets.token_bytes(10)).decode(),
            secret_hash=hash_secret(secret),
            project=project,
            pull_only=only_actions == "pull",
            actions=only_actions,
            repositories=only_repositories,
            networks=only_networks,
            counts_pulls=counts_pulls,
            management=management,
            expires_at=expires_at,
            form_id=form_id,
        )
        _record(by, audit.Action.KEY_CREATE, key)
    return NewKey(key, secret)


def rotate(key: AccessKey, *, former_ends_in: timedelta, by: Actor | None = None) -> NewKey:
    """Give the key a new secret. The present one becomes the former secret and works for ``former_ends_in`` more.

    Refresh tokens end with the secret that they were got with. ``by``: who does it, the holder when it is None.
    Raises Refusal: the key has ended, a former secret works still, or the time is not 0 to FORMER_LIFETIME.
    """
    if not timedelta(0) <= former_ends_in <= FORMER_LIFETIME:
        raise Refusal(_("a former secret works for %(days)s days at most") % {"days": FORMER_LIFETIME.days})
    secret, now = new_secret(SECRET_PREFIX), timezone.now()
    with transaction.atomic():
        locked = _lock_living(key)
        if FormerSecret.objects.filter(key=locked, ends_at__gt=now).exists():
            raise Refusal(_("the key has two secrets that work: end the former one first"))
        ends_at = now + former_ends_in
        RefreshToken.objects.filter(key=locked, secret_hash="").update(secret_hash=locked.secret_hash)
        FormerSecret.objects.update_or_create(
            key=locked,
            defaults={
                "secret_hash": locked.secret_hash,
                "made_at": locked.secret_made_at or locked.created_at,
                "ends_at": ends_at,
                "last_used_at": locked.last_used_at,
                "last_used_address": locked.last_used_address,
                "last_used_client": locked.last_used_client,
            },
        )
        locked.secret_hash, locked.secret_made_at = hash_secret(secret), now
        locked.last_used_at, locked.last_used_address, locked.last_used_client = None, "", ""
        locked.save(
            update_fields=[
                *("secret_hash", "secret_made_at", "last_used_at", "last_used_address", "last_used_client"),
            ]
        )
        _record(by, audit.Action.KEY_ROTATE, locked, former_ends_at=ends_at.isoformat())
    return NewKey(locked, secret)


def end_former(key: AccessKey, *, by: Actor | None = None) -> bool:
    """End the former secret and with it its refresh tokens at once; False if it has ended or there is none.

    Tokens that were issued with it work until they expire, tokens.LIFETIME at most.
    """
    now = timezone.now()
    with transaction.atomic():
        AccessKey.objects.select_for_update().get(pk=key.pk)
        if not FormerSecret.objects.filter(key=key, ends_at__gt=now).update(ends_at=now):
            return False
        _record(by, audit.Action.KEY_END_FORMER, key)
    return True


def _lock_living(key: AccessKey) -> AccessKey:
    locked = AccessKey.objects.select_for_update(of=("self",)).select_related("user", "project").get(pk=key.pk)
    if locked.state != "alive":
        raise Refusal(_("the access key %(name)s has ended") % {"name": locked.name})
    return locked


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
        locked = AccessKey.objects.select_for_update(of=("self",)).select_related("user", "project").get(pk=key.pk)
        if not may_restore(locked, by):
            raise Refusal(
                _("A revoked key can be restored for %(minutes)s minutes, by the person who revoked it.")
                % {"minutes": RESTORE_TIME // timedelta(minutes=1)}
            )
        _check_number(locked.user)
        AccessKey.objects.filter(pk=key.pk).update(revoked_at=None, revoked_by=None)
        _record(by, audit.Action.KEY_RESTORE, locked)


def _check_number(user: User) -> None:
    most = KEYS_PER_SERVICE_ACCOUNT if user.is_service else KEYS_PER_USER
    if AccessKey.objects.alive().lasting().filter(user=user).count() >= most:
        raise Refusal(_("%(user)s has %(count)s access keys already: revoke one first") % {"user": user, "count": most})


def record_refusal(by: Actor, limit: str) -> None:
    """Write to the audit log that a limit of the actor's key refused a request. ``limit``: the field of the key."""
    key = AccessKey.objects.select_related("user", "project").filter(pk=by.key_id or 0).first()
    if key is not None:
        organizations = [key.project.organization_id] if key.project else None
        detail = {"key": key.identifier, "name": key.name, "limit": limit}
        audit.record_refused_key(by, key.user, organizations, detail)


def _record(by: Actor | None, action: audit.Action, key: AccessKey, **more: Any) -> None:
    """A key for one project is recorded in that project's organization, any other key in all of its holder's."""
    by = by or Actor(user_id=key.user_id, label=key.user.email)
    detail = {
        "key": key.identifier,
        "name": key.name,
        "project": key.project.name if key.project else "",
        "actions": sorted(key.only_actions or ()),
        "repositories": key.repositories,
        "networks": key.networks,
        "counts_pulls": key.counts_pulls,
        "management": key.management,
        "expires_at": key.expires_at.isoformat() if key.expires_at else "",
        **more,
    }
    organizations = [key.project.organization_id] if key.project else None
    audit.record(by, action, person=key.user, organizations=organizations, detail=detail)


def find(identifier: str) -> AccessKey | None:
    """The key with this identifier, its user, its former secret and its session. One query."""
    return AccessKey.objects.select_related("user", "former", "session").filter(identifier=identifier).first()


def identifier_of(secret: str) -> str:
    """The identifier of the key with this secret, "" if there is none. One query; ``authenticate`` checks the key."""
    hashes = list(possible_hashes(secret))
    is_former = Q(former__secret_hash__in=hashes)
    found = AccessKey.objects.filter(Q(secret_hash__in=hashes) | is_former).values_list("identifier", flat=True)
    return found.first() or ""


def authenticate(
    identifier: str, secret: str, *, address: str, client: str, find: Callable[[str], AccessKey | None] = find
) -> Login:
    """Find the living key with this identifier and secret, the newest or the former one. One query when all is well.

    ``find``: a faster way to the key. The secret is compared before any failure is counted: a right secret is never
    refused for the failures of others.
    Raises WrongCredentials; TooManyFailures for a wrong secret after ten of its network, or of its account.
    """
    key = find(identifier[:32])
    former: FormerSecret | None = getattr(key, "former", None)
    is_newest = _matches(secret, key.secret_hash if key else "")
    if not is_newest and not _matches(secret, former.secret_hash if former else ""):
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
    if former and not is_newest and not former.is_alive:
        raise guesses.WrongCredentials(f"this secret of access key {key.identifier} has ended: use the newer one")
    login = Login(key, former.secret_hash if former and not is_newest else key.secret_hash)
    last_used.note(login, address, client)
    return login


def actor(key: AccessKey, *, address: str = "", client: str = "") -> Actor:
    """The holder of a key as an actor, with the limits of the key. The end of a session's key is no reason to warn."""
    session: FederatedSession | None = getattr(key, "session", None)
    return Actor(
        user_id=key.user_id,
        key_id=key.pk,
        key_expires_at=key.expires_at.timestamp() if key.expires_at and not session else None,
        label=key.user.email,
        actions=key.only_actions,
        project_id=key.project_id,
        repositories=key.repositories,
        networks=key.networks,
        counts_pulls=key.counts_pulls,
        management=key.management,
        via=session.provenance if session else None,
        address=address,
        client=client,
    )


def _matches(secret: str, stored: str) -> bool:
    """Compare in constant time."""
    return any(constant_time_compare(each, stored) for each in possible_hashes(secret))


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
    """When each secret was used last, collected in memory and written at most once a minute for each secret.

    Requests call ``note``. ``registry.background`` calls ``flush`` from its own thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget what was gathered, and what was written when."""
        with self._lock:
            self._notes: dict[tuple[int, str], tuple[datetime, str, str]] = {}  # by key and hash of the secret
            self._written: dict[tuple[int, str], datetime] = {}

    def note(self, login: Login, address: str, client: str) -> None:
        """Remember a use; costs no query."""
        now, which = timezone.now(), (login.key.pk, login.secret_hash)
        with self._lock:
            if now - self._written.get(which, now - LAST_USED_RESOLUTION) >= LAST_USED_RESOLUTION:
                self._notes[which] = (now, address[:45], client[:200])

    def flush(self) -> int:
        """Write the noted uses; returns how many secrets were written."""
        with self._lock:
            notes, self._notes = self._notes, {}
            self._written |= {which: at for which, (at, _, _) in notes.items()}
        for (key_id, secret_hash), (at, address, client) in notes.items():
            use = {"last_used_at": at, "last_used_address": address, "last_used_client": client}
            newest = AccessKey.objects.filter(pk=key_id, secret_hash=secret_hash)
            if not newest.exclude(last_used_at__gte=at).update(**use):  # the secret may be the former one meanwhile
                former = FormerSecret.objects.filter(key=key_id, secret_hash=secret_hash)
                former.exclude(last_used_at__gte=at).update(**use)
        return len(notes)


last_used = LastUsed()
