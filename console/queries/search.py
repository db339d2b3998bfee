"""Search in all that the actor may see: repositories, images, tags, digests, vulnerabilities, packages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.db.models import Count, Exists, F, Max, OuterRef, Q, TextField, Value
from django.db.models.functions import Concat
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from console.queries import scans
from console.queries.shared import layout
from registry import access
from registry.access import Action
from registry.models import Image, Manifest, Repository, Tag
from registry.oci import digests
from scanning.models import Component, Finding, Package, Vulnerability

if TYPE_CHECKING:
    from accounts.actors import Actor

SHOWN = 25
WHERE = 100  # digests that are listed of those in which something is
LEAST = 2
SUGGESTED = 5  # of each kind


@dataclass(slots=True)
class Place:
    """A digest in which something is."""

    manifest: Manifest
    packages: list[Package]
    worst: int | None = None
    fixed_versions: list[str] = field(default_factory=list)
    findings: int = 0
    accepted: int = 0


@dataclass(slots=True)
class Whereabouts:
    """Where a vulnerability or a package is: ``total`` digests, of which ``places`` are the first."""

    total: int
    images: int
    places: list[Place]
    vulnerability: Vulnerability | None = None
    package: str = ""
    versions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def more(self) -> int:
        """How many digests are not listed."""
        return self.total - len(self.places)


@dataclass(slots=True)
class Found:
    """What matched, at most SHOWN of each kind."""

    repositories: list[Repository] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)
    manifests: list[Manifest] = field(default_factory=list)
    vulnerability: Whereabouts | None = None
    package: Whereabouts | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing matched."""
        named = self.repositories or self.images or self.tags or self.manifests
        return not (named or self.vulnerability or self.package)


def search(actor: Actor, words: str) -> Found:
    """Look for ``words`` in names; for the beginning of a digest; ``image:tag`` for a tag of an image.

    A whole name of a vulnerability, ``package`` or ``package@version``: where is it? Only the projects whose pages the
    actor may see are looked at. At most sixteen queries.
    """
    found = Found()
    if len(words) < LEAST:
        return found
    of_projects = Repository.objects.filter(project__in=layout.projects_of(actor))
    repositories = access.permitted(of_projects, actor, Action.VIEW)
    reach = repositories.values("pk")
    found.vulnerability = _vulnerability(words, reach)
    if found.vulnerability:
        return found
    found.package = _package(words, reach)
    image_words, _, tag_words = words.rpartition(":")
    live = Image.objects.with_contents().filter(repository__in=reach).select_related("repository__project")
    if words.partition(":")[0] in digests.HEX_LENGTHS or _looks_like_digest(words):
        wanted = words if ":" in words else f"sha256:{words}"
        # "g" comes after every hexadecimal digit: a range uses the index in every database, a pattern does not.
        manifests = Manifest.objects.live().filter(digest__gte=wanted, digest__lt=f"{wanted}g", image__deletion=None)
        found.manifests = list(
            _in_reach(manifests, reach).without_content().select_related("image__repository__project")[:SHOWN]
        )
        if ":" in words:  # without its algorithm it may be a commit, a date, or a word such as facade
            return found
    if image_words:
        tags = Tag.objects.live().filter(name__startswith=tag_words, image__path__icontains=image_words)
        found.tags = list(_in_reach(tags.with_manifests(), reach).select_related("image__repository__project")[:SHOWN])
        return found
    found.repositories = list(
        repositories.filter(name__icontains=words).select_related("project").order_by("name")[:SHOWN]
    )
    found.images = list(live.filter(path__icontains=words).order_by("path")[:SHOWN])
    tags = Tag.objects.live().filter(name=words, image__deletion=None)
    found.tags = list(
        _in_reach(tags.with_manifests(), reach)
        .select_related("image__repository__project")
        .order_by("-started_at")[:SHOWN]
    )
    return found


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
        reach = access.permitted(Repository.objects.filter(project__in=projects), actor, Action.VIEW)
        found += [
            _suggested_repositories(reach, words),
            _suggested_images(reach, words),
            _suggested_tags(reach, words),
            _suggested_vulnerabilities(reach, words),
        ]
    return [group for group in found if group.rows]


def _suggested_repositories(reach: Any, words: str) -> Group:
    path = Concat("project__name", Value("/"), "name", output_field=TextField())
    found = reach.annotate(path=path).filter(path__icontains=words).select_related("project").order_by("path")
    rows = [
        Suggestion(str(each), reverse("console:repository", args=[each.project.name, each.name]))
        for each in found[:SUGGESTED]
    ]
    return Group(_("Repositories"), "boxes", rows)


def _suggested_images(reach: Any, words: str) -> Group:
    found = Image.objects.live().filter(repository__in=reach.values("pk"), path__icontains=words)
    rows = [
        Suggestion(each.path, reverse("console:image", args=_place(each)))
        for each in found.select_related("repository__project").order_by("path")[:SUGGESTED]
    ]
    return Group(_("Images"), "layers", rows)


def _suggested_tags(reach: Any, words: str) -> Group:
    image, _colon, tag = words.rpartition(":")
    found = Tag.objects.live().filter(image__deletion=None, image__path__icontains=image, name__startswith=tag)
    newest = _in_reach(found, reach.values("pk")).select_related("image__repository__project").order_by("-pk")
    rows = [
        Suggestion(f"{each.image.path}:{each.name}", reverse("console:manifest", args=[*_place(each.image), each.name]))
        for each in newest[:SUGGESTED]
    ]
    return Group(_("Tags"), "tag", rows)


