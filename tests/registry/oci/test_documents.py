"""Strict parsing of manifests and indexes: every input is an unambiguous document or is refused."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.oci import digests, documents, media_types
from tests.support.images import OCI_CONFIG, OCI_LAYER_GZIP

OCI, OCI_INDEX = media_types.OCI_MANIFEST, media_types.OCI_INDEX
DOCKER, DOCKER_LIST = media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
LONG_S = "\N{LATIN SMALL LETTER LONG S}"

# The keys with a meaning in the image-spec 1.1, by place.
OF_DESCRIPTORS = {"mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"}
OF_DOCUMENTS = {
    *("schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"),
}
OF_PLATFORMS = {"architecture", "os", "os.version", "os.features", "variant", "features"}
DIGESTS = st.binary(max_size=4).map(digests.of).map(str)
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@st.composite
def descriptors(
    draw: st.DrawFn, types: tuple[str, ...] = (OCI_CONFIG, OCI_LAYER_GZIP, "application/x")
) -> dict[str, Any]:
    """Draw a valid descriptor."""
    found: dict[str, Any] = {
        "mediaType": draw(st.sampled_from(types)),
        "digest": draw(DIGESTS),
        "size": draw(st.integers(0, 2**63 - 1)),
    }
    if draw(st.booleans()):
        found["annotations"] = draw(st.dictionaries(PLAIN, PLAIN, max_size=2))
    if draw(st.booleans()):
        found["platform"] = {"os": "linux", "architecture": "amd64"}
    if draw(st.booleans()):
        found["artifactType"] = "application/vnd.example"
    return found


@st.composite
def good_documents(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a valid manifest or index."""
    media_type = draw(st.sampled_from([OCI, OCI_INDEX, DOCKER, DOCKER_LIST]))
    tree: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type}
    if media_type in (OCI, DOCKER):
        tree["config"] = draw(descriptors())
        tree["layers"] = draw(st.lists(descriptors((OCI_LAYER_GZIP, FOREIGN)), max_size=3))
    else:
        tree["manifests"] = draw(st.lists(descriptors((OCI, OCI_INDEX, OCI_LAYER_GZIP)), max_size=3))
    if draw(st.booleans()):
        tree["subject"] = draw(descriptors((OCI,)))
    if draw(st.booleans()):
        tree["artifactType"] = "application/vnd.example"
    if draw(st.booleans()):
        tree["annotations"] = draw(st.dictionaries(PLAIN, PLAIN, max_size=3))
    if draw(st.booleans()):
        tree["custom"] = draw(st.lists(st.integers(-(2**63), 2**64 - 1) | PLAIN, max_size=2))
    return tree


def folded(key: str) -> str:
    """Return the key as Go's encoding/json compares it: in lower case, with a long s as an s."""
    return key.lower().replace(LONG_S, "s")


KEYS = st.sampled_from(sorted(OF_DESCRIPTORS | OF_DOCUMENTS | OF_PLATFORMS))
STRANGE_KEYS = (
    KEYS
    | KEYS.map(str.upper)
    | KEYS.map(str.capitalize)
    | KEYS.map(str.lower)
    | KEYS.map(lambda key: key.replace("s", LONG_S))
    | st.text(max_size=4)
)
STRANGE_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers().map(lambda number: number * 10**30)
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["\ud800", "\0", OCI, OCI_INDEX, FOREIGN, "sha256:", "md5:" + "a" * 32, 2, 2.0, -1, 2**63]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRANGE_KEYS, inner, max_size=3),
    max_leaves=8,
)


def spots(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Return the container and key of every place in a tree."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(pairs):
        yield tree, key
        yield from spots(value)


@st.composite
def nearly_good_documents(draw: st.DrawFn) -> Any:
    """Draw a valid document with one change."""
    tree = copy.deepcopy(draw(good_documents()))
    for _ in range(draw(st.integers(1, 3))):
        places = list(spots(tree))
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "remove", "rename", "add"]))
        if change == "replace":
            container[key] = draw(STRANGE_VALUES)
        elif change == "remove" or isinstance(container, list):
            del container[key]
        elif change == "rename":
            container[draw(STRANGE_KEYS)] = container.pop(key)
        else:
            container[draw(STRANGE_KEYS)] = draw(STRANGE_VALUES | st.just(container[key]))
    return tree


