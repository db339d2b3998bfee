"""Sentences of events: every action has one, for any detail, with escaped values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.templatetags.audit_log import SENTENCES, event_icon, event_words
from registry.models import Event

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.just("<script>{x}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    [
        "before",
        "after",
        "tags",
        "images",
        "digests",
        "user",
        "blobs",
        "size",
        "undoes",
        "problem",
        "new",
        "high",
        "reason",
    ]
)


@pytest.mark.parametrize("action", Event.Action.values)
def test_every_action_has_a_sentence(action):
    assert action in SENTENCES


@given(
    st.sampled_from(Event.Action.values), st.dictionaries(names, values, max_size=5), st.sampled_from(["", "sha256:ab"])
)
def test_unusual_details_are_described_without_an_error(action, detail, digest):
    event = Event(action=action, path="<b>{path}", tag="{tag}", digest=digest, detail=detail, actor="a")
    words = event_words(event)
    assert "<script>" not in words
    assert "<b>" not in words
    assert "<svg" in event_icon(event)


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ({"state": "scanned"}, "none found"),
        ({"state": "scanned", "high": 2, "new": 2}, "High 2 (2 new, 0 fixed)"),
        ({"state": "unrecognised"}, "no packages found"),
        (
            {"state": "uncovered", "system": "debian kali-rolling"},
            "packages of the operating system could not be checked (debian kali-rolling)",
        ),
        ({"state": "uncovered", "low": 1}, "Low 1, packages of the operating system could not be checked"),
        (
            {"state": "scanned", "is_end_of_life": True, "system": "debian 9.5"},
            "none found, debian 9.5 has reached its end of life",
        ),
        ({"problem": "timeout", "state": "failed"}, "failed, The scan took too long and was stopped"),
        ({"critical": 0}, "finished"),
    ],
)
def test_scan_is_described_by_the_state_of_its_result(detail, words):
    event = Event(action=Event.Action.SCAN_DONE, path="demo/web/app", digest="sha256:ab", detail=detail, actor="a")
    assert str(event_words(event)).endswith(f": {words}")
