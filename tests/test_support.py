"""The tools of the tests are right where a mistake of theirs would let a test pass."""

from __future__ import annotations

import pytest

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
def test_a_form_refuses_what_it_does_not_offer(page, fields):
    with pytest.raises(AssertionError, match="the form to"):
        page.form("csrf").filled(**fields)


def test_a_page_without_such_a_form_or_table_is_an_error(page):
    with pytest.raises(AssertionError, match="no form"):
        page.form("nothing")
    with pytest.raises(AssertionError, match="no table"):
        page.table("Tag", "Pushed")


def test_texts_links_and_tables_are_those_that_can_be_read(page):
    assert (page.title, page.headings) == ("Tags", ["Tags of app"])
    assert page.table("Tag") == [{"Tag": "1", "Size": "2 MB"}]
    assert page.row_links == ["/projects/demo/-/1"]
    assert page.link("next").href == "/projects/demo/tags?page=2"
    assert page.link("prev") is None
    assert page.text.endswith("Tag Size 1 2 MB Next")
