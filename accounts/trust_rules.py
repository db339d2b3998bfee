"""Trust rules: which ID tokens of an issuer act as a service account.

A rule has a value for each claim that it asks about, by the fields of its issuer's kind (FIELDS).

    refs/heads/main        exactly this text
    refs/tags/v*           * stands for any characters but / and :
    refs/heads/release/**  everything that begins with refs/heads/release/

Names of repositories and accounts can be taken over, so a rule keeps the ids that the issuer gives them (PINNED) from
the first token that matches, and refuses tokens with other ids.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from . import audit, limits
from .errors import Refusal
from .keys import RESTORE_TIME
from .models import AccessKey, Issuer, IssuerKind, TrustRule, User

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Mapping

    from django.db.models import QuerySet

    from .actors import Actor

RULES = 50  # of a service account
LIFETIMES = (timedelta(minutes=15), timedelta(hours=12))  # of a session, from and to
DEFAULT_LIFETIME = timedelta(hours=1)
MAX_VALUE = 255
MAX_CLAIMS = 8  # of a rule of the generic kind, besides the subject
LEAST_PREFIX = 3  # characters before the first * of a subject
DEFAULT_EVENTS = "push workflow_dispatch schedule release"
_CLAIM = re.compile(r"[A-Za-z0-9_.:/-]{1,100}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+", re.ASCII)
_SHOWN = 200  # characters of a claim


@dataclass(frozen=True, slots=True)
class Field:
    """A claim that rules of a kind ask about. ``is_folded``: upper and lower case are the same."""

    name: str
    is_required: bool = False
    is_pattern: bool = True
    is_folded: bool = False


FIELDS: dict[str, tuple[Field, ...]] = {
    IssuerKind.GITHUB: (
        Field("repository", is_required=True, is_pattern=False, is_folded=True),
        Field("ref"),
        Field("workflow", is_pattern=False),
        Field("environment", is_pattern=False),
        Field("events", is_pattern=False),
    ),
    IssuerKind.GITLAB: (
        Field("project_path", is_required=True, is_pattern=False, is_folded=True),
        Field("ref"),
        Field("ref_type", is_pattern=False),
        Field("ref_protected", is_pattern=False),
        Field("environment", is_pattern=False),
    ),
    IssuerKind.KUBERNETES: (
        Field("namespace", is_required=True),
        Field("service_account", is_required=True),
    ),
    IssuerKind.GENERIC: (Field("sub", is_required=True),),
}
PINNED = {
    IssuerKind.GITHUB: ("repository_id", "repository_owner_id"),
    IssuerKind.GITLAB: ("project_id", "namespace_id"),
    IssuerKind.KUBERNETES: ("uid",),
    IssuerKind.GENERIC: (),
}


def of(account: User) -> QuerySet[TrustRule]:
    """The rules of a service account that are not deleted, in the order in which they were made."""
    found = TrustRule.objects.filter(account=account, deleted_at=None)
    return found.select_related("issuer", "account").order_by("pk")


def create(
    actor: Actor,
    account: User,
    issuer: Issuer,
    name: str,
    claims: Mapping[str, str],
    *,
    only: limits.Limits = limits.NONE,
    lifetime: timedelta = DEFAULT_LIFETIME,
    form_id: uuid.UUID | None = None,
) -> TrustRule:
    """Add a rule. ``claims``: as people typed them, by the fields of the issuer's kind. Raises Refusal.

    ``service_accounts.add_trust_rule`` asks whether the actor may.
    """
    if not name.strip() or len(name) > 64:
        raise Refusal(_("give the rule a name of at most 64 characters"))
    if not LIFETIMES[0] <= lifetime <= LIFETIMES[1]:
        raise Refusal(_("a session lives from 15 minutes to 12 hours"))
    if issuer.organization_id != account.organization_id or issuer.deleted_at:
        raise Refusal(_("the issuer %(url)s has been deleted") % {"url": issuer.url})
    rule = TrustRule(account=account, issuer=issuer, name=name.strip(), created_by=actor.label[:254], form_id=form_id)
    rule.actions = limits.read_actions(only.actions)
    rule.repositories = limits.read_repositories(only.repositories, account.project.name if account.project else "")
    rule.networks = limits.read_networks(only.networks)
    rule.claims = read_claims(issuer.kind, claims, rule.only_actions)
    rule.lifetime = int(lifetime.total_seconds())
    with transaction.atomic():
        if User.objects.select_for_update().get(pk=account.pk).deleted_at:
            raise Refusal(_("%(user)s has been deleted") % {"user": account})
        if Issuer.objects.select_for_update().get(pk=issuer.pk).deleted_at:
            raise Refusal(_("the issuer %(url)s has been deleted") % {"url": issuer.url})
        if form_id and TrustRule.objects.filter(form_id=form_id).exists():
            raise Refusal(_("this rule was made already"))
        if of(account).count() >= RULES:
            raise Refusal(_("%(user)s has %(count)s trust rules already") % {"user": account, "count": RULES})
        rule.save()
        _record(actor, audit.Action.RULE_CREATE, rule)
    return rule


def delete(actor: Actor, rule: TrustRule) -> bool:
    """End a rule and its sessions at once; False if it has ended. ``restore`` brings the rule back."""
    with transaction.atomic():
        locked = _lock(rule)
        if locked.deleted_at:
            return False
        now = timezone.now()
        ended = AccessKey.objects.alive().filter(session__rule=locked).values("pk")
        sessions = AccessKey.objects.filter(pk__in=list(ended.values_list("pk", flat=True)))
        number = sessions.update(revoked_at=now, revoked_by=actor.user_id)
        TrustRule.objects.filter(pk=locked.pk).update(deleted_at=now, deleted_by=actor.user_id)
        _record(actor, audit.Action.RULE_DELETE, locked, sessions=number)
    return True


def may_restore(actor: Actor, rule: TrustRule) -> bool:
    """Whether the actor deleted the rule less than keys.RESTORE_TIME ago."""
    if rule.deleted_at is None or actor.user_id is None or rule.deleted_by_id != actor.user_id:
        return False
    return timezone.now() < rule.deleted_at + RESTORE_TIME


def restore(actor: Actor, rule: TrustRule) -> None:
    """Bring a deleted rule back, without its sessions. Raises Refusal (another person deleted it, or too late)."""
    with transaction.atomic():
        locked = _lock(rule)
        if not may_restore(actor, locked) or locked.issuer.deleted_at or locked.account.deleted_at:
            raise Refusal(
                _("A deleted trust rule can be restored for %(minutes)s minutes, by the person who deleted it.")
                % {"minutes": RESTORE_TIME // timedelta(minutes=1)}
            )
        TrustRule.objects.filter(pk=locked.pk).update(deleted_at=None, deleted_by=None)
        _record(actor, audit.Action.RULE_RESTORE, locked)


def unpin(actor: Actor, rule: TrustRule) -> bool:
    """Forget the ids of the first token: the next one that matches gives new ones. False if there are none."""
    with transaction.atomic():
        locked = _lock(rule)
        if not locked.pinned or locked.deleted_at:
            return False
        TrustRule.objects.filter(pk=locked.pk).update(pinned={})
        _record(actor, audit.Action.RULE_UNPIN, locked, before=locked.pinned)
    return True


def pin(actor: Actor, rule: TrustRule, claims: Mapping[str, Any]) -> None:
    """Keep the ids of the first token. The caller holds the rule's lock, and ``mismatch`` has found nothing."""
    if rule.pinned or not (found := ids(rule, claims)):
        return
    rule.pinned = found
    TrustRule.objects.filter(pk=rule.pk).update(pinned=found)
    _record(actor, audit.Action.RULE_PIN, rule, pinned=found)


