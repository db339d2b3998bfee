"""Patterns: what a list draws once for all of its rows."""

from __future__ import annotations

import pytest

from console.templatetags.lists import MARK, fill, filled
from registry.oci import names
from tests.support.images import image_of
from tests.support.pages import see

APP = "/projects/demo/repositories/web/app/"


@pytest.mark.parametrize("name", [MARK, f"a{MARK}", f"{MARK}a", f"a/{MARK}"])
def test_no_project_repository_or_image_has_the_mark_in_its_name(name):
    assert not names.is_project(name)
    assert not names.is_repository(name)
    assert not names.is_name(name)


def test_value_of_a_pattern_is_escaped():
    assert filled(f'<a title="{MARK}">{MARK}</a>', '"<b>') == '<a title="&quot;&lt;b&gt;">&quot;&lt;b&gt;</a>'


def test_each_mark_of_a_pattern_gets_its_own_value():
    pattern = f'<a href="/{MARK}/-/{MARK}">{MARK}</a>'
    assert fill(pattern, "web", "1.0", "<b>") == '<a href="/web/-/1.0">&lt;b&gt;</a>'
    assert fill(pattern, MARK, "1.0", "b") == f'<a href="/{MARK}/-/1.0">b</a>'
    for values in (["web", "1.0"], ["web", "1.0", "b", "c"]):
        with pytest.raises(ValueError, match="zip"):
            fill(pattern, *values)


@pytest.mark.parametrize(("person", "may_manage"), [("member", True), ("reader", False)])
def test_each_row_of_tags_has_its_own_addresses(console, docker, person, may_manage):
    tags = {"1.0", MARK}
    for tag in tags:
        docker("owner").push("web/app", tag, image_of(tag))
    linked = [link.href for link in see(console(person), APP).links]
    for tag in tags:
        assert linked.count(f"{APP}-/manifests/{tag}") == 1
        assert linked.count(f"{APP}-/manifests/{tag}/vulnerabilities") == 1
        assert linked.count(f"{APP}-/tag-history?tag={tag}") == 1
        changes = [f"tags/add?tag={tag}", f"tags/add?digest={tag}", f"tags/delete?tag={tag}"]
        assert [linked.count(f"{APP}-/{each}") for each in changes] == [int(may_manage)] * 3
