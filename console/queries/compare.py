"""What changed between two images: vulnerabilities, packages, size and configuration, for one platform."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from console.queries.shared import layout
from registry import blobs, references
from registry.models import Manifest, Severity, Tag
from registry.oci import configs, digests, documents, media_types
from scanning.models import Component, Finding, Report, Scan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import QueryDict

    from accounts.actors import Actor
    from registry.models import Image
    from registry.oci.configs import Config, Some
    from registry.oci.documents import Document

SCANS = 6  # earlier scans of a manifest that the page offers
SUGGESTED = 50  # tags that the page offers


@dataclass(slots=True)
class Packages:
    """How the packages of two manifests differ: names with versions before and after."""

    added: list[tuple[str, str]] = field(default_factory=list)
    removed: list[tuple[str, str]] = field(default_factory=list)
    changed: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many packages differ."""
        return len(self.added) + len(self.removed) + len(self.changed)


@dataclass(slots=True)
class Findings:
    """How the vulnerabilities differ. ``new``: only after; ``fixed``: only before; the worst first."""

    new: list[Any]
    fixed: list[Any]
    unchanged: int

    @property
    def new_counts(self) -> dict[str, int]:
        """{severity: number} of the new ones."""
        return _counts(self.new)

    @property
    def fixed_counts(self) -> dict[str, int]:
        """{severity: number} of the fixed ones."""
        return _counts(self.fixed)


@dataclass(frozen=True, slots=True)
class Setting:
    """One difference in the configuration. ``key``: the variable or label, else ""; ``was``, ``now``: "" if not set."""

    name: str
    key: str
    was: str
    now: str