# ── Matching ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def mismatch(rule: TrustRule, claims: Mapping[str, Any]) -> str:
    """Why the rule does not accept verified claims, for the people of the account; "" if it does."""
    values = _values(rule.issuer.kind, claims)
    for field in FIELDS[rule.issuer.kind]:
        wanted = rule.claims.get(field.name, "")
        if not wanted:
            continue
        check = _CHECKS.get((rule.issuer.kind, field.name))
        found = values.get(field.name, "")
        if not (check(wanted, values) if check else matches(wanted, found, is_folded=field.is_folded)):
            return _said(field.name, found, wanted)
    for name, wanted in rule.claims.get("claims", {}).items():
        found = _text(claims.get(name))
        if not matches(wanted, found):
            return _said(name, found, wanted)
    return _wrong_event(rule, values) or _other_ids(rule, claims)


def _wrong_event(rule: TrustRule, values: Mapping[str, str]) -> str:
    """Code of strangers runs in jobs of pull_request_target with the rights of the repository: never accepted."""
    if rule.issuer.kind != IssuerKind.GITHUB:
        return ""
    event = values.get("event_name", "")
    is_pull_only = rule.only_actions == frozenset({"pull"})
    if event == "pull_request_target" or (event == "pull_request" and not is_pull_only):
        return _("jobs of the event %(event)s are not accepted by this rule") % {"event": event}
    return ""


