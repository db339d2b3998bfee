"""ID tokens of other issuers in, short-lived credentials of a service account out (RFC 8693, and docker login).

An accepted token makes a session: a FederatedSession and the access key that acts for it, with the limits and the end
of the trust rule. So permissions, tokens, audit logs and uploads know sessions as they know keys.

    exchange    the client gets ID and secret of the key; the ID token is used up
    log_in      the ID token itself is the password, until it expires

A token that is refused raises Rejected: the same for every cause. The cause is written to the audit log of the service
account, if the token's signature held and it is known which account was meant.
"""

from __future__ import annotations

import base64
import logging
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone, translation

from . import audit, id_tokens, issuers, keys, limits, trust_rules
from .actors import Actor
from .models import AccessKey, FederatedSession, TrustRule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.models import QuerySet

    from .models import Issuer, User

logger = logging.getLogger(__name__)

IDENTIFIER_PREFIX = "KCRT"
SECRET_PREFIX = "kcrx_"  # noqa: S105  a prefix, not a secret
SESSIONS = 1_000  # of a service account at the same time
ISSUERS_TRIED = 10  # organizations that trust an issuer of the same address, if the client names no account
SHOWN = 200  # sessions in a list


class Rejected(Exception):
    """No trust rule accepts the token. Callers tell clients nothing more."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A session, and the secret of its key in the clear, which is not stored."""

    session: FederatedSession
    secret: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request with an ID token. ``account``: PROJECT/NAME or ORGANIZATION/NAME of the service account, "" for any."""

    token: str
    account: str = ""
    address: str = ""
    client: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What a rule says about a token: ``problem`` is "" if it accepts it."""

    rule: TrustRule
    problem: str


def exchange(attempt: Attempt) -> Credential:
    """Start a session and return its credential. A token can be exchanged once. Raises Rejected."""
    rule, claims = _accepted(attempt)
    if _session_of(attempt.token) is not None:
        raise _refused(attempt, rule, "the token has been used already")
    secret = keys.new_secret(SECRET_PREFIX)
    return Credential(_start(attempt, rule, claims, secret, is_exchanged=True), secret)


def log_in(attempt: Attempt) -> keys.Login:
    """The login of an ID token that is the password. The same token has the same session. Raises Rejected."""
    rule, claims = _accepted(attempt)
    session = _session_of(attempt.token)
    if session is None:
        session = _start(attempt, rule, claims, keys.new_secret(SECRET_PREFIX), is_exchanged=False)
    elif session.is_exchanged or session.key.state != "alive" or session.rule_id != rule.pk:
        raise _refused(attempt, rule, "the session of the token has ended, or the token was exchanged")
    login = keys.Login(session.key, session.key.secret_hash)
    keys.last_used.note(login, attempt.address, attempt.client)
    return login


def look(rules: list[TrustRule], token: str) -> tuple[str, list[Look]]:
    """What rules of one account say about a token that a person pasted; nothing is started.

    Returns why the token itself is no good ("" if it is), and what each rule says.
    """
    try:
        peeked = id_tokens.peek(token)
    except id_tokens.InvalidIdToken as error:
        return str(error), []
    found, problem = [], ""
    for issuer in {rule.issuer_id: rule.issuer for rule in rules}.values():
        if issuer.url != peeked.issuer:
            continue
        try:
            claims = _verified(token, peeked, issuer)
        except id_tokens.InvalidIdToken as error:
            problem = str(error)
            continue
        found += [Look(rule, trust_rules.mismatch(rule, claims)) for rule in rules if rule.issuer_id == issuer.pk]
    if not found and not problem:
        problem = f"no rule of this account is for the issuer {peeked.issuer[:200]}"
    return problem, found


def of_account(account: User) -> QuerySet[FederatedSession]:
    """The sessions of a service account, the newest first."""
    found = FederatedSession.objects.filter(key__user=account)
    return found.select_related("key__user", "rule__issuer").order_by("-pk")


def end(actor: Actor, session: FederatedSession) -> bool:
    """End a session at once; False if it has ended."""
    with transaction.atomic():
        alive = AccessKey.objects.filter(pk=session.key_id, revoked_at=None, expires_at__gt=timezone.now())
        if not alive.update(revoked_at=timezone.now(), revoked_by=actor.user_id):
            return False
        _record(actor, audit.Action.SESSION_END, session)
    return True


def end_all(actor: Actor, account: User) -> int:
    """End every session of an account at once; returns how many there were."""
    with transaction.atomic():
        alive = of_account(account).filter(key__revoked_at=None, key__expires_at__gt=timezone.now())
        return sum(end(actor, session) for session in alive)


def forget() -> int:
    """Delete sessions that ended KCR_HISTORY_DAYS ago (0: keep all); returns how many."""
    if not settings.HISTORY_DAYS:
        return 0
    end = timezone.now() - timedelta(days=settings.HISTORY_DAYS)
    forgotten = 0
    while found := list(AccessKey.objects.filter(session__isnull=False, expires_at__lt=end).values_list("pk")[:100]):
        forgotten += AccessKey.objects.filter(pk__in=[pk for (pk,) in found]).delete()[0]
    return forgotten


