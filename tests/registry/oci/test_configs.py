"""Parsing of image configurations."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci import configs

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=()), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "os",
                    "architecture",
                    "config",
                    "history",
                    "Env",
                    "Labels",
                    "created_by",
                    "Entrypoint",
                    "ExposedPorts",
                    "variant",
                    "\ud800",
                    "\0",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_unusual_configurations_are_read_without_an_error(tree):
    found = configs.parse(json.dumps(tree).encode())
    assert isinstance(found.platform, str)
    assert " " not in found.platform
    assert all(isinstance(step.created_by, str) for step in found.history)
    everything = json.dumps(dataclasses.asdict(found), ensure_ascii=False)
    assert everything.encode().decode() == everything, "half a character cannot be sent"
    assert "\\u0000" not in everything


@given(st.binary(max_size=200))
def test_configuration_that_is_not_json_is_no_error(content):
    assert isinstance(configs.parse(content), configs.Config)


@pytest.mark.parametrize(
    ("tree", "platform"),
    [
        ({"os": "linux", "architecture": "amd64"}, "linux/amd64"),
        ({"os": "linux", "architecture": "arm", "variant": "v7"}, "linux/arm/v7"),
        ({"os": "unknown", "architecture": "unknown"}, ""),
        ({"os": "linux"}, ""),
        ({"os": "li nux", "architecture": "amd64"}, ""),
        ({"os": 1, "architecture": []}, ""),
    ],
)
def test_platforms(tree, platform):
    assert configs.platform(tree) == platform


def test_deep_nesting_does_not_crash():
    assert configs.parse(b"[" * 100_000) == configs.Config()


def test_history_tells_which_steps_made_layers():
    found = configs.parse(b'{"history": [{"created_by": "a"}, {"created_by": "b", "empty_layer": true}, 3]}')
    assert [(step.created_by, step.made_layer) for step in found.history] == [("a", True), ("b", False)]