def accepts(content: bytes, content_type: str) -> documents.Document | None:
    """Return the document, None if it is refused. Any other error fails the test."""
    try:
        return documents.parse(content, content_type)
    except documents.InvalidDocument as error:
        error.args[0].encode()  # the message can be encoded
        return None


CONTENT_TYPES = st.sampled_from([OCI, OCI_INDEX, DOCKER, DOCKER_LIST, "", "application/json", "text/plain"])


@given(st.binary(max_size=200), CONTENT_TYPES)
def test_any_bytes_are_a_document_or_are_refused(content, content_type):
    accepts(content, content_type)


@given(STRANGE_VALUES, CONTENT_TYPES, st.sampled_from(["utf-8", "utf-16", "utf-32", "utf-8-sig"]))
def test_any_json_is_a_document_or_is_refused(tree, content_type, encoding):
    accepts(json.dumps(tree).encode(encoding), content_type)


@given(good_documents().map(json.dumps), st.integers(0, 400), st.binary(max_size=3), CONTENT_TYPES)
def test_document_with_inserted_bytes_is_read_or_refused(text, place, more, content_type):
    content = text.encode()
    accepts(content[:place] + more + content[place:], content_type)
    accepts(content[:place] + more, content_type)


@given(good_documents())
def test_valid_document_is_read_unchanged(tree):
    document = documents.parse(json.dumps(tree).encode(), tree["mediaType"])
    assert document.media_type == tree["mediaType"]
    assert document.artifact_type == tree.get("artifactType", "")
    assert document.annotations == tree.get("annotations", {})
    parts = ((document.config,) if document.config else ()) + document.layers + document.manifests
    subject = (document.subject,) if document.subject else ()
    written = [part for part in (tree.get("config"), *tree.get("layers", []), *tree.get("manifests", [])) if part]
    for read, part in zip(parts + subject, written + ([tree["subject"]] if subject else []), strict=True):
        assert (read.media_type, read.digest, read.size) == (part["mediaType"], part["digest"], part["size"])
        assert read.annotations == part.get("annotations", {})
        assert read.platform == part.get("platform", {})
        assert read.artifact_type == part.get("artifactType", "")


@given(good_documents(), st.sampled_from([None, 1, 4]), st.booleans())
def test_layout_of_the_json_makes_no_difference(tree, indent, ascii_only):
    plain = documents.parse(json.dumps(tree).encode(), tree["mediaType"])
    laid_out = json.dumps(dict(reversed(tree.items())), indent=indent, ensure_ascii=ascii_only)
    assert documents.parse(f"\n {laid_out}\t".encode(), "") == plain


@given(good_documents())
def test_every_descriptor_is_a_blob_a_child_or_a_foreign_layer(tree):
    document = documents.parse(json.dumps(tree).encode(), "")
    named = [document.config] if document.config else []
    named += [*document.layers, *document.manifests]
    for part in named:
        kinds = [part in document.blobs, part in document.children]
        if media_types.is_foreign(part.media_type):
            assert kinds == [False, False]
        elif part.media_type in media_types.ACCEPTED:
            assert kinds == [False, True]
        else:
            assert kinds == [True, False]
    assert len(document.blobs) + len(document.children) == sum(
        not media_types.is_foreign(part.media_type) for part in named
    )


def objects_with_meaning(tree: dict[str, Any]) -> Iterator[tuple[dict[str, Any], set[str]]]:
    """Return the objects of a document that have keys with a meaning, with these keys."""
    yield tree, OF_DOCUMENTS
    for part in (tree.get("config"), tree.get("subject"), *(tree.get("layers") or []), *(tree.get("manifests") or [])):
        if isinstance(part, dict):
            yield part, OF_DESCRIPTORS
            yield part.get("platform") or {}, OF_PLATFORMS


