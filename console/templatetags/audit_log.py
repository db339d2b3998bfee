"""Events of a project in words."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django import template
from django.conf import settings
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext

from console.templatetags.digests import short
from console.templatetags.icons import icon
from console.templatetags.notifications import frequency_words, least_words
from console.templatetags.numbers import count, plain_size
from console.templatetags.roles import role_words
from console.templatetags.scans import counts_of, problem_words, severity_words
from console.templatetags.tag_rules import listed_words
from console.templatetags.times import exact
from registry.models import Event, Severity
from registry.undo import Kind
from scanning.models import Report, Subscription
from scanning.notifications import channels
from scanning.notifications.words import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from console.queries.audit_log import Line, Links
    from registry.models import Image, Repository
    from registry.undo import Step

register = template.Library()

Action = Event.Action
ICONS = {
    "project": "folder",
    "repository": "boxes",
    "image": "package",
    "tag": "tag",
    "collection": "recycle",
    "deletion": "trash-2",
    "cleanup": "eraser",
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
def event_words(event: Event, links: Links | None = None) -> SafeString:
    """One sentence about an event. Names are escaped: users chose them. ``links``: what is there to link to."""
    detail: dict[str, Any] = event.detail if isinstance(event.detail, dict) else {}
    whole = _of_whole_images().get(event.action, "") if not event.digest else ""
    words = whole or _of_outcomes(event.action, detail) or str(SENTENCES.get(event.action, ""))
    words = words or event.get_action_display() + " {path}"
    return _filled(words, event, detail, links)


@register.simple_tag
def line_words(line: Line, links: Links) -> SafeString:
    """One sentence about a line of the audit log: its event, or the scans or the push that it stands for."""
    event = line.event
    if event.action == Action.SCAN_DONE and line.rest:
        return _of_scans(line.events)
    if event.action == Action.TAG_PUSH and line.rest:
        words = _("Pushed {tag} again, {times} times: {digest}")
        return _filled(words, event, event.detail, links, times=count(len(line.events)))
    if line.rest:
        words = _("Pushed {tag}: {digest}, before it was {before}")
        words = words if event.action == Action.TAG_MOVE else _("Pushed {tag}: {digest}")
        return _filled(words, event, event.detail, links)
    return event_words(event, links)


@register.simple_tag
def restorable(event: Event, links: Links) -> int | None:
    """The id of the deletion that the event made, if it can be restored."""
    return links.restorable.get(event.pk)


@register.filter
def with_news(line: Line) -> list[Event]:
    """The scans of a line that failed, found something new or saw something fixed."""
    return [event for event in line.events if any(event.detail.get(name) for name in ("problem", "new", "fixed"))]


@register.simple_tag
def event_via(event: Event) -> Any:
    """Where a push by a session of CI came from, None for other events."""
    return event.detail.get("via")


@register.simple_tag
def event_page(event: Event, links: Links) -> SafeString:
    """A link to the page about what the event did, if there is one."""
    number = _number(event.detail.get("run"))
    if event.action == Action.CLEANUP_RUN and number and _is_live(event.repository):
        return _link(_("Run"), "cleanup_run", _home(event) | {"run": number})
    subscription = _number(event.detail.get("subscription"))
    if event.action == Action.NOTICE_CHANGE and subscription in links.subscriptions:
        home = _home(event)
        view = "repository_notification" if "repository" in home else "notification"
        return _link(_("Notification"), view, home | {"subscription": subscription})
    if event.action in {Action.COLLECTION_DONE, Action.COLLECTION_RUN}:
        return _link(_("Runs"), "garbage_collection", {"project": _home(event)["project"]})
    return SafeString("")


def _filled(
    words: str, event: Event, detail: dict[str, Any], links: Links | None, **values: SafeString | str
) -> SafeString:
    """The sentence with a value for each of its placeholders: one of these values, or one of the event."""
    for name, value in _VALUES.items():
        if f"{{{name}}}" in words:
            values[name] = value(event, detail, links)
    return format_html(words, **values)


# ── Links ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _link(words: Any, view: str, names: Mapping[str, Any], query: Mapping[str, str] | None = None) -> SafeString:
    address = reverse(f"console:{view}", kwargs=dict(names)) + (f"?{urlencode(query)}" if query else "")
    return format_html('<a href="{}">{}</a>', address, words)


def _is_live(thing: Image | Repository | None) -> bool:
    return thing is not None and thing.deletion_id is None


def _home(event: Event) -> dict[str, Any]:
    """The arguments of the route to the page of what changed, as far as it is live: an image, repository or project."""
    home = {"project": event.path.partition("/")[0]}
    if event.repository is not None and _is_live(event.repository):
        home["repository"] = event.repository.name
        if event.image is not None and _is_live(event.image):
            home["image"] = event.image.name
    return home


def _path(event: Event) -> SafeString:
    home = _home(event)
    if "image" in home or ("repository" in home and event.image_id is None and event.path.count("/") == 1):
        words = _link(event.path, "image" if "image" in home else "repository", home)
        return format_html("<strong>{}</strong>", words)
    return format_html("<strong>{}</strong>", event.path)


def _tag(event: Event) -> SafeString:
    home = _home(event)
    if "image" not in home:
        return format_html("<strong>{}:{}</strong>", event.path, event.tag)
    tag = _link(event.tag, "tag_history", home, {"tag": event.tag})
    return format_html("<strong>{}:{}</strong>", _link(event.path, "image", home), tag)


def _digest(event: Event, digest: str, links: Links | None) -> SafeString:
    words = format_html('<span class="mono" title="{}">{}</span>', digest, short(digest))
    home = _home(event)
    if links is None or "image" not in home or (event.image_id, digest) not in links.manifests:
        return words
    return _link(words, "manifest", home | {"reference": digest})


def _vulnerability(name: str) -> SafeString | str:
    return _link(name, "search", {}, {"q": name}) if name else ""


def _user(event: Event, email: str) -> SafeString | str:
    """The person whose role changed, with a link to where roles are given."""
    home = _home(event)
    if not email or event.action not in {Action.ROLE_CHANGE, Action.MEMBER_CHANGE}:
        return email
    if event.action == Action.ROLE_CHANGE:
        return _link(email, "permissions", home, {"who": email}) if "repository" in home else email
    return _link(email, "members", {"project": home["project"]}, {"q": email})


# ── Sentences ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _of_scans(scans: list[Event]) -> SafeString:
    """The sums of some scans."""
    new, fixed = (sum(_number(event.detail.get(name)) for event in scans) for name in ("new", "fixed"))
    failed = sum(1 for event in scans if event.detail.get("problem"))
    states = Counter(event.detail.get("state") for event in scans if not event.detail.get("problem"))
    empty, uncovered = states[Report.State.UNRECOGNISED], states[Report.State.UNCOVERED]
    images = len({event.path for event in scans})
    digests = ngettext("%(count)s digest", "%(count)s digests", len(scans)) % {"count": count(len(scans))}
    places = ngettext("%(count)s image", "%(count)s images", images) % {"count": count(images)}
    said = [ngettext("%(count)s new vulnerability", "%(count)s new vulnerabilities", new) % {"count": count(new)}]
    said += [_("%(count)s fixed") % {"count": count(fixed)}] if fixed else []
    said += [_("%(count)s with no packages found") % {"count": count(empty)}] if empty else []
    said += [_("%(count)s of a system that is not covered") % {"count": count(uncovered)}] if uncovered else []
    said += [_("%(count)s failed") % {"count": count(failed)}] if failed else []
    return format_html(
        _("Scanned {digests} of {images}: {found}"), digests=digests, images=places, found=", ".join(said)
    )


SENTENCES: dict[str, Any] = {
    Action.REPOSITORY_CREATE: gettext_lazy("Created the repository {path}"),
    Action.REPOSITORY_UPDATE: gettext_lazy("Changed {path}: {changes}"),
    Action.REPOSITORY_DELETE: gettext_lazy("Deleted the repository {path}"),
    Action.REPOSITORY_RECOVER: gettext_lazy("Recovered the repository {path}"),
    Action.ROLE_CHANGE: gettext_lazy("Changed the role of {user} in {path}: {was} → {now}"),
    Action.PROJECT_CREATE: gettext_lazy("Created the project {path}"),
    Action.PROJECT_UPDATE: gettext_lazy("Changed the project {path}: {changes}"),
    Action.MEMBER_CHANGE: gettext_lazy("Changed the role of {user} in {path}: {was} → {now}"),
    Action.IMAGE_PUSH: gettext_lazy("Pushed {digest} to {path}"),
    Action.IMAGE_UPDATE: gettext_lazy("Changed {path}: {changes}"),
    Action.EXPIRY_CHANGE: gettext_lazy("Changed the expiry of {path}: {changes}"),
    Action.IMAGE_DELETE: gettext_lazy("Deleted {digest} of {path} ({tags})"),
    Action.IMAGE_RECOVER: gettext_lazy("Recovered {digest} of {path}"),
    Action.TAG_ADD: gettext_lazy("Added {tag} for {digest}"),
    Action.TAG_PUSH: gettext_lazy("Pushed {tag} again: {digest}"),
    Action.TAG_MOVE: gettext_lazy("Moved {tag} from {before} to {digest}"),
    Action.TAG_DELETE: gettext_lazy("Deleted {tag} ({digest})"),
    Action.TAG_RECOVER: gettext_lazy("Recovered {tag} for {digest}"),
    Action.DELETION_HOLD: gettext_lazy("Changed the hold on {path}"),
    Action.DELETION_PURGE: gettext_lazy("Deleted {path} for good"),
    Action.COLLECTION_RUN: gettext_lazy("Requested a garbage collection of {path}"),
    Action.COLLECTION_DONE: gettext_lazy("Garbage collection of {path}: {blobs}, {size}"),
    Action.SCAN_DONE: gettext_lazy("Scanned {digest} of {path}: {found}"),
    Action.VULNERABILITY_ACCEPT: gettext_lazy("Accepted {vulnerability} in {path}: {reason}"),
    Action.VULNERABILITY_WITHDRAW: gettext_lazy("Withdrew the acceptance of {vulnerability} in {path}"),
    Action.CLEANUP_RUN: gettext_lazy("Cleaned up {path}"),
    Action.CLEANUP_POLICY: gettext_lazy("Changed the cleanup policy of {path}: {changes}"),
    Action.NOTICE_CHANGE: gettext_lazy("Changed a notification of {path}: {changes}"),
}


def _of_outcomes(action: str, detail: dict[str, Any]) -> str:
    """The sentence of an event whose words depend on its detail; "" for other events."""
    if action == Action.REPOSITORY_CREATE and detail.get("by_push"):
        return _("Created the repository {path} by a push")
    if action == Action.CLEANUP_RUN:
        return {
            "done": _("Cleaned up {path}: {number} deleted"),
            "held": _("A cleanup of {path} waits for approval"),
            "dismissed": _("Dismissed a cleanup of {path}"),
            "failed": _("A cleanup of {path} failed"),
        }.get(_text(detail.get("state")), "")
    if action in {Action.ROLE_CHANGE, Action.MEMBER_CHANGE} and not _text(detail.get("after")):
        return _("Removed {user} from {path} (was {was})")
    if action in {Action.ROLE_CHANGE, Action.MEMBER_CHANGE} and not _text(detail.get("before")):
        return _("Added {user} to {path} as {now}")
    if action == Action.NOTICE_CHANGE:
        return _of_notifications(detail)
    if action == Action.COLLECTION_DONE and not _number(detail.get("blobs")):
        return _("Garbage collection of {path}: nothing to collect")
    if action == Action.DELETION_HOLD:
        return _("Held what was deleted of {path}") if detail.get("hold") else _("Ended the hold on {path}")
    if action == Action.DELETION_PURGE and detail.get("kind") in {"tag", "manifest"}:
        return _("Deleted {what} of {path} for good")
    return ""


def _of_notifications(detail: dict[str, Any]) -> str:
    """The sentence of a new, deleted, paused or resumed notification; "" for one with other values."""
    before, after = detail.get("before"), detail.get("after")
    if before == {}:
        return _("New notification of {path}: {changes}")
    if not isinstance(after, dict) or not isinstance(before, dict):
        return ""
    if "channel" in after and after["channel"] is None:
        return _("Deleted a notification of {path}: {changes}")
    if set(after) == {"is_active"}:
        return _("Resumed a notification of {path}") if after["is_active"] else _("Paused a notification of {path}")
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


def _changes(action: str, detail: dict[str, Any]) -> str:
    """The changes of an event: ``description: “a” → “b”, public: no → yes``. If the old value was empty, no arrow.

    Of a notification that was deleted it lists the values that it had.
    """
    before, after = detail.get("before"), detail.get("after")
    if not isinstance(before, dict) or not isinstance(after, dict):
        return ""
    is_notification = action == Action.NOTICE_CHANGE
    if is_notification and after.get("channel", "") is None:
        before, after = {}, before
    found = []
    for name, value in after.items():
        was = before.get(name)
        is_empty = was is None and value in (None, "", [])
        if was == value or is_empty or (is_notification and name == "is_active" and not before):
            continue
        # None hours: for ever
        is_set = name == "unscanned_grace_hours" or (was is not None and was not in ("", []))
        now = setting_value(name, value)
        change = f"{setting_value(name, was)} → {now}" if is_set else now
        found.append(f"{setting_name(name, action)}: {change}")
    if detail.get("readme") == "changed":
        found.append(_("readme changed"))
    return ", ".join(found)


@register.simple_tag
def setting_name(name: str, action: str = "") -> str:
    """The words of a setting in the detail of an event."""
    names = {
        "display_name": _("name"),
        "description": _("description"),
        "repository_limit": _("quota of repositories"),
        "image_limit": _("quota of images"),
        "tag_limit": _("quota of tags"),
        "digest_limit": _("quota of digests"),
        "size_limit": _("quota of stored bytes"),
        "is_public": _("public"),
        "tag_overwrite": _("tag overwrite"),
        "tag_rules": _("tag rules"),
        "auto_scan": _("automatic scan"),
        "create_on_push": _("create on push"),
        "new_is_public": _("public (of repositories that a push creates)"),
        "new_auto_scan": _("automatic scan (of repositories that a push creates)"),
        "new_tag_overwrite": _("tag overwrite (of repositories that a push creates)"),
        "block_severity": _("pull policy"),
        "unscanned_grace_hours": _("grace period of the pull policy"),
        "expires_at": _("expiry"),
        "channel": _("channel"),
        "recipients": _("recipients"),
        "types": _("events"),
        "repositories": _("repositories"),
        "host": _("host"),
        "address": _("URL"),
        "secret": _("secret"),
        "language": _("language"),
        "min_severity": _("minimum severity"),
        "frequency": _("when it is sent"),
        "is_active": _("active") if action == Action.NOTICE_CHANGE else _("every night"),
        "keep_last": _("keep the newest"),
        "keep_patterns": _("keep what matches"),
        "tag_days": _("delete after days"),
        "unpulled_days": _("delete after days without a pull"),
        "untagged_days": _("delete after days without a tag"),
        "most_percent": _("wait for approval above percent"),
    }
    return names.get(name, name)


@register.simple_tag
def setting_value(name: str, value: Any) -> str:
    """A value of a setting in words."""
    if name == "block_severity" and isinstance(value, int):
        return severity_words(value) if value in Severity.values and value else _("off")
    if name == "unscanned_grace_hours":
        if not isinstance(value, int):
            return _("always")
        return _("%(hours)s h") % {"hours": value} if value else pgettext("images without a result pass", "never")
    if name == "size_limit":
        return plain_size(value) if isinstance(value, int) else _("none")
    if name == "tag_rules":
        return listed_words(value)
    return _of_notification(name, value) or _value(value)


@register.simple_tag
def step_name(step: Step) -> str:
    """What a step of an undo changes."""
    if step.kind in {Kind.ROLE, Kind.MEMBER}:
        return _("role of %(name)s in %(path)s") % {"name": step.name, "path": step.path}
    if step.name:
        action = Action.NOTICE_CHANGE if step.kind == Kind.SET_NOTIFICATION else ""
        return f"{step.path}: {setting_name(step.name, action)}"
    return f"{step.path}:{step.tag}" if step.tag else step.words


@register.simple_tag
def step_value(step: Step, value: Any) -> str:
    """A value of what a step of an undo changes, in words."""
    if step.kind in {Kind.ROLE, Kind.MEMBER}:
        return role_words(_text(value)) or _("no role")
    if step.kind == Kind.NOTIFICATION:
        return _("there") if value else _("deleted")
    if step.kind == Kind.ACCEPTANCE:
        return _("accepted") if value else _("not accepted")
    if step.name:
        return setting_value(step.name, value)
    return short(_text(value)) or "–"


def _of_notification(name: str, value: Any) -> str:
    """A value of a notification in words; "" for other values."""
    text = _text(value)
    if name == "channel" and text in channels.CHANNELS:
        return str(channels.CHANNELS[text].label)
    if name == "min_severity" and text.upper() in Severity.__members__:
        return least_words(Severity[text.upper()])
    if name == "frequency" and text in Subscription.Frequency.values:
        return frequency_words(text)
    if name == "language":
        return dict(settings.LANGUAGES).get(text, "")
    secrets = {("address", "changed"), ("secret", "new")}
    return (
        _("a new one")
        if (name, text) in secrets
        else _("the former one")
        if (name, text) == ("secret", "former")
        else ""
    )


def _found(detail: dict[str, Any]) -> str:
    """The result of a scan: present findings, new and fixed ones; or why it failed."""
    if problem := _text(detail.get("problem")):
        return f"{_('failed')}, {problem_words(problem)}"
    numbers = {name: _number(detail.get(name)) for name in Report.COUNTS}
    said = [f"{each.words} {count(each.number)}" for each in counts_of(numbers)]
    state, is_end_of_life = _text(detail.get("state")), detail.get("is_end_of_life") is True
    if not said:
        words = {Report.State.SCANNED: _("none found"), Report.State.UNRECOGNISED: _("no packages found")}
        said = [words[Report.State(state)]] if state in words else []
    said += limits(state, _text(detail.get("system")), is_end_of_life=is_end_of_life)
    now = ", ".join(said) or _("finished")  # events of former versions have no state
    new, fixed = _number(detail.get("new")), _number(detail.get("fixed"))
    if new or fixed:
        now += f" ({_('%(new)s new, %(fixed)s fixed') % {'new': count(new), 'fixed': count(fixed)}})"
    return now


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


# The values for the placeholders of the sentences.
_VALUES: dict[str, Callable[[Event, dict[str, Any], Links | None], SafeString | str]] = {
    "path": lambda event, _detail, _links: _path(event),
    "tag": lambda event, _detail, _links: _tag(event),
    "digest": lambda event, _detail, links: _digest(event, event.digest, links),
    "before": lambda event, detail, links: _digest(event, _text(detail.get("before")), links),
    "was": lambda _event, detail, _links: role_words(_text(detail.get("before"))) or _("no role"),
    "now": lambda _event, detail, _links: role_words(_text(detail.get("after"))) or _("no role"),
    "user": lambda event, detail, _links: _user(event, _text(detail.get("user"))),
    "tags": lambda _event, detail, _links: _listed(detail.get("tags")) or _("no tag"),
    "changes": lambda event, detail, _links: _changes(event.action, detail),
    "blobs": lambda _event, detail, _links: _blobs(_number(detail.get("blobs"))),
    "size": lambda _event, detail, _links: plain_size(_number(detail.get("size"))),
    "vulnerability": lambda _event, detail, _links: _vulnerability(_text(detail.get("vulnerability"))),
    "found": lambda _event, detail, _links: _found(detail),
    "reason": lambda _event, detail, _links: _text(detail.get("reason")),
    "what": lambda _event, detail, _links: short(_text(detail.get("name"))),
    "number": lambda _event, detail, _links: count(_number(detail.get("deleted"))),
}
