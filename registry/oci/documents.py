"""Parse manifests and indexes strictly (image-spec 1.1, manifest.md and image-index.md).

Registry, garbage collector, scanner and clients must read the same document from the same bytes. So this module refuses
input that parsers read differently: duplicate keys, keys that differ in case only, NaN, other encodings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import bounded_json, digests, media_types

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
MAX_DESCRIPTORS = 4_000
MAX_NUMBER_DIGITS = 20
MAX_SIZE = 2**63 - 1
REFERENCE_TYPE = "vnd.docker.reference.type"  # an annotation of BuildKit's attestations

# The known keys of each object. Go clients ignore their case.
_DOCUMENT_KEYS = (
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]{1,4000}")  # a scheme, and the characters of RFC 3986
_DESCRIPTOR_KEYS = ("mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType")
_PLATFORM_KEYS = ("architecture", "os", "os.version", "os.features", "variant", "features")


class InvalidDocument(ValueError):
    """The bytes are not a manifest or index; the message says why."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to content (image-spec, descriptor.md). ``size`` in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = field(default_factory=dict)
    platform: dict[str, Any] = field(default_factory=dict)
    artifact_type: str = ""

    @property
    def is_runnable(self) -> bool:
        """Whether an entry of an index may be run: not what BuildKit adds about another entry, such as provenance."""
        unknown = "unknown" in (self.platform.get("os"), self.platform.get("architecture"))
        return not unknown and REFERENCE_TYPE not in self.annotations


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index. ``config`` is None and ``layers`` empty for an index, ``manifests`` empty otherwise."""

    media_type: str
    artifact_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None
    annotations: dict[str, str]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Descriptors that must be blobs of the repository: config, layers, index entries that are no manifests."""
        config = (self.config,) if self.config else ()
        layers = tuple(layer for layer in self.layers if not media_types.is_foreign(layer.media_type))
        return config + layers + tuple(d for d in self.manifests if d.media_type not in media_types.ACCEPTED)

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """Descriptors that must be manifests of the image: entries of an index."""
        return tuple(d for d in self.manifests if d.media_type in media_types.ACCEPTED)

    @property
    def referrer_type(self) -> str:
        """The artifactType under which a subject lists this document (distribution-spec, "Listing Referrers")."""
        return self.artifact_type or (self.config.media_type if self.config else "")


def parse(content: bytes, content_type: str) -> Document:
    """Parse and check a pushed document.

    ``content_type``: the media type of the request without parameters, "" if absent.
    Raises InvalidDocument with a message for the user. Large documents wait for ``bounded_json.turn``.
    """
    try:
        bounded_json.check(content)
    except bounded_json.TooComplex as error:
        raise InvalidDocument(f"the manifest has too many values: {error}") from error
    with bounded_json.turn(content):
        return _parse(content, content_type)


def _parse(content: bytes, content_type: str) -> Document:
    tree = _load(content)
    if not isinstance(tree, dict):
        raise InvalidDocument("a manifest is a JSON object")
    _check_keys(tree, _DOCUMENT_KEYS, "the document")
    media_type = _media_type(tree, content_type)
    if type(tree.get("schemaVersion")) is not int or tree["schemaVersion"] != 2:
        raise InvalidDocument("schemaVersion must be 2")
    is_index = media_type in media_types.INDEXES
    if is_index and ("config" in tree or "layers" in tree):
        raise InvalidDocument("an index has manifests, not config or layers")
    if not is_index and "manifests" in tree:
        raise InvalidDocument("an image manifest has config and layers, not manifests")
    document = Document(
        media_type=media_type,
        artifact_type=_text(tree, "artifactType"),
        config=None if is_index else _descriptor(_required(tree, "config"), "config", local=True),
        layers=() if is_index else _descriptors(tree, "layers"),
        manifests=_descriptors(tree, "manifests") if is_index else (),
        subject=_descriptor(tree["subject"], "subject", local=False) if tree.get("subject") is not None else None,
        annotations=_annotations(tree, "annotations"),
    )
    if len(document.layers) + len(document.manifests) > MAX_DESCRIPTORS:
        raise InvalidDocument(f"a manifest may name at most {MAX_DESCRIPTORS:,} layers or manifests")
    return document


def _load(content: bytes) -> Any:
    try:
        tree = bounded_json.load(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_refuse_float_overflow,
        )
    except InvalidDocument:
        raise
    except ValueError as error:
        raise InvalidDocument("the manifest is not valid JSON in UTF-8") from error
    _check_tree(tree, has_escapes=b"\\u" in content)
    return tree


