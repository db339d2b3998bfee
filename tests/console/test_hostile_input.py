"""Any text in an address or form of the console is answered with a page, never with a server error."""

from __future__ import annotations

import base64
from urllib.parse import quote
from uuid import UUID

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

pytestmark = pytest.mark.django_db
WEB, APP = "/projects/demo/repositories/web/", "/projects/demo/repositories/web/app/"
VULNERABILITIES = f"{APP}-/manifests/1.0/vulnerabilities"
ACCEPT = {"scope": "project", "packages": "all", "justification": "", "reason": "x", "ends_on": ""}
RETRY = {"act": "retry", "manifest": "{}"}
NAMED = {"name": "{}", "form_id": str(UUID(int=2)), "expires": "90"}
VALUES = {
    "NUL": "\0",
    "a lone surrogate": "%ED%A0%80",
    "a number beyond every id": "9" * 25,
    "a number beyond what Python reads": "9" * 5_000,
    "a digit of another alphabet": "\u0663",
    "the first day": "0001-01-01",
    "the last day": "9999-12-31",
}
ADDRESSES = (
    *(
        f"/projects/demo/audit-log?{name}={{}}"
        for name in ("before", "after", "since", "until", "tag", "who", "action")
    ),
    *(f"/projects/demo/recovery?{name}={{}}" for name in ("q", "kind", "after", "before")),
    *(f"{WEB}?{name}={{}}" for name in ("q", "sort", "after", "before")),
    *(f"{APP}?{name}={{}}" for name in ("q", "sort", "after", "before")),
    *(f"{APP}-/tag-history?{name}={{}}" for name in ("tag", "before")),
    *("/search?q={}", "/projects/{}/", f"{WEB}{{}}/", f"{APP}-/manifests/{{}}", "/projects/demo/repositories/?q={}"),
    *(
        f"/organizations/acme/audit-log?{name}={{}}"
        for name in ("action", "person", "since", "until", "after", "before")
    ),
    *("/projects/demo/keys?q={}", "/projects/demo/keys/{}", "/organizations/acme/keys?q={}", "/invitations/{}"),
    *("/organizations/acme/keys/{}", "/organizations/{}/audit-log", "/profile/activity?after={}"),
    *(f"{WEB}-/audit-log?tag={{}}", f"{WEB}-/cleanup/runs/{{}}", "/projects/demo/undo?hours=24&who={}"),
)
FORMS = (
    *(("/projects/demo/recovery/restore", {"deletion": "{}"}), ("/projects/demo/recovery/{}/hold", {"on": "yes"})),
    *(("/projects/demo/recovery/{}/purge", {"typed": "x"}), (f"{WEB}-/images/delete", {"image": "{}", "typed": "x"})),
    *((f"{WEB}-/permissions", {"email": "{}", "role": ""}), (f"{WEB}-/permissions/add", {"email": "{}"})),
    *((f"{APP}-/tags/delete", {"tag": "{}", "act": "delete"}), (f"{APP}-/tags/add", {"tag": "{}", "digest": "{}"})),
    *(
        (f"{WEB}-/cleanup", {"keep_last": "{}", "keep_patterns": "{}", "act": "save"}),
        (f"{WEB}-/delete", {"typed": "{}"}),
    ),
    *(
        (f"{WEB}-/settings", {"description": "{}", "readme": "{}", "seen": "{}"}),
        (f"{APP}-/settings", {"expires_on": "{}"}),
    ),
    *((f"{VULNERABILITIES}/accept?vulnerability=CVE-2026-1", ACCEPT | {"ends_on": "{}"}),),
    *((f"{VULNERABILITIES}/accept?vulnerability=CVE-2026-1", ACCEPT | {"reason": "{}"}),),
    *(("/projects/demo/scans/acceptances", {"acceptance": "{}"}), ("/projects/demo/scans/", RETRY)),
    *(
        ("/profile/keys/new", {"name": "a", "form_id": str(UUID(int=1)), "expires_on": "{}"}),
        ("/profile/keys/new", NAMED),
    ),
    *(("/projects/demo/repositories/new", {"name": "{}"}), ("/projects/demo/members/add", {"email": "{}"})),
    *(("/organizations/acme/invite", {"email": "{}", "role": "member"}), ("/projects/demo/keys/{}", {})),
    *(("/organizations/acme/", {"act": "withdraw", "email": "{}"}), ("/organizations/acme/keys/{}", {})),
    *(("/projects/demo/garbage-collection", {"act": "{}"}), ("/projects/demo/undo", {"who": "{}", "hours": "{}"})),
)


@pytest.fixture
def browser(console, scanned):
    return console("owner", raise_request_exception=False)


@pytest.mark.parametrize("value", VALUES)
def test_any_text_in_an_address_is_answered_without_a_failure(browser, value):
    text = VALUES[value] if value == "a lone surrogate" else quote(VALUES[value])
    statuses = {address: browser.get(address.replace("{}", text)).status_code for address in ADDRESSES}
    assert {address: status for address, status in statuses.items() if status >= 500} == {}
    if "NUL" in value:
        assert set(statuses.values()) <= {400, 404}


@pytest.mark.parametrize("value", VALUES)
def test_any_text_in_a_form_is_answered_without_a_failure(browser, value):
    wrong = {}
    for path, fields in FORMS:
        filled = {name: text.replace("{}", VALUES[value]) for name, text in fields.items()}
        status = browser.post(path.replace("{}", quote(VALUES[value])), filled).status_code
        if status >= 500 or ("NUL" in value and status not in {400, 404}):
            wrong[path] = status
    assert wrong == {}


