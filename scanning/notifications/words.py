"""Words about a message, in the active language. Channels share them.

``content`` is the JSON of a delivery; ``scanning.notifications.messages`` describes its fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from registry.models import Severity
from registry.quota_warnings import NAMES, in_numbers
from scanning.models import Report

if TYPE_CHECKING:
    from collections.abc import Mapping


def severity(name: str) -> str:
    """A severity as a word; ``name`` as in the JSON, such as "high"."""
    return str(Severity[name.upper()].label)


def headline(content: Mapping[str, Any]) -> str:
    """The message in one line: the subject of a mail."""
    if "quota" in content:
        return f"[KCR] {quota(content)}"
    totals, about = content["totals"], _place(content)
    if content["event"] == "test":
        return _("[KCR] Test notification for %(about)s") % {"about": about}
    values = {"about": about, "severity": severity(totals["worst"]), "count": totals["new"]}
    if totals["new"]:
        words = ngettext(
            "[KCR] %(about)s: %(count)s new vulnerability, worst %(severity)s",
            "[KCR] %(about)s: %(count)s new vulnerabilities, worst %(severity)s",
            totals["new"],
        )
        return words % values
    values["count"] = sum(totals["counts"].values())
    words = ngettext(
        "[KCR] %(about)s: %(count)s vulnerability, worst %(severity)s",
        "[KCR] %(about)s: %(count)s vulnerabilities, worst %(severity)s",
        values["count"],
    )
    return words % values


def quota(content: Mapping[str, Any]) -> str:
    """Which quota is how full: "demo: the quota of stored bytes is 91 % full"."""
    said = content["quota"]
    values = {"full": said["full"], "percent": said["percent"], "quota": _(NAMES[said["name"]])}
    return _("%(full)s: the quota of %(quota)s is %(percent)s %% full") % values


def _place(content: Mapping[str, Any]) -> str:
    """The image with its newest tag if the message is about a single one; else what the subscription covers."""
    if content["event"] == "test" or content["totals"]["images"] != 1 or not content["images"]:
        return subject(content)
    (image,) = content["images"]
    return ":".join([image["path"], *image["tags"][:1]])


def subject(content: Mapping[str, Any]) -> str:
    """The project, or the repository as project/repository, that the subscription covers."""
    return f"{content['project']}/{content['repository']}" if content["repository"] else str(content["project"])


def limits(state: str, system: str, *, is_end_of_life: bool) -> list[str]:
    """Why a result may lack vulnerabilities of the operating system, without full stops. ``state``: a Report.State."""
    found = []
    if state == Report.State.UNCOVERED:
        words = _("packages of the operating system could not be checked")
        found.append(f"{words} ({system})" if system else words)
    if is_end_of_life:
        found.append(_("%(system)s has reached its end of life") % {"system": system})
    return found


def limits_of(image: Mapping[str, Any]) -> list[str]:
    """``limits`` of an image of a message. Messages of former versions do not have them."""
    end_of_life = bool(image.get("end_of_life"))
    return limits(image.get("state", ""), image.get("system", ""), is_end_of_life=end_of_life)


def counts(numbers: Mapping[str, int]) -> str:
    """Numbers by severity: "Critical 1, High 3"."""
    return ", ".join(f"{severity(name)} {number}" for name, number in numbers.items() if number)


def title(content: Mapping[str, Any]) -> str:
    """What the message is, in a word."""
    if "quota" in content:
        return _("Quota")
    return _("Test") if content["event"] == "test" else _("Vulnerabilities")


def facts(content: Mapping[str, Any]) -> list[str]:
    """The lines below the headline: vulnerabilities by severity, and how many were fixed; or about the quota."""
    if said := content.get("quota"):
        used, limit = (in_numbers(said["name"], said[name]) for name in ("used", "limit"))
        full, later = _("Pushes that need more are refused."), _("When it is full, pushes that need more are refused.")
        return [
            _("%(used)s of %(limit)s are used") % {"used": used, "limit": limit},
            full if said["used"] >= said["limit"] else later,
        ]
    totals = content["totals"]
    lines = [counts(totals["new_counts"] if totals["new"] else totals["counts"])]
    if totals["fixed"]:
        lines.append(_("%(count)s fixed") % {"count": totals["fixed"]})
    return [line for line in lines if line]


def images(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The images of the message, the worst first. One about a quota has none."""
    found: list[Mapping[str, Any]] = content.get("images", [])
    return found


def worst(content: Mapping[str, Any]) -> str:
    """The severity that gives the message its colour. A full quota is high, one that is nearly full is medium."""
    if said := content.get("quota"):
        return "high" if said["used"] >= said["limit"] else "medium"
    return str(content["totals"]["worst"])


def facts_of(image: Mapping[str, Any]) -> list[str]:
    """The lines about an image of a message: vulnerabilities by severity, and ``limits_of``."""
    return [line for line in (counts(image["new_counts"] or image["counts"]), *limits_of(image)) if line]


def finding(found: Mapping[str, Any]) -> str:
    """A finding of a message in one line: "CVE-2026-1 curl 1.0 → 1.1"."""
    fixed = found["fixed"] or _("no fix yet")
    return f"{found['vulnerability']} {found['package']} {found['installed']} → {fixed}"


def more_images(content: Mapping[str, Any], shown: int) -> str:
    """How many images a message does not show beside these; "" if none."""
    number = content["totals"]["images"] - shown if "totals" in content else 0
    if number <= 0:
        return ""
    return ngettext("and %(count)s more image", "and %(count)s more images", number) % {"count": number}


def cut(text: str, length: int) -> str:
    """The text, in at most ``length`` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"
