"""Bytes in and out. Only this module touches a request's input, and it reads no more than it is told to."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import FileResponse, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import reverse

from registry import errors
from registry.oci import documents, media_types, ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.core.files import File
    from rest_framework.request import Request

BLOCK = 1024 * 1024
MAX_FORM = 64 * 1024
MAX_NUMBER_DIGITS = 9
MAX_TEXT = 255

# Slow readers and writers may hold most of the server's threads, never all: the rest answers everybody else.
TRANSFERS = threading.BoundedSemaphore(settings.WEB_THREADS - settings.WEB_THREADS // 8)


def body(request: Request) -> Iterator[bytes]:
    """The request's body, in blocks of at most 1 MiB, with or without Content-Length.

    Django's own ``read()`` gives nothing for a chunked body and says nothing of a cut one; so the server's stream is
    read here. Raises SizeInvalid when the client stops early.
    """
    stream, left = request.META["wsgi.input"], declared_length(request)
    if left is None and not request.META.get("wsgi.input_terminated"):
        return
    with _transfer():
        yield from _blocks(stream, left)


def _blocks(stream: Any, left: int | None) -> Iterator[bytes]:
    while left is None or left > 0:
        try:
            block = stream.read(BLOCK if left is None else min(BLOCK, left))
        except Exception as error:  # each server has its own exceptions for a body that breaks off
            raise errors.SizeInvalid("the body broke off") from error
        if not block:
            break
        if left is not None:
            left -= len(block)
        yield block
    if left:
        raise errors.SizeInvalid(f"the body ended {left} bytes early")


def declared_length(request: Request) -> int | None:
    """Content-Length in bytes; None for a chunked body."""
    text = request.META.get("CONTENT_LENGTH") or ""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise errors.SizeInvalid("Content-Length is not a number")
    return int(text)


def bounded_body(request: Request, limit: int) -> bytes | None:
    """The whole body, or None when it is longer than ``limit`` bytes; reads at most one block more."""
    if (declared_length(request) or 0) > limit:
        return None
    content = bytearray()
    for block in body(request):
        content += block
        if len(content) > limit:
            return None
    return bytes(content)


def manifest_body(request: Request) -> bytes:
    """A manifest's bytes. Raises ManifestTooLarge, SizeInvalid."""
    content = bounded_body(request, documents.MAX_BYTES)
    if content is None:
        raise errors.ManifestTooLarge
    return content


def page_size(request: Request, default: int, maximum: int) -> int:
    """The ``n`` parameter, clamped to ``maximum``. Raises RequestInvalid for anything but ASCII digits."""
    text = request.GET.get("n")
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS):
        raise errors.RequestInvalid(f"n must be a number of at most {MAX_NUMBER_DIGITS} digits")
    return min(int(text), maximum)


def text(request: Request, name: str) -> str:
    """A parameter that is compared with stored text. Raises RequestInvalid for what no stored text can be."""
    value = request.GET.get(name, "")
    if len(value) > MAX_TEXT or "\0" in value:
        raise errors.RequestInvalid(f"{name} must have at most {MAX_TEXT} characters")
    return value


def next_link(route: str, arguments: dict[str, Any], **parameters: Any) -> dict[str, str]:
    """The Link header of a list that goes on (RFC 8288)."""
    query = urlencode({key: value for key, value in parameters.items() if value != ""})
    return {"Link": f'<{reverse(route, kwargs=arguments)}?{query}>; rel="next"'}


def empty(status: int, **headers: Any) -> HttpResponse:
    """A reply without a body; header names are written with underscores."""
    response = HttpResponse(status=status, headers=named(headers) | {"Content-Length": "0"})
    del response.headers["Content-Type"]
    return response


def content(request: Request, data: bytes, media_type: str, **headers: Any) -> HttpResponse:
    """A reply with these bytes; for HEAD the same headers alone."""
    response = HttpResponse(b"" if request.method == "HEAD" else data, content_type=media_type, headers=named(headers))
    response.headers["Content-Length"] = str(len(data))
    return response


def json(data: Any, **headers: Any) -> JsonResponse:
    """A reply in JSON."""
    return JsonResponse(data, headers=named(headers))


def named(headers: dict[str, Any]) -> dict[str, str]:
    """Headers as they are written: ``Docker_Content_Digest`` is Docker-Content-Digest."""
    return {name.replace("_", "-"): str(value) for name, value in headers.items()}


@contextmanager
def _transfer() -> Iterator[None]:
    """Take one of the threads that transfers may hold. Raises TooManyRequests when they are all taken."""
    if not TRANSFERS.acquire(blocking=False):
        raise errors.TooManyRequests("too many transfers at once: wait a little", detail={"seconds": 5})
    try:
        yield
    finally:
        TRANSFERS.release()


class Part:
    """Some bytes of an open file, as WSGI's file wrapper reads it: the server may send them straight from the disk."""

    def __init__(self, file: File[bytes], start: int, length: int) -> None:
        self._file, self._left = file, length
        self.fileno, self.close = file.fileno, file.close
        file.seek(start)

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes (all that are left when negative)."""
        block: bytes = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        return block


class FileReply(FileResponse):
    """Bytes of a file. FileResponse's own blocks of 4 KiB are ten times slower where the server has no sendfile."""

    block_size = BLOCK

    def __init__(self, part: Part, **options: Any) -> None:
        self._transfer = ExitStack()
        self._transfer.enter_context(_transfer())
        super().__init__(part, **options)

    def close(self) -> None:
        """The last byte is out, or the client gone."""
        super().close()
        self._transfer.close()


def file(request: Request, opened: File[bytes], size: int, etag: str, **headers: Any) -> HttpResponseBase:
    """A file of ``size`` bytes or the one range that was asked for (RFC 9110, section 14); closes it in the end.

    Raises nothing: a range that has no byte of the file is answered with 416.
    """
    start, end, status = 0, size - 1, 200
    asked = request.headers.get("Range", "")
    if asked and request.headers.get("If-Range", etag) == etag:
        try:
            if found := ranges.of_download(asked, size):
                (start, end), status = found, 206
        except ranges.Unsatisfiable:
            opened.close()
            return empty(416, Content_Range=f"bytes */{size}")
    reply: HttpResponseBase
    if request.method == "HEAD":
        opened.close()
        reply = HttpResponse(status=status, headers=named(headers))
    else:
        reply = FileReply(Part(opened, start, end - start + 1), status=status, headers=named(headers))
    if status == 206:
        reply.headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    reply.headers["Accept-Ranges"] = "bytes"
    reply.headers["Content-Disposition"] = "attachment"
    reply.headers["Content-Length"] = str(end - start + 1)
    reply.headers["Content-Type"] = media_types.BLOB
    reply.headers["ETag"] = etag
    return reply