LISTS = {
    "/": ("place",),
    "/projects/demo/repositories/": ("name", "size", "modified"),
    WEB: ("pushed", "name"),
    APP: ("",),
    "/projects/demo/members": ("",),
    "/projects/demo/keys": ("",),
    "/organizations/acme/keys": ("",),
    "/organizations/acme/audit-log": ("",),
    "/profile/activity": ("",),
    "/projects/demo/scans/log": ("",),
}
CURSORS = {
    "infinite": "[Infinity, 1]",
    "not a number": "[NaN, 1]",
    "an infinite id": '["a", Infinity]',
    "beyond every column": "[1e300, 1]",
    "a lone surrogate": '["\\ud800", 1]',
    "NUL": '["a\\u0000", 1]',
    "before the first day": '["0001-01-01T00:00:00+14:00", 1]',
    "after the last day": '["9999-12-31T23:59:59-14:00", 1]',
    "deep": "[" * 2900,
    "something else": '{"a": [1]}',
}


@pytest.mark.parametrize("cursor", CURSORS)
def test_unknown_cursor_shows_the_first_page(browser, cursor):
    text = base64.urlsafe_b64encode(CURSORS[cursor].encode()).decode()
    statuses = {
        (address, sort, side): browser.get(address, {"all": "1", "sort": sort, side: text}).status_code
        for address, sorts in LISTS.items()
        for sort in sorts
        for side in ("after", "before")
    }
    assert {where: status for where, status in statuses.items() if status != 200} == {}


@pytest.mark.parametrize("zone", ["Asia/Seoul", "America/New_York", "Pacific/Kiritimati"])
def test_times_beyond_the_calendar_are_refused(console, scanned, world, zone):
    world.member.user.time_zone = zone
    world.member.user.save()
    browser = console("member")
    for day in ("0001-01-01", "1999-12-31", "9000-01-01", "9999-12-31"):
        for path, fields in (
            (f"{APP}-/settings", {"expires_on": day}),
            (f"{VULNERABILITIES}/accept?vulnerability=CVE-2026-1", ACCEPT | {"ends_on": day}),
            ("/profile/keys/new", {"name": "a", "form_id": str(UUID(int=1)), "expires_on": day}),
        ):
            page = browser.post(path, fields)
            assert page.status_code == 200
            assert "A year from 2000 to 8999." in page.content.decode(), path
    for day in ("2000-01-01", "8999-12-31"):
        assert browser.get("/projects/demo/audit-log", {"since": day, "until": day}).status_code == 200


EVERYWHERE = (
    *("/sign-in", "/nothing-here", "/notices/unsubscribe/x", "/projects/demo/members", "/", "/static/base.css"),
    *("/healthz", "/readyz", "/token", "/healthz/x", "/tokens", "/v2x", "/v2.", "//v2/"),
)


@pytest.mark.parametrize("address", EVERYWHERE)
def test_invalid_form_body_is_refused_before_it_is_read(console, db, tmp_path, settings, address):
    """The body is too large or has no length. The check covers every path but those below /v2."""
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    browser = console(None, enforce_csrf_checks=True)
    browser.cookies["csrftoken"] = "a" * 32  # Django parses the form to look for the token that belongs to this cookie
    file = SimpleUploadedFile("large", bytes(1_100_000))
    form = {"data": encode_multipart(BOUNDARY, {"file": file}), "content_type": MULTIPART_CONTENT}
    for method in ("POST", "PUT"):
        assert browser.generic(method, address, **form).status_code == 413
        assert browser.generic(method, address, b"a=b", CONTENT_LENGTH="1" * 25).status_code == 413
        assert browser.generic(method, address, b"a=b", CONTENT_LENGTH="+5").status_code == 400
        chunked = browser.generic(method, address, b"a=b", headers={"Transfer-Encoding": "chunked"})
        assert chunked.status_code == 411
    assert list(tmp_path.iterdir()) == []


def test_a_large_form_of_the_permitted_size_is_read(console, db):
    assert console(None).post("/sign-in", {"email": "x" * 900_000, "password": "x"}).status_code == 200


def test_a_file_in_a_form_is_dropped_and_its_fields_are_read(console, world, tmp_path, settings):
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    file = SimpleUploadedFile("a.txt", b"x" * 500_000)
    answer = console("member").post("/profile", {"name": "Mina", "file": file, "time_zone": "Asia/Seoul"})
    assert answer.status_code == 302
    assert (answer.wsgi_request.FILES, list(tmp_path.iterdir())) == ({}, [])
    world.member.user.refresh_from_db()
    assert (world.member.user.name, world.member.user.time_zone) == ("Mina", "Asia/Seoul")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_asked_by_get_and_head_only_and_no_body_is_parsed(console, path):
    browser = console(None, enforce_csrf_checks=True)
    assert [browser.get(path).status_code, browser.head(path).status_code] == [200, 200]
    for method in ("post", "put", "patch", "delete", "options"):
        answer = getattr(browser, method)(path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("prefix", ["/v2", "/token", "/healthz", "/x", "/v2/"])
def test_script_name_header_does_not_change_paths(console, db, prefix):
    """gunicorn reads SCRIPT_NAME from a header of trusted proxies. Pages and limits must not depend on it."""
    page = console(None).get("/sign-in", SCRIPT_NAME=prefix)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert page.headers["Cache-Control"] == "no-store"
    assert f'"{prefix}/' not in page.content.decode()
    large = console(None).post("/sign-in", {"email": "x" * 1_100_000}, SCRIPT_NAME=prefix)
    assert large.status_code == 413
    host = {"host": "demo.kr-central-2.kcr.localhost:8080"}
    elsewhere = console(None).get("/sign-in", SCRIPT_NAME=prefix, headers=host)
    assert (elsewhere.status_code, elsewhere.url) == (302, "http://localhost:8080/sign-in")
