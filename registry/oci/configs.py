"""Image configurations, read leniently (image-spec 1.1, config.md): they are shown to people, never trusted.

What has another shape than it should counts as absent, so that no image is too odd to be looked at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from . import media_types

MAX_BYTES = 4 * 1024 * 1024
MAX_TEXT = 10_000
IMAGE_CONFIGS = frozenset({media_types.OCI_CONFIG, media_types.DOCKER_CONFIG})


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the history: the command that made a layer, or only changed the configuration."""

    created_by: str
    comment: str
    made_layer: bool


@dataclass(frozen=True, slots=True)
class Config:
    """What an image says of itself. ``platform`` is os/architecture[/variant], "" when it is unknown."""

    platform: str = ""
    created: str = ""
    author: str = ""
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    history: tuple[Step, ...] = ()


def parse(content: bytes) -> Config:
    """Read a configuration; nothing is wrong enough to raise."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return Config()
    if not isinstance(tree, dict):
        return Config()
    inner = tree.get("config")
    inner = inner if isinstance(inner, dict) else {}
    return Config(
        platform=platform(tree),
        created=_text(tree, "created"),
        author=_text(tree, "author"),
        user=_text(inner, "User"),
        working_dir=_text(inner, "WorkingDir"),
        stop_signal=_text(inner, "StopSignal"),
        entrypoint=_texts(inner, "Entrypoint"),
        command=_texts(inner, "Cmd"),
        environment=_texts(inner, "Env"),
        ports=tuple(sorted(_mapping(inner, "ExposedPorts"))),
        volumes=tuple(sorted(_mapping(inner, "Volumes"))),
        labels={key: _clean(value) for key, value in _mapping(inner, "Labels").items() if isinstance(value, str)},
        history=tuple(_step(step) for step in _list(tree, "history") if isinstance(step, dict)),
    )


def platform(tree: dict[str, Any]) -> str:
    """os/architecture[/variant] of a configuration or of a descriptor's platform; "" for attestations and the like."""
    parts = [_text(tree, key)[:30] for key in ("os", "architecture", "variant")]
    if not parts[0] or not parts[1] or "unknown" in parts[:2] or " " in "".join(parts):
        return ""
    return "/".join(part for part in parts if part)


def _step(step: dict[str, Any]) -> Step:
    return Step(_text(step, "created_by"), _text(step, "comment"), made_layer=step.get("empty_layer") is not True)


def _text(tree: dict[str, Any], key: str) -> str:
    value = tree.get(key)
    return _clean(value) if isinstance(value, str) else ""


def _clean(value: str) -> str:
    """What can be stored and sent of it: JSON can spell halves of characters, and NUL, which no database takes."""
    return value[:MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _list(tree: dict[str, Any], key: str) -> list[Any]:
    value = tree.get(key)
    return value if isinstance(value, list) else []


def _texts(tree: dict[str, Any], key: str) -> tuple[str, ...]:
    return tuple(_clean(value) for value in _list(tree, key) if isinstance(value, str))


def _mapping(tree: dict[str, Any], key: str) -> dict[str, Any]:
    value = tree.get(key)
    return {_clean(name): each for name, each in value.items()} if isinstance(value, dict) else {}
