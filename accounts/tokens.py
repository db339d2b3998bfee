"""Registry tokens: signed, short-lived, for one host (Docker token specification; RFC 7519).

A token names its holder and the actions it was issued for. It grants nothing by itself: each request asks the database
for the holder's rights at that moment. Signing keys are in the database, encrypted, so that all processes share them.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import OperationalError, transaction
from django.utils import timezone
from jwt.utils import base64url_decode

from . import audit
from .actors import SYSTEM, Actor
from .keys import Login, hash_secret, last_used, new_secret, possible_hashes
from .models import AccessKey, Organization, RefreshToken, SigningKey

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

ALGORITHM = "EdDSA"
LIFETIME = timedelta(minutes=15)
LEEWAY = timedelta(minutes=1)  # that clocks of two servers may differ
REFRESH_LIFETIME = timedelta(days=90)
REFRESH_TOKENS = 100  # of a key, for all services together: each docker login asks for one
REFRESH_PREFIX = "kcrr_"
SIGNING_KEY_LIFETIME = timedelta(days=30)
_HEADER = frozenset({"alg", "kid", "typ"})
_CLAIMS = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access"]


class InvalidToken(ValueError):
    """The token was not issued by this installation, is for another host, or has ended."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One entry of a token's ``access``: actions on a name as it is spelled on the token's host.

    ``repository_id`` binds the entry to the repository that had the name at that moment (None: there was none).
    """

    type: str
    name: str
    actions: frozenset[str]
    repository_id: int | None = None

    def as_claim(self) -> dict[str, Any]:
        """The entry as the token specification writes it, with our ``id`` besides."""
        return {"type": self.type, "name": self.name, "actions": sorted(self.actions), "id": self.repository_id}


@dataclass(frozen=True, slots=True)
class Token:
    """A valid token: its holder and its grants."""

    actor: Actor
    grants: tuple[Grant, ...] = field(default=())

    def allows(self, type_: str, name: str, action: str) -> bool:
        """Whether the token was issued for this action on this name."""
        return any(grant.type == type_ and grant.name == name and action in grant.actions for grant in self.grants)

    def precedes(self, name: str) -> bool:
        """Whether it was issued for a push to this name when no repository had the name."""
        return any(
            grant.type == "repository"
            and grant.name == name
            and grant.repository_id is None
            and "push" in grant.actions
            for grant in self.grants
        )


def issue(actor: Actor, service: str, grants: list[Grant]) -> str:
    """Sign a token for one service (host), valid for LIFETIME. There are none for the system."""
    assert not actor.is_system
    now = int(time.time())
    identifier, private_key = _keys.signing()
    claims = {
        "iss": settings.PUBLIC_URL,
        "sub": actor.label,
        "aud": service,
        "iat": now,
        "nbf": now,
        "exp": now + int(LIFETIME.total_seconds()),
        "jti": uuid.uuid4().hex,
        "access": [grant.as_claim() for grant in grants],
        "user": actor.user_id,
        "key": actor.key_id,
        "key_expires_at": actor.key_expires_at,
        "project": actor.project_id,
        "pull_only": actor.actions == frozenset({"pull"}),
        "actions": None if actor.actions is None else sorted(actor.actions),
        "repositories": actor.repositories,
        "networks": actor.networks,
        "counts_pulls": actor.counts_pulls,
        "via": actor.via,
    }
    return jwt.encode(claims, private_key, algorithm=ALGORITHM, headers={"kid": identifier})


def verify(text: str, service: str, *, address: str = "", client: str = "") -> Token:
    """Read a token that was issued for this service. Raises InvalidToken.

    The key is found by ``kid`` in our own set only; a header with anything but alg, kid and typ is refused.
    """
    try:
        _keys.refresh()
        known = _verified(text, service)
        if known.expires_at <= time.time():
            raise InvalidToken("the token has expired")
        return Token(Actor(**known.actor, address=address, client=client), known.grants)
    except (jwt.PyJWTError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidToken("the token is not valid here, or not any more") from error


class _Verified(NamedTuple):
    """What a token says that was signed for a service: when it ends, its grants, and its actor's fields."""

    expires_at: float
    grants: tuple[Grant, ...]
    actor: dict[str, Any]


