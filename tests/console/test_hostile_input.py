"""Whatever stands in an address or a form of the console: an answer for a person, never a failure of ours."""

from __future__ import annotations

import base64
from urllib.parse import quote
from uuid import UUID

import pytest

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
    *(f"/projects/demo/history?{name}={{}}" for name in ("before", "after", "since", "until", "tag", "who", "action")),
    *(f"/projects/demo/recovery?{name}={{}}" for name in ("q", "kind", "after", "before")),
    *(f"{WEB}?{name}={{}}" for name in ("q", "sort", "after", "before")),
    *(f"{APP}?{name}={{}}" for name in ("q", "sort", "after", "before")),
    *(f"{APP}-/tag-history?{name}={{}}" for name in ("tag", "before")),
    *("/search?q={}", "/projects/{}/", f"{WEB}{{}}/", f"{APP}-/manifests/{{}}", "/projects/demo/repositories/?q={}"),
    *(f"{WEB}-/history?tag={{}}", f"{WEB}-/cleanup/runs/{{}}", "/projects/demo/history/undo?hours=24&who={}"),
)
FORMS = (
    *(("/projects/demo/recovery/restore", {"deletion": "{}"}), ("/projects/demo/recovery/{}/hold", {"on": "yes"})),
    *(("/projects/demo/recovery/{}/purge", {"typed": "x"}), (f"{WEB}-/images/delete", {"image": "{}", "typed": "x"})),
    *((f"{WEB}-/permissions", {"email": "{}", "role": ""}), (f"{WEB}-/permissions", {"act": "add", "email": "{}"})),
    *((f"{APP}-/tags/delete", {"tag": "{}", "act": "delete"}), (f"{APP}-/tags/add", {"tag": "{}", "digest": "{}"})),
    *(
        (f"{WEB}-/cleanup", {"keep_last": "{}", "keep_patterns": "{}", "act": "save"}),
        (f"{WEB}-/delete", {"typed": "{}"}),
    ),
    *((f"{WEB}-/settings", {"description": "{}", "seen": "{}"}), (f"{APP}-/settings", {"expires_on": "{}"})),
    *((f"{VULNERABILITIES}/accept?vulnerability=CVE-2026-1", ACCEPT | {"ends_on": "{}"}),),
    *((f"{VULNERABILITIES}/accept?vulnerability=CVE-2026-1", ACCEPT | {"reason": "{}"}),),
    *(("/projects/demo/scans/acceptances", {"acceptance": "{}"}), ("/projects/demo/scans/", RETRY)),
    *(
        ("/profile/keys/new", {"name": "a", "form_id": str(UUID(int=1)), "expires_on": "{}"}),
        ("/profile/keys/new", NAMED),
    ),
    *(("/projects/demo/repositories/new", {"name": "{}"}), ("/projects/demo/members", {"act": "add", "email": "{}"})),
    *(("/projects/demo/collection", {"act": "{}"}), ("/projects/demo/history/undo", {"who": "{}", "hours": "{}"})),
)


@pytest.fixture
def browser(console, scanned):
    return console("admin", raise_request_exception=False)


@pytest.mark.parametrize("value", VALUES)
def test_any_text_in_any_address(browser, value):
    text = VALUES[value] if value == "a lone surrogate" else quote(VALUES[value])
    statuses = {address: browser.get(address.replace("{}", text)).status_code for address in ADDRESSES}
    assert {address: status for address, status in statuses.items() if status >= 500} == {}
    if "NUL" in value:
        assert set(statuses.values()) <= {400, 404}


@pytest.mark.parametrize("value", VALUES)
def test_any_text_in_any_form(browser, value):
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
def test_a_cursor_that_nobody_was_given_is_the_first_page(browser, cursor):
    text = base64.urlsafe_b64encode(CURSORS[cursor].encode()).decode()
    statuses = {
        (address, sort, side): browser.get(address, {"all": "1", "sort": sort, side: text}).status_code
        for address, sorts in LISTS.items()
        for sort in sorts
        for side in ("after", "before")
    }
    assert {where: status for where, status in statuses.items() if status != 200} == {}


@pytest.mark.parametrize("zone", ["Asia/Seoul", "America/New_York", "Pacific/Kiritimati"])
def test_the_end_of_time_is_on_no_calendar(console, scanned, world, zone):
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
        assert browser.get("/projects/demo/history", {"since": day, "until": day}).status_code == 200


def test_nobody_fills_the_disk_with_a_form(console, db, tmp_path, settings):
    """A file that no form takes is not kept while it comes in."""
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    with (tmp_path / "large").open("wb+") as file:
        file.truncate(1_100_000)
        for address in ("/sign-in", "/nothing-here", "/notices/unsubscribe/x"):
            file.seek(0)
            assert console(None).post(address, {"file": file}).status_code == 413
    assert console(None).post("/sign-in", {"email": "x" * 900_000, "password": "x"}).status_code == 200
