"""Uploads of blobs (distribution-spec 1.1, "Pushing blobs"): monolithic, chunked, streamed, mounted."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, ClassVar

from django.urls import reverse

from registry import access, blobs, errors, repositories, uploads
from registry.access import Action
from registry.oci import ranges

from . import http
from .base import ImageView

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.http import HttpRequest, HttpResponse

    from registry.models import Blob, Repository, UploadSession


class UploadView(ImageView):
    """Responses that both views of uploads share."""

    def standing(self, session: UploadSession, status: int) -> HttpResponse:
        """Return Location and Range of the upload. Location is relative, so it is right behind any proxy."""
        return http.empty(status, Docker_Upload_UUID=session.pk, **self.position(str(session.pk), session.offset))

    def position(self, upload: str, offset: int) -> dict[str, str]:
        """Location and Range of an upload of ``offset`` bytes; 0-0 means none (the specification has no other word)."""
        location = reverse("v2:upload", kwargs={"name": self.wire_name, "upload": upload})
        return {"Location": location, "Range": f"0-{max(0, offset - 1)}"}

    def created(self, blob: Blob) -> HttpResponse:
        """Return 201 with the Location of the blob."""
        location = reverse("v2:blob", kwargs={"name": self.wire_name, "digest": blob.digest})
        return http.empty(201, Location=location, Docker_Content_Digest=blob.digest)


class UploadsView(UploadView):
    """``POST /v2/<name>/blobs/uploads/``: open an upload, push a blob at once, or mount one from another repository."""

    actions: ClassVar = {"POST": Action.PUSH}

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        """201 if the blob is stored or mounted, else 202 with a new upload."""
        repository = access.find(self.actor, Action.PUSH, self.name) or self._created_by_push()
        if request.GET.get("mount"):
            blob = self._mount(request, repository)
            if blob is not None:
                return self.created(blob)
        digest, chunks = request.GET.get("digest", ""), http.body(request)
        if digest:
            first = next(chunks, b"")
            if first or uploads.is_of_nothing(digest):
                piece = uploads.Piece(chain([first], chunks))
                return self.created(uploads.push(self.actor, repository, self.name.image, digest, piece))
        algorithm = request.GET.get("digest-algorithm", "")
        return self.standing(uploads.start(self.actor, repository, self.name.image, algorithm), 202)

    def _created_by_push(self) -> Repository:
        """The first request of a push creates the repository, where the project has that. Raises as ``require``."""
        if (self.token is None or self.is_for_new) and repositories.create_by_push(self.actor, self.name):
            self.cover_created()
        return access.require(self.actor, Action.PUSH, self.name)

    def _mount(self, request: HttpRequest, repository: Repository) -> Blob | None:
        """Mount the blob from another repository, if the token covers that one too; else return None."""
        source = request.GET.get("from", "")
        if not self.covers(source, Action.PULL):
            return None
        return blobs.mount(self.actor, repository, self.host.find(source), request.GET["mount"])

    def scope(self) -> str:
        """Mounting needs a right on the source too."""
        source = self.host.find(self.request.GET.get("from", ""))
        return super().scope() + (f" repository:{self.host.spell(source)}:pull" if source else "")


class UploadSessionView(UploadView):
    """``/v2/<name>/blobs/uploads/<upload>``: one upload on its way."""

    actions: ClassVar = {
        "GET": Action.PUSH,
        "HEAD": Action.PUSH,
        "PATCH": Action.PUSH,
        "PUT": Action.PUSH,
        "DELETE": Action.PUSH,
    }

    def get(self, request: HttpRequest, name: str, upload: str) -> HttpResponse:
        """204 with the Range of received bytes."""
        return self.standing(self._find(upload), 204)

    def patch(self, request: HttpRequest, name: str, upload: str) -> HttpResponse:
        """Add bytes: a chunk with Content-Range, or a stream without."""
        return self.standing(uploads.append(self._find(upload), _piece(request)), 202)

    def put(self, request: HttpRequest, name: str, upload: str) -> HttpResponse:
        """Finish, perhaps with the last bytes, perhaps with all of them."""
        repository = access.require(self.actor, Action.PUSH, self.name)
        digest = request.GET.get("digest", "")
        return self.created(uploads.finish(self.actor, repository, self.name.image, upload, digest, _piece(request)))

    def delete(self, request: HttpRequest, name: str, upload: str) -> HttpResponse:
        """Cancel the upload. Takes the right to push."""
        uploads.discard(self._find(upload))
        return http.empty(204)

    def error_headers(self, error: errors.RegistryError) -> dict[str, str]:
        """A 416 has Location and Range, so the client can continue."""
        if isinstance(error, errors.RangeInvalid):
            return self.position(self.kwargs["upload"], error.detail["offset"])
        return super().error_headers(error)

    def _find(self, upload: str) -> UploadSession:
        repository = access.require(self.actor, Action.PUSH, self.name)
        return uploads.find(self.actor, repository, self.name.image, upload)


def _piece(request: HttpRequest) -> uploads.Piece:
    """Return the body and its start offset. Raises SizeInvalid if Content-Range and Content-Length disagree."""
    header = request.META.get("HTTP_CONTENT_RANGE")
    if header is None:
        return uploads.Piece(http.body(request))
    try:
        start, end = ranges.of_chunk(header)
    except ranges.Unsatisfiable:
        return uploads.Piece(http.body(request), uploads.NOWHERE)
    length = http.declared_length(request)
    if length is not None and length != end - start + 1:
        raise errors.SizeInvalid(f"Content-Range {header} is not {length} bytes long")
    return uploads.Piece(_exactly(end - start + 1, http.body(request)), start)


def _exactly(length: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks. Raises SizeInvalid if they do not have ``length`` bytes in all."""
    left = length
    for chunk in chunks:
        left -= len(chunk)
        yield chunk
    if left:
        raise errors.SizeInvalid(f"the body has {length - left} bytes, its Content-Range says {length}")
