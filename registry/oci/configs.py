"""Image configurations, read leniently (image-spec 1.1, config.md): they are shown to people, never trusted.

What has another shape than it should counts as absent, so that no image is too odd to be looked at; lists and texts are
cut, so that none is too large to be shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import bounded_json, media_types

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MAX_BYTES = 4 * 1024 * 1024
MAX_TEXT = 2_000  # characters of one text of a list
MAX_NAME = 500  # of a single text, and of a key
MAX_ENTRIES = 128  # of one list
MAX_WEIGHT = 12_000  # bytes of the texts of one list
MAX_STEPS = 4_000  # as many as a manifest may have layers
_IMAGE_CONFIGS = frozenset({media_types.OCI_CONFIG, media_types.DOCKER_CONFIG})


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the history: the command that made a layer, or only changed the configuration."""

    created_by: str
    comment: str
    made_layer: bool


Entry = TypeVar("Entry", str, tuple[str, str])
Source = TypeVar("Source")


@dataclass(frozen=True, slots=True)
class Some(Generic[Entry]):
    """The first entries of a list that a stranger wrote, cut, and how many ``more`` there are."""

    shown: tuple[Entry, ...] = ()
    more: int = 0

    def __bool__(self) -> bool:
        """Whether the list has entries."""
        return bool(self.shown or self.more)


@dataclass(frozen=True, slots=True)
class Config:
    """What an image says of itself. ``platform`` is os/architecture[/variant], "" when it is unknown.

    ``is_too_complex``: it has too many values to be read, and nothing of it is known.
    """

    platform: str = ""
    created: str = ""
    author: str = ""
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    entrypoint: Some[str] = Some()
    command: Some[str] = Some()
    environment: Some[str] = Some()
    ports: Some[str] = Some()
    volumes: Some[str] = Some()
    labels: Some[tuple[str, str]] = Some()
    history: tuple[Step, ...] = ()
    is_too_complex: bool = False


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What an image says of its files: what they run on, and the digests of its layers when they are unpacked."""

    system: str
    architecture: str
    diff_ids: tuple[str, ...]


def is_image_type(media_type: str) -> bool:
    """Whether this is the type of an image's configuration; not every client compares case, space and parameters."""
    return media_types.without_parameters(media_type) in _IMAGE_CONFIGS


def has_file_system(content: bytes) -> bool:
    """Whether some client may read an image's ``rootfs`` in a configuration of any type.

    Go clients match keys without regard to case.
    """
    text = content.decode(errors="replace").casefold()
    if "rootfs" not in text and "\\u" not in text:  # most artifacts: JSON of megabytes is not read for nothing
        return False
    try:
        bounded_json.check(content)
    except bounded_json.TooComplex:
        return True
    tree = _load(content)
    return isinstance(tree, dict) and any(key.casefold() == "rootfs" for key in tree)


def read_file_system(content: bytes) -> FileSystem | None:
    """What a configuration says of the image's files; None when it is not a JSON object."""
    tree = _load(content)
    if not isinstance(tree, dict):
        return None
    rootfs = tree.get("rootfs")
    diff_ids = _list(rootfs, "diff_ids") if isinstance(rootfs, dict) else []
    texts = tuple(diff_id for diff_id in diff_ids if isinstance(diff_id, str))
    return FileSystem(_text(tree, "os"), _text(tree, "architecture"), texts)


def parse(content: bytes) -> Config:
    """Read a configuration; nothing is wrong enough to raise. A large one waits for its turn."""
    try:
        bounded_json.check(content)
    except bounded_json.TooComplex:
        return Config(is_too_complex=True)
    return _config(_load(content))


def _config(tree: Any) -> Config:
    if not isinstance(tree, dict):
        return Config()
    inner = tree.get("config")
    inner = inner if isinstance(inner, dict) else {}
    steps = (step for step in _list(tree, "history") if isinstance(step, dict))
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
        ports=some(sorted(_mapping(inner, "ExposedPorts")), _clean),
        volumes=some(sorted(_mapping(inner, "Volumes")), _clean),
        labels=pairs({key: value for key, value in _mapping(inner, "Labels").items() if isinstance(value, str)}),
        history=tuple(_step(step) for step in islice(steps, MAX_STEPS)),
    )


def some(entries: Collection[Source], read: Callable[[Source], Entry]) -> Some[Entry]:
    """The entries as they are read, until there are MAX_ENTRIES, or their texts are longer than MAX_WEIGHT."""
    shown: list[Entry] = []
    total = 0
    for entry in islice(entries, MAX_ENTRIES):
        found = read(entry)
        total += weight(*(found if isinstance(found, tuple) else (found,)))
        if shown and total > MAX_WEIGHT:
            break
        shown.append(found)
    return Some(tuple(shown), len(entries) - len(shown))


def pairs(texts: dict[str, str]) -> Some[tuple[str, str]]:
    """Labels or annotations: the first pairs of key and value."""
    return some(texts.items(), lambda pair: (_clean(pair[0], MAX_NAME), _clean(pair[1])))


def weight(*texts: str) -> int:
    """How many bytes a page has for these texts: five more for each character that HTML writes as a word."""
    return sum(len(text.encode()) + 5 * sum(map(text.count, "<>&\"'")) for text in texts)


def _load(content: bytes) -> Any:
    """The JSON in the content; None when it is none. Its cost is not bounded: see ``bounded_json.check``."""
    try:
        with bounded_json.turn(content):
            return bounded_json.load(content)
    except ValueError:
        return None


def platform(tree: dict[str, Any]) -> str:
    """os/architecture[/variant] of a configuration or of a descriptor's platform; "" for attestations and the like."""
    parts = [_text(tree, key)[:30] for key in ("os", "architecture", "variant")]
    if not parts[0] or not parts[1] or "unknown" in parts[:2] or " " in "".join(parts):
        return ""
    return "/".join(part for part in parts if part)


def _step(step: dict[str, Any]) -> Step:
    words = _text(step, "created_by", MAX_TEXT), _text(step, "comment", MAX_TEXT)
    return Step(*words, made_layer=step.get("empty_layer") is not True)


def _text(tree: dict[str, Any], key: str, most: int = MAX_NAME) -> str:
    value = tree.get(key)
    return _clean(value, most) if isinstance(value, str) else ""


def _clean(value: str, most: int = MAX_TEXT) -> str:
    """What can be stored and sent of it: JSON can spell halves of characters, and NUL, which no database takes."""
    text = value[:most].encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return f"{text}…" if len(value) > most else text


def _list(tree: dict[str, Any], key: str) -> list[Any]:
    value = tree.get(key)
    return value if isinstance(value, list) else []


def _texts(tree: dict[str, Any], key: str) -> Some[str]:
    return some([value for value in _list(tree, key) if isinstance(value, str)], _clean)


def _mapping(tree: dict[str, Any], key: str) -> dict[str, Any]:
    value = tree.get(key)
    return value if isinstance(value, dict) else {}
