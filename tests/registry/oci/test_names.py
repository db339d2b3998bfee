"""Names, tags and project IDs, against a hand-written parser of the specification's grammar."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci import names

ALPHABET = "ab1._-/A \n\0\N{ARABIC-INDIC DIGIT THREE}\N{LATIN SMALL LETTER LONG S}é"
NEARLY_NAMES = st.text(ALPHABET, max_size=12)
WORDS = st.text("abc0189", min_size=1, max_size=6)
SEPARATORS = st.sampled_from([".", "_", "__", "-", "--", "-----"])


@st.composite
def components(draw: st.DrawFn) -> str:
    """Draw one component by the grammar."""
    text = draw(WORDS)
    for separator, word in draw(st.lists(st.tuples(SEPARATORS, WORDS), max_size=3)):
        text += separator + word
    return text


def reads_as_component(text: str) -> bool:
    """Return whether the text is a component, by a letter-wise parser."""
    letters = set(string.ascii_lowercase + string.digits)
    words = re.split(r"([._-]+)", text)
    separators = words[1::2]
    return all(word and set(word) <= letters for word in words[::2]) and all(
        separator in {".", "_", "__"} or set(separator) == {"-"} for separator in separators
    )


def reads_as_name(text: str) -> bool:
    """Return whether the text is components between slashes, at most 200 characters."""
    return len(text) <= 200 and all(reads_as_component(part) for part in text.split("/"))


def is_in_repository(path: str) -> bool:
    """Return whether the first component is a valid repository and a second one follows."""
    return 2 <= len(path.partition("/")[0]) <= 64 and "/" in path


@given(st.lists(components(), min_size=1, max_size=5))
def test_generated_names_are_accepted(parts):
    name = "/".join(parts)
    assert names.is_name(name) == (len(name) <= 200)


@given(NEARLY_NAMES | st.text(max_size=250))
def test_name_is_accepted_exactly_by_the_grammar(text):
    assert names.is_name(text) == reads_as_name(text)


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        ("a", True),
        ("0", True),
        ("a.b_c__d-e--f", True),
        ("a" * 200, True),
        ("a/" * 99 + "ab", True),
        ("", False),
        ("a" * 201, False),
        ("a___b", False),
        ("a..b", False),
        ("a._b", False),
        ("a-_b", False),
        (".a", False),
        ("a.", False),
        ("-a", False),
        ("a-", False),
        ("_a", False),
        ("a//b", False),
        ("/a", False),
        ("a/", False),
        ("A", False),
        ("a\n", False),
        ("a\0", False),
        ("a\N{ARABIC-INDIC DIGIT THREE}", False),
        ("..", False),
        ("a/../b", False),
        ("a:b", False),
        ("a@b", False),
        ("a" * 100_000 + "!", False),
        ("a" + "-" * 100_000 + "!", False),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_names(text, is_name):
    assert names.is_name(text) is is_name
    assert reads_as_name(text) is is_name


@given(st.from_regex(r"\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z"))
def test_generated_tags_are_accepted(text):
    assert names.is_tag(text)
    assert not names.is_tag(f"{text}\n")
    assert not names.is_tag(f".{text}")


@given(st.text(ALPHABET + "Z9", max_size=8) | st.text(max_size=140))
def test_tag_is_accepted_exactly_by_the_grammar(text):
    allowed = set(string.ascii_letters + string.digits + "._-")
    assert names.is_tag(text) == (1 <= len(text) <= 128 and set(text) <= allowed and text[0] not in ".-")


@pytest.mark.parametrize(
    ("text", "is_repository"),
    [
        ("ab", True),
        ("a" * 64, True),
        ("a.b", True),
        ("a", False),
        ("a" * 65, False),
        ("a/b", False),
        ("", False),
        ("ab\n", False),
        ("Ab", False),
        ("a_", False),
    ],
)
def test_repository_is_one_component_of_2_to_64_characters(text, is_repository):
    assert names.is_repository(text) is is_repository


@given(components())
def test_a_repository_can_be_named(text):
    assert names.is_repository(text) == (2 <= len(text) <= 64)


@pytest.mark.parametrize(
    ("text", "is_project"),
    [
        ("abc", True),
        ("a-b", True),
        ("a1-2", True),
        ("a" * 40, True),
        ("a--b", True),
        ("ab", False),
        ("a" * 41, False),
        ("1ab", False),
        ("-ab", False),
        ("ab-", False),
        ("a_b", False),
        ("a.b", False),
        ("Abc", False),
        ("abc\n", False),
        ("xn--abc", False),
        ("a\N{ARABIC-INDIC DIGIT THREE}c", False),
    ],
)
def test_a_project_is_a_dns_label(text, is_project):
    assert names.is_project(text) is is_project


@given(st.text("ab1-", min_size=3, max_size=42))
def test_a_project_can_stand_in_a_host_name_and_in_a_path(text):
    if names.is_project(text):
        assert re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", text)
        assert names.is_name(f"{text}/web/app")


@given(st.text("ab1-", min_size=3, max_size=42), components(), st.lists(components(), min_size=1, max_size=4))
def test_parsed_reference_is_written_unchanged(project, repository, image):
    path = "/".join([repository, *image])
    good = names.is_project(project) and 2 <= len(repository) <= 64 and len(f"{project}/{path}") <= 200
    if not good:
        with pytest.raises(names.InvalidName):
            names.image_name(project, path)
        return
    name = names.image_name(project, path)
    assert str(name) == f"{project}/{path}"
    assert (name.project, name.repository, name.image) == (project, repository, "/".join(image))


@given(st.text(max_size=30), NEARLY_NAMES | st.text(max_size=250))
def test_any_text_is_a_name_or_is_refused(project, path):
    try:
        name = names.image_name(project, path)
    except names.InvalidName:
        assert not reads_as_name(f"{project}/{path}") or not names.is_project(project) or not is_in_repository(path)
    else:
        assert str(name) == f"{project}/{path}"
        assert reads_as_name(str(name))
        assert name.image


@pytest.mark.parametrize("path", ["", "web", "web/", "/app", "web//app", "w/app", "WEB/app", "web/app\n", "a.b/../c"])
def test_an_image_has_a_repository_and_a_name_in_it(path):
    with pytest.raises(names.InvalidName, match="repository/image"):
        names.image_name("demo", path)
