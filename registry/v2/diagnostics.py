"""The address of the connection doctor (``registry.doctor``): what arrives at KCR through the proxy, and when.

It is below /v2/, because a proxy treats these paths differently. It stores nothing and asks the database nothing. Only
a pass opens it (``registry.doctor.passes``), and a process answers a few of these requests at a time, so strangers
cannot use it to hold threads or to send bytes.
"""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.files import File
from django.http import StreamingHttpResponse
from django.urls import reverse

from accounts.actors import ANONYMOUS, Actor
from registry import errors, hosts
from registry.access import Action
from registry.doctor import content, passes
from registry.oci import media_types
from registry.server.clients import is_trusted

from . import downloads, http
from .base import RegistryView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest, HttpResponse, HttpResponseBase

MAX_AT_ONCE = 8  # requests in one process that hold a thread
MAX_BYTES = 64 * 1024 * 1024
MAX_SECONDS = 900
BLOCK = 64 * 1024

_places = threading.BoundedSemaphore(MAX_AT_ONCE)


class DiagnosticsView(RegistryView):
    """``/v2/_diagnostics/<what>``. 401 without a pass."""

    actions: ClassVar = {"GET": Action.PULL, "PATCH": Action.PUSH}

    def find_actor(self, request: HttpRequest) -> tuple[Actor, None] | None:
        """The anonymous actor, for whom no other view does anything, if there is a pass of the doctor."""
        return (ANONYMOUS, None) if passes.is_valid(request.headers.get("Authorization", "")) else None

    def find_host(self, request: HttpRequest) -> hosts.Host:
        """Every host is probed, also one that serves no names."""
        try:
            return super().find_host(request)
        except errors.PathUnknown:
            return hosts.BARE

    def initial(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """Refuse other methods, then ask for the pass."""
        if request.method not in self.actions:
            raise errors.Unsupported
        super().initial(request, *args, **kwargs)

    def get(self, request: HttpRequest, what: str) -> HttpResponseBase:
        """What arrived (``request``), a blob (``blob``), a manifest, a slow answer, or one that comes late."""
        match what:
            case "request":
                return http.json(_seen(request))
            case "blob":
                return downloads.reply(request, File(io.BytesIO(content.BLOB)), len(content.BLOB), content.ETAG)
            case "manifest":
                return http.content(request, content.MANIFEST, media_types.OCI_MANIFEST, ETag=content.ETAG)
            case "slow":
                answer = StreamingHttpResponse(_slowly(), content_type=media_types.BLOB)
                answer.headers["Content-Length"] = str(2 * len(content.PIECE))
                return answer
            case "late":
                seconds = http.page_size(request, 0, MAX_SECONDS)  # ?n=
                with _Place():
                    time.sleep(seconds)
                return http.json({"seconds": seconds})
        raise errors.PathUnknown

    def patch(self, request: HttpRequest, what: str) -> HttpResponse:
        """Count the bytes of a body, and the seconds between its first and its last ones. ``head``: read none."""
        headers = {"Location": reverse("v2:diagnostics", kwargs={"what": "body"})}
        if what == "head":
            return http.json({"declared": http.declared_length(request)}, **headers)
        if what != "body":
            raise errors.PathUnknown
        size, first, last = 0, 0.0, 0.0
        with _Place():
            for block in http.body(request, BLOCK):
                last = time.monotonic()
                first = first or last
                size += len(block)
                if size > MAX_BYTES:
                    raise errors.BlobTooLarge
        return http.json({"bytes": size, "seconds": last - first}, **headers)


class _Place:
    """One of the MAX_AT_ONCE requests that hold a thread. Raises TooManyRequests."""

    def __enter__(self) -> None:
        if not _places.acquire(blocking=False):
            raise errors.TooManyRequests("the doctor runs already", detail={"seconds": 60})

    def __exit__(self, *raised: object) -> None:
        _places.release()


def _seen(request: HttpRequest) -> dict[str, str | int | float | bool]:
    """What KCR knows of the request: ``peer`` is the other end of its connection, ``client`` the client behind it."""
    peer = getattr(request, "peer", "")
    return {
        "scheme": request.scheme or "",
        "host": request.META.get("HTTP_HOST", ""),
        "client": request.META.get("REMOTE_ADDR", ""),
        "peer": peer,
        "peer_port": str(request.META.get("REMOTE_PORT", "")),
        "peer_is_trusted": is_trusted(peer),
        "forwarded_for": bool(request.META.get("HTTP_X_FORWARDED_FOR", "")),
        "forwarded_proto": request.META.get("HTTP_X_FORWARDED_PROTO", "")[:20],
        "time": time.time(),
    }


def _slowly() -> Iterator[bytes]:
    with _Place():
        yield content.PIECE
        time.sleep(content.PAUSE)
        yield content.PIECE
