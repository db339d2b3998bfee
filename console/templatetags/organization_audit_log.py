"""Events of an organization in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import AuditEvent
from console.templatetags.icons import icon
from console.templatetags.numbers import count, plain_size
from console.templatetags.roles import action_words, role_words
from console.templatetags.times import exact

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

register = template.Library()

Action = AuditEvent.Action
ICONS = {
    "member": "users",
    "invitation": "mail",
    "project": "users",
    "repository": "users",
    "key": "key-round",
    "password": "lock",
    "sign-in": "log-in",
    "user": "user",
    "service-account": "bot",
    "signing-key": "key-round",
    "organization": "gauge",
    "issuer": "shield-check",
    "trust-rule": "shield-check",
    "session": "log-in",
    "id-token": "triangle-alert",
}
_NAMES = ("organization", "project", "repository", "name", "key", "issuer", "reason")


@register.simple_tag
def audit_icon(event: AuditEvent) -> SafeString:
    """The icon of an event."""
    if event.action == Action.SIGN_IN_FAILURE:
        return icon("triangle-alert")
    return icon(ICONS.get(event.action.partition(".")[0], "info"))


@register.simple_tag
def audit_words(event: AuditEvent) -> SafeString:
    """One sentence about an event. Names are escaped: users chose them."""
    detail: dict[str, Any] = event.detail if isinstance(event.detail, dict) else {}
    names = {name: str(detail.get(name) or "") for name in _NAMES}
    values = {
        **names,
        "person": format_html("<strong>{}</strong>", event.subject or _("an unknown account")),
        "was": role_words(str(detail.get("before") or "")) or _("no role"),
        "now": role_words(str(detail.get("after") or "")) or _("no role"),
        "key": format_html('<span class="mono">{}</span>', names["key"]),
        "limits": _limits(detail),
        "times": _times(event),
        "limit": _limit_words(str(detail.get("limit") or "")),
    }
    if event.action == Action.ORGANIZATION_QUOTA:
        values |= {"was": _bytes(detail.get("before")), "now": _bytes(detail.get("after"))}
    words = _sentences().get(event.action) or event.action
    if event.action == Action.SIGNING_KEY_ROTATE and detail.get("withdrawn"):
        words = _("A new key signs tokens; all others were withdrawn, and every token in use failed")
    if event.action == Action.PASSWORD_CHANGE and detail.get("by_operator"):
        words = _("An operator set the password of {person}")
    if event.action == Action.USER_OPERATOR and not detail.get("after"):
        words = _("{person} is no operator any more")
    if event.action in {Action.PROJECT_ROLE, Action.REPOSITORY_ROLE}:
        words = _of_role("project" if event.action == Action.PROJECT_ROLE else "repository", detail) or words
    return format_html(words, **values)


def _of_role(where: str, detail: dict[str, Any]) -> str:
    """The sentence of a role that began or ended, ``where``: "project" or "repository"; "" for one that changed."""
    if not detail.get("after"):
        return {
            "project": _("Removed {person} from {project} (was {was})"),
            "repository": _("Removed {person} from {repository} (was {was})"),
        }[where]
    if not detail.get("before"):
        return {
            "project": _("Added {person} to {project} as {now}"),
            "repository": _("Added {person} to {repository} as {now}"),
        }[where]
    return ""


def _sentences() -> dict[str, str]:
    return {
        Action.MEMBER_ADD: _("Added {person} to {organization}: {now}"),
        Action.MEMBER_ROLE: _("Changed the role of {person} in {organization}: {was} → {now}"),
        Action.MEMBER_REMOVE: _("Removed {person} from {organization}"),
        Action.INVITATION_SEND: _("Invited {person} to {organization}: {now}"),
        Action.INVITATION_WITHDRAW: _("Withdrew the invitation of {person} to {organization}"),
        Action.INVITATION_DECLINE: _("{person} declined the invitation to {organization}"),
        Action.PROJECT_ROLE: _("Changed the role of {person} in {project}: {was} → {now}"),
        Action.REPOSITORY_ROLE: _("Changed the role of {person} in {repository}: {was} → {now}"),
        Action.KEY_CREATE: _("Created the access key “{name}” ({key}) of {person}{limits}"),
        Action.KEY_REVOKE: _("Revoked the access key “{name}” ({key}) of {person}{limits}"),
        Action.KEY_RESTORE: _("Restored the access key “{name}” ({key}) of {person}"),
        Action.KEY_ROTATE: _("Made a new secret of the access key “{name}” ({key}) of {person}"),
        Action.KEY_REFUSED: _(
            "Requests with the access key “{name}” ({key}) of {person} were refused by {limit}{times}"
        ),
        Action.KEY_END_FORMER: _("Ended the former secret of the access key “{name}” ({key}) of {person}"),
        Action.PASSWORD_CHANGE: _("{person} changed their password"),
        Action.PASSWORD_RESET: _("{person} set a password with a link from a mail"),
        Action.SIGN_IN: _("{person} signed in"),
        Action.SIGN_IN_FAILURE: _("A sign-in as {person} failed{times}"),
        Action.USER_DEACTIVATE: _("Deactivated {person}"),
        Action.USER_ACTIVATE: _("Activated {person}"),
        Action.USER_OPERATOR: _("Made {person} an operator"),
        Action.SERVICE_CREATE: _("Created the service account {person}"),
        Action.SERVICE_UPDATE: _("Changed the description or contacts of {person}"),
        Action.SERVICE_DELETE: _("Deleted the service account {person}"),
        Action.SERVICE_RESTORE: _("Restored the service account {person}"),
        Action.ISSUER_CREATE: _("Added the issuer {issuer}"),
        Action.ISSUER_UPDATE: _("The keys of the issuer {issuer} changed"),
        Action.ISSUER_DELETE: _("Deleted the issuer {issuer}"),
        Action.RULE_CREATE: _("Added the trust rule “{name}” of {person}: tokens of {issuer}{limits}"),
        Action.RULE_DELETE: _("Deleted the trust rule “{name}” of {person}"),
        Action.RULE_RESTORE: _("Restored the trust rule “{name}” of {person}"),
        Action.RULE_PIN: _("The trust rule “{name}” of {person} was used first, and keeps the ids of its token"),
        Action.RULE_UNPIN: _("The trust rule “{name}” of {person} forgot the ids of its first token"),
        Action.SESSION_START: _("Started a session of {person} by the trust rule “{name}”"),
        Action.SESSION_END: _("Ended a session of {person} by the trust rule “{name}”"),
        Action.TOKEN_REFUSED: _("A token of {issuer} for {person} was refused: {reason}{times}"),
        Action.SIGNING_KEY_ROTATE: _("A new key signs tokens"),
        Action.ORGANIZATION_QUOTA: _("Changed the quota of stored bytes: {was} → {now}"),
    }


def _bytes(limit: Any) -> str:
    return plain_size(limit) if isinstance(limit, int) else _("none")


def _limit_words(limit: str) -> str:
    return {
        "actions": _("its limit of actions"),
        "repositories": _("its limit of repositories"),
        "networks": _("its limit of networks"),
    }.get(limit, _("a limit"))


def _limits(detail: dict[str, Any]) -> str:
    """The limits of a key after a comma, such as ``, demo, may only pull``; "" when it has none."""
    limits = (
        str(detail.get("project") or ""),
        _may_only(detail),
        str(detail.get("repositories") or ""),
        str(detail.get("networks") or ""),
        _("pulls not counted") if detail.get("counts_pulls") is False else "",
        _("management API") if detail.get("management") else "",
    )
    return "".join(f", {each}" for each in limits if each)


def _may_only(detail: dict[str, Any]) -> str:
    """The actions that a key is limited to, in words; "" when it is not."""
    actions = detail.get("actions") or (["pull"] if detail.get("pull_only") else [])
    return (
        _("may only %(actions)s") % {"actions": action_words(actions)} if isinstance(actions, list) and actions else ""
    )


def _times(event: AuditEvent) -> str:
    """How often a sign-in failed, after a comma, when it was more than once or from several addresses."""
    several = "" if event.address else f", {_('from several addresses')}"
    if event.count < 2 or event.last_at is None:
        return several
    words = ngettext("%(count)s time", "%(count)s times", event.count) % {"count": count(event.count)}
    return f"{several}, {words}, {_('the last on %(moment)s') % {'moment': exact(event.last_at)}}"
