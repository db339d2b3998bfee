"""Whatever stands in an address or a form of the console: an answer for a person, never a failure of ours."""

from __future__ import annotations

from urllib.parse import quote

import pytest

pytestmark = pytest.mark.django_db
WEB, APP = "/projects/demo/repositories/web/", "/projects/demo/repositories/web/app/"
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
    *((f"{WEB}-/settings", {"description": "{}", "seen": "{}"}), (f"{APP}-/settings", {"expires_at": "{}"})),
    *(("/projects/demo/repositories/new", {"name": "{}"}), ("/projects/demo/members", {"act": "add", "email": "{}"})),
    *(("/projects/demo/collection", {"act": "{}"}), ("/projects/demo/history/undo", {"who": "{}", "hours": "{}"})),
)


@pytest.fixture
def browser(console, pushed):
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
