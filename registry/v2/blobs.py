"""GET, HEAD and DELETE of blobs (distribution-spec 1.1, "Pulling blobs", "Deleting Blobs")."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from registry import access, blobs
from registry.access import Action
from registry.database.transactions import release_connection

from . import downloads, http
from .base import ImageView

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse, HttpResponseBase


class BlobView(ImageView):
    """``/v2/<name>/blobs/<digest>``."""

    actions: ClassVar = {"GET": Action.PULL, "HEAD": Action.PULL, "DELETE": Action.DELETE}

    def get(self, request: HttpRequest, name: str, digest: str) -> HttpResponseBase:
        """The blob, or ranges of it. HEAD with the scope push also leases the blob for a later manifest."""
        pushes = request.method == "HEAD" and self.token is not None and self.covers(name, Action.PUSH)
        blob = (blobs.permitted_blob_to_push if pushes else blobs.permitted_blob)(self.actor, self.name, digest)
        release_connection()
        opened = blobs.open_bytes(blob)
        etag = f'"{digest}"'
        if http.has_already(request, etag):
            opened.close()
            return http.empty(304, ETag=etag, Content_Length=blob.size)
        if request.method == "GET" and (address := blobs.address(blob)):
            opened.close()
            return http.empty(307, Location=address, Docker_Content_Digest=digest)
        return downloads.reply(request, opened, blob.size, etag, Docker_Content_Digest=digest)

    def delete(self, request: HttpRequest, name: str, digest: str) -> HttpResponse:
        """End the lease of the blob; 405 while a manifest references it."""
        repository = access.require(self.actor, Action.DELETE, self.name)
        blobs.drop(repository, digest)
        return http.empty(202, Docker_Content_Digest=digest)
