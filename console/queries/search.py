"""Search in all that the actor may see: repositories, images, tags, digests, CVEs, packages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Exists, F, Max, OuterRef, Q, TextField, Value
from django.db.models.functions import Concat
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from console.queries import cves, scans
from console.queries.shared import layout, references
from console.queries.shared.references import Reference
from registry.models import Image, Manifest, ManifestBlob, Repository, Tag
from registry.models.manifests import begins
from registry.oci import documents
from scanning.models import Component, Finding, Package, Vulnerability

if TYPE_CHECKING:
    from accounts.actors import Actor

SHOWN = 25
WHERE = 50  # digests that are listed of those in which a package is
LEAST = 2
SUGGESTED = 5  # of each kind
IMAGE_ID = 12  # digits that docker shows of an image ID
IMAGE_IDS = 100  # manifests that are looked at for an image ID


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
    """Where a package is. ``total``: how many digests have it; ``places``: the first of them."""

    total: int
    images: int
    places: list[Place]
    package: str = ""
    versions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def more(self) -> int:
        """How many digests are not listed."""
        return self.total - len(self.places)


@dataclass(slots=True)
class Found:
    """What matched, at most SHOWN of each kind. ``cve``: the name of the vulnerability that was asked for, or ""."""

    repositories: list[Repository] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)
    manifests: list[Manifest] = field(default_factory=list)
    cve: str = ""
    package: Whereabouts | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing matched."""
        named = self.repositories or self.images or self.tags or self.manifests
        return not (named or self.cve or self.package)


def search(actor: Actor, words: str, project: str = "") -> Found:
    """Look for ``words`` in what the actor may see, of one project or ("") of all.

    A whole name of a CVE, ``package`` or ``package@version``: where is it? Else a reference as ``references.read``
    knows it, a part of a name, a whole tag, or the beginning of a digest or of docker's image ID. At most sixteen
    queries.
    """
    found = Found()
    if len(words) < LEAST:
        return found
    repositories = layout.repositories_of(actor)
    vulnerability = cves.find(words) if "-" in words else None
    if vulnerability and cves.is_seen(actor, vulnerability):
        found.cve = vulnerability.name
        return found
    if project:
        repositories = repositories.filter(project__name=project)
    reach = repositories.values("pk")
    wanted = references.read(words)
    if not references.is_one(words):
        found.package = _package(words, reach)
    if wanted.digest or _looks_like_digest(words):
        _add_manifests(found, wanted if wanted.digest else Reference(digest=f"sha256:{words}"), reach)
        if wanted.digest:  # without its algorithm it may be a commit, a date, or a word such as facade
            return found
    if wanted.tag:
        tags = Tag.objects.live().filter(name__startswith=wanted.tag, image__path__icontains=wanted.path)
        found.tags = _tags(tags.order_by("name"), reach)
        if found.tags or not references.is_one(words):
            return found
    _add_names(found, wanted.path, repositories, reach)
    return found


def _add_names(found: Found, words: str, repositories: Any, reach: Any) -> None:
    project, slash, name = words.partition("/")
    named = repositories.filter(name__icontains=words)
    if slash:
        named = repositories.filter(project__name=project, name__startswith=name)
    found.repositories = list(named.select_related("project").order_by("name")[:SHOWN])
    live = Image.objects.with_contents().filter(repository__in=reach).select_related("repository__project")
    found.images = list(live.filter(path__icontains=words).order_by("path")[:SHOWN])
    if not slash:
        found.tags = _tags(Tag.objects.live().filter(name=words).order_by("-started_at"), reach)


def _tags(tags: Any, reach: Any) -> list[Tag]:
    live = _in_reach(tags.filter(image__deletion=None).with_manifests(), reach)
    return list(live.select_related("image__repository__project")[:SHOWN])


def _looks_like_digest(words: str) -> bool:
    return len(words) >= 6 and all(letter in "0123456789abcdef" for letter in words)


def _in_reach(rows: Any, reach: Any) -> Any:
    return rows.annotate(home=F("image__repository")).filter(home__in=reach)


