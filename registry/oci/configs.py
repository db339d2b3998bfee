"""Parse configs of images and charts, and attestations, leniently, for display only (image-spec 1.1, config.md).

A field with a wrong type counts as absent, so every image can be shown. Long lists and strings are truncated.
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
    """An entry of ``history``. ``made_layer``: not ``empty_layer``."""

    created_by: str
    comment: str
    made_layer: bool


Entry = TypeVar("Entry", str, tuple[str, str])
Source = TypeVar("Source")


@dataclass(frozen=True, slots=True)
class Some(Generic[Entry]):
    """The first entries of an untrusted list, truncated, and the number of ``more`` entries."""

    shown: tuple[Entry, ...] = ()
    more: int = 0

    def __bool__(self) -> bool:
        """Whether the list has entries."""
        return bool(self.shown or self.more)


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of a config. ``platform``: os/architecture[/variant], "" if unknown.

    ``is_too_complex``: the JSON has too many values; all other fields are empty.
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

    @property
    def is_root(self) -> bool:
        """Whether the program runs as root: no user is set, or root by name or number."""
        return self.user.partition(":")[0] in {"", "0", "root"}


@dataclass(frozen=True, slots=True)
class Chart:
    """Fields of a Helm chart's Chart.yaml, which its config holds as JSON; "" if absent."""

    name: str = ""
    version: str = ""
    app_version: str = ""
    description: str = ""
    kind: str = ""
    home: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """Fields of an in-toto statement (attestation). ``builder``: the id of the builder in SLSA provenance; or ""."""

    predicate_type: str = ""
    builder: str = ""


@dataclass(frozen=True, slots=True)
class FileSystem:
    """os, architecture and ``rootfs.diff_ids`` (digests of the uncompressed layers) of a config."""

    system: str
    architecture: str
    diff_ids: tuple[str, ...]


def is_image_type(media_type: str) -> bool:
    """Whether this is the media type of an image config. Ignores case, space and parameters, as some clients do."""
    return media_types.without_parameters(media_type) in _IMAGE_CONFIGS


def has_file_system(content: bytes) -> bool:
    """Whether a client may find a ``rootfs`` in this config of any media type.

    Ignores case, as Go clients do.
    """
    text = content.decode(errors="replace").casefold()
    if "rootfs" not in text and "\\u" not in text:  # most artifacts: avoid parsing megabytes of JSON
        return False
    try:
        bounded_json.check(content)
    except bounded_json.TooComplex:
        return True
    tree = _load(content)
    return isinstance(tree, dict) and any(key.casefold() == "rootfs" for key in tree)


def read_file_system(content: bytes) -> FileSystem | None:
    """Parse os, architecture and diff_ids; None if the config is not a JSON object."""
    tree = _load(content)
    if not isinstance(tree, dict):
        return None
    rootfs = tree.get("rootfs")
    diff_ids = _list(rootfs, "diff_ids") if isinstance(rootfs, dict) else []
    texts = tuple(diff_id for diff_id in diff_ids if isinstance(diff_id, str))
    return FileSystem(_text(tree, "os"), _text(tree, "architecture"), texts)


def parse(content: bytes) -> Config:
    """Parse a config. Never raises. Large configs wait for ``bounded_json.turn``."""
    try:
        bounded_json.check(content)
    except bounded_json.TooComplex:
        return Config(is_too_complex=True)
    return _config(_load(content))


def read_chart(content: bytes) -> Chart:
    """Parse the config of a Helm chart. Never raises."""
    tree = _bounded(content)
    return Chart(
        name=_text(tree, "name"),
        version=_text(tree, "version"),
        app_version=_text(tree, "appVersion"),
        description=_text(tree, "description"),
        kind=_text(tree, "type"),
        home=_text(tree, "home"),
    )


def read_statement(content: bytes) -> Statement:
    """Parse an in-toto statement (SLSA provenance 0.2 or 1.0, or another predicate). Never raises."""
    tree = _bounded(content)
    predicate = _mapping(tree, "predicate")
    builder = _mapping(predicate, "builder") or _mapping(_mapping(predicate, "runDetails"), "builder")
    return Statement(_text(tree, "predicateType"), _text(builder, "id"))


def _bounded(content: bytes) -> dict[str, Any]:
    """Parse a JSON object; {} if it is none or has too many values."""
    try:
        bounded_json.check(content)
    except bounded_json.TooComplex:
        return {}
    tree = _load(content)
    return tree if isinstance(tree, dict) else {}


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
    """Return the entries converted by ``read``, up to MAX_ENTRIES entries and MAX_WEIGHT bytes."""
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
    """Return the first pairs of labels or annotations."""
    return some(texts.items(), lambda pair: (_clean(pair[0], MAX_NAME), _clean(pair[1])))


def weight(*texts: str) -> int:
    """Return the bytes of these texts in HTML: each escaped character counts five more."""
    return sum(len(text.encode()) + 5 * sum(map(text.count, "<>&\"'")) for text in texts)


def _load(content: bytes) -> Any:
    """Parse JSON; None if invalid. Call ``bounded_json.check`` before to bound the cost."""
    try:
        with bounded_json.turn(content):
            return bounded_json.load(content)
    except ValueError:
        return None


def platform(tree: dict[str, Any]) -> str:
    """Return os/architecture[/variant] of a config or platform object; "" if unknown, as for attestations."""
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
    """Truncate, and replace lone surrogates and NUL, which JSON allows and PostgreSQL does not."""
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