@lru_cache(maxsize=4096)
def _verified(text: str, service: str) -> _Verified:
    """Read a token and verify its signature. Cached, since a client sends the same token many times."""
    claims = _claims(text, service)
    grants = tuple(
        Grant(entry["type"], entry["name"], frozenset(entry["actions"]), entry["id"]) for entry in claims["access"]
    )
    scope: dict[int, frozenset[str]] = {}
    for grant in grants:
        if grant.repository_id is not None:
            scope[grant.repository_id] = scope.get(grant.repository_id, frozenset()) | grant.actions
    actions = claims.get("actions", ["pull"] if claims["pull_only"] else None)  # an older process knows no actions
    actor = {
        "user_id": claims["user"],
        "key_id": claims["key"],
        "key_expires_at": claims["key_expires_at"],
        "label": claims["sub"],
        "actions": None if actions is None else frozenset(actions),
        "project_id": claims["project"],
        "repositories": claims.get("repositories", ""),
        "networks": claims.get("networks", ""),
        "counts_pulls": claims.get("counts_pulls", True),  # an older process issued the token
        "via": claims.get("via"),
        "scope": scope,
    }
    return _Verified(claims["exp"], grants, actor)


def _claims(text: str, service: str) -> dict[str, Any]:
    """The claims of a token that was signed for the service. Raises InvalidToken, and what the parser raises."""
    header = json.loads(base64url_decode(text.partition(".")[0].encode()))
    if not isinstance(header, dict) or not header.keys() <= _HEADER or header.get("alg") != ALGORITHM:
        raise InvalidToken("unexpected token header")
    claims: dict[str, Any] = jwt.decode(
        text,
        _keys.public(str(header.get("kid", ""))),
        algorithms=[ALGORITHM],
        audience=service,
        issuer=settings.PUBLIC_URL,
        leeway=LEEWAY,
        options={"require": _CLAIMS},
    )
    # ``issue`` makes no token that is valid for longer: this one was made with a stolen key.
    if not claims["exp"] - claims["iat"] <= LIFETIME.total_seconds():
        raise InvalidToken("the token is valid for too long")
    return claims


def issue_refresh(login: Login, service: str) -> str:
    """Make a refresh token for a key and one service; only its hash is kept, and the last REFRESH_TOKENS of a key.

    It ends with the secret of the login. Returns "" when the database cannot be written, as on a full disk: the client
    goes on with the secret.
    """
    token, key = new_secret(REFRESH_PREFIX), login.key
    try:
        RefreshToken.objects.create(
            key=key,
            service=service,
            token_hash=hash_secret(token),
            secret_hash=login.secret_hash,
            expires_at=min(filter(None, [key.expires_at, timezone.now() + REFRESH_LIFETIME])),
        )
        own = RefreshToken.objects.filter(key=key).order_by("-pk")
        oldest = own.values_list("pk", flat=True)[REFRESH_TOKENS : REFRESH_TOKENS + 1].first()
        if oldest is not None:
            own.filter(pk__lte=oldest).delete()
    except OperationalError:
        logger.exception("a refresh token could not be written")
        return ""
    return token


def redeem_refresh(token: str, service: str, *, address: str, client: str) -> AccessKey:
    """Return the living key behind a refresh token of this service. Raises InvalidToken."""
    hashes = list(possible_hashes(token))
    found = (
        RefreshToken.objects.alive()
        .filter(token_hash__in=hashes, service=service)
        .select_related("key__user", "key__project", "key__session")
        .first()
    )
    if found is None:
        raise InvalidToken("the refresh token is not valid here, or not any more: log in again")
    last_used.note(Login(found.key, found.secret_hash or found.key.secret_hash), address, client)
    return found.key


def rotate_signing_key(by: Actor = SYSTEM, *, only_if_due: bool = False) -> bool:
    """Make a new signing key and delete those that no valid token can need. Returns whether one was made.

    The previous key is kept, however old it is: tokens that it signed a moment ago are valid.
    """
    now = timezone.now()
    newest = SigningKey.objects.order_by("-created_at", "-pk").first()
    if only_if_due and newest and newest.created_at > now - SIGNING_KEY_LIFETIME:
        return False
    with transaction.atomic():
        new = _new_signing_key()
        if newest:
            SigningKey.objects.filter(created_at__lt=now - 2 * SIGNING_KEY_LIFETIME).exclude(pk=newest.pk).delete()
        _record_rotation(by, new)
    if newest:
        forget_keys()
    return True


def replace_signing_keys(by: Actor = SYSTEM) -> int:
    """Make a new signing key and delete all others; returns how many there were.

    Every token in use fails, and clients ask for a new one. Other processes honour the deleted keys for
    ``RELOAD_SECONDS`` more at most.
    """
    with transaction.atomic():
        new = _new_signing_key()
        deleted, _ = SigningKey.objects.exclude(pk=new.pk).delete()
        _record_rotation(by, new, withdrawn=deleted)
    forget_keys()
    return deleted


