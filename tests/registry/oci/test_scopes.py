"""Parsing of scopes in every form and order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci import scopes
from registry.oci.scopes import Scope

TYPES = st.text("abcxyz", min_size=1, max_size=8)
NAMES = st.text("abc0189._-/:", min_size=1, max_size=20)
ACTIONS = st.frozensets(st.text("abcdefpul*", min_size=1, max_size=6), max_size=4)
SCOPES = st.builds(Scope, TYPES, NAMES, ACTIONS)


def merged(wanted: list[Scope]) -> list[Scope]:
    """Return the scopes with each resource once, in the order of first occurrence."""
    actions: dict[tuple[str, str], frozenset[str]] = {}
    for scope in wanted:
        resource = scope.type, scope.name
        actions[resource] = actions.get(resource, frozenset()) | scope.actions
    return [Scope(type_, name, all_of_them) for (type_, name), all_of_them in actions.items()]


@given(SCOPES)
def test_parsed_scope_equals_its_text(scope):
    assert scopes.parse([str(scope)]) == [scope]


@given(st.lists(SCOPES, max_size=20), st.data())
def test_scopes_may_be_repeated_or_separated_by_spaces(wanted, data):
    texts, left = [], [str(scope) for scope in wanted]
    while left:
        count = data.draw(st.integers(1, len(left)))
        texts.append(data.draw(st.sampled_from([" ", "  "])).join(left[:count]))
        left = left[count:]
    assert scopes.parse(texts) == merged(wanted)


@given(st.lists(st.text(max_size=60), max_size=5) | st.lists(st.text("ab:,* ()/", max_size=30), max_size=5))
def test_any_text_is_scopes_or_is_refused(texts):
    try:
        found = scopes.parse(texts)
    except scopes.InvalidScope:
        return
    assert len({(scope.type, scope.name) for scope in found}) == len(found) <= 50
    for scope in found:
        assert scope.type
        assert scope.name
        assert "" not in scope.actions
        assert scopes.parse([str(scope)]) == [scope]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], []),
        ([""], []),
        (["  "], []),
        (["repository:a/b:pull"], ["repository:a/b:pull"]),
        (["repository:a/b:pull,push"], ["repository:a/b:pull,push"]),
        (["repository:a/b:push,pull"], ["repository:a/b:pull,push"]),
        (["repository:host:5000/a:pull"], ["repository:host:5000/a:pull"]),
        (["repository(plugin):a/b:pull"], ["repository:a/b:pull"]),
        (["repository:a/b:*"], ["repository:a/b:*"]),
        (["registry:catalog:*"], ["registry:catalog:*"]),
        (["repository:a/b:"], ["repository:a/b:"]),
        (["repository:a/b:,pull,,"], ["repository:a/b:pull"]),
        (["repository:a:pull repository:b:push"], ["repository:a:pull", "repository:b:push"]),
        (["repository:a:pull", "repository:b:push"], ["repository:a:pull", "repository:b:push"]),
        (["repository:a:pull", "repository:a:push"], ["repository:a:pull,push"]),
        (["repository:a:pull repository(plugin):a:push"], ["repository:a:pull,push"]),
    ],
)
def test_scopes(texts, expected):
    assert [str(scope) for scope in scopes.parse(texts)] == expected


@pytest.mark.parametrize(
    "text", ["repository", "repository:a", ":a:pull", "repository::pull", ":", "::", "a b", "(x):a:pull"]
)
def test_invalid_scopes_are_refused(text):
    with pytest.raises(scopes.InvalidScope, match="type:name:actions"):
        scopes.parse([text])


def test_the_first_fifty_resources_are_read():
    words = [f"repository:a/{number}:pull" for number in range(51)]
    for texts in (words, [" ".join(words)], [*words, words[0]], [words[0]] * 100 + words[1:]):
        assert [str(scope) for scope in scopes.parse(texts)] == words[:50]
    assert scopes.parse([*words, "repository:a/0:push"])[0].actions == {"pull", "push"}


def test_scopes_beyond_the_size_of_a_header_are_dropped():
    long, short = "repository:" + "a" * 2_700 + ":pull", "repository:b:pull"
    assert [str(scope) for scope in scopes.parse([long, long.replace("a", "c"), short])] == [long, short]
    assert scopes.parse(["repository:" + "a" * 6_000 + ":pull"]) == []


def test_invalid_scope_is_refused_beyond_the_size_of_a_header():
    with pytest.raises(scopes.InvalidScope):
        scopes.parse([*(f"repository:a/{number}:pull" for number in range(51)), "pull"])