def _check_tree(tree: Any, *, has_escapes: bool) -> None:
    """Refuse deep nesting, NUL and lone surrogates. Only escapes can contain the latter two."""
    level = [tree]
    for _ in range(MAX_DEPTH + 1):
        if has_escapes:
            _check_texts(text for item in level for text in _texts(item))
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
        if not level:
            return
    raise InvalidDocument(f"the manifest is nested deeper than {MAX_DEPTH} levels")


def _texts(item: Any) -> Iterable[str]:
    return (item,) if isinstance(item, str) else item.keys() if isinstance(item, dict) else ()


def _check_texts(texts: Iterable[str]) -> None:
    for text in texts:
        if "\0" in text or not _can_be_written(text):
            raise InvalidDocument("a text holds NUL or half of a surrogate pair")


def _can_be_written(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_keys(tree: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    exact = {key.casefold(): key for key in known}
    for key in tree:
        if exact.get(key.casefold(), key) != key:
            raise InvalidDocument(f"{where}: write {exact[key.casefold()]} exactly so: some clients read {key!r} as it")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise InvalidDocument("an object has the same key twice")
    return result


def _refuse_constant(_name: str) -> Any:
    raise InvalidDocument("NaN and Infinity are not JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_DIGITS:
        raise InvalidDocument("a number is out of range")
    return int(text)


def _refuse_float_overflow(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise InvalidDocument("a number is out of range")
    return number


def _media_type(tree: dict[str, Any], content_type: str) -> str:
    inner = _text(tree, "mediaType")
    if inner and content_type and inner != content_type:
        raise InvalidDocument(f"Content-Type is {content_type}, but the document says mediaType {inner}")
    media_type = content_type or inner
    if not media_type:
        raise InvalidDocument("neither Content-Type nor mediaType says what this is")
    if media_type not in media_types.ACCEPTED:
        raise InvalidDocument(f"manifests of type {media_type} are not accepted: use {media_types.OCI_MANIFEST}")
    return media_type


def _required(tree: dict[str, Any], key: str) -> Any:
    if tree.get(key) is None:
        raise InvalidDocument(f"{key} is missing")
    return tree[key]


def _text(tree: dict[str, Any], key: str) -> str:
    value = tree.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 255:
        raise InvalidDocument(f"{key} must be a string of at most 255 characters")
    return value


def _annotations(tree: dict[str, Any], where: str) -> dict[str, str]:
    value = tree.get("annotations")
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidDocument(f"{where} must be an object of strings")
    return value


def _descriptors(tree: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    value = tree.get(key)
    if value is None:  # Go writes an empty list as null, and some clients leave it out
        return ()
    if not isinstance(value, list):
        raise InvalidDocument(f"{key} must be a list")
    return tuple(_descriptor(item, f"{key}[{index}]", local=True) for index, item in enumerate(value))


def _descriptor(value: Any, where: str, *, local: bool) -> Descriptor:
    """Parse a descriptor. ``local``: it names stored content, so its digest must be sha256 or sha512."""
    if not isinstance(value, dict):
        raise InvalidDocument(f"{where} must be an object")
    _check_keys(value, _DESCRIPTOR_KEYS, where)
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(media_type, str) or not 0 < len(media_type) <= 255:
        raise InvalidDocument(f"{where}.mediaType must be a string of 1 to 255 characters")
    if type(size) is not int or not 0 <= size <= MAX_SIZE:
        raise InvalidDocument(f"{where}.size must be a number of bytes")
    _check_digest(digest, where, local=local and not media_types.is_foreign(media_type))
    urls = value.get("urls") or []
    if not isinstance(urls, list) or not all(isinstance(url, str) and _URI.fullmatch(url) for url in urls):
        raise InvalidDocument(f"{where}.urls must be a list of URIs")
    platform = value.get("platform") or {}
    if not isinstance(platform, dict):
        raise InvalidDocument(f"{where}.platform must be an object")
    _check_keys(platform, _PLATFORM_KEYS, f"{where}.platform")
    return Descriptor(
        media_type=media_type,
        digest=str(digest),
        size=size,
        annotations=_annotations(value, f"{where}.annotations"),
        platform=platform,
        artifact_type=_text(value, "artifactType"),
    )


def _check_digest(digest: Any, where: str, *, local: bool) -> None:
    if not isinstance(digest, str) or not digests.is_wellformed(digest):
        raise InvalidDocument(f"{where}.digest must be a digest")
    if local:
        try:
            digests.parse(digest)
        except digests.InvalidDigest as error:
            raise InvalidDocument(f"{where}.digest: {error}") from error