def _other_ids(rule: TrustRule, claims: Mapping[str, Any]) -> str:
    found = ids(rule, claims)
    missing = [name for name in _pinned_names(rule) if name not in found]
    if missing:
        return _("the token has no %(claim)s") % {"claim": missing[0]}
    for name, wanted in rule.pinned.items():
        if found.get(name) != wanted:
            words = _("%(claim)s is %(found)s, but was %(wanted)s at the first use: the name was given to another one")
            return words % {"claim": name, "found": found.get(name, ""), "wanted": wanted}
    return ""


def ids(rule: TrustRule, claims: Mapping[str, Any]) -> dict[str, str]:
    """The ids of the claims that a rule of this kind pins."""
    values = _values(rule.issuer.kind, claims)
    return {name: values[name] for name in _pinned_names(rule) if values.get(name)}


def _pinned_names(rule: TrustRule) -> tuple[str, ...]:
    if rule.issuer.kind == IssuerKind.KUBERNETES and "*" in rule.claims.get("service_account", "") + rule.claims.get(
        "namespace", ""
    ):
        return ()  # several accounts
    return PINNED[IssuerKind(rule.issuer.kind)]


def specificity(rule: TrustRule) -> int:
    """How narrow a rule is: the narrowest of those that match is used. An exact claim counts more than a pattern."""
    wanted = [value for name, value in rule.claims.items() if name not in {"claims", "events"}]
    wanted += rule.claims.get("claims", {}).values()
    return sum(1 if "*" in value else 2 for value in wanted)


def matches(wanted: str, found: str, *, is_folded: bool = False) -> bool:
    """Whether a claim has the wanted text, as the module describes patterns. An absent claim matches nothing."""
    if not found or len(found) > 1024:
        return False
    if is_folded:
        wanted, found = wanted.lower(), found.lower()
    if wanted.endswith("/**"):
        return re.fullmatch(_regex(wanted[:-2]) + r"[^\r\n]+", found) is not None
    return re.fullmatch(_regex(wanted), found) is not None


def _regex(wanted: str) -> str:
    return "[^/:]*".join(map(re.escape, wanted.split("*")))


def _is_workflow(wanted: str, values: Mapping[str, str]) -> bool:
    """The workflow file of the repository itself, at the commit or ref that the token is for."""
    path = f"{values.get('repository', '')}/.github/workflows/{wanted}@"
    refs = (values.get("ref", ""), values.get("sha", ""))
    return values.get("job_workflow_ref", "") in {path + ref for ref in refs if ref}


