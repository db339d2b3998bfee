"""SBOMs: decide whether a manifest can be scanned, and list its packages once for each version of Trivy."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

from django.db import transaction

from registry import errors, hosts, layouts, runnable
from registry.database.batches import in_batches
from registry.oci import configs, documents, media_types
from scanning.trivy import program, report
from scanning.trivy.program import ScanFailed, Workplace

from .models import Component, Package, Sbom
from .models.scans import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.models import Manifest
    from scanning.trivy.report import PackageName

ROWS = 1000


class Unsupported(Exception):
    """The manifest is not an image that a client can run. The message says what it is."""


def check(manifest: Manifest) -> None:
    """Raises Unsupported if no client can run the manifest. Does not start Trivy.

    An image that can be run but not scanned passes: its scan fails later, and its vulnerabilities stay unknown.
    """
    if manifest.media_type in media_types.INDEXES:
        raise Unsupported("an index: its platforms are scanned one by one")
    if runnable.is_image(manifest):
        return
    document = documents.parse(bytes(manifest.content), manifest.media_type)
    if document.config and configs.is_image_type(document.config.media_type):
        raise Unsupported(f"its layers are not files, but {document.layers[0].media_type}")
    raise Unsupported(f"not a container image, but {manifest.artifact_type or 'something else'}")


def of(manifest: Manifest, workplace: Workplace) -> bytes:
    """The SBOM of an image as CycloneDX in JSON. Made and stored if there is none by this version of Trivy.

    Raises Unsupported, ScanFailed.
    """
    version = program.version()
    kept = Sbom.objects.filter(manifest=manifest, tool_version=version).first()
    if kept is not None:
        return gzip.decompress(kept.content)
    check(manifest)
    layout = workplace.folder / "layout"
    layout.mkdir()
    try:
        layouts.write(manifest, layout, copied=program.isolation().takes_copies)
    except layouts.Elsewhere as error:
        raise ScanFailed(Problem.ELSEWHERE, "layers of it are not kept in this registry") from error
    except (errors.BlobUnknown, FileNotFoundError) as error:
        raise ScanFailed(Problem.BYTES_MISSING, "bytes of a layer are lost: push the image again") from error
    content = program.make_sbom(layout, workplace)
    _keep(manifest, content, version)
    return content


def download(manifest: Manifest) -> bytes | None:
    """The SBOM as people get it, about the image by its reference; None if the manifest was never scanned.

    Trivy calls the image by the folder that it read.
    """
    kept = Sbom.objects.filter(manifest=manifest).first()
    if kept is None:
        return None
    document: dict[str, Any] = json.loads(gzip.decompress(kept.content))
    path, digest = manifest.image.path, manifest.digest
    metadata = document.setdefault("metadata", {})
    subject = metadata.setdefault("component", {"type": "container"})
    subject |= {"name": f"{hosts.BARE.uri(path)}@{digest}", "version": digest, "purl": package_url(path, digest)}
    return json.dumps(document, indent=2, ensure_ascii=False).encode()


def package_url(path: str, digest: str) -> str:
    """The package URL of an image (purl-spec, type oci)."""
    name = path.rpartition("/")[2]
    return f"pkg:oci/{name}@{digest.replace(':', '%3A')}?repository_url={hosts.BARE.uri(path)}"


def _keep(manifest: Manifest, content: bytes, version: str) -> None:
    packages = report.read_packages(content)
    known = package_ids(packages)
    with transaction.atomic():
        Component.objects.filter(manifest=manifest).exclude(package__in=known.values()).delete()
        Component.objects.bulk_create(
            (Component(manifest=manifest, package_id=known[package]) for package in packages),
            ignore_conflicts=True,
            batch_size=ROWS,
        )
        Sbom.objects.update_or_create(
            manifest=manifest, defaults={"content": gzip.compress(content, mtime=0), "tool_version": version}
        )


def package_ids(wanted: Sequence[PackageName]) -> dict[PackageName, int]:
    """The ids of the packages; creates missing rows. ``wanted`` is sorted, so that parallel inserts do not deadlock."""
    found: dict[PackageName, int] = {}
    for some in in_batches(wanted, ROWS):
        found |= _known(some)
        missing = [each for each in some if each not in found]
        if missing:
            rows = (Package(kind=each.kind, name=each.name, version=each.version) for each in missing)
            Package.objects.bulk_create(rows, ignore_conflicts=True)
            found |= _known(missing)
    return {each: found[each] for each in wanted}


def _known(wanted: Sequence[PackageName]) -> dict[PackageName, int]:
    rows = Package.objects.filter(name__in={each.name for each in wanted}).values_list("kind", "name", "version", "pk")
    return {report.PackageName(kind, name, version): pk for kind, name, version, pk in rows}
