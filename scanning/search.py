"""Search in some repositories: names, tags, digests, image IDs, CVEs, packages. The doors say which repositories."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db.models import BigIntegerField, Count, DateTimeField, F, Max, Q, TextField
from django.utils import timezone

from registry import references
from registry.database.prepared import ListOf, prepare_models
from registry.models import Image, Manifest, ManifestBlob, Repository, Tag
from registry.models.manifests import begins
from registry.oci import documents
from registry.references import Reference

from . import reach
from .models import Component, Finding, Package, Vulnerability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.models import QuerySet

    from accounts.actors import Actor

SHOWN = 25
WHERE = 50  # digests that are listed of those in which a package is
LEAST = 2
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
    """Where a package or vulnerability is. ``total``: how many digests have it; ``places``: the first of them."""

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


def search(repositories: QuerySet[Repository], words: str, project: str = "") -> Found:
    """Look for ``words`` in these live repositories, of one project or ("") of all.

    A whole name of a CVE, ``package`` or ``package@version``: where is it? Else a reference as ``references.read``
    knows it, a part of a name, a whole tag, or the beginning of a digest or of docker's image ID. At most sixteen
    queries.
    """
    found = Found()
    if len(words) < LEAST:
        return found
    vulnerability = find_vulnerability(words) if "-" in words else None
    if vulnerability and with_vulnerability(vulnerability, repositories).exists():
        found.cve = vulnerability.name
        return found
    if project:
        repositories = repositories.filter(project__name=project)
    reached = repositories.values("pk")
    wanted = references.read(words)
    if not references.is_one(words):
        found.package = _package(words, reached)
    if wanted.digest or _looks_like_digest(words):
        _add_manifests(found, wanted if wanted.digest else Reference(digest=f"sha256:{words}"), reached)
        if wanted.digest:  # without its algorithm it may be a commit, a date, or a word such as facade
            return found
    if wanted.tag:
        tags = Tag.objects.live().filter(name__startswith=wanted.tag, image__path__icontains=wanted.path)
        found.tags = _tags(tags.order_by("name"), reached)
        if found.tags or not references.is_one(words):
            return found
    _add_names(found, wanted.path, repositories, reached)
    return found


def find_vulnerability(name: str) -> Vulnerability | None:
    """The vulnerability of this name. Upper and lower case do not differ. One query."""
    prefix, _, rest = name.partition("-")
    return Vulnerability.objects.filter(name__in={name, name.upper(), f"{prefix.upper()}-{rest.lower()}"}).first()


def with_vulnerability(vulnerability: Vulnerability, repositories: QuerySet[Repository]) -> Any:
    """The current findings of a vulnerability in live manifests of these repositories."""
    current = Finding.objects.current().filter(vulnerability=vulnerability)
    return reach.in_reach(current, repositories.values("pk")).order_by()


def _add_names(found: Found, words: str, repositories: Any, reached: Any) -> None:
    project, slash, name = words.partition("/")
    named = repositories.filter(name__icontains=words)
    if slash:
        named = repositories.filter(project__name=project, name__startswith=name)
    found.repositories = list(named.select_related("project").order_by("name")[:SHOWN])
    live = Image.objects.with_contents().filter(repository__in=reached).select_related("repository__project")
    found.images = list(live.filter(path__icontains=words).order_by("path")[:SHOWN])
    if not slash:
        found.tags = _tags(Tag.objects.live().filter(name=words).order_by("-started_at"), reached)


def _tags(tags: Any, reached: Any) -> list[Tag]:
    live = _in_reach(tags.filter(image__deletion=None).with_manifests(), reached)
    return list(live.select_related("image__repository__project")[:SHOWN])


def _looks_like_digest(words: str) -> bool:
    return len(words) >= 6 and all(letter in "0123456789abcdef" for letter in words)


def _in_reach(rows: Any, reached: Any) -> Any:
    return rows.annotate(home=F("image__repository")).filter(home__in=reached)


# ── By digest ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _add_manifests(found: Found, wanted: Reference, reached: Any) -> None:
    """Manifests of this digest, in images of this path; and images whose config has it, which is docker's image ID."""
    live = Manifest.objects.live().begins(wanted.digest).filter(image__deletion=None)
    if wanted.path:
        live = live.filter(image__path__iendswith=wanted.path)
    found.manifests = list(
        _in_reach(live, reached).without_content().select_related("image__repository__project")[:SHOWN]
    )
    if not found.manifests and len(wanted.digest.partition(":")[2]) >= IMAGE_ID:
        found.manifests = _by_image_id(wanted.digest, reached)[:SHOWN]