def _accepted(attempt: Attempt) -> tuple[TrustRule, dict[str, Any]]:
    """The narrowest rule that accepts the token, and the token's claims. Raises Rejected."""
    try:
        peeked = id_tokens.peek(attempt.token)
    except id_tokens.InvalidIdToken as error:
        raise _dropped(str(error)) from error
    rules = list(_rules(peeked.issuer, attempt.account))
    asked = {rule.issuer_id: rule.issuer for rule in rules}
    if not rules or len(asked) > ISSUERS_TRIED:
        raise _dropped("no trust rule is for its issuer, or too many are: the client has to name the account")
    fitting: list[tuple[TrustRule, dict[str, Any]]] = []
    problems: list[tuple[TrustRule, str]] = []
    for issuer in asked.values():
        try:
            claims = _verified(attempt.token, peeked, issuer)
        except id_tokens.InvalidIdToken as error:
            logger.info("an ID token of %s was refused: %s", issuer.url, error)
            continue
        for rule in rules:
            if rule.issuer_id == issuer.pk:
                problem = _problem(rule, claims, attempt.address)
                problems.append((rule, problem)) if problem else fitting.append((rule, claims))
    if len({rule.account_id for rule, _ in fitting}) > 1:
        raise _dropped("rules of several accounts accept it: the client has to name the account")
    if fitting:
        return max(fitting, key=lambda found: (trust_rules.specificity(found[0]), -found[0].pk))
    if len({rule.account_id for rule, _ in problems}) == 1:
        rule, problem = max(problems, key=lambda found: trust_rules.specificity(found[0]))
        raise _refused(attempt, rule, problem)
    raise _dropped("no trust rule accepts it")


def _rules(issuer: str, account: str) -> QuerySet[TrustRule]:
    """The rules for tokens of this issuer; of one account if it is named. One query."""
    if not issuer.isprintable() or len(issuer) > issuers.MAX_URL:
        return TrustRule.objects.none()
    found = TrustRule.objects.filter(issuer__url=issuer, issuer__deleted_at=None, deleted_at=None)
    found = found.filter(account__is_active=True, account__deleted_at=None)
    if "/" in account:
        owner, _, name = account.partition("/")
        of_project = Q(account__project__name=owner)
        found = found.filter(of_project | Q(account__project=None, account__organization__name=owner))
        found = found.filter(account__name=name)
    return found.select_related("issuer", "account__project", "account__organization")


def _verified(token: str, peeked: id_tokens.Peeked, issuer: Issuer) -> dict[str, Any]:
    jwk = issuers.key_of(issuer, peeked.key_id)
    return id_tokens.verify(token, peeked, jwk, issuer=issuer.url, audience=issuer.audience)


def _problem(rule: TrustRule, claims: Mapping[str, Any], address: str) -> str:
    with translation.override("en"):  # the audit log keeps it
        if problem := trust_rules.mismatch(rule, claims):
            return problem
    if not limits.covers(rule.networks, address):
        return f"the rule may not be used from {address}"
    return ""


def _session_of(token: str) -> FederatedSession | None:
    """The session that the token has made."""
    found = FederatedSession.objects.filter(token_hash__in=list(keys.possible_hashes(token)))
    return found.select_related("key__user", "key__former").first()


def _start(
    attempt: Attempt, rule: TrustRule, claims: dict[str, Any], secret: str, *, is_exchanged: bool
) -> FederatedSession:
    """Make the session and its key. Raises Rejected when the rule or the account has ended meanwhile."""
    try:
        with transaction.atomic():
            locked = TrustRule.objects.select_for_update(of=("self",)).get(pk=rule.pk)
            locked.issuer, locked.account = rule.issuer, rule.account
            if locked.deleted_at or trust_rules.mismatch(locked, claims):
                raise _dropped("its rule has changed")
            alive = AccessKey.objects.alive().filter(user=rule.account, session__isnull=False)
            if alive.count() >= SESSIONS:
                raise _dropped(f"{rule.account} has {SESSIONS} sessions already")
            return _made(attempt, locked, claims, secret, is_exchanged=is_exchanged)
    except IntegrityError as error:
        raise _dropped("the token has been used already") from error


def _made(
    attempt: Attempt, rule: TrustRule, claims: dict[str, Any], secret: str, *, is_exchanged: bool
) -> FederatedSession:
    now = timezone.now()
    key = AccessKey.objects.create(
        user=rule.account,
        name=rule.name,
        identifier=IDENTIFIER_PREFIX + base64.b32encode(secrets.token_bytes(10)).decode(),
        secret_hash=keys.hash_secret(secret),
        pull_only=rule.actions == "pull",
        actions=rule.actions,
        repositories=rule.repositories,
        networks=rule.networks,
        expires_at=now + timedelta(seconds=rule.lifetime),
        last_used_at=now,
        last_used_address=attempt.address[:45],
        last_used_client=attempt.client[:200],
    )
    session = FederatedSession.objects.create(
        key=key,
        rule=rule,
        token_hash=keys.hash_secret(attempt.token),
        is_exchanged=is_exchanged,
        provenance=trust_rules.provenance(rule.issuer, claims),
        address=attempt.address[:45],
        client=attempt.client[:200],
    )
    TrustRule.objects.filter(pk=rule.pk).update(last_used_at=now)
    by = keys.actor(key, address=attempt.address, client=attempt.client)
    trust_rules.pin(by, rule, claims)
    _record(by, audit.Action.SESSION_START, session)
    return session


def _dropped(reason: str) -> Rejected:
    logger.info("an ID token was refused: %s", reason)
    return Rejected(reason)


def _refused(attempt: Attempt, rule: TrustRule, reason: str) -> Rejected:
    """Note the refusal in the audit log of the account whose rule was meant."""
    by = Actor(label=rule.account.email, address=attempt.address, client=attempt.client)
    detail = {"rule": rule.name, "issuer": rule.issuer.url, "reason": reason[:300]}
    audit.record_refused_token(by, rule.account, detail)
    return _dropped(f"{rule.account}, rule {rule.name}: {reason}")


def _record(by: Actor, action: audit.Action, session: FederatedSession) -> None:
    detail = {"session": session.key.identifier, "name": session.rule.name, "via": session.provenance}
    audit.record(by, action, person=session.key.user, detail=detail)
