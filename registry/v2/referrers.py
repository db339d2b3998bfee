"""Referrers of a digest: signatures, SBOMs, attestations (distribution-spec 1.1, "Listing Referrers")."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from registry import errors, manifests
from registry.access import Action
from registry.oci import media_types

from . import http
from .base import ImageView

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from registry.models import Manifest

MAX_PAGE = 100


class ReferrersView(ImageView):
    """``GET /v2/<name>/referrers/<digest>``: an index, empty if the digest is unknown or has no referrers (no 404)."""

    actions: ClassVar = {"GET": Action.PULL, "HEAD": Action.PULL}

    def get(self, request: HttpRequest, name: str, digest: str) -> HttpResponse:
        """A page of descriptors. ``artifactType`` filters; ``n`` and ``last`` (an extension) page."""
        artifact_type = http.text(request, "artifactType")
        after = request.GET.get("last", "0")
        if not (after.isascii() and after.isdigit() and len(after) <= 18):
            raise errors.RequestInvalid("last must be a number from a Link header")
        page = manifests.permitted_referrers(
            self.actor, self.name, digest, artifact_type, int(after), http.page_size(request, MAX_PAGE, MAX_PAGE)
        )
        index = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [_descriptor(manifest) for manifest in page.manifests],
        }
        headers: dict[str, Any] = {"OCI_Filters_Applied": "artifactType"} if artifact_type else {}
        if page.has_more and page.manifests:
            arguments = {"name": name, "digest": digest}
            headers |= http.next_link(
                "v2:referrers", arguments, artifactType=artifact_type, n=len(page.manifests), last=page.manifests[-1].pk
            )
        return http.content(request, json.dumps(index, ensure_ascii=False).encode(), media_types.OCI_INDEX, **headers)


def _descriptor(manifest: Manifest) -> dict[str, Any]:
    descriptor: dict[str, Any] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.size,
    }
    if manifest.artifact_type:
        descriptor["artifactType"] = manifest.artifact_type
    if manifest.annotations:
        descriptor["annotations"] = manifest.annotations
    return descriptor