@settings(max_examples=200)
@given(nearly_good_documents(), CONTENT_TYPES)
def test_accepted_documents_are_read_alike_by_case_insensitive_readers(tree, content_type):
    """Go clients take the last key that is equal but for case. The collector and the scanner must read the same."""
    content = json.dumps(tree).encode()
    if accepts(content, content_type) is None:
        return
    for found, known in objects_with_meaning(json.loads(content)):
        meanings = {folded(key): key for key in known}
        for key in found:
            assert meanings.get(folded(key), key) == key


@given(good_documents(), st.data())
def test_duplicate_key_is_refused_at_every_place(tree, data):
    text = json.dumps(tree)
    key = data.draw(
        st.sampled_from(sorted({json.dumps(key) for container, key in spots(tree) if isinstance(key, str)}))
    )
    assert accepts(text.replace(f"{key}: ", f"{key}: null, {key}: ", 1).encode(), "") is None


@given(good_documents(), st.integers(1, 60))
def test_documents_have_at_most_32_levels(tree, depth):
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if depth % 2 else [value]
    content = json.dumps(tree | {"custom": value}).encode()
    assert (accepts(content, "") is not None) == (1 + depth <= 32)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 5_000, "-" + "9" * 5_000])
def test_numbers_with_ambiguous_readings_are_refused(number):
    good = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    text = json.dumps(good | {"custom": 1}).replace('"custom": 1', f'"custom": {number}')
    assert accepts(text.encode(), OCI_INDEX) is None
    assert accepts(json.dumps(good).encode(), OCI_INDEX) is not None


def part(media_type: str, **more: Any) -> dict[str, Any]:
    """Return a descriptor of that type."""
    return {"mediaType": media_type, "digest": str(digests.of(b"")), "size": 0, **more}


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"mediaType": OCI, "config": part(OCI_CONFIG), "layers": []}, OCI_CONFIG),
        ({"mediaType": OCI, "config": part(OCI_CONFIG), "layers": [], "artifactType": "a/b"}, "a/b"),
        ({"mediaType": OCI, "config": part(OCI_CONFIG), "layers": [], "artifactType": ""}, OCI_CONFIG),
        ({"mediaType": OCI, "config": part("c/d", artifactType="e/f"), "layers": []}, "c/d"),
        ({"mediaType": OCI_INDEX, "manifests": []}, ""),
        ({"mediaType": OCI_INDEX, "manifests": [part(OCI, artifactType="e/f")]}, ""),
        ({"mediaType": OCI_INDEX, "manifests": [], "artifactType": "a/b"}, "a/b"),
    ],
)
def test_artifact_type_of_a_referrer(tree, expected):
    assert documents.parse(json.dumps({"schemaVersion": 2} | tree).encode(), "").referrer_type == expected


@pytest.mark.parametrize("count", [4_000, 4_001])
@pytest.mark.parametrize("kind", ["layers", "manifests"])
def test_document_has_at_most_4000_descriptors(kind, count):
    tree: dict[str, Any] = {"schemaVersion": 2, kind: [part(OCI_LAYER_GZIP)] * count}
    tree |= {"mediaType": OCI, "config": part(OCI_CONFIG)} if kind == "layers" else {"mediaType": OCI_INDEX}
    assert (accepts(json.dumps(tree).encode(), "") is not None) == (count <= 4_000)


@pytest.mark.parametrize(
    ("media_type", "foreign"),
    [
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", True),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar", True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", True),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", False),
        (OCI_LAYER_GZIP, False),
        (OCI, False),
        ("", False),
    ],
)
def test_foreign_layers_are_known_by_their_type(media_type, foreign):
    assert media_types.is_foreign(media_type) is foreign


@pytest.mark.parametrize(
    ("header", "media_type"),
    [
        ("", ""),
        (OCI, OCI),
        (f"{OCI}; charset=utf-8", OCI),
        (f" {OCI} ;charset=utf-8", OCI),
        (OCI.upper(), OCI),
        (f"{OCI};", OCI),
        (";", ""),
    ],
)
def test_parameters_of_a_content_type_are_ignored(header, media_type):
    assert media_types.without_parameters(header) == media_type
