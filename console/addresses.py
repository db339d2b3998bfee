"""Pages for addresses that no route has: cut ones, former ones, and addresses of images.

Nothing here asks the database, so a redirect tells nothing about what exists. The page that it leads to asks for the
permission.
"""

from __future__ import annotations

import re
from functools import cache
from urllib.parse import quote

from django.urls import Resolver404, ResolverMatch, get_resolver, resolve, reverse

from registry.oci import digests, names

# What pages were called before. Mails that were sent then link to them.
_FORMER_NAMES = {
    "notices": "notifications",
    "history/undo": "undo",
    "history": "audit-log",
    "collection": "garbage-collection",
}
_FORMER = re.compile(
    rf"(?P<above>/projects/[^/]+(?:/repositories/.+/-)?)/(?P<name>{'|'.join(_FORMER_NAMES)})(?P<rest>(?:[/.].*)?)"
)
# The ends of addresses that begin the address of a page and are no page.
_CUT = re.compile(
    r"(?P<above>.*?)/(?:-(?:/(?:manifests|tags|images))?|(?<=/cleanup/)runs|(?<=/recovery/)\d+|projects|organizations)/?"
)
_IMAGE = re.compile(r"/(?P<name>[^:@]+?)(?::(?P<tag>[^:@]+))?(?:@(?P<digest>[^@]+))?/?")


def page_instead(path: str) -> str | None:
    """The address of the page that a path without a route means on the console's host; None if it means none.

    A slash may be missing or be there too often, the end may be cut off, the page may have had another name, or the
    path may be the address of a repository or image as clients write it (``/project/repository/image:tag``).
    """
    asked = re.sub("/{2,}", "/", path)
    former = _FORMER.fullmatch(asked)
    if former:
        asked = f"{former['above']}/{_FORMER_NAMES[former['name']]}{former['rest']}"
    cut = _CUT.fullmatch(asked)
    found = _page(asked) or (_page(f"{cut['above']}/") if cut else None)
    return quote(found, safe="/:@") if found else page_of_image(asked)


def page_of_image(path: str, project: str = "") -> str | None:
    """The address of the page of a repository, image, tag or digest, from its address as clients write it.

    ``project``: the project of the host, "" for the host that serves all. None if the path is no such address.
    """
    match = _IMAGE.fullmatch(path)
    if match is None:
        return None
    name, reference = match["name"], match["digest"] or match["tag"]
    first, _, rest = name.partition("/")
    if not project:
        if reference is None and first in _first_words():
            return None
        project, name = first, rest
    if reference is None and names.is_project(project) and names.is_repository(name):
        return reverse("console:repository", args=[project, name])
    try:
        image = names.image_name(project, name)
    except names.InvalidName:
        return None
    place = [image.project, image.repository, image.image]
    if reference is None:
        return reverse("console:image", args=place)
    if digests.is_wellformed(reference) if match["digest"] else names.is_tag(reference):
        return reverse("console:manifest", args=[*place, reference])
    return None


def is_page(path: str) -> bool:
    """Whether a page of the console has this path, with or without a slash at its end."""
    return _page(path) is not None


def _page(path: str) -> str | None:
    """The path, with or without a slash at its end, if it is the path of a page of the console."""
    without = path.rstrip("/")
    return next((each for each in (path, without, f"{without}/") if _is_route(each)), None)


def _is_route(path: str) -> bool:
    try:
        match: ResolverMatch = resolve(path)
    except Resolver404:
        return False
    return match.namespace == "console"


@cache
def _first_words() -> frozenset[str]:
    """The first segments of the paths of the console's pages."""
    return frozenset(str(route.pattern).partition("/")[0] for route in get_resolver("console.urls").url_patterns)
