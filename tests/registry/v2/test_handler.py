"""The short way of a request to the registry API does what the way of pages does, as far as the API needs it."""

from __future__ import annotations

import io
import logging
from wsgiref.util import FileWrapper

import pytest
from django.core.signals import request_finished, request_started
from django.db import connection
from django.http import HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware
from django.test import RequestFactory
from django.urls import resolve

from registry.middleware import is_registry_api
from registry.v2 import handler
from registry.v2.catalog import RootView
from registry.wsgi import application
from tests.support.docker_client import BARE_HOST
from tests.support.images import Image, sha256

LAYER = b"a layer" * 100
PATHS = [
    *("/v2", "/v2/", "/v2/_catalog", "/v2/demo/web/app/tags/list", "/v2/demo/web/app/manifests/1.0", "/token"),
    *("/v2/demo/web/app/blobs/uploads/", "/v2/demo/web/app/blobs/uploads/x", "/v2/demo/web/app/blobs/sha256:0"),
    *("/v2/demo/web/app/referrers/sha256:0", "/v2/a/b/manifests/c/manifests/d", "/v2/nothing", "/v2/%0A", "/v2/\n/x"),
]


def ask(path: str, method: str = "GET", **environ: object) -> tuple[str, dict[str, str], object]:
    """Ask the WSGI application; return status, headers and the unread answer."""
    said: list[object] = []
    request = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8080",
        "REMOTE_ADDR": "10.0.0.1",
        "HTTP_HOST": BARE_HOST,
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.file_wrapper": FileWrapper,
        **environ,
    }
    result = application(request, lambda *started: said.extend(started))
    return str(said[0]), dict(said[1]), result  # type: ignore[call-overload]


@pytest.mark.parametrize("path", PATHS)
def test_every_route_is_that_of_the_url_configuration(path):
    assert is_registry_api(path)
    found, named = handler.ROUTES.resolve(path), resolve(path)
    assert (found.view_name, found.kwargs) == (named.view_name, named.kwargs)


@pytest.mark.parametrize("path", ["/", "/v2x", "/V2/", "/v21/", "/token/", "/tokens", "//v2/", "/healthz"])
def test_other_paths_are_pages(path):
    assert not is_registry_api(path)


@pytest.mark.parametrize("seconds", [0, 31_536_000])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_headers_are_those_that_pages_get(settings, scheme, seconds):
    settings.SECURE_HSTS_SECONDS = seconds

    def respond(request):
        return HttpResponse(b"content")

    request = RequestFactory().get("/v2/", secure=scheme == "https")
    of_pages = SecurityMiddleware(XFrameOptionsMiddleware(respond))(request).headers
    answered = handler.HeadersMiddleware(respond)(request).headers
    assert dict(answered) == {**of_pages, "Content-Length": "7"}
    assert ("Strict-Transport-Security" in answered) == (scheme == "https" and seconds > 0)


def test_an_answer_in_memory_is_whole_when_its_headers_are_sent(world, docker):
    status, headers, result = ask("/v2/")
    assert status == "401 Unauthorized"
    assert headers["Content-Type"] == "application/json"
    assert headers["WWW-Authenticate"].startswith('Bearer realm="http://localhost:8080/token"')
    (body,) = result
    assert headers["Content-Length"] == str(len(body))
    assert not hasattr(result, "close"), "nothing is left to be done"


def test_a_blob_is_a_file_for_the_server_and_closed_with_it(docker):
    member = docker("member", BARE_HOST)
    member.push("demo/web/app", "1.0", Image(layers=[LAYER]))
    status, headers, result = ask(
        f"/v2/demo/web/app/blobs/{sha256(LAYER)}", HTTP_AUTHORIZATION=member.basic()["Authorization"]
    )
    assert (status, headers["Content-Length"]) == ("200 OK", str(len(LAYER)))
    assert isinstance(result, FileWrapper)
    opened = result.filelike
    assert b"".join(result) == LAYER
    number = opened.fileno()
    assert number > 0
    result.close()
    with pytest.raises(ValueError, match="closed"):
        opened.fileno()


def test_django_is_told_of_pages_only(world):
    told = []

    def note(**environ: object) -> None:
        told.append(environ["signal"])

    for signal in (request_started, request_finished):
        signal.connect(note)
    try:
        ask("/v2/")
        ask("/token")
        assert told == []
        _, _, page = ask("/healthz")
        page.close()
        assert told == [request_started, request_finished]
    finally:
        for signal in (request_started, request_finished):
            signal.disconnect(note)


def test_kept_connection_is_renewed_before_a_request(monkeypatch):
    steps = []
    monkeypatch.setattr(handler, "renew_connection", lambda: steps.append("renewed"))
    monkeypatch.setattr(handler, "keep_connection", lambda: steps.append("kept"))

    def respond(request):
        steps.append("answered")
        return HttpResponse()

    answered = handler.Handler(respond)
    answered({"REQUEST_METHOD": "GET", "PATH_INFO": "/v2/", "wsgi.input": io.BytesIO()}, lambda *started: None)
    assert steps == ["renewed", "answered", "kept"]


@pytest.mark.parametrize("fails", [False, True])
def test_the_connection_is_kept_or_given_back_after_each_request(world, monkeypatch, fails):
    given = []
    monkeypatch.setattr(handler, "keep_connection", lambda: given.append(connection))
    if fails:
        monkeypatch.setattr(handler, "answer", lambda request: 1 / 0)
        broken = handler.Handler()
        with pytest.raises(ZeroDivisionError):
            broken({"REQUEST_METHOD": "GET", "PATH_INFO": "/v2/", "wsgi.input": io.BytesIO()}, None)
    else:
        ask("/v2/")
    assert len(given) == 1


def test_a_defect_is_answered_in_json_and_logged(world, monkeypatch, caplog):
    monkeypatch.setattr(RootView, "initial", lambda *given: 1 / 0)
    with caplog.at_level(logging.ERROR):
        status, headers, (body,) = ask("/v2/")
    assert status == "500 Internal Server Error"
    assert b'"code": "UNKNOWN"' in body
    assert headers["X-Request-Id"].encode() in body
    assert headers["X-Frame-Options"] == "DENY"
    assert [(line.name, line.levelname) for line in caplog.records] == [
        ("registry.v2.errors", "ERROR"),
        ("django.request", "ERROR"),
    ]


@pytest.mark.parametrize("path", ["/v2/", "/token"])
def test_an_unknown_host_is_refused_before_the_view(world, path, django_assert_num_queries):
    with django_assert_num_queries(0):
        status, headers, (body,) = ask(path, HTTP_HOST="evil.test")
    assert status == "400 Bad Request"
    assert b"NAME_INVALID" in body
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_session_of_the_console_is_no_login_here(world, client):
    client.force_login(world.owner.user, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/v2/_catalog", headers={"host": BARE_HOST}).status_code == 401
    answer = client.post("/token", headers={"host": BARE_HOST})
    assert (answer.status_code, answer.cookies) == (400, {})