def _record_rotation(by: Actor, new: SigningKey, withdrawn: int = 0) -> None:
    """The key signs the tokens of all users, so the event goes to the log of every organization."""
    detail = {"identifier": new.identifier, "withdrawn": withdrawn}
    everywhere = Organization.objects.values_list("pk", flat=True)
    audit.record(by, audit.Action.SIGNING_KEY_ROTATE, organizations=everywhere, detail=detail)


def forget_keys() -> None:
    """Read the signing keys again at the next use, and trust no token that this process has seen before."""
    _keys.forget()


def forget_expired() -> int:
    """Delete refresh tokens that have expired; returns how many."""
    return RefreshToken.objects.filter(expires_at__lte=timezone.now()).delete()[0]


def _new_signing_key() -> SigningKey:
    private_key = Ed25519PrivateKey.generate()
    return SigningKey.objects.create(
        identifier=secrets.token_hex(8),
        private_key=private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(hash_secret("signing key").encode()),
        ).decode(),
        public_key=private_key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )


class _KeyRing:
    """The signing keys as this process knows them; read again at most once in RELOAD_SECONDS."""

    RELOAD_SECONDS = 10
    LOOK_UPS = 5  # of unknown identifiers at once in RELOAD_SECONDS; further ones wait for one a second

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed_at = float("-inf")
        self.forget()

    def forget(self) -> None:
        """Read the keys again at the next use, and trust no token that was seen before."""
        _verified.cache_clear()
        self._public: dict[str, Any] = {}
        self._signing: tuple[str, Any] | None = None
        self._loaded_at = self._counted_since = float("-inf")
        self._look_ups = 0

    def refresh(self) -> None:
        """Read the keys again when it is time: a key that was deleted meanwhile signs nothing any more."""
        if not self._is_old():
            return
        with self._locked():
            if self._is_old():
                self._load(make=False)

    def signing(self) -> tuple[str, Any]:
        """Identifier and private key of the newest key; makes the first one."""
        with self._locked():
            if self._signing is None or self._is_old():
                self._load(make=True)
            assert self._signing is not None
            return self._signing

    def public(self, identifier: str) -> Any:
        """The public key with this identifier. Raises InvalidToken."""
        with self._locked():
            if self._is_old() or (identifier not in self._public and self._may_retry()):
                self._load(make=False)
            if identifier not in self._public:
                raise InvalidToken("signed by no key of ours")
            return self._public[identifier]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock. Raises OperationalError if the keys could not be read while this thread waited for it.

        Without that, each thread would wait in turn until the database does not answer: a minute for a dozen.
        """
        began = time.monotonic()
        with self._lock:
            if self._failed_at > began:
                raise OperationalError("the signing keys cannot be read")
            yield

    def _is_old(self) -> bool:
        return time.monotonic() - self._loaded_at > self.RELOAD_SECONDS

    def _may_retry(self) -> bool:
        """An unknown identifier may be a key that another process has just made; guesses must not cost a query each."""
        now = time.monotonic()
        if now - self._loaded_at > 1:
            return True
        if now - self._counted_since > self.RELOAD_SECONDS:
            self._counted_since, self._look_ups = now, 0
        self._look_ups += 1
        return self._look_ups <= self.LOOK_UPS

    def _load(self, *, make: bool) -> None:
        try:
            rows = list(SigningKey.objects.order_by("created_at", "pk"))
            if not rows and make:
                rows = [_new_signing_key()]
        except Exception:
            self._failed_at = time.monotonic()
            raise
        known = self._public.keys()
        self._public = {row.identifier: serialization.load_pem_public_key(row.public_key.encode()) for row in rows}
        if known - self._public.keys():
            _verified.cache_clear()
        newest = rows[-1] if rows else None
        if newest is None or (self._signing and self._signing[0] != newest.identifier):
            self._signing = None
        if make and newest and self._signing is None:
            self._signing = (newest.identifier, _decrypt(newest.private_key))
        self._loaded_at = time.monotonic()


def _decrypt(pem: str) -> Any:
    for secret in [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]:
        try:
            return serialization.load_pem_private_key(pem.encode(), hash_secret("signing key", secret).encode())
        except ValueError:
            continue
    raise RuntimeError(
        "the signing key in the database was encrypted with another KCR_SECRET_KEY: give that one in"
        " KCR_SECRET_KEY_FALLBACKS, or run manage.py rotatesigningkey"
    )


_keys = _KeyRing()