def _is_event(wanted: str, values: Mapping[str, str]) -> bool:
    return values.get("event_name", "") in wanted.split()


def _is_account(wanted: str, values: Mapping[str, str]) -> bool:
    """The subject is compared whole: system:serviceaccount:NAMESPACE:NAME."""
    return matches(f"system:serviceaccount:{wanted}:*", values["sub"])


def _is_account_name(wanted: str, values: Mapping[str, str]) -> bool:
    return matches(f"system:serviceaccount:*:{wanted}", values["sub"])


_CHECKS: dict[tuple[str, str], Callable[[str, Mapping[str, str]], bool]] = {
    (IssuerKind.GITHUB, "workflow"): _is_workflow,
    (IssuerKind.GITHUB, "events"): _is_event,
    (IssuerKind.KUBERNETES, "namespace"): _is_account,
    (IssuerKind.KUBERNETES, "service_account"): _is_account_name,
}


def _values(kind: str, claims: Mapping[str, Any]) -> dict[str, str]:
    """The claims as texts. Kubernetes has the ids of the account in an object of its own."""
    found = {name: _text(value) for name, value in claims.items()}
    if kind == IssuerKind.KUBERNETES:
        own = _object(claims.get("kubernetes.io"))
        account = _object(own.get("serviceaccount"))
        found |= {"namespace": _text(own.get("namespace")), "service_account": _text(account.get("name"))}
        found |= {"uid": _text(account.get("uid")), "pod": _text(_object(own.get("pod")).get("name"))}
    return found


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    """A claim as a text: a number or a truth value as JSON writes it, "" for lists and objects."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else ""


def _said(name: str, found: str, wanted: str) -> str:
    return _("%(claim)s is %(found)s, but the rule wants %(wanted)s") % {
        "claim": name,
        "found": found[:_SHOWN] or _("absent"),
        "wanted": wanted,
    }


# ── What people type ─────────────────────────────────────────────────────────────────────────────────────────────────
def read_claims(kind: str, typed: Mapping[str, str], only_actions: frozenset[str] | None) -> dict[str, Any]:
    """The claims of a rule of this kind as they are stored. Raises Refusal."""
    found: dict[str, Any] = {}
    for field in FIELDS[kind]:
        value = typed.get(field.name, "").strip()
        if field.is_required and not value:
            raise Refusal(_("%(claim)s is missing") % {"claim": field.name})
        if value:
            _check_value(field.name, value, is_pattern=field.is_pattern)
            found[field.name] = value
    if kind == IssuerKind.GITHUB:
        found["events"] = _read_events(typed.get("events", ""), only_actions)
    if kind in {IssuerKind.GITHUB, IssuerKind.GITLAB}:
        path = found.get("repository", found.get("project_path", ""))
        if not _NAME.fullmatch(path):
            raise Refusal(_("write the repository with its owner, such as acme/web"))
    if kind == IssuerKind.KUBERNETES and found["namespace"] == found["service_account"] == "*":
        raise Refusal(_("a rule for all accounts of a cluster is not accepted: name a namespace or an account"))
    if kind == IssuerKind.GENERIC:
        if len(found["sub"].partition("*")[0]) < LEAST_PREFIX:
            raise Refusal(_("write at least %(count)s characters of the subject before a *") % {"count": LEAST_PREFIX})
        found["claims"] = _read_pairs(typed.get("claims", ""))
    return found


def _check_value(name: str, value: str, *, is_pattern: bool) -> None:
    if len(value) > MAX_VALUE or not value.isprintable():
        raise Refusal(_("%(claim)s has at most %(count)s characters") % {"claim": name, "count": MAX_VALUE})
    if "*" in value and not is_pattern:
        raise Refusal(_("%(claim)s cannot be a pattern: write it whole") % {"claim": name})
    if "**" in value and (value.count("**") > 1 or not value.endswith("/**") or value == "/**"):
        raise Refusal(_("** stands at the end only, after a /"))


def _read_events(typed: str, only_actions: frozenset[str] | None) -> str:
    words = typed.replace(",", " ").split() or DEFAULT_EVENTS.split()
    if "pull_request_target" in words:
        raise Refusal(_("jobs of pull_request_target run code of strangers: they are never accepted"))
    if "pull_request" in words and only_actions != frozenset({"pull"}):
        raise Refusal(_("jobs of pull_request run code of strangers: limit the rule to pull"))
    return " ".join(dict.fromkeys(words))


def _read_pairs(typed: str) -> dict[str, str]:
    """Further claims, one ``name = value`` a line."""
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, typed.splitlines())):
        name, sign, value = (part.strip() for part in line.partition("="))
        if not sign or not value or not _CLAIM.fullmatch(name) or name in found:
            raise Refusal(_("%(line)s is no claim: write name = value, each claim once") % {"line": line[:100]})
        _check_value(name, value, is_pattern=True)
        found[name] = value
    if len(found) > MAX_CLAIMS:
        raise Refusal(_("a rule has at most %(count)s further claims") % {"count": MAX_CLAIMS})
    return found


# ── Where a token comes from ─────────────────────────────────────────────────────────────────────────────────────────
def provenance(issuer: Issuer, claims: Mapping[str, Any]) -> dict[str, str]:
    """What audit logs and tags show of a token: issuer, subject, and by kind repository, ref, commit, run (a URL) …"""
    values = _values(issuer.kind, claims)
    said = {"issuer": issuer.url, "subject": values.get("sub", "")}
    said |= {name: values.get(claim, "") for name, claim in _SAID[issuer.kind].items()}
    said["run"] = _run(issuer, values)
    return {name: value[:_SHOWN] for name, value in said.items() if value and value.isprintable()}


_SAID: dict[str, dict[str, str]] = {
    IssuerKind.GITHUB: {
        "repository": "repository",
        "ref": "ref",
        "commit": "sha",
        "workflow": "job_workflow_ref",
        "environment": "environment",
        "by": "actor",
    },
    IssuerKind.GITLAB: {
        "repository": "project_path",
        "ref": "ref",
        "commit": "sha",
        "workflow": "ci_config_ref_uri",
        "environment": "environment",
        "by": "user_login",
    },
    IssuerKind.KUBERNETES: {"namespace": "namespace", "pod": "pod"},
    IssuerKind.GENERIC: {},
}


def _run(issuer: Issuer, values: Mapping[str, str]) -> str:
    """The address of the run or job, made of the issuer's address and of ids; "" without them."""
    if issuer.kind == IssuerKind.GITHUB and values.get("repository") and values.get("run_id", "").isdigit():
        server = issuer.url.partition("/_services/")[0].replace("token.actions.githubusercontent.com", "github.com")
        return f"{server}/{quote(values['repository'])}/actions/runs/{values['run_id']}"
    if issuer.kind == IssuerKind.GITLAB and values.get("project_path") and values.get("job_id", "").isdigit():
        return f"{issuer.url.rstrip('/')}/{quote(values['project_path'])}/-/jobs/{values['job_id']}"
    return ""


def _lock(rule: TrustRule) -> TrustRule:
    return TrustRule.objects.select_for_update(of=("self",)).select_related("issuer", "account").get(pk=rule.pk)


def _record(actor: Actor, action: audit.Action, rule: TrustRule, **more: Any) -> None:
    detail = {
        "name": rule.name,
        "issuer": rule.issuer.url,
        "claims": rule.claims,
        "actions": sorted(rule.only_actions or ()),
        "repositories": rule.repositories,
        "networks": rule.networks,
        "lifetime": rule.lifetime,
        **more,
    }
    audit.record(actor, action, person=rule.account, detail=detail)
