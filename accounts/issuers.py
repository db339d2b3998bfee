"""Issuers of ID tokens that an organization trusts, and their public keys.

The keys are fetched from the issuer (OpenID Connect Discovery 1.0) through ``outbound_http`` and kept in the database.
A failed attempt leaves the kept keys as they are. They are used for KEYS_LIFETIME after the last good fetch, so an
issuer may be away for that long. Issuers that cannot be reached have uploaded keys, which do not age.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from . import audit, id_tokens, outbound_http
from .errors import Refusal
from .models import Issuer, IssuerKind, Organization, TrustRule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.models import QuerySet

    from .actors import Actor

ISSUERS = 20  # of an organization
KEYS_LIFETIME = timedelta(hours=24)  # of fetched keys, after the last good fetch
BETWEEN_ATTEMPTS = timedelta(minutes=1)
REFRESH_AFTER = timedelta(minutes=50)  # the hourly task fetches keys that are older
FETCH_SECONDS = 5.0
MAX_DOCUMENT = 256 * 1024
MAX_URL = 255
DISCOVERY = "/.well-known/openid-configuration"
PUBLIC = {
    IssuerKind.GITHUB: "https://token.actions.githubusercontent.com",
    IssuerKind.GITLAB: "https://gitlab.com",
}
OWN_AUDIENCE = frozenset({IssuerKind.KUBERNETES, IssuerKind.GENERIC})  # kinds whose audience people may choose


class _NotFetched(Exception):
    """The keys could not be fetched. The message says why."""


def of(organization: Organization) -> QuerySet[Issuer]:
    """The issuers of an organization that are not deleted, by address."""
    return Issuer.objects.filter(organization=organization, deleted_at=None).order_by("url")


def create(
    actor: Actor, organization: Organization, kind: IssuerKind, url: str, *, audience: str = "", keys: str = ""
) -> Issuer:
    """Add an issuer and fetch its keys; with ``keys``, a JWKS as JSON, nothing is ever fetched.

    ``audience``: what its tokens are for, KCR_PUBLIC_URL by default and for the kinds that are not in OWN_AUDIENCE.
    Raises Refusal: the address is none, may not be asked, or is there already; the keys or the audience are no good.
    An issuer that does not answer is added, and its ``problem`` says so.
    """
    uploaded = _read_upload(keys) if keys.strip() else []
    _check_url(url, is_asked=not uploaded)
    issuer = Issuer(organization=organization, kind=kind, url=url, audience=_audience(kind, audience), keys=uploaded)
    issuer.is_uploaded = bool(uploaded)
    if not uploaded:
        issuer.attempted_at = timezone.now()
        _take(issuer)
    with transaction.atomic():
        Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        if of(organization).filter(url=url).exists():
            raise Refusal(_("the organization has the issuer %(url)s already") % {"url": url})
        if of(organization).count() >= ISSUERS:
            raise Refusal(_("an organization has at most %(count)s issuers") % {"count": ISSUERS})
        issuer.save()
        _record(actor, audit.Action.ISSUER_CREATE, issuer, keys=_names(issuer))
    return issuer


def upload_keys(actor: Actor, issuer: Issuer, keys: str) -> None:
    """Replace the keys by those of a JWKS; from then on nothing is fetched. Raises Refusal."""
    found = _read_upload(keys)
    with transaction.atomic():
        locked = _lock(issuer)
        before = _names(locked)
        locked.keys, locked.is_uploaded, locked.problem, locked.fetched_at = found, True, "", None
        locked.save(update_fields=["keys", "is_uploaded", "problem", "fetched_at"])
        _record(actor, audit.Action.ISSUER_UPDATE, locked, before=before, after=_names(locked), uploaded=True)


def fetch_now(actor: Actor, issuer: Issuer) -> Issuer:
    """Fetch the keys at the wish of a person, also of an issuer with uploaded ones. Returns the issuer as it is then.

    Raises Refusal: the keys could not be fetched (why), or were asked for within the last seconds.
    """
    if not _begin_attempt(issuer, timedelta(seconds=5)):
        raise Refusal(_("the keys were fetched a moment ago: wait a few seconds"))
    before = _names(issuer)
    _fetch(issuer)
    if issuer.problem:
        raise Refusal(issuer.problem)
    if before != _names(issuer) or issuer.is_uploaded:
        with transaction.atomic():
            Issuer.objects.filter(pk=issuer.pk).update(is_uploaded=False)
            _record(actor, audit.Action.ISSUER_UPDATE, issuer, before=before, after=_names(issuer), uploaded=False)
    issuer.refresh_from_db()
    return issuer


def delete(actor: Actor, issuer: Issuer) -> None:
    """Stop trusting an issuer. Raises Refusal while it has trust rules."""
    with transaction.atomic():
        locked = _lock(issuer)
        rules = TrustRule.objects.filter(issuer=locked, deleted_at=None)
        if rules.exists():
            raise Refusal(_("the issuer has %(count)s trust rules: delete them first") % {"count": rules.count()})
        Issuer.objects.filter(pk=locked.pk).update(deleted_at=timezone.now())
        _record(actor, audit.Action.ISSUER_DELETE, locked)


def key_of(issuer: Issuer, key_id: str) -> dict[str, str]:
    """The issuer's key of this identifier, fetched once a minute at most if it is not known. Raises InvalidIdToken."""
    found = id_tokens.find_key(issuer.keys, key_id)
    if (found is None or not has_fresh_keys(issuer)) and not issuer.is_uploaded and _begin_attempt(issuer):
        _fetch(issuer)
        found = id_tokens.find_key(issuer.keys, key_id)
    if found is None:
        raise id_tokens.InvalidIdToken("its issuer has no such key")
    if not has_fresh_keys(issuer):
        raise id_tokens.InvalidIdToken("the keys of its issuer were fetched too long ago")
    return found