def _by_image_id(digest: str, reached: Any) -> list[Manifest]:
    """The images whose config has a digest that begins so. Other blobs, such as layers, are passed over."""
    blobs = ManifestBlob.objects.live().filter(begins("blob__digest", digest), repository__in=reached)
    blobs = blobs.filter(manifest__image__deletion=None).select_related("manifest__image__repository__project")
    found = []
    for manifest in (each.manifest for each in blobs[:IMAGE_IDS]):
        config = documents.parse(bytes(manifest.content), manifest.media_type).config
        if config and config.digest.startswith(digest):
            found.append(manifest)
    return found


# ── Where is a vulnerability or a package? ────────────────────────────────────────────────────────────────────────────
def whereabouts(vulnerability: str, repositories: QuerySet[Repository]) -> Whereabouts:
    """Where the vulnerability of this name is. At most six queries."""
    findings = Finding.objects.current().filter(vulnerability__name=vulnerability)
    found = reach.in_reach(findings, repositories.values("pk")).order_by()
    numbers = _numbers(found)
    pks = _first(found.values("manifest"))
    rows = _with_vulnerability.all(vulnerability=vulnerability, manifests=pks, now=timezone.now())
    return Whereabouts(numbers["digests"], numbers["images"], _places(pks, rows, rows))


def _package(words: str, reached: Any) -> Whereabouts | None:
    """Where the package of this name, or this version of it, is; None when it is nowhere that the actor may see."""
    name, _, version = words.rpartition("@")
    named = Q(name=words) | Q(name=name, version=version) if name else Q(name=words)
    packages = list(Package.objects.filter(named).values_list("pk", flat=True)[:1000])
    if not packages:
        return None
    found = reach.in_reach(Component.objects.filter(package__in=packages), reached)
    versions = found.order_by().values("package__name", "package__version", "package__kind")
    by_version = list(versions.annotate(digests=Count("manifest")).order_by("-digests", "package__version"))
    if not by_version:
        return None
    numbers = _numbers(found)
    pks = _first(found.values("manifest"))
    held_by = _components.all(packages=packages, manifests=pks)
    places = _places(pks, held_by, _in_packages.all(packages=packages, manifests=pks, now=timezone.now()))
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
    used = list(newest.filter(reach.in_use()).order_by("path", "-newest").values_list("manifest", flat=True)[:WHERE])
    if len(used) < WHERE:
        rest = newest.exclude(manifest__in=used).order_by("path", "-newest").values_list("manifest", flat=True)
        used += list(rest[: WHERE - len(used)])
    return used


def _places(pks: list[int], held: Sequence[Component | Finding], findings: Sequence[Any]) -> list[Place]:
    """These manifests as places, with the packages of ``held``, and with these findings."""
    by_pk = {each.pk: Place(each, []) for each in _manifests.all(manifests=pks)}
    for each in held:
        if each.package not in by_pk[each.manifest_id].packages:
            by_pk[each.manifest_id].packages.append(each.package)
    for row in findings:
        place = by_pk[row.manifest_id]
        place.findings += 1
        place.accepted += row.acceptance is not None
        place.worst = max(place.worst or 0, row.severity)
        if row.fixed_version and row.fixed_version not in place.fixed_versions:
            place.fixed_versions.append(row.fixed_version)
    reach.name_tags([each.manifest for each in by_pk.values()])
    return [by_pk[pk] for pk in pks]


# ── The rows of these manifests ──────────────────────────────────────────────────────────────────────────────────────
_PACKAGES = {"packages": ListOf(BigIntegerField()), "manifests": ListOf(BigIntegerField())}
_BY_NAME = ("package__name", "package__version")


@prepare_models(Manifest, manifests=ListOf(BigIntegerField()))
def _manifests(_actor: Actor, manifests: Any) -> QuerySet[Manifest]:
    found = Manifest.objects.filter(pk__in=manifests)
    return found.select_related("image__repository__project").without_content()


@prepare_models(Component, **_PACKAGES)
def _components(_actor: Actor, packages: Any, manifests: Any) -> QuerySet[Component]:
    found = Component.objects.filter(package__in=packages, manifest__in=manifests)
    return found.select_related("package").order_by(*_BY_NAME)


@prepare_models(Finding, now=DateTimeField(), **_PACKAGES)
def _in_packages(_actor: Actor, packages: Any, manifests: Any, now: Any) -> QuerySet[Finding]:
    # A sum, which no index has: SQLite would look at every finding of the package, not at those of these manifests.
    found = Finding.objects.current().alias(of=F("package_id") + 0).filter(of__in=packages, manifest__in=manifests)
    return found.with_acceptance(now)


@prepare_models(Finding, vulnerability=TextField(), manifests=ListOf(BigIntegerField()), now=DateTimeField())
def _with_vulnerability(_actor: Actor, vulnerability: Any, manifests: Any, now: Any) -> QuerySet[Finding]:
    found = Finding.objects.current().filter(vulnerability__name=vulnerability, manifest__in=manifests)
    return found.with_acceptance(now).select_related("package").order_by(*_BY_NAME)