@dataclass(slots=True)
class Change:
    """What changed for one platform.

    ``platforms``: those of either side, without attestations, those of both first. ``old`` or ``new`` is None if that
    side does not have ``platform``. ``findings`` and ``packages`` are None unless both were scanned; ``settings`` is
    None unless both configurations can be read. ``layers``: how many layers both have, and how many the new one has.
    """

    platforms: list[str]
    platform: str = ""
    old: Manifest | None = None
    new: Manifest | None = None
    findings: Findings | None = None
    packages: Packages | None = None
    settings: list[Setting] | None = None
    layers: tuple[int, int] = (0, 0)

    @property
    def is_added(self) -> bool:
        """Whether only the new side has the platform."""
        return self.old is None and self.new is not None

    @property
    def is_removed(self) -> bool:
        """Whether only the old side has the platform."""
        return self.new is None and self.old is not None

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Bytes before and now."""
        return (self.old.total_size if self.old else None, self.new.total_size if self.new else None)

    @property
    def growth(self) -> int:
        """How many bytes more the new one has; less than 0 if it is smaller."""
        before, now = self.size
        return (now or 0) - (before or 0)

    @property
    def is_same(self) -> bool:
        """Whether both sides are the same manifest."""
        return self.old is not None and self.new is not None and self.old.digest == self.new.digest


def what_changed(old: Manifest, new: Manifest, platform: str = "") -> Change:
    """Compare two manifests or indexes, live or deleted, of one image or of two. At most fourteen queries.

    ``platform``: "linux/amd64", as in ``Change.platforms``; for any other text the first that both sides have.
    ``image.repository`` of both is read.
    """
    before, now = _platforms(old), _platforms(new)
    both = [name for name in now if name in before]
    offered = [*both, *(name for name in {**now, **before} if name not in both)]
    if not offered:
        return Change([])
    chosen = platform if platform in offered else offered[0]
    change = Change(offered, chosen, before.get(chosen), now.get(chosen))
    if change.old is None or change.new is None:
        return change
    if _is_known(change.old) and _is_known(change.new):
        change.findings = compare_findings(_findings(change.old), _findings(change.new))
        change.packages = _packages(change.old, change.new)
    was, is_now = _document(change.old), _document(change.new)
    known = Counter(layer.digest for layer in was.layers)
    change.layers = ((Counter(layer.digest for layer in is_now.layers) & known).total(), len(is_now.layers))
    config_then, config_now = _config(change.old, was), _config(change.new, is_now)
    if config_then and config_now:
        change.settings = list(_settings(config_then, config_now))
    return change


def compare_findings(before: Iterable[Any], now: Iterable[Any]) -> Findings:
    """By vulnerability and name of the package: another version with the same vulnerability has not changed."""
    old, new = {row.key: row for row in before}, {row.key: row for row in now}
    gone = sorted((old[key] for key in old.keys() - new.keys()), key=_badness)
    come = sorted((new[key] for key in new.keys() - old.keys()), key=_badness)
    return Findings(come, gone, len(new.keys() & old.keys()))


# ── Platforms ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _platforms(manifest: Manifest) -> dict[str, Manifest]:
    """{platform: manifest}, each with its report and without its content, in the order of the index."""
    if manifest.media_type not in media_types.INDEXES:
        return {manifest.platforms: manifest}
    held = Manifest.objects.filter(parent_references__parent=manifest).select_related("report").without_content()
    children = {child.digest: child for child in held}
    found: dict[str, Manifest] = {}
    for entry in _document(manifest).manifests:
        child = children.get(entry.digest)
        if child is None or documents.REFERENCE_TYPE in entry.annotations:
            continue
        name = configs.platform(entry.platform) or child.platforms
        if name:
            child.image = manifest.image
            found.setdefault(name, child)
    return found


def _document(manifest: Manifest) -> Document:
    return documents.parse(bytes(manifest.content), manifest.media_type)


# ── Vulnerabilities and packages ─────────────────────────────────────────────────────────────────────────────────────
def _is_known(manifest: Manifest) -> bool:
    """Whether a scan of the manifest has succeeded."""
    report: Report | None = getattr(manifest, "report", None)
    return report is not None and report.state in Report.KNOWN


def _findings(manifest: Manifest) -> Any:
    return Finding.objects.current().filter(manifest=manifest).select_related("vulnerability", "package")


def _badness(row: Finding) -> tuple[Any, ...]:
    return (-row.severity, -(row.vulnerability.score or 0), row.vulnerability.name, row.package.name)


def _counts(rows: list[Any]) -> dict[str, int]:
    return {name: sum(row.severity == Severity[name.upper()] for row in rows) for name in Report.COUNTS}


def _packages(before: Manifest, now: Manifest) -> Packages:
    old, new = _versions(before), _versions(now)
    found = Packages()
    for key in sorted(old.keys() | new.keys()):
        was, is_now, name = old.get(key, ""), new.get(key, ""), key[1]
        if was == is_now:
            continue
        if not was:
            found.added.append((name, is_now))
        elif not is_now:
            found.removed.append((name, was))
        else:
            found.changed.append((name, was, is_now))
    return found


def _versions(manifest: Manifest) -> dict[tuple[str, str], str]:
    held = Component.objects.filter(manifest=manifest).values_list("package__kind", "package__name", "package__version")
    versions: dict[tuple[str, str], list[str]] = {}
    for kind, name, version in held:
        versions.setdefault((kind, name), []).append(version)
    return {key: ", ".join(sorted(each)) for key, each in versions.items()}


# ── Configuration ────────────────────────────────────────────────────────────────────────────────────────────────────
def _config(manifest: Manifest, document: Document) -> Config | None:
    """The configuration of an image; None if it is of another type, or its bytes are not kept."""
    if document.config is None or not configs.is_image_type(document.config.media_type):
        return None
    content = blobs.read(manifest.image.repository, document.config.digest, configs.MAX_BYTES)
    return configs.parse(content) if content is not None else None


def _settings(old: Config, new: Config) -> Iterable[Setting]:
    texts = (
        (_("User"), old.user, new.user),
        (_("Entrypoint"), _list(old.entrypoint), _list(new.entrypoint)),
        (_("Command"), _list(old.command), _list(new.command)),
        (_("Working directory"), old.working_dir, new.working_dir),
        (_("Stop signal"), old.stop_signal, new.stop_signal),
        (_("Ports"), ", ".join(old.ports.shown), ", ".join(new.ports.shown)),
        (_("Volumes"), ", ".join(old.volumes.shown), ", ".join(new.volumes.shown)),
    )
    yield from (Setting(name, "", was, now) for name, was, now in texts if was != now)
    variables = _variables(old.environment), _variables(new.environment)
    for name, (before, after) in ((_("Environment"), variables), (_("Label"), (_labels(old), _labels(new)))):
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                yield Setting(name, key, before.get(key, ""), after.get(key, ""))


def _list(words: Some[str]) -> str:
    """As in a Dockerfile: ["nginx", "-g", "daemon off;"]; "" for an empty list."""
    return json.dumps(words.shown, ensure_ascii=False) if words else ""


def _variables(environment: Some[str]) -> dict[str, str]:
    return {name: value for name, _equals, value in (each.partition("=") for each in environment.shown)}


def _labels(config: Config) -> dict[str, str]:
    return dict(config.labels.shown)


# ── The page ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def page(actor: Actor, manifest: Manifest, tag: Tag | None, wanted: QueryDict) -> dict[str, Any]:
    """A manifest beside another one, or beside itself at an earlier scan.

    ``wanted["with"]``: a tag or digest of the image, ``project/repository/image:tag``, or ``scan-ID``. Without it: what
    the tag pointed to before, or else the scan before.
    """
    other = wanted.get("with", "").strip()[:300].replace("\0", "")
    is_index = manifest.media_type in media_types.INDEXES
    done = [] if is_index else list(Scan.objects.filter(manifest=manifest, state="done").order_by("-pk")[:SCANS])
    before = [{"value": f"scan-{scan.pk}", "scan": scan} for scan in done[1:]]
    live = Tag.objects.live().filter(image=manifest.image).exclude(manifest=manifest).order_by("-started_at")
    context: dict[str, Any] = {
        "before": before,
        "tags": list(live.values_list("name", flat=True)[:SUGGESTED]),
        "is_previous": False,
        "problem": "",
    }
    if not other and (other := _previous(manifest, tag)):
        context["is_previous"] = True
    other = other or (f"scan-{done[1].pk}" if before else "")
    context["with"] = other
    if not other:
        return context | {"problem": "choose"}
    if other.startswith("scan-"):
        scan = next((scan for scan in done[1:] if f"scan-{scan.pk}" == other), None)
        return context | (_with_scan(manifest, scan) if scan else {"problem": "gone"})
    then = _find(actor, manifest.image, other)
    if then is None:
        return context | {"problem": "gone"}
    return context | {"then": then, "change": what_changed(then, manifest, wanted.get("platform", ""))}


def _previous(manifest: Manifest, tag: Tag | None) -> str:
    """The digest that the tag pointed to before; "" if there was none, or it is not live."""
    if tag is None:
        return ""
    older = Tag.objects.filter(image=manifest.image, name=tag.name, pk__lt=tag.pk, manifest__deletion=None)
    older = older.exclude(manifest=manifest).order_by("-pk")
    return older.values_list("manifest__digest", flat=True).first() or ""


def _with_scan(manifest: Manifest, scan: Scan) -> dict[str, Any]:
    known = Finding.objects.as_of(scan).select_related("vulnerability", "package")
    return {"scan": scan, "findings": compare_findings(known, _findings(manifest))}


def _find(actor: Actor, image: Image, text: str) -> Manifest | None:
    """The live manifest that the text means: in this image, or in one that the actor may see."""
    path, reference = str(image.path), text
    if "/" in text:
        read = references.read(text)
        path, reference = read.path, read.digest or read.tag or "latest"
    found = Manifest.objects.referenced(path, reference, by_digest=digests.is_digest(reference))
    seen = found.filter(image__repository__in=layout.repositories_of(actor).values("pk"))
    return seen.select_related("report", "image__repository__project").first()