def has_fresh_keys(issuer: Issuer) -> bool:
    """Whether tokens may be verified with the kept keys: they are uploaded, or were fetched within KEYS_LIFETIME."""
    if issuer.is_uploaded:
        return True
    return issuer.fetched_at is not None and timezone.now() - issuer.fetched_at <= KEYS_LIFETIME


def refresh_due() -> int:
    """Fetch the keys of the issuers that have trust rules, when they are old; returns how many were fetched."""
    ruled = TrustRule.objects.filter(deleted_at=None).values("issuer")
    due = Issuer.objects.filter(pk__in=ruled, deleted_at=None, is_uploaded=False)
    due = due.filter(Q(fetched_at=None) | Q(fetched_at__lt=timezone.now() - REFRESH_AFTER))
    fetched = 0
    for issuer in list(due):
        if _begin_attempt(issuer):
            _fetch(issuer)
            fetched += not issuer.problem
    return fetched


def _begin_attempt(issuer: Issuer, pause: timedelta = BETWEEN_ATTEMPTS) -> bool:
    """Whether this process may fetch now: of all processes, one a minute."""
    now = timezone.now()
    rested = Issuer.objects.filter(Q(attempted_at=None) | Q(attempted_at__lt=now - pause), pk=issuer.pk)
    return bool(rested.update(attempted_at=now))


def _fetch(issuer: Issuer) -> None:
    """Fetch the keys and save them; a failure saves only its ``problem``."""
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()  # gives a pooled connection back: the issuer may be slow
    _take(issuer)
    saved: dict[str, Any] = {"problem": issuer.problem}
    if not issuer.problem:
        saved |= {"keys": issuer.keys, "fetched_at": issuer.fetched_at}
    Issuer.objects.filter(pk=issuer.pk).update(**saved)


