"""Logs: they contain no secret of a link, and warn about wrong settings."""

from __future__ import annotations

import io
import json
import logging
import re
from datetime import date
from ipaddress import ip_network
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
from django.contrib.auth.tokens import default_token_generator
from django.core import mail
from django.db import OperationalError
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from accounts import mails, organizations
from accounts import tasks as accounts_tasks
from accounts.actors import SYSTEM
from accounts.models import OrganizationRole
from console.views.accounts import password
from registry import middleware
from registry.logs import SECRET_ARGUMENTS, JsonFormatter, Once
from registry.v2 import errors
from scanning.models import Recipient
from scanning.notifications import recipients
from tests.support.factories import subscribe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PUBLIC_ARGUMENTS = {
    *("project", "repository", "image", "organization", "name", "reference", "digest", "upload"),
    *("run", "subscription", "delivery", "deletion", "event", "uid", "identifier", "acceptance", "what"),
    *("account", "email", "issuer", "notification", "number", "rule", "scan", "tag"),
}
SECRET = "a-secret-that-opens-something"


def routes(resolver: URLResolver, names: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Return the name and arguments of every route."""
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, (*names, pattern.namespace) if pattern.namespace else names)
        else:
            yield ":".join((*names, str(pattern.name))), arguments_of(pattern, resolver)


def arguments_of(*parts: URLPattern | URLResolver) -> set[str]:
    found: set[str] = set()
    for part in parts:
        found |= set(part.pattern.regex.groupindex)
    return found


SECRET_ROUTES = {name: arguments for name, arguments in routes(get_resolver()) if arguments & SECRET_ARGUMENTS}


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """Return the lines that the configured handler has written since the last call."""
    (handler,) = (each for each in logging.getLogger().handlers if isinstance(each.formatter, JsonFormatter))
    written = io.StringIO()
    former = handler.setStream(written)

    def read() -> str:
        said = written.getvalue()
        written.seek(0)
        written.truncate()
        return said

    yield read
    handler.setStream(former)


def browser() -> Client:
    return Client(SERVER_NAME="localhost", SERVER_PORT="8080", enforce_csrf_checks=True, raise_request_exception=False)


def test_every_argument_of_a_route_is_known_to_be_public_or_secret():
    found = {name: arguments - PUBLIC_ARGUMENTS - SECRET_ARGUMENTS for name, arguments in routes(get_resolver())}
    assert {name: arguments for name, arguments in found.items() if arguments} == {}, "name a secret argument `token`"
    assert {"console:password_link", "console:unsubscribe"} <= SECRET_ROUTES.keys()


@pytest.mark.parametrize("name", SECRET_ROUTES)
def test_the_route_is_logged_instead_of_the_secret(db, logged, name):
    path = reverse(name, kwargs=dict.fromkeys(SECRET_ROUTES[name], "MQ") | {"token": SECRET})
    answer = browser().get(path)
    said = logged()
    assert SECRET not in said
    assert "token>" in said
    assert answer.headers["Referrer-Policy"] == "strict-origin"


@pytest.mark.parametrize("name", SECRET_ROUTES)
def test_secret_of_a_request_that_is_refused_before_its_route_is_known_is_not_logged(db, logged, name):
    path = reverse(name, kwargs=dict.fromkeys(SECRET_ROUTES[name], "MQ") | {"token": SECRET})
    assert Client(SERVER_NAME="evil.test").get(path).status_code == 400
    assert browser().post(path, b"x" * 3_000_000, content_type="text/plain").status_code == 413
    said = logged()
    assert SECRET not in said
    assert said.count("token>") >= 2


def open_the_password_link(world) -> tuple[str, str]:
    mails.send_password_link(world.member.user)
    (path,) = re.findall(r"http://localhost:8080(/password/new/\S+)", mail.outbox[-1].body)
    return path, path.rpartition("/")[2]


def open_the_way_out(world) -> tuple[str, str]:
    made = subscribe(world.projects["demo"])
    path = recipients.unsubscribe_link(made.pk, made.recipients[0]).removeprefix("http://localhost:8080")
    return path, path.rpartition("/")[2]


def open_the_invitation(world) -> tuple[str, str]:
    organization = world.projects["demo"].organization
    invited = organizations.invite(SYSTEM, organization, "new@other.test", OrganizationRole.MEMBER)
    accounts_tasks.send_invitation(invited.pk)
    (path,) = re.findall(r"http://localhost:8080(/invitations/\S+)", mail.outbox[-1].body)
    return path, path.rpartition("/")[2]


def open_the_question(world) -> tuple[str, str]:
    row = Recipient.objects.create(project=world.projects["demo"], address="sam@elsewhere.test")
    path = recipients.link(row).removeprefix("http://localhost:8080")
    return path, path.rpartition("/")[2]


LINKS = {
    "console:password_link": open_the_password_link,
    "console:unsubscribe": open_the_way_out,
    "console:invitation_link": open_the_invitation,
    "console:confirm_notifications": open_the_question,
}


def test_each_link_is_used_in_these_tests():
    assert LINKS.keys() == SECRET_ROUTES.keys()


@pytest.mark.parametrize("name", LINKS)
def test_working_links_are_not_logged(world, logged, name):
    """Links are opened, used, used twice, damaged by a mail program, sent to another host, and refused for body or method."""
    path, token = LINKS[name](world)
    host_of_a_project = {"host": "demo.kr-central-2.kcr.localhost:8080"}
    visitor = browser()
    spoiled = (f"{path}/", f"/{path}", f"{path}/x", f"/x{path}", f"{path})", f"{path}%3E", f"{path}%0A", f"/v2x{path}")
    statuses = [
        *(visitor.get(each).status_code for each in (*spoiled, path)),
        visitor.head(path).status_code,
        visitor.get(path, headers=host_of_a_project).status_code,
        visitor.options(path).status_code,
        visitor.delete(path).status_code,
        visitor.generic("POST", path, b"x" * 1_000_001).status_code,
        visitor.generic("POST", path, b"x", headers={"Transfer-Encoding": "chunked"}).status_code,
        visitor.post(path, {"a": "\0"}).status_code,
        visitor.post(path).status_code,
        visitor.get(path, headers={"host": "evil.test"}).status_code,
    ]
    assert {404, 405, 411, 413} <= set(statuses)
    said = logged()
    assert said.count("registry.access") == len(statuses)
    for secret in (token, quote(token), token[-16:]):
        assert secret not in said


@pytest.mark.parametrize("added", ["", "é"])
def test_server_errors_and_refused_forms_log_no_secret(world, logged, monkeypatch, added):
    """Django's own log records contain the path of the request, with escapes for letters that are not ASCII."""
    path, token = open_the_password_link(world)
    path += added

    def fail(*given: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(password, "_user_of_link", fail)
    assert browser().get(path).status_code == 503
    assert browser().post(path).status_code == 403
    said = logged()
    assert "Service Unavailable" in said
    assert "Forbidden" in said
    assert said.count("/password/new/<str:uid>/<str:token>") == 4
    assert token not in said


def test_password_page_has_an_address_without_the_token(world, logged):
    path, token = open_the_password_link(world)
    visitor = browser()
    answer = visitor.get(path)
    assert (answer.status_code, answer.url) == (302, "/password/new")
    cookie = visitor.cookies["kcr_password_link"]
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/password/new", True, "Lax")
    page = visitor.get(answer.url)
    assert page.status_code == 200
    assert token not in page.content.decode()
    assert default_token_generator.check_token(world.member.user, token), "it was not used by looking"
    assert Client().get("/password/new").status_code == 410


def test_path_without_a_secret_is_logged_unchanged(world, logged):
    browser().get("/projects/demo/repositories/web/app/-/manifests/1.0")
    browser().get("/.well-known/nothing")
    said = logged()
    assert "GET /projects/demo/repositories/web/app/-/manifests/1.0 302" in said
    assert "GET /.well-known/nothing 404" in said


HOSTILE = [
    '"',
    "\\",
    "\n",
    "\r\n",
    "\x00",
    "\x1b[31m",
    '", "level": "error',
    "한국어",
    "\u2028",
    "\U0001f433",
    "\x7f",
    "\ud800",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_line_is_one_json_object_whatever_a_client_sends(text):
    record = logging.makeLogRecord({"name": "registry.access", "levelname": "INFO", "msg": f"GET /v2/{text} 404"})
    record.__dict__ |= {"host": text, "milliseconds": 0.1, text: 1, "id": 7, "at": date(2026, 9, 1), "none": None}
    line = JsonFormatter().format(record)
    assert not re.search(r"[\x00-\x1f]", line)
    read = json.loads(line)
    assert (read["message"], read["host"], read[text]) == (f"GET /v2/{text} 404", text, 1)
    assert (read["milliseconds"], read["id"], read["at"], read["none"]) == (0.1, 7, "2026-09-01", None)
    assert read["level"] == "info"


def test_an_answered_request_is_one_line(world, logged):
    """A path with a line feed and quotes makes no second line and no further field."""
    browser().get('/v2/a%0A{"level": "error"}/manifests/1', headers={"user-agent": "x\ny", "host": "localhost:8080"})
    (line,) = logged().splitlines()
    read = json.loads(line)
    assert read.keys() == {"time", "level", "logger", "message", "request_id", "milliseconds", "address", "host"}
    assert read["message"] == 'GET /v2/a\n{"level": "error"}/manifests/1 401'
    assert (read["level"], read["logger"], read["host"]) == ("info", "registry.access", "localhost:8080")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", read["time"])


# ── Warnings about settings ──────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def warnings(monkeypatch, caplog) -> Callable[[], list[str]]:
    """Return the warnings about settings of a process that has logged none before."""
    monkeypatch.setattr(errors, "unknown_hosts", Once(20))
    for name in ("proxies", "origins"):
        monkeypatch.setattr(middleware, name, Once(10))
    for name in ("schemes_missing", "schemes_plain", "forwarding_missing"):
        monkeypatch.setattr(middleware, name, Once(1))
    found = ("registry.v2.errors", "registry.access")
    return lambda: [line.getMessage() for line in caplog.records if line.levelname == "WARNING" and line.name in found]


@pytest.mark.parametrize("path", ["/v2/", "/v2/demo/web/app/tags/list", "/token", "/", "/sign-in", "/static/none.css"])
def test_unknown_host_is_logged_once_with_the_settings_to_change(db, warnings, path):
    for _ in range(3):
        assert browser().get(path, headers={"host": "registry.corp.test:5000"}).status_code in {400, 404}
    (warning,) = warnings() or [""]
    for word in ("'registry.corp.test:5000'", "KCR_PUBLIC_URL (http://localhost:8080)", "KCR_ALLOWED_HOSTS", "proxy"):
        assert word in warning
    assert browser().get("/sign-in").status_code == 200
    browser().get(path, headers={"host": "other.corp.test"})
    assert len(warnings()) == 2


def test_unknown_hosts_in_the_log_are_limited(db, warnings):
    for number in range(50):
        browser().get("/v2/", headers={"host": f"h{number}.{'x' * 500}.test\n"})
    assert len(warnings()) == 20
    assert all("\n" not in warning and len(warning) < 500 for warning in warnings())


@pytest.mark.parametrize("language", ["en", "ko"])
def test_page_for_an_unknown_host_reveals_no_host_name(db, settings, language):
    settings.ALLOWED_HOSTS = ["registry.example.com"]
    answer = browser().get("/sign-in", headers={"host": "registry.corp.test", "accept-language": language})
    page = answer.content.decode()
    assert answer.status_code == 400
    assert "<h1>Unknown host name</h1>" in page or language == "ko"
    assert f'lang="{language}"' in page
    assert "example.com" not in page
    for sheet in re.findall(r'href="(/static/[^"]+)"', page):
        found = browser().get(sheet, headers={"host": "registry.corp.test"})
        found.close()
        assert found.status_code == 200, sheet


def test_malformed_request_gets_another_page(db):
    answer = browser().get("/sign-in?next=%00")
    assert answer.status_code == 400
    assert "<h1>Unreadable address</h1>" in answer.content.decode()


def test_untrusted_proxy_is_logged_once(db, warnings, settings):
    said = {"X-Forwarded-For": "198.51.100.1"}
    for address, headers in (
        *[("10.0.0.5", said)] * 3,
        ("10.0.0.6", {}),
        ("1.1.1.1", said),  # a client that sends the header itself
        ("unix:", said),
    ):
        browser().get("/v2/", headers=headers, REMOTE_ADDR=address)
    (warning,) = warnings()
    assert "10.0.0.5 sends X-Forwarded-For" in warning
    assert "KCR_TRUSTED_PROXIES" in warning
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.8/32")]
    browser().get("/v2/", headers=said, REMOTE_ADDR="10.0.0.8")
    assert len(warnings()) == 1


def test_http_behind_an_https_address_is_logged_once_for_each_cause(db, warnings, settings):
    settings.PUBLIC = urlsplit("https://localhost:8080")
    settings.PUBLIC_URL, settings.IS_HTTPS = "https://localhost:8080", True
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.8/32")]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    client, proto = {"X-Forwarded-For": "198.51.100.1"}, "X-Forwarded-Proto"
    for path in ("/healthz", "/readyz"):  # asked by a load balancer, without TLS
        browser().get(path, headers=client, REMOTE_ADDR="10.0.0.8")
        browser().get(path, REMOTE_ADDR="10.0.0.7")
    browser().get("/v2/", headers={**client, proto: "https"}, REMOTE_ADDR="10.0.0.8")
    browser().get("/v2/", REMOTE_ADDR="1.1.1.1")  # a stranger
    browser().get("/v2/", headers={"Host": "127.0.0.1:8080"}, REMOTE_ADDR="10.0.0.7")  # inside, by another name
    assert warnings() == []
    for _ in range(2):
        browser().get("/v2/", headers=client, REMOTE_ADDR="10.0.0.8")
        browser().get("/v2/", headers={**client, proto: "http"}, REMOTE_ADDR="10.0.0.8")
        browser().get("/v2/", headers={"Host": "localhost:8080"}, REMOTE_ADDR="10.0.0.7")
        browser().get("/v2/", headers={"Host": "localhost:8080"}, REMOTE_ADDR="10.0.0.6")
    missing, plain, untrusted = warnings()
    assert "10.0.0.8 sends no X-Forwarded-Proto" in missing
    assert "KCR_PUBLIC_URL" in missing
    assert "clients of the proxy 10.0.0.8 use http" in plain
    assert "10.0.0.7 asks" in untrusted
    assert "KCR_TRUSTED_PROXIES" in untrusted


def test_a_form_from_another_address_of_the_console_is_logged_once(db, warnings, settings):
    """This happens when a proxy ends TLS and KCR_PUBLIC_URL begins with http://."""
    for origin, host in (
        *[("https://localhost:8080", "localhost:8080")] * 3,
        ("https://evil.test", "localhost:8080"),  # another site
        ("null", "localhost:8080"),
    ):
        answer = browser().post("/sign-in", {"email": "x"}, headers={"origin": origin, "host": host})
        assert answer.status_code == 403
    (warning,) = warnings()
    assert "a form from 'https://localhost:8080' was refused" in warning
    assert "KCR_PUBLIC_URL, which is http://localhost:8080" in warning


def test_missing_role_is_not_logged_as_a_setting(world, warnings, settings):
    settings.PUBLIC_URL = "https://localhost:8080"
    viewer = Client(SERVER_NAME="localhost", SERVER_PORT="8080")
    viewer.force_login(world.reader.user, backend="django.contrib.auth.backends.ModelBackend")
    headers = {"origin": "http://localhost:8080", "host": "localhost:8080"}
    assert viewer.post("/projects/demo/repositories/new", {"name": "new"}, headers=headers).status_code == 403
    assert warnings() == []
