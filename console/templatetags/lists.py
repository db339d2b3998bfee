"""Lists: heads of columns, and how many entries are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.templatetags.numbers import count
from registry.oci.configs import MAX_ENTRIES, Some

if TYPE_CHECKING:
    from collections.abc import Sequence


register = template.Library()
PAGING = frozenset({"after", "before", "sort", "rows"})
# Every route takes it, no project, repository or image has it in its name, and addresses and HTML do not change it.
MARK = "0._.0"


@register.simple_tag
def mark() -> str:
    """The mark of a pattern. ``filled`` replaces it by the value of a row."""
    return MARK


@register.simple_block_tag
def pattern(content: str) -> str:
    """What is the same in all rows but for one value: drawn once, before the rows, with ``mark`` for the value."""
    return content


@register.filter
def filled(drawn: str, value: str) -> SafeString:
    """A pattern, or an address with a mark, for a row. ``value``: a name of the registry, or a digest."""
    return SafeString(drawn.replace(MARK, escape(value)))


@register.simple_tag
def fill(drawn: str, *values: str) -> SafeString:
    """As ``filled``, for a pattern with several marks: a value for each, in the order in which the pattern has them."""
    first, *parts = drawn.split(MARK)
    return SafeString(first + "".join(f"{escape(value)}{part}" for value, part in zip(values, parts, strict=True)))


@register.filter
def split(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


@register.filter
def with_commas(texts: Sequence[str]) -> str:
    """The texts with commas between them. Django's ``join`` would escape them one by one."""
    return ", ".join(texts)


@register.filter
def platform_words(platforms: str) -> SafeString:
    """The first two platforms of a manifest, without "linux/", and how many more there are, with all in the title."""
    found = platforms.split()
    words = " · ".join(each.removeprefix("linux/") for each in found[:2]) or "–"
    if len(found) <= 2:
        return format_html("{}", words)
    return format_html('{} <span class="quiet small" title="{}">+{}</span>', words, platforms, len(found) - 2)


@register.simple_tag
def also_named(names: Sequence[str], number: int) -> SafeString:
    """The first other tag of a digest, "= 2.27.1 +2", with more of them in the title; ``number``: of all of them."""
    if not names:
        return SafeString("")
    title = ", ".join(names) + (" …" if number > len(names) else "")
    words = f"= {names[0]}" + (f" +{number - 1}" if number > 1 else "")
    return format_html('<span class="also quiet" title="{}">{}</span>', title, words)


@register.simple_tag
def and_more(entries: Some[Any] | Sequence[Any]) -> str:
    """How many entries the page leaves out: of a list, those after the first MAX_ENTRIES; "" when there are none."""
    number = entries.more if isinstance(entries, Some) else max(0, len(entries) - MAX_ENTRIES)
    if not number:
        return ""
    words = ngettext("and %(count)s more", "and %(count)s more", number) % {"count": count(number)}
    return format_html('<span class="quiet small">{}</span>', words)


@register.simple_tag
def pages_position(listing: Any, total: int | None) -> str:
    """Which rows of how many a page shows: "51-100 of 321", or "4 of 321" if a search left rows out.

    ``total``: the number of rows without search and filter; None or "": not counted, and neither are those that match.
    """
    first, last = count(listing.first), count(listing.last)
    if listing.is_whole:
        return _("%(shown)s of %(total)s") % {"shown": count(len(listing.rows)), "total": count(total)} if total else ""
    if not total:
        return f"{first}-{last}"
    return _("%(first)s-%(last)s of %(total)s") % {"first": first, "last": last, "total": matching(listing, total)}


@register.simple_tag
def matching(listing: Any, total: int) -> str:
    """How many rows match the search and the filters; ``total``: how many there are without them."""
    return count(listing.matching() if listing.is_filtered else total)


@register.inclusion_tag("console/parts/_filter_fields.html", takes_context=True)
def filter_fields(context: template.Context) -> dict[str, Any]:
    """The search and the filters of the list as hidden fields."""
    asked = context["request"].GET
    return {"fields": {name: value for name, value in asked.items() if name not in PAGING and value}}


@register.inclusion_tag("console/parts/_sort.html", takes_context=True)
def sort_by(context: template.Context, listing: Any, name: str, words: str, kind: str = "") -> dict[str, Any]:
    """The head of a column that a list may be sorted by; ``kind`` "number": set to the right."""
    is_now = listing.sort == name
    return {"request": context["request"], "name": name, "words": words, "kind": kind, "is_now": is_now}
