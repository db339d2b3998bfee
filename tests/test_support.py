"""Tests of tests.support, where a mistake would let a test pass."""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import subprocess
import sys

import pytest

from tests.support import programs
from tests.support.logs import secrets_in
from tests.support.network import is_loopback
from tests.support.pages import Page

PAGE = """
<title>Tags</title><h1>Tags of <b>app</b></h1>
<form method="post" action="?step=2#form">
  <input type="hidden" name="csrf" value="1"><input name="name" value="app"><input name="off" disabled>
  <select name="role"><option value="">-</option><option value="admin" selected>Admin</option></select>
  <textarea name="text">
a &amp; b</textarea>
  <input type="checkbox" name="tag" value="1" checked><input type="checkbox" name="tag" value="2">
  <button name="act" value="delete">Delete</button>
</form>
<table><tr><th>Tag</th><th>Size</th></tr><tr><td><a href="-/1">1</a></td><td>2 <span>MB</span></td></tr></table>
<a rel="next" href="?page=2">Next</a><script>unseen</script>
"""


@pytest.fixture
def page() -> Page:
    return Page(PAGE, "/projects/demo/tags?page=1")


def test_a_form_sends_what_a_browser_sends(page):
    form = page.form("act")
    assert (form.action, form.method) == ("/projects/demo/tags?step=2", "post")
    assert form.shown == {"csrf": "1", "name": "app", "role": "admin", "text": "a & b", "tag": "1"}
    assert form.filled(act="delete", tag=["1", "2"], role="") == form.shown | {
        "act": "delete",
        "tag": ["1", "2"],
        "role": "",
    }
    assert "tag" not in form.filled(tag=[])


@pytest.mark.parametrize("fields", [{"role": "owner"}, {"tag": "3"}, {"act": "push"}, {"csrf": "2"}, {"off": "x"}])
def test_form_refuses_values_that_it_does_not_offer(page, fields):
    with pytest.raises(AssertionError, match="the form to"):
        page.form("csrf").filled(**fields)


def test_a_page_without_such_a_form_or_table_is_an_error(page):
    with pytest.raises(AssertionError, match="no form"):
        page.form("nothing")
    with pytest.raises(AssertionError, match="no table"):
        page.table("Tag", "Pushed")


def test_page_has_the_visible_texts_links_and_tables(page):
    assert (page.title, page.headings) == ("Tags", ["Tags of app"])
    assert page.table("Tag") == [{"Tag": "1", "Size": "2 MB"}]
    assert page.row_links == ["/projects/demo/-/1"]
    assert page.link("next").href == "/projects/demo/tags?page=2"
    assert page.link("prev") is None
    assert page.text.endswith("Tag Size 1 2 MB Next")


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"), (socket.AF_INET, "kcr.test")]
)
def test_no_test_connects_to_another_host(method, family, host):
    with socket.socket(family) as client, pytest.raises(pytest.fail.Exception, match=f"{host} port 443"):
        getattr(client, method)((host, 443))


def test_no_test_sends_a_datagram_to_another_host():
    with socket.socket(type=socket.SOCK_DGRAM) as client, pytest.raises(pytest.fail.Exception, match=r"192\.0\.2\.1"):
        client.sendto(b"question", ("192.0.2.1", 53))


def test_code_that_catches_every_exception_does_not_hide_a_connection():
    with pytest.raises(pytest.fail.Exception), contextlib.suppress(Exception), socket.socket() as client:
        client.connect(("192.0.2.1", 443))


def test_tests_connect_to_loopback():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()
    assert all(map(is_loopback, ("localhost", "demo.kcr.localhost", "127.9.9.9", "::1", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "localhost.test", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1")))


# ── Secrets in logs ──────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "secret",
    [
        "kcrs_" + "a" * 40,
        "kcrr_" + "Z9-_" * 10,
        "/password/new/MQ/" + "c" * 39,
        "/invitations/kcri_" + "b" * 30,
        "/notices/unsubscribe/" + "x:y" * 10,
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    ],
)
def test_secret_in_a_log_is_detected(lines_with_secrets, secret):
    logging.getLogger("registry.access").warning("GET %s 200", secret)
    assert len(lines_with_secrets) == 1
    assert secrets_in([*lines_with_secrets, f"first key: {secret}"]) == lines_with_secrets
    lines_with_secrets.clear()


def test_route_of_a_secret_link_is_not_reported(lines_with_secrets):
    logging.getLogger("registry.access").warning("GET /password/new/<str:uid>/<str:token> 200")
    assert lines_with_secrets == []


def test_a_port_is_given_once_to_all_processes_of_the_tests(monkeypatch):
    port, other = programs.free_port(), programs.free_port()
    code = (
        "import sys; from tests.support import programs; wanted = iter(map(int, sys.argv[1:]));"
        " programs.secrets.choice = lambda _: next(wanted); print(programs.free_port())"
    )
    third = secrets.choice(range(32_000, 32_700))
    asked = [sys.executable, "-c", code, str(port), str(other), str(third)]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == str(third)
    wanted = iter([port, third])
    monkeypatch.setattr(programs.secrets, "choice", lambda _ports: next(wanted))
    assert programs.free_port() == third