def _suggested_vulnerabilities(reach: Any, words: str) -> Group:
    there = _in_live(Finding.objects.current().filter(vulnerability=OuterRef("pk")), reach.values("pk"))
    found = Vulnerability.objects.none()
    if words.upper().startswith(("CVE-", "GHSA-")):
        prefix, _dash, rest = words.partition("-")
        spellings = Q(name__startswith=f"{prefix.upper()}-{rest}") | Q(
            name__startswith=f"{prefix.upper()}-{rest.lower()}"
        )
        found = Vulnerability.objects.filter(spellings, Exists(there)).order_by("-name")[:SUGGESTED]
    rows = [Suggestion(each.name, f"{reverse('console:search')}?{urlencode({'q': each.name})}") for each in found]
    return Group(_("Vulnerabilities"), "shield-alert", rows)


def _place(image: Image) -> list[str]:
    return [image.repository.project.name, image.repository.name, image.name]


def _looks_like_digest(words: str) -> bool:
    return len(words) >= 6 and all(letter in "0123456789abcdef" for letter in words)


def _in_reach(rows: Any, reach: Any) -> Any:
    return rows.annotate(home=F("image__repository")).filter(home__in=reach)


# ── Where is it? ─────────────────────────────────────────────────────────────────────────────────────────────────────
def _vulnerability(words: str, reach: Any) -> Whereabouts | None:
    """Where the vulnerability of this name is; None when it is nowhere that the actor may see."""
    prefix, _, rest = words.partition("-")
    spellings = {words, words.upper(), f"{prefix.upper()}-{rest.lower()}"}
    vulnerability = Vulnerability.objects.filter(name__in=spellings).first() if rest else None
    if vulnerability is None:
        return None
    found = _in_live(Finding.objects.current().filter(vulnerability=vulnerability), reach)
    numbers = _numbers(found)
    if not numbers["digests"]:
        return None
    pks = _first(found.values("manifest"))
    places = _places(pks, found)
    return Whereabouts(numbers["digests"], numbers["images"], places, vulnerability=vulnerability)


def _package(words: str, reach: Any) -> Whereabouts | None:
    """Where the package of this name, or this version of it, is; None when it is nowhere that the actor may see."""
    name, _, version = words.rpartition("@")
    named = Q(name=words) | Q(name=name, version=version) if name else Q(name=words)
    packages = list(Package.objects.filter(named).values_list("pk", flat=True)[:1000])
    if not packages:
        return None
    found = _in_live(Component.objects.filter(package__in=packages), reach)
    versions = found.order_by().values("package__name", "package__version", "package__kind")
    by_version = list(versions.annotate(digests=Count("manifest")).order_by("-digests", "package__version"))
    if not by_version:
        return None
    numbers = _numbers(found)
    places = _places(_first(found.values("manifest")), found, packages)
    held = by_version[0]["package__name"]
    return Whereabouts(numbers["digests"], numbers["images"], places, package=held, versions=by_version)


def _in_live(rows: Any, reach: Any) -> Any:
    """Those of the rows about manifests that are live and in reach."""
    return rows.filter(manifest__deletion=None, manifest__image__deletion=None, manifest__image__repository__in=reach)


def _numbers(found: Any) -> dict[str, int]:
    counted: dict[str, int] = found.order_by().aggregate(
        digests=Count("manifest", distinct=True), images=Count("manifest__image", distinct=True)
    )
    return counted


def _first(found: Any) -> list[int]:
    """The manifests that are listed: those in use first, then by name, the newest first."""
    newest = found.annotate(newest=Max("manifest__pushed_at"), path=Max("manifest__image__path"))
    used = list(newest.filter(scans.in_use()).order_by("path", "-newest").values_list("manifest", flat=True)[:WHERE])
    if len(used) < WHERE:
        rest = newest.exclude(manifest__in=used).order_by("path", "-newest").values_list("manifest", flat=True)
        used += list(rest[: WHERE - len(used)])
    return used


def _places(pks: list[int], found: Any, packages: list[int] | None = None) -> list[Place]:
    manifests = Manifest.objects.filter(pk__in=pks).select_related("image__repository__project")
    by_pk = {each.pk: Place(each, []) for each in manifests.without_content()}
    for row in found.filter(manifest__in=pks).select_related("package").order_by("package__name", "package__version"):
        if row.package not in by_pk[row.manifest_id].packages:
            by_pk[row.manifest_id].packages.append(row.package)
    findings: Any = Finding.objects.current().filter(manifest__in=pks) if packages else found.filter(manifest__in=pks)
    if packages:
        findings = findings.filter(package__in=packages)
    for row in findings.with_acceptance(timezone.now()):
        place = by_pk[row.manifest_id]
        place.findings += 1
        place.accepted += row.acceptance is not None
        place.worst = max(place.worst or 0, row.severity)
        if row.fixed_version and row.fixed_version not in place.fixed_versions:
            place.fixed_versions.append(row.fixed_version)
    scans.name_tags([each.manifest for each in by_pk.values()])
    return [by_pk[pk] for pk in pks]
