"""Bodies and headers of requests and answers. Only this module reads a request's input, up to a given limit."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from django.urls import reverse
from django.utils.http import http_date, parse_etags

from accounts.networks import network_of
from registry import errors
from registry.oci import documents
from registry.server.shares import NoShare, Shares

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from django.http import HttpRequest


BLOCK = 1024 * 1024
SMALL_BLOCK = 32 * 1024
MAX_FORM = 64 * 1024
MAX_NUMBER_DIGITS = 9
MAX_TEXT = 255

# Threads that read bodies. The server limits them by network address; this limits them by user, on all addresses.
TRANSFERS = Shares(settings.WEB_THREADS - settings.WEB_THREADS // 8, settings.WEB_THREADS // 4)


def body(request: HttpRequest, block_size: int = BLOCK) -> Iterator[bytes]:
    """The request's body, in blocks of at most 1 MiB, with or without Content-Length.

    Reads the server's stream: Django's ``read()`` returns nothing for a chunked body, and no error for one that is cut
    off. Raises SizeInvalid (the client stops early or sends too slowly), TooManyRequests (the user sends too many
    bodies at once).
    """
    stream, left = request.META["wsgi.input"], declared_length(request)
    if left is None and not request.META.get("wsgi.input_terminated"):
        return
    with transfer(request):
        yield from _blocks(stream, left, block_size)


def _blocks(stream: Any, left: int | None, block_size: int) -> Iterator[bytes]:
    read = getattr(stream, "read1", stream.read)  # that of our server returns what has arrived
    while left is None or left > 0:
        try:
            block = read(block_size if left is None else min(block_size, left))
        except NoShare as error:
            raise _too_many() from error
        except Exception as error:  # servers raise different exceptions for a body that breaks off
            raise errors.SizeInvalid("the body broke off") from error
        if not block:
            break
        if left is not None:
            left -= len(block)
        yield block
    if left:
        raise errors.SizeInvalid(f"the body ended {left} bytes early")


def declared_length(request: HttpRequest) -> int | None:
    """Content-Length in bytes; None for a chunked body."""
    text = request.META.get("CONTENT_LENGTH") or ""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise errors.SizeInvalid("Content-Length is not a number")
    return int(text)


def bounded_body(request: HttpRequest, limit: int) -> bytes | None:
    """The whole body, or None when it is longer than ``limit`` bytes; reads at most one block more."""
    if (declared_length(request) or 0) > limit:
        return None
    content = bytearray()
    for block in body(request, SMALL_BLOCK):
        content += block
        if len(content) > limit:
            return None
    return bytes(content)


def manifest_body(request: HttpRequest) -> bytes:
    """A manifest's bytes. Raises ManifestTooLarge, SizeInvalid."""
    content = bounded_body(request, documents.MAX_BYTES)
    if content is None:
        raise errors.ManifestTooLarge
    return content


def page_size(request: HttpRequest, default: int, maximum: int) -> int:
    """The ``n`` parameter, clamped to ``maximum``. Raises RequestInvalid for anything but ASCII digits."""
    text = request.GET.get("n")
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS):
        raise errors.RequestInvalid(f"n must be a number of at most {MAX_NUMBER_DIGITS} digits")
    return min(int(text), maximum)


def text(request: HttpRequest, name: str) -> str:
    """A parameter that is compared with stored text. Raises RequestInvalid for text that cannot be stored."""
    value = request.GET.get(name, "")
    if len(value) > MAX_TEXT or "\0" in value:
        raise errors.RequestInvalid(f"{name} must have at most {MAX_TEXT} characters")
    return value


def next_link(route: str, arguments: dict[str, Any], **parameters: Any) -> dict[str, str]:
    """The Link header to the next page of a list (RFC 8288)."""
    query = urlencode({key: value for key, value in parameters.items() if value != ""})
    return {"Link": f'<{reverse(route, kwargs=arguments)}?{query}>; rel="next"'}


def has_already(request: HttpRequest, etag: str) -> bool:
    """Whether If-None-Match names this ETag (RFC 9110, section 13.1.2)."""
    sent = request.META.get("HTTP_IF_NONE_MATCH")
    return sent is not None and any(tag in {"*", etag} for tag in (tag.removeprefix("W/") for tag in parse_etags(sent)))


def date(moment: datetime) -> str:
    """A date of HTTP (RFC 9110, section 5.6.7), in whole seconds; never one of the future."""
    return _date(int(min(moment.timestamp(), time.time())))


@lru_cache(maxsize=1024)
def _date(seconds: int) -> str:
    return http_date(seconds)


def empty(status: int, **headers: Any) -> HttpResponse:
    """Return a response without a body. Header names have underscores for hyphens.

    The caller gives a 304 the Content_Length of the body that is not sent (RFC 9110, section 8.6).
    """
    response = HttpResponse(status=status, headers={"Content-Length": "0"} | named(headers))
    del response.headers["Content-Type"]
    return response


def content(request: HttpRequest, data: bytes, media_type: str, **headers: Any) -> HttpResponse:
    """Return a response with these bytes; for HEAD without them, but the same headers."""
    response = HttpResponse(b"" if request.method == "HEAD" else data, content_type=media_type)
    put(response, {**named(headers), "Content-Length": str(len(data))})
    return response


def put(response: HttpResponse, headers: dict[str, str]) -> None:
    """Set headers without Django's check of each for line feeds and other character sets: the server refuses both.

    ``_store`` is Django's table of (name, value) by the name in small letters.
    """
    response.headers._store.update({name.lower(): (name, value) for name, value in headers.items()})


def json(data: Any, **headers: Any) -> JsonResponse:
    """Return a JSON response."""
    return JsonResponse(data, headers=named(headers))


def named(headers: dict[str, Any]) -> dict[str, str]:
    """Headers by their real names: ``Docker_Content_Digest`` becomes Docker-Content-Digest."""
    return {name.replace("_", "-"): str(value) for name, value in headers.items()}


@contextmanager
def transfer(request: HttpRequest) -> Iterator[None]:
    """Hold one of the user's transfers for the block. Raises TooManyRequests when the user holds too many already."""
    actor = getattr(request, "actor", None)
    user = getattr(actor, "user_id", None) or network_of(request.META.get("REMOTE_ADDR", ""))
    with TRANSFERS.taken(user) as is_taken:
        if not is_taken:
            raise _too_many()
        yield


def _too_many() -> errors.TooManyRequests:
    return errors.TooManyRequests("too many uploads at once: wait a little", detail={"seconds": 5})
