"""What the list of places suggests while a person types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Exists, F, OuterRef, Q, TextField, Value
from django.db.models.functions import Concat
from django.urls import reverse
from django.utils.translation import gettext as _

from console.queries.shared import layout
from registry import references
from registry.models import Image, Tag
from scanning import reach as scanning_reach
from scanning.models import Finding, Vulnerability
from scanning.search import LEAST

if TYPE_CHECKING:
    from accounts.actors import Actor
    from registry.references import Reference

SUGGESTED = 5  # of each kind


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A page: what it is about, and its path."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Group:
    """Suggestions of one kind, with the words and the icon of the kind."""

    words: str
    icon: str
    rows: list[Suggestion]


def suggestions(actor: Actor, words: str) -> list[Group]:
    """The first pages whose names hold the words, by kind: projects, repositories, images, tags, vulnerabilities.

    Without words: projects. Only what the actor may see. At most five queries.
    """
    projects = layout.projects_of(actor)
    path = projects.annotate(path=Concat("organization__name", Value("/"), "name", output_field=TextField()))
    named = path.filter(path__icontains=words) if words else path
    found = [
        Group(
            _("Projects"),
            "package",
            [
                Suggestion(each.name, reverse("console:overview", args=[each.name]))
                for each in named.order_by("name")[:SUGGESTED]
            ],
        )
    ]
    if len(words) >= LEAST:
        reach, wanted = layout.repositories_of(actor), references.read(words)
        found += [
            _suggested_repositories(reach, wanted.path),
            _suggested_images(reach, wanted),
            _suggested_tags(reach, words if not references.is_one(words) else f"{wanted.path}:{wanted.tag}"),
            _suggested_vulnerabilities(reach, words),
        ]
    return [group for group in found if group.rows]


def _suggested_repositories(reach: Any, words: str) -> Group:
    reach = reach if words else reach.none()
    path = Concat("project__name", Value("/"), "name", output_field=TextField())
    found = reach.annotate(path=path).filter(path__icontains=words).select_related("project").order_by("path")
    rows = [
        Suggestion(str(each), reverse("console:repository", args=[each.project.name, each.name]))
        for each in found[:SUGGESTED]
    ]
    return Group(_("Repositories"), "boxes", rows)


def _suggested_images(reach: Any, wanted: Reference) -> Group:
    found = Image.objects.with_contents().filter(repository__in=reach.values("pk"), path__icontains=wanted.path)
    found = found.none() if wanted.tag or not wanted.path else found
    rows = [
        Suggestion(each.path, reverse("console:image", args=_place(each)))
        for each in found.select_related("repository__project").order_by("path")[:SUGGESTED]
    ]
    return Group(_("Images"), "layers", rows)


def _suggested_tags(reach: Any, words: str) -> Group:
    image, _colon, tag = words.rpartition(":")
    found = Tag.objects.live().filter(image__deletion=None, image__path__icontains=image, name__startswith=tag)
    newest = (
        found.annotate(home=F("image__repository"))
        .filter(home__in=reach.values("pk"))
        .select_related("image__repository__project")
        .order_by("-pk")
    )
    rows = [
        Suggestion(f"{each.image.path}:{each.name}", reverse("console:manifest", args=[*_place(each.image), each.name]))
        for each in newest[:SUGGESTED]
    ]
    return Group(_("Tags"), "tag", rows)


def _suggested_vulnerabilities(reach: Any, words: str) -> Group:
    there = scanning_reach.in_reach(Finding.objects.current().filter(vulnerability=OuterRef("pk")), reach.values("pk"))
    found = Vulnerability.objects.none()
    if words.upper().startswith(("CVE-", "GHSA-")):
        prefix, _dash, rest = words.partition("-")
        spellings = Q(name__startswith=f"{prefix.upper()}-{rest}") | Q(
            name__startswith=f"{prefix.upper()}-{rest.lower()}"
        )
        found = Vulnerability.objects.filter(spellings, Exists(there)).order_by("-name")[:SUGGESTED]
    rows = [Suggestion(each.name, reverse("console:cve", args=[each.name])) for each in found]
    return Group(_("Vulnerabilities"), "shield-alert", rows)


def _place(image: Image) -> list[str]:
    return [image.repository.project.name, image.repository.name, image.name]