def _take(issuer: Issuer) -> None:
    """Fetch the keys into the row's fields."""
    try:
        with translation.override("en"):
            issuer.keys = _fetched_keys(issuer.url)
        issuer.fetched_at, issuer.problem = timezone.now(), ""
    except _NotFetched as error:
        issuer.problem = str(error)[:200]


def _fetched_keys(url: str) -> list[dict[str, str]]:
    document = _document(url.rstrip("/") + DISCOVERY)
    try:
        found = id_tokens.read_object(document)
        if found.get("issuer") != url:
            raise _NotFetched("the configuration of the issuer names another issuer")
        address = found.get("jwks_uri")
        if not isinstance(address, str):
            raise _NotFetched("the configuration of the issuer names no jwks_uri")
        return id_tokens.read_keys(_document(address))
    except id_tokens.InvalidIdToken as error:
        raise _NotFetched(f"the answer of the issuer is of no use: {error}") from error


def _document(url: str) -> bytes:
    """The JSON at an address. Raises _NotFetched."""
    try:
        target = outbound_http.check(url)
        if target.scheme != "https" and not outbound_http.is_allowed(target):
            raise _NotFetched("keys are fetched by https only")
        headers = {"Accept": "application/json", "User-Agent": "KCR"}
        answer = outbound_http.get(target, headers, seconds=FETCH_SECONDS, limit=MAX_DOCUMENT + 1)
    except (outbound_http.Refused, outbound_http.Unreachable) as error:
        raise _NotFetched(f"{outbound_http.host_of(url)}: {error}") from error
    if answer.status != 200:
        raise _NotFetched(f"{target.host} answered with status {answer.status}")
    if len(answer.body) > MAX_DOCUMENT:
        raise _NotFetched(f"{target.host} answered with more than {MAX_DOCUMENT} bytes")
    return answer.body


def _check_url(url: str, *, is_asked: bool) -> None:
    """Raises Refusal for a text that is no address of an issuer, and for one that may not be asked."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
        parts = urlsplit("")
    is_plain = not parts.query and not parts.fragment and "@" not in parts.netloc
    if not is_good or not is_plain or len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise Refusal(_("write the address of the issuer as in the claim iss, such as https://gitlab.example.com"))
    if not is_asked:
        return
    try:
        target = outbound_http.check(url)
    except outbound_http.Unreachable:
        return
    except outbound_http.Refused as error:
        raise Refusal(str(error)) from error
    if target.scheme != "https" and not outbound_http.is_allowed(target):
        raise Refusal(_("keys are fetched by https only"))


def _audience(kind: IssuerKind, audience: str) -> str:
    if not audience or kind not in OWN_AUDIENCE:
        return str(settings.PUBLIC_URL)
    if len(audience) > MAX_URL or not audience.isprintable():
        raise Refusal(_("an audience has at most %(count)s characters") % {"count": MAX_URL})
    return audience


def _read_upload(keys: str) -> list[dict[str, str]]:
    try:
        return id_tokens.read_keys(keys[:MAX_DOCUMENT])
    except id_tokens.InvalidIdToken as error:
        words = _("these are no keys: paste the JSON of the issuer's jwks_uri, with at most %(count)s public keys")
        raise Refusal(words % {"count": id_tokens.MAX_KEYS}) from error


def _lock(issuer: Issuer) -> Issuer:
    locked = Issuer.objects.select_for_update(of=("self",)).select_related("organization").filter(pk=issuer.pk).first()
    if locked is None or locked.deleted_at:
        raise Refusal(_("the issuer %(url)s has been deleted") % {"url": issuer.url})
    return locked


def _names(issuer: Issuer) -> list[str]:
    return sorted(key["kid"] for key in issuer.keys)


def _record(actor: Actor, action: audit.Action, issuer: Issuer, **more: Any) -> None:
    detail: Mapping[str, Any] = {"issuer": issuer.url, "kind": issuer.kind, "audience": issuer.audience, **more}
    audit.record(actor, action, organizations=[issuer.organization_id], detail=dict(detail))
