"""Events of a project in words."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django import template
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from console.templatetags.digests import short
from console.templatetags.icons import icon
from console.templatetags.numbers import count, plain_size
from console.templatetags.roles import role_words
from console.templatetags.scans import counts_of, problem_words, severity_words
from console.templatetags.times import exact
from registry.models import Event, Severity
from scanning.models import Report

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

register = template.Library()

Action = Event.Action
ICONS = {
    "project": "folder",
    "repository": "boxes",
    "image": "package",
    "tag": "tag",
    "collection": "recycle",
    "deletion": "trash-2",
    "scan": "shield-alert",
    "vulnerability": "shield-check",
    "notice": "bell",
}
RECOVERIES = {Action.TAG_RECOVER, Action.IMAGE_RECOVER, Action.REPOSITORY_RECOVER}


@register.simple_tag
def kind_words(kind: str) -> str:
    """The kind of a deletion in a word."""
    return {"tag": _("tag"), "manifest": _("digest"), "image": _("image"), "repository": _("repository")}.get(
        kind, kind
    )


@register.simple_tag
def event_icon(event: Event) -> SafeString:
    """The icon of an event."""
    if event.action in RECOVERIES:
        return icon("rotate-ccw")
    if event.action.endswith(".delete"):
        return icon("trash-2")
    if event.action in {Action.ROLE_CHANGE, Action.MEMBER_CHANGE}:
        return icon("users")
    return icon(ICONS.get(event.action.partition(".")[0], "info"))


@register.simple_tag
def event_words(event: Event) -> SafeString:
    """One sentence about an event. Names are escaped: users chose them."""
    detail: dict[str, Any] = event.detail if isinstance(event.detail, dict) else {}
    values = {
        "path": format_html("<strong>{}</strong>", event.path),
        "tag": format_html("<strong>{}:{}</strong>", event.path, event.tag),
        "digest": format_html('<span class="mono" title="{}">{}</span>', event.digest, short(event.digest)),
        "before": format_html('<span class="mono">{}</span>', short(_text(detail.get("before")))),
        "was": role_words(_text(detail.get("before"))) or _("nothing"),
        "now": role_words(_text(detail.get("after"))) or _("nothing"),
        "user": _text(detail.get("user")),
        "tags": _listed(detail.get("tags")) or _("no tag"),
        "changes": _changes(detail),
        "blobs": _blobs(_number(detail.get("blobs"))),
        "size": plain_size(_number(detail.get("size"))),
        "vulnerability": _text(detail.get("vulnerability")),
        "found": _found(detail),
        "reason": _text(detail.get("reason")),
        "what": short(_text(detail.get("name"))),
        "number": count(_number(detail.get("deleted"))),
    }
    whole = _of_whole_images().get(event.action, "") if not event.digest else ""
    words = whole or _of_outcomes(event.action, detail) or _sentences().get(event.action)
    words = words or event.get_action_display() + " {path}"
    return format_html(words, **values)


def _sentences() -> dict[str, str]:
    return {
        Action.REPOSITORY_CREATE: _("Created the repository {path}"),
        Action.REPOSITORY_UPDATE: _("Changed {path}: {changes}"),
        Action.REPOSITORY_DELETE: _("Deleted the repository {path}"),
        Action.REPOSITORY_RECOVER: _("Recovered the repository {path}"),
        Action.ROLE_CHANGE: _("Changed the role of {user} in {path}: {was} → {now}"),
        Action.PROJECT_CREATE: _("Created the project {path}"),
        Action.PROJECT_UPDATE: _("Changed the project {path}: {changes}"),
        Action.MEMBER_CHANGE: _("Changed the role of {user} in {path}: {was} → {now}"),
        Action.IMAGE_PUSH: _("Pushed {digest} to {path}"),
        Action.IMAGE_UPDATE: _("Changed {path}: {changes}"),
        Action.EXPIRY_CHANGE: _("Changed the expiry of {path}: {changes}"),
        Action.IMAGE_DELETE: _("Deleted {digest} of {path} ({tags})"),
        Action.IMAGE_RECOVER: _("Recovered {digest} of {path}"),
        Action.TAG_ADD: _("Added {tag} for {digest}"),
        Action.TAG_PUSH: _("Pushed {tag} again: {digest}"),
        Action.TAG_MOVE: _("Moved {tag} from {before} to {digest}"),
        Action.TAG_DELETE: _("Deleted {tag} ({digest})"),
        Action.TAG_RECOVER: _("Recovered {tag} for {digest}"),
        Action.DELETION_HOLD: _("Changed the hold on {path}"),
        Action.DELETION_PURGE: _("Deleted {path} for good"),
        Action.COLLECTION_RUN: _("Asked for a garbage collection of {path}"),
        Action.COLLECTION_DONE: _("Garbage collection of {path}: {blobs}, {size}"),
        Action.SCAN_DONE: _("Scanned {digest} of {path}: {found}"),
        Action.VULNERABILITY_ACCEPT: _("Accepted {vulnerability} in {path}: {reason}"),
        Action.VULNERABILITY_WITHDRAW: _("Withdrew the acceptance of {vulnerability} in {path}"),
        Action.CLEANUP_RUN: _("Cleaned up {path}"),
        Action.CLEANUP_POLICY: _("Changed the cleanup policy of {path}: {changes}"),
        Action.NOTICE_CHANGE: _("Changed the notifications of {path}: {changes}"),
    }


def _of_outcomes(action: str, detail: dict[str, Any]) -> str:
    """The sentence of an event whose words depend on its detail; "" for other events."""
    if action == Action.CLEANUP_RUN:
        return {
            "done": _("Cleaned up {path}: {number} deleted"),
            "held": _("A cleanup of {path} waits for approval"),
            "dismissed": _("Dismissed a cleanup of {path}"),
            "failed": _("A cleanup of {path} failed"),
        }.get(_text(detail.get("state")), "")
    if action == Action.DELETION_HOLD:
        return _("Held what was deleted of {path}") if detail.get("hold") else _("Ended the hold on {path}")
    if action == Action.DELETION_PURGE and detail.get("kind") in {"tag", "manifest"}:
        return _("Deleted {what} of {path} for good")
    return ""


def _of_whole_images() -> dict[str, str]:
    return {
        Action.IMAGE_DELETE: _("Deleted the image {path} ({tags})"),
        Action.IMAGE_RECOVER: _("Recovered the image {path}"),
    }


def _listed(value: Any) -> str:
    """Up to ten names. The detail of an event may have any type: old events are never changed."""
    return ", ".join(str(each) for each in value[:10]) if isinstance(value, list) else ""


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _blobs(number: int) -> str:
    return ngettext("%(count)s blob", "%(count)s blobs", number) % {"count": count(number)}


def _changes(detail: dict[str, Any]) -> str:
    """The changes of an event: ``description: “a” → “b”, public: no → yes``. If the old value was empty, no arrow."""
    before, after = detail.get("before"), detail.get("after")
    if not isinstance(before, dict) or not isinstance(after, dict):
        return ""
    names = _settings()
    found = []
    for name, value in after.items():
        was = before.get(name)
        if was != value:
            now = _setting(name, value)
            is_set = name == "unscanned_grace_hours" or (
                was is not None and was not in ("", [])
            )  # None hours: for ever
            change = f"{_setting(name, was)} → {now}" if is_set else now
            found.append(f"{names.get(name, name)}: {change}")
    return ", ".join(found)


def _settings() -> dict[str, str]:
    return {
        "display_name": _("name"),
        "description": _("description"),
        "repository_limit": _("quota of repositories"),
        "image_limit": _("quota of images"),
        "tag_limit": _("quota of tags"),
        "digest_limit": _("quota of digests"),
        "is_public": _("public"),
        "tag_overwrite": _("tag overwrite"),
        "auto_scan": _("automatic scan"),
        "block_severity": _("pull policy"),
        "unscanned_grace_hours": _("grace period of the pull policy"),
        "expires_at": _("expiry"),
        "min_severity": _("minimum severity"),
        "frequency": _("frequency"),
        "is_active": _("every night"),
        "keep_last": _("keep the newest"),
        "keep_patterns": _("keep what matches"),
        "tag_days": _("delete after days"),
        "unpulled_days": _("delete after days without a pull"),
        "untagged_days": _("delete after days without a tag"),
        "most_percent": _("wait for a person above percent"),
    }


def _found(detail: dict[str, Any]) -> str:
    """The result of a scan: present findings, new and fixed ones; or why it failed."""
    if problem := _text(detail.get("problem")):
        return f"{_('failed')}, {problem_words(problem)}"
    numbers = {name: _number(detail.get(name)) for name in Report.COUNTS}
    now = ", ".join(f"{each.words} {count(each.number)}" for each in counts_of(numbers)) or _("none found")
    new, fixed = _number(detail.get("new")), _number(detail.get("fixed"))
    if new or fixed:
        now += f" ({_('%(new)s new, %(fixed)s fixed') % {'new': count(new), 'fixed': count(fixed)}})"
    return now


def _setting(name: str, value: Any) -> str:
    if name == "block_severity" and isinstance(value, int):
        return severity_words(value) if value in Severity.values and value else _("off")
    if name == "unscanned_grace_hours":
        if not isinstance(value, int):
            return _("always")
        return _("%(hours)s h") % {"hours": value} if value else pgettext("images without a result pass", "never")
    return _value(value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        return _listed(value) or "–"
    if isinstance(value, str) and value:
        return _moment(value) or f"“{value}”"
    return str(value) if value is not None and value != "" else "–"


def _moment(text: str) -> str:
    """An ISO time as a date and time in words; "" if the text is no time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return exact(moment) if moment.tzinfo else ""
