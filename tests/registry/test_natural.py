"""The natural order of names, and its keys in the column of tags."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.natural import MAX_LENGTH, natural_key
from registry.oci import names

ORDERS = {
    "numbers": ["v0.0.9", "v0.0.91", "v0.0.103", "v0.0.106"],
    "pre-releases": [
        "1.2.0-alpha",
        "1.2.0-beta.2",
        "1.2.0-beta.11",
        "1.2.0-rc.1",
        "1.2.0",
        "1.2.1-rc.1",
        "1.9.0",
        "1.10.0",
    ],
    "of Python": ["3.13.0b2", "3.13.0rc1", "3.13.0rc2", "3.13.0", "3.13.1"],
    "of Java": ["22-ea-jdk", "22-jdk", "22.0.1-SNAPSHOT", "22.0.1"],
    "variants": ["3.12", "3.12-alpine", "3.12-slim", "3.12.1", "3.12.1-alpine"],
    "dates": ["20251231", "20260101-1", "20260101-2", "20260101-10"],
    "words": ["1.0", "edge", "latest", "stable"],
    "long numbers": ["9" * 30, "1" + "0" * 30],
    "a word that only begins like a pre-release": ["1.0", "1.0-prefork", "1.0-rcs"],
}


@pytest.mark.parametrize("names_", ORDERS.values(), ids=ORDERS)
def test_names_are_in_natural_order(names_):
    shuffled = random.Random(1).sample(names_, len(names_))
    assert sorted(shuffled, key=natural_key) == names_


def test_case_and_leading_zeros_do_not_differ():
    assert natural_key("V1.01-RC1") == natural_key("v1.1-rc1")


tags = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", fullmatch=True)


@given(tags)
def test_a_key_fits_its_column(tag):
    assert len(natural_key(tag)) <= MAX_LENGTH


@pytest.mark.parametrize("pattern", ["1a", "1rc", "1-rc", "1a1.", "0", "1."])
def test_the_longest_keys_fit(pattern):
    assert len(natural_key((pattern * 128)[: names.MAX_TAG])) <= MAX_LENGTH


@given(st.integers(0, 10**40), st.integers(0, 10**40), st.sampled_from(["", "v", "1.", "release-"]))
def test_numbers_are_compared_as_numbers(one, other, before):
    assert (natural_key(f"{before}{one}") < natural_key(f"{before}{other}")) == (one < other)
