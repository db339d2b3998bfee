"""Redirects of unrouted addresses: to the likely page, and the same for existing and missing names."""

from __future__ import annotations

import pytest
from django.test import Client

from console import addresses

WEB = "/projects/demo/repositories/web/"
DIGEST = "sha256:" + "ab" * 32
HOST = "demo.kr-central-2.kcr.localhost:8080"

LEADS_TO = {
    # A slash is missing, or one too many is there.
    "/projects/demo": "/projects/demo/",
    "/projects/demo/repositories": "/projects/demo/repositories/",
    "/projects/demo/repositories/web": WEB,
    "/projects/demo/repositories/web/app": f"{WEB}app/",
    "/projects/demo/repositories/web/team/app": f"{WEB}team/app/",
    "/organizations/acme": "/organizations/acme/",
    "/profile/": "/profile",
    "/search/": "/search",
    "/projects/demo/scans/": "/projects/demo/scans",
    "/projects//demo//scans": "/projects/demo/scans",
    # The end is cut off.
    "/projects": "/",
    "/projects/": "/",
    "/organizations/": "/",
    "/organizations/acme/projects": "/organizations/acme/",
    f"{WEB}-": WEB,
    f"{WEB}-/": WEB,
    f"{WEB}-/cleanup/runs/": f"{WEB}-/cleanup",
    f"{WEB}app/-/manifests": f"{WEB}app/",
    f"{WEB}app/-/tags/": f"{WEB}app/",
    "/projects/demo/recovery/12": "/projects/demo/recovery",
    # The page had another name.
    "/projects/demo/notices": "/projects/demo/notifications",
    "/projects/demo/notices/3/edit": "/projects/demo/notifications/3/edit",
    "/projects/demo/history": "/projects/demo/audit-log",
    "/projects/demo/history.csv": "/projects/demo/audit-log.csv",
    "/projects/demo/history/undo": "/projects/demo/undo",
    "/projects/demo/collection/": "/projects/demo/garbage-collection",
    f"{WEB}-/notices/new": f"{WEB}-/notifications/new",
    f"{WEB}app/-/history": f"{WEB}app/-/audit-log",
    # The address of an image.
    "/demo/web": WEB,
    "/demo/web/app": f"{WEB}app/",
    "/demo/web/team/app": f"{WEB}team/app/",
    "/demo/web/app:1.0": f"{WEB}app/-/manifests/1.0",
    f"/demo/web/app@{DIGEST}": f"{WEB}app/-/manifests/{DIGEST}",
    f"/demo/web/app:1.0@{DIGEST}": f"{WEB}app/-/manifests/{DIGEST}",
    "/search/web/app:1.0": "/projects/search/repositories/web/app/-/manifests/1.0",
}
LEADS_NOWHERE = (
    *("/nothing", "/projects/demo/settigns", f"{WEB}-/nothing", "/favicon.ico", "/robots.txt", "/.git/config"),
    *("/demo/web/app:", "/demo/web/app@1.0", "/demo/web/app:a:b", "/Demo/Web", "/demo/web/app:ä", "/profile/nothing"),
    *("/v1/_ping", "/token/", "/healthz/", "/%2F%2Fevil.example", "/demo/web:1.0"),
)


@pytest.mark.parametrize("path", LEADS_TO)
def test_address_leads_to_its_page(db, path):
    answer = Client(SERVER_NAME="localhost", SERVER_PORT="8080").get(f"{path}?q=a%2Fb&page=2")
    assert (answer.status_code, answer.url) == (302, f"{LEADS_TO[path]}?q=a%2Fb&page=2")


@pytest.mark.parametrize("path", LEADS_NOWHERE)
def test_other_addresses_are_not_found(console, world, path):
    for person in (None, "owner"):
        assert console(person).get(path).status_code in {404, 405}


def test_no_redirect_leaves_the_console():
    assert addresses.page_instead("//projects/demo/") == "/projects/demo/"
    for path in ("//evil.example", "//evil.example/", "//evil.example/web/app:1", "/\\evil.example/web"):
        assert addresses.page_instead(path) is None
    assert addresses.page_instead("//evil/web:1/app@b") is None
    assert addresses.page_instead("//evil/web") == "/projects/evil/repositories/web/"


@pytest.mark.parametrize("path", LEADS_TO)
def test_only_reading_is_redirected(console, world, path):
    assert console("owner").post(path).status_code == 404
    assert console("owner").head(path).status_code == 302


@pytest.mark.parametrize("path", ["/v2", "/v2/demo/web/app", "/v2/demo/web/app/manifests/1.0/", "/v2//"])
def test_the_registry_api_is_not_redirected(console, pushed, path):
    for host in ("localhost:8080", HOST):
        assert console("owner").get(path, headers={"host": host}).status_code in {401, 404}


def test_redirects_are_the_same_for_existing_and_missing_names(console, pushed, django_assert_num_queries):
    for person in (None, "outsider"):
        browser = console(person)
        for there, absent in (("/demo/web/app:1.0", "/none/none/none:1.0"), ("/projects/demo", "/projects/none")):
            assert browser.get(there).status_code == browser.get(absent).status_code == 302
    with django_assert_num_queries(0):
        assert addresses.page_instead("/demo/web/app:1.0")


def test_the_address_of_an_image_opens_its_page_after_the_sign_in(console, pushed):
    page = console("reader").get("/demo/web/app:1.0", follow=True)
    assert page.status_code == 200
    assert pushed["first"] in page.content.decode()
    sign_in = console(None).get("/demo/web/app:1.0", follow=True)
    assert sign_in.redirect_chain[-1][0] == f"/sign-in?next={WEB}app/-/manifests/1.0"


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/web/app:1.0", f"{WEB}app/-/manifests/1.0"),
        (f"/web/app@{DIGEST}", f"{WEB}app/-/manifests/{DIGEST}"),
        ("/web/app", f"{WEB}app/"),
        ("/web", WEB),
        ("/", "/"),
        ("/profile", "/profile"),
        ("/projects/demo", "/projects/demo"),
    ],
)
def test_addresses_at_the_host_of_a_project(console, world, path, page):
    answer = console("reader").get(path, headers={"host": HOST})
    assert (answer.status_code, answer.url) == (302, f"http://localhost:8080{page}")


def test_cut_secret_links_do_not_log_their_secret(db, caplog):
    caplog.set_level("INFO", "registry.access")
    answer = Client(SERVER_NAME="localhost", SERVER_PORT="8080").get(f"/invitations/{'s' * 43}/")
    assert answer.url == f"/invitations/{'s' * 43}"
    assert "ssss" not in caplog.text