# ── By digest ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _add_manifests(found: Found, wanted: Reference, reach: Any) -> None:
    """Manifests of this digest, in images of this path; and images whose config has it, which is docker's image ID."""
    live = Manifest.objects.live().begins(wanted.digest).filter(image__deletion=None)
    if wanted.path:
        live = live.filter(image__path__iendswith=wanted.path)
    found.manifests = list(
        _in_reach(live, reach).without_content().select_related("image__repository__project")[:SHOWN]
    )
    if not found.manifests and len(wanted.digest.partition(":")[2]) >= IMAGE_ID:
        found.manifests = _by_image_id(wanted.digest, reach)[:SHOWN]


def _by_image_id(digest: str, reach: Any) -> list[Manifest]:
    """The images whose config has a digest that begins so. Other blobs, such as layers, are passed over."""
    blobs = ManifestBlob.objects.live().filter(begins("blob__digest", digest), repository__in=reach)
    blobs = blobs.filter(manifest__image__deletion=None).select_related("manifest__image__repository__project")
    found = []
    for manifest in (each.manifest for each in blobs[:IMAGE_IDS]):
        config = documents.parse(bytes(manifest.content), manifest.media_type).config
        if config and config.digest.startswith(digest):
            found.append(manifest)
    return found


# ── Suggestions ──────────────────────────────────────────────────────────────────────────────────────────────────────
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
    newest = _in_reach(found, reach.values("pk")).select_related("image__repository__project").order_by("-pk")
    rows = [
        Suggestion(f"{each.image.path}:{each.name}", reverse("console:manifest", args=[*_place(each.image), each.name]))
        for each in newest[:SUGGESTED]
    ]
    return Group(_("Tags"), "tag", rows)


def _suggested_vulnerabilities(reach: Any, words: str) -> Group:
    there = scans.in_reach(Finding.objects.current().filter(vulnerability=OuterRef("pk")), reach.values("pk"))
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


# ── Where is a package? ──────────────────────────────────────────────────────────────────────────────────────────────
def _package(words: str, reach: Any) -> Whereabouts | None:
    """Where the package of this name, or this version of it, is; None when it is nowhere that the actor may see."""
    name, _, version = words.rpartition("@")
    named = Q(name=words) | Q(name=name, version=version) if name else Q(name=words)
    packages = list(Package.objects.filter(named).values_list("pk", flat=True)[:1000])
    if not packages:
        return None
    found = scans.in_reach(Component.objects.filter(package__in=packages), reach)
    versions = found.order_by().values("package__name", "package__version", "package__kind")
    by_version = list(versions.annotate(digests=Count("manifest")).order_by("-digests", "package__version"))
    if not by_version:
        return None
    numbers = _numbers(found)
    places = _places(_first(found.values("manifest")), found, packages)
    held = by_version[0]["package__name"]
    return Whereabouts(numbers["digests"], numbers["images"], places, package=held, versions=by_version)


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


def _places(pks: list[int], found: Any, packages: list[int]) -> list[Place]:
    manifests = Manifest.objects.filter(pk__in=pks).select_related("image__repository__project")
    by_pk = {each.pk: Place(each, []) for each in manifests.without_content()}
    for row in found.filter(manifest__in=pks).select_related("package").order_by("package__name", "package__version"):
        if row.package not in by_pk[row.manifest_id].packages:
            by_pk[row.manifest_id].packages.append(row.package)
    findings: Any = Finding.objects.current().filter(manifest__in=pks, package__in=packages)
    for row in findings.with_acceptance(timezone.now()):
        place = by_pk[row.manifest_id]
        place.findings += 1
        place.accepted += row.acceptance is not None
        place.worst = max(place.worst or 0, row.severity)
        if row.fixed_version and row.fixed_version not in place.fixed_versions:
            place.fixed_versions.append(row.fixed_version)
    scans.name_tags([each.manifest for each in by_pk.values()])
    return [by_pk[pk] for pk in pks]
