"""Manifests and indexes: validation, references, pushes, pulls, deletion and expiry."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Any

import pytest
from django.utils import timezone

from accounts import keys
from registry.models import BlobLease, Event, Manifest, ManifestBlob, ManifestChild, Tag
from registry.models import Image as StoredImage
from registry.oci import media_types
from tests.support.docker_client import BARE_HOST
from tests.support.images import (
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCTETS,
    Image,
    descriptor,
    sha256,
)

NAME = "web/app"
CONFIG = b'{"architecture":"amd64","os":"linux"}'
LAYER = b"a layer"
ABSENT_BLOB = b"never pushed"
FOREIGN_TYPES = (
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
)
OCI, OCI_INDEX = media_types.OCI_MANIFEST, media_types.OCI_INDEX
DOCKER, DOCKER_LIST = media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST
MIB = 1024 * 1024
ABSENT = object()


def document(**changes: Any) -> bytes:
    """Return a valid image manifest with changes; ABSENT removes a key."""
    tree = {
        "schemaVersion": 2,
        "mediaType": OCI,
        "config": descriptor(CONFIG, OCI_CONFIG),
        "layers": [layer()],
    } | changes
    return json.dumps({key: value for key, value in tree.items() if value is not ABSENT}).encode()


def layer(**changes: Any) -> dict[str, Any]:
    """Return the descriptor of a valid layer with changes; ABSENT removes a key."""
    tree = descriptor(LAYER, OCI_LAYER_GZIP) | changes
    return {key: value for key, value in tree.items() if value is not ABSENT}


def index(*entries: Any, **changes: Any) -> bytes:
    """Return an index of these descriptors with changes."""
    parts = {"mediaType": OCI_INDEX, "config": ABSENT, "layers": ABSENT, "manifests": list(entries)}
    return document(**(parts | changes))


def with_text(extra: str) -> bytes:
    """Return a valid manifest with more JSON text before its last brace."""
    return document()[:-1] + b", " + extra.encode("utf-8", "surrogatepass") + b"}"


def replaced(old: str, new: str) -> bytes:
    """Return a valid manifest with one text replaced."""
    text = document().decode()
    assert old in text
    return text.replace(old, new).encode()


def nested(lists: int) -> Any:
    """Return nested lists of this depth with a number in the innermost one."""
    value: Any = 1
    for _ in range(lists):
        value = [value]
    return value


def padded(size: int) -> bytes:
    """Return a valid manifest of exactly so many bytes."""
    short = document(annotations={"padding": ""})
    content = document(annotations={"padding": "x" * (size - len(short))})
    assert len(content) == size
    return content


GOOD = document()


@pytest.fixture
def member(docker):
    """A client that has pushed CONFIG and LAYER to web."""
    client = docker("member")
    for data in (CONFIG, LAYER):
        client.push_blob(NAME, data, "post")
    return client


def stored() -> list[int]:
    """Return the numbers of manifests, references, tags, images and events."""
    rows = [model.objects.count() for model in (Manifest, ManifestBlob, ManifestChild, Tag, StoredImage)]
    return [*rows, Event.objects.exclude(image=None).count()]


# ── Refused documents ────────────────────────────────────────────────────────────────────────────────────────────────
NOT_JSON_OBJECTS = {
    "nothing": b"",
    "white space": b" \n",
    "half of it": GOOD[:-10],
    "a brace": b"{",
    "text behind": GOOD + b"x",
    "twice": GOOD + GOOD,
    "NUL behind": GOOD + b"\0",
    "a comma at the end": GOOD[:-1] + b",}",
    "a comment": b"/* hello */" + GOOD,
    "single quotes": b"{'schemaVersion': 2}",
    "null": b"null",
    "true": b"true",
    "a number": b"2",
    "a string": b'"manifest"',
    "a list": b"[" + GOOD + b"]",
    "UTF-8 with a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-16 without a mark": GOOD.decode().encode("utf-16-le"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "Latin-1": with_text('"custom": "é"').decode().encode("latin-1"),
    "a surrogate in UTF-8": with_text('"custom": "\ud800"'),
    "a line break in a string": with_text('"custom": "a\nb"'),
}
NUMBERS = {
    "NaN": with_text('"custom": NaN'),
    "Infinity": with_text('"custom": Infinity'),
    "-Infinity": with_text('"custom": -Infinity'),
    "1e400": with_text('"custom": 1e400'),
    "-1e400": with_text('"custom": -1e400'),
    "5,000 digits": with_text(f'"custom": {"9" * 5_000}'),
    "100,000 digits": with_text(f'"custom": {"9" * 100_000}'),
    "-5,000 digits": with_text(f'"custom": -{"9" * 5_000}'),
    "a leading zero": with_text('"custom": 012'),
}
KEYS = {
    "the same key twice": with_text('"schemaVersion": 2'),
    "layers twice": with_text('"layers": []'),
    "an unknown key twice": with_text('"custom": 1, "custom": 2'),
    "the same key twice in a descriptor": replaced('"size": 7', '"size": 7, "size": 8'),
    "the same annotation twice": with_text('"annotations": {"a": "1", "a": "2"}'),
    "the same key spelled with an escape": with_text('"\\u006cayers": []'),
    "Layers": with_text('"Layers": []'),
    "LAYERS": with_text('"LAYERS": []'),
    "layerS": with_text('"layerS": []'),
    "Config": with_text('"Config": {}'),
    "Manifests": with_text('"Manifests": []'),
    "Subject": with_text('"Subject": null'),
    "MediaType": with_text('"MediaType": "application/json"'),
    "mediatype": with_text('"mediatype": "application/json"'),
    "SchemaVersion": with_text('"SchemaVersion": 1'),
    "ArtifactType": with_text('"ArtifactType": "application/json"'),
    "Annotations": with_text('"Annotations": {}'),
    "only by another case": replaced('"layers"', '"Layers"'),
    "Digest in a descriptor": document(layers=[layer(Digest=sha256(CONFIG))]),
    "Size in a descriptor": document(layers=[layer(Size=1)]),
    "URLs in a descriptor": document(layers=[layer(URLs=["https://elsewhere.test/"])]),
    "MediaType in a descriptor": document(layers=[layer(MediaType="text/plain")]),
    # Go's encoding/json also reads a long s as an s.
    "layers with a long s": with_text('"layer\N{LATIN SMALL LETTER LONG S}": []'),
    "manifests with a long s": with_text('"manife\N{LATIN SMALL LETTER LONG S}ts": []'),
    "subject with a long s": with_text('"\N{LATIN SMALL LETTER LONG S}ubject": null'),
    "size with a long s": document(layers=[layer() | {"\N{LATIN SMALL LETTER LONG S}ize": 1}]),
    "digest with a long s": document(layers=[layer() | {"dige\N{LATIN SMALL LETTER LONG S}t": sha256(CONFIG)}]),
}
DEPTHS = {
    "33 levels": document(custom=nested(32)),
    "500 levels": document(custom=nested(500)),
    "100,000 lists": with_text('"custom": ' + "[" * 100_000 + "]" * 100_000),
    "100,000 objects": with_text('"custom": ' + '{"a":' * 100_000 + "1" + "}" * 100_000),
    "100,000 brackets and no end": with_text('"custom": ' + "[" * 100_000),
}
TEXTS = {
    "a surrogate as artifactType": with_text('"artifactType": "\\ud800"'),
    "a surrogate in an annotation": with_text('"annotations": {"a": "\\udfff"}'),
    "a surrogate in an annotation's key": with_text('"annotations": {"\\ud800": "a"}'),
    "a surrogate in a layer's type": document(layers=[layer(mediaType="application/\ud800")]),
    "a surrogate in a layer's annotation": document(layers=[layer(annotations={"a": "\ud800"})]),
    "a surrogate in a platform": document(layers=[layer(platform={"os": "\ud800", "architecture": "amd64"})]),
    "a surrogate in a digest": document(layers=[layer(digest="sha256:\ud800")]),
    "NUL in an annotation": document(annotations={"a": "b\0c"}),
    "NUL as artifactType": document(artifactType="application/\0"),
    "NUL in a platform": document(layers=[layer(platform={"os": "linux\0", "architecture": "amd64"})]),
    "NUL in a layer's type": document(layers=[layer(mediaType="application/\0")]),
    "a long artifactType": document(artifactType="application/" + "x" * 300),
    "a long type of a layer": document(layers=[layer(mediaType="application/" + "x" * 300)]),
    "artifactType is a number": document(artifactType=5),
}
SHAPES = {
    "no schemaVersion": document(schemaVersion=ABSENT),
    "schemaVersion 1": document(schemaVersion=1),
    "schemaVersion 3": document(schemaVersion=3),
    "schemaVersion true": document(schemaVersion=True),
    "schemaVersion 2.0": document(schemaVersion=2.0),
    'schemaVersion "2"': document(schemaVersion="2"),
    "schemaVersion null": document(schemaVersion=None),
    "no config": document(config=ABSENT),
    "config null": document(config=None),
    "config a list": document(config=[descriptor(CONFIG, OCI_CONFIG)]),
    "config a digest": document(config=sha256(CONFIG)),
    "layers a number": document(layers=0),
    "layers a text": document(layers=""),
    "layers an object": document(layers=layer()),
    "a layer null": document(layers=[None]),
    "a layer a digest": document(layers=[sha256(LAYER)]),
    "manifests besides layers": document(manifests=[]),
    "manifests besides layers, with an image": document(manifests=[descriptor(GOOD, OCI)]),
    "subject a digest": document(subject=sha256(LAYER)),
    "subject empty": document(subject={}),
    "subject with a malformed digest": document(subject=layer(digest="nonsense")),
    "subject without a size": document(subject=layer(size=ABSENT)),
    "annotations a list": document(annotations=["a"]),
    "an annotation is a number": document(annotations={"a": 1}),
    "an annotation is null": document(annotations={"a": None}),
    "a layer's annotation is a number": document(layers=[layer(annotations={"a": 1})]),
    "4,001 layers": document(layers=[layer()] * 4_001),
}
DESCRIPTORS = {
    "no mediaType": layer(mediaType=ABSENT),
    "mediaType null": layer(mediaType=None),
    "mediaType empty": layer(mediaType=""),
    "mediaType a number": layer(mediaType=1),
    "no digest": layer(digest=ABSENT),
    "digest null": layer(digest=None),
    "digest empty": layer(digest=""),
    "digest a number": layer(digest=1),
    "digest a list": layer(digest=[sha256(LAYER)]),
    "digest without algorithm": layer(digest=sha256(LAYER).removeprefix("sha256:")),
    "digest of a path": layer(digest="sha256:../../../../etc/passwd"),
    "digest in capitals": layer(digest="sha256:" + sha256(LAYER)[7:].upper()),
    "algorithm in capitals": layer(digest=sha256(LAYER).replace("sha256", "SHA256")),
    "digest too short": layer(digest=sha256(LAYER)[:-1]),
    "digest too long": layer(digest=sha256(LAYER) + "0"),
    "digest with an end of line": layer(digest=sha256(LAYER) + "\n"),
    "digest with NUL": layer(digest=sha256(LAYER) + "\0"),
    "digest of other digits": layer(digest="sha256:" + "\N{ARABIC-INDIC DIGIT ONE}" * 64),
    "md5": layer(digest="md5:" + hashlib.md5(LAYER).hexdigest()),
    "sha512 of 64 digits": layer(digest=sha256(LAYER).replace("sha256", "sha512")),
    "no size": layer(size=ABSENT),
    "size null": layer(size=None),
    "size negative": layer(size=-1),
    "size in quotes": layer(size="7"),
    "size 7.0": layer(size=7.0),
    "size true": layer(size=True),
    "size 2^63": layer(size=2**63),
    "size too small": layer(size=6),
    "size too large": layer(size=8),
    "size zero": layer(size=0),
    "urls a text": layer(urls="https://elsewhere.test/layer"),
    "urls an object": layer(urls={"a": "b"}),
    "a url that is a number": layer(urls=["https://elsewhere.test/layer", 1]),
    "platform a list": layer(platform=["linux"]),
    "platform a word": layer(platform="linux"),
}


@pytest.mark.parametrize(
    "cases",
    [NOT_JSON_OBJECTS, NUMBERS, KEYS, DEPTHS, TEXTS, SHAPES],
    ids=["not an object", "numbers", "keys", "depths", "texts", "shapes"],
)
def test_ambiguous_manifest_is_refused(member, subtests, cases):
    for case, content in cases.items():
        with subtests.test(case):
            before = stored()
            answer = member.push_manifest(NAME, "1.0", content, expect=400)
            assert answer.codes == ["MANIFEST_INVALID"]
            assert stored() == before
    member.push_manifest(NAME, "1.0", GOOD)


PLACES = {
    "config": lambda wrong: (document(config=wrong, layers=[]), OCI),
    "first layer": lambda wrong: (document(layers=[wrong, descriptor(CONFIG, OCI_LAYER_GZIP)]), OCI),
    "last layer": lambda wrong: (document(layers=[descriptor(CONFIG, OCI_LAYER_GZIP), wrong]), OCI),
    "entry of an index": lambda wrong: (index(wrong), OCI_INDEX),
}


@pytest.mark.parametrize("place", PLACES)
def test_invalid_descriptor_is_refused_at_every_place(member, subtests, place):
    for case, wrong in DESCRIPTORS.items():
        with subtests.test(case):
            before = stored()
            answer = member.push_manifest(NAME, "1.0", *PLACES[place](wrong), expect=400)
            assert answer.codes == ["MANIFEST_INVALID"]
            assert stored() == before


def test_wrong_sizes_of_an_indexs_images_are_refused(member):
    member.push_manifest(NAME, sha256(GOOD), GOOD)
    for size in (len(GOOD) - 1, len(GOOD) + 1, 0):
        wrong = index(descriptor(GOOD, OCI) | {"size": size})
        assert member.push_manifest(NAME, "all", wrong, OCI_INDEX, expect=400).codes == ["MANIFEST_INVALID"]


INDEXES = {
    "manifests a number": index(manifests=0),
    "manifests an object": index(manifests={}),
    "an entry null": index(None),
    "config besides": index(config=descriptor(CONFIG, OCI_CONFIG)),
    "layers besides": index(layers=[]),
    "schemaVersion 1": index(schemaVersion=1),
    "4,001 entries": index(*[layer()] * 4_001),
}


def test_invalid_index_is_refused(member, subtests):
    for case, content in INDEXES.items():
        with subtests.test(case):
            before = stored()
            answer = member.push_manifest(NAME, "1.0", content, OCI_INDEX, expect=400)
            assert answer.codes == ["MANIFEST_INVALID"]
            assert stored() == before


TYPES = {
    "the document says another": (document(mediaType=DOCKER), OCI),
    "the header says another": (document(), DOCKER),
    "an index said to be an image": (index(), OCI),
    "an image said to be an index": (document(mediaType=OCI_INDEX), OCI_INDEX),
    "an image said to be a list": (document(mediaType=ABSENT), DOCKER_LIST),
    "nobody says it": (document(mediaType=ABSENT), ""),
    "JSON": (document(mediaType=ABSENT), "application/json"),
    "bytes": (document(mediaType=ABSENT), OCTETS),
    "JSON, but the document knows better": (document(), "application/json"),
    "schema 1": (document(mediaType=ABSENT), "application/vnd.docker.distribution.manifest.v1+json"),
    "signed schema 1": (document(mediaType=ABSENT), "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    "schema 1 in the document": (document(mediaType="application/vnd.docker.distribution.manifest.v1+json"), ""),
    "an unknown type in the document": (document(mediaType="application/vnd.example+json"), ""),
    "an artifact manifest": (document(mediaType=ABSENT), "application/vnd.oci.artifact.manifest.v1+json"),
    "a number in the document": (document(mediaType=5), OCI),
    "a type with more behind": (document(mediaType=ABSENT), OCI + "x"),
}


def test_header_and_document_must_name_the_same_media_type(member, subtests):
    for case, (content, media_type) in TYPES.items():
        with subtests.test(case):
            before = stored()
            assert member.push_manifest(NAME, "1.0", content, media_type, expect=400).codes == ["MANIFEST_INVALID"]
            assert stored() == before


@pytest.mark.parametrize("deleted", [False, True], ids=["", "even after it was deleted"])
def test_digest_keeps_its_first_media_type(member, deleted):
    """CVE-2021-41190: the same bytes must not be an image for one reader and an index for another."""
    content = document(mediaType=ABSENT)
    member.push_manifest(NAME, "1.0", content, OCI)
    if deleted:
        member.delete(f"{NAME}/manifests/{sha256(content)}", 202)
    assert member.push_manifest(NAME, "1.0", content, DOCKER, expect=400).codes == ["MANIFEST_INVALID"]
    member.push_manifest(NAME, "1.0", content, OCI)
    assert member.get(f"{NAME}/manifests/1.0", 200).headers["Content-Type"] == OCI


def test_repeated_layer_with_a_wrong_size_is_refused(member):
    for layers in ([layer(size=8), layer()], [layer(), layer(size=8)]):
        content = document(layers=layers)
        assert member.push_manifest(NAME, "1.0", content, expect=400).codes == ["MANIFEST_INVALID"]


# ── Accepted documents ───────────────────────────────────────────────────────────────────────────────────────────────
EMPTY_CONFIG = descriptor(b"{}", OCI_EMPTY)
NEVER_HERE = descriptor(ABSENT_BLOB, OCI_LAYER_GZIP)
ACCEPTED = {
    "an image": (document(), OCI),
    "without mediaType": (document(mediaType=ABSENT), OCI),
    "without Content-Type": (document(), ""),
    "Content-Type with a parameter": (document(), f"{OCI}; charset=utf-8"),
    "Content-Type in capitals": (document(), OCI.upper()),
    "a Docker image": (document(mediaType=DOCKER), DOCKER),
    "no layers": (document(layers=[]), OCI),
    "the same layer twice": (document(layers=[layer(), layer()]), OCI),
    "the config as a layer": (document(layers=[descriptor(CONFIG, OCI_LAYER_GZIP)]), OCI),
    "4,000 layers": (document(layers=[layer()] * 4_000), OCI),
    "an empty config": (document(config=EMPTY_CONFIG, artifactType="application/vnd.example", layers=[]), OCI),
    "an empty blob": (document(layers=[descriptor(b"", OCI_LAYER_GZIP)]), OCI),
    "an unknown artifactType": (document(artifactType="application/vnd.example.nobody.knows+cbor"), OCI),
    "unknown types": (
        document(
            config=descriptor(CONFIG, "application/vnd.cncf.helm.config.v1+json"),
            layers=[layer(mediaType="application/vnd.cncf.helm.chart.content.v1.tar+gzip")],
        ),
        OCI,
    ),
    "zstd": (document(layers=[layer(mediaType=OCI_LAYER_ZSTD)]), OCI),
    "in-toto": (document(layers=[layer(mediaType="application/vnd.in-toto+json")]), OCI),
    "wasm": (document(layers=[layer(mediaType="application/wasm")]), OCI),
    "foreign layers that are not here": (
        document(
            layers=[layer()]
            + [
                NEVER_HERE | {"mediaType": media_type, "urls": ["https://elsewhere.test/layer"]}
                for media_type in FOREIGN_TYPES
            ]
        ),
        OCI,
    ),
    "a foreign layer without urls": (document(layers=[NEVER_HERE | {"mediaType": FOREIGN_TYPES[0]}]), OCI),
    "a foreign layer of an unknown algorithm": (
        document(layers=[NEVER_HERE | {"mediaType": FOREIGN_TYPES[1], "digest": "blake3:" + "a" * 64}]),
        OCI,
    ),
    "no urls at all, in words": (document(layers=[layer(urls=[])]), OCI),
    "custom fields": (document(custom={"a": [1, 2.5, None, True, {"b": "c"}]}, more="fields"), OCI),
    "custom fields in a descriptor": (document(layers=[layer(custom={"a": 1}, data="YSBsYXllcg==")]), OCI),
    "annotations": (document(annotations={"org.opencontainers.image.title": "ἀρχή 시작 🚢", "": ""}), OCI),
    "annotations whose keys are like ours": (
        document(annotations={"Layers": "12", "OS": "linux", "Size": "7", "URLs": "none"}),
        OCI,
    ),
    "32 levels": (document(custom=nested(31)), OCI),
    "a large number that nobody reads": (document(custom=2**63), OCI),
    "white space and order of one's own": (b"\n" + json.dumps(json.loads(GOOD), indent=4).encode() + b"\n\n", OCI),
    "escapes of one's own": (GOOD.replace(b'"layers"', b'"\\u006cayers"'), OCI),
    "urls of a layer that is here": (document(layers=[layer(urls=["https://elsewhere.test/layer"])]), OCI),
    "urls null": (document(layers=[layer(urls=None)]), OCI),
    "layers null, as Go writes an empty list": (document(layers=None), OCI),
    "layers left out": (document(layers=ABSENT), OCI),
    "manifests null": (index(manifests=None), OCI_INDEX),
    "no manifests": (index(manifests=ABSENT), OCI_INDEX),
    "an empty index": (index(), OCI_INDEX),
    "an empty Docker list": (index(mediaType=DOCKER_LIST), DOCKER_LIST),
    "an index of blobs, as BuildKit's cache": (index(layer(), descriptor(CONFIG, OCI_CONFIG)), OCI_INDEX),
    "an artifact as an index": (index(artifactType="application/vnd.example"), OCI_INDEX),
}


def test_accepted_manifests_are_pulled_unchanged(docker, member, subtests):
    for data in (b"", b"{}"):
        member.push_blob(NAME, data, "post")
    viewer = docker("viewer")
    for case, (content, media_type) in ACCEPTED.items():
        with subtests.test(case):
            answer = member.push_manifest(NAME, "1.0", content, media_type)
            assert answer.headers["Docker-Content-Digest"] == sha256(content)
            assert answer.headers["Location"] == f"/v2/{NAME}/manifests/{sha256(content)}"
            assert answer.headers["Content-Length"] == "0"
            assert "OCI-Subject" not in answer.headers
            assert "OCI-Tag" not in answer.headers
            for path in (f"{NAME}/manifests/1.0", answer.headers["Location"]):
                pulled = viewer.get(path, 200)
                assert pulled.body == content
                expected = media_type.partition(";")[0].lower() or json.loads(content)["mediaType"]
                assert pulled.headers["Content-Type"] == expected


@pytest.mark.parametrize("size", [65_536, 65_537, 4 * MIB])
@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_manifests_of_up_to_4_mib_are_pulled_unchanged(member, size, chunked):
    content = padded(size)
    body = {"stream": BytesIO(content)} if chunked else {"body": content}
    member.put(f"{NAME}/manifests/1.0", 201, headers={"Content-Type": OCI}, **body)
    answer = member.get(f"{NAME}/manifests/1.0", 200)
    assert answer.body == content
    assert answer.headers["Content-Length"] == str(size)


# ── Size ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
class Endless(BytesIO):
    """A body without an end that counts the bytes read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert size > 0, "a read without a bound never ends"
        self.taken += size
        return b" " * size

    read1 = read


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_a_byte_more_than_4_mib_is_too_large(member, chunked):
    content = padded(4 * MIB + 1)
    body = {"stream": BytesIO(content)} if chunked else {"body": content}
    answer = member.put(f"{NAME}/manifests/1.0", 413, headers={"Content-Type": OCI}, **body)
    assert answer.codes == ["MANIFEST_INVALID"]
    assert not any(stored())


def test_endless_manifest_is_read_up_to_its_limit(member):
    body = Endless()
    member.put(f"{NAME}/manifests/1.0", 413, headers={"Content-Type": OCI}, stream=body)
    assert body.taken <= 4 * MIB + 64 * 1024


def test_manifest_with_too_large_content_length_is_not_read(member):
    body = Endless()
    headers = {"Content-Type": OCI, "Content-Length": str(1024 * MIB)}
    member.put(f"{NAME}/manifests/1.0", 413, headers=headers, stream=body)
    assert body.taken == 0


@pytest.mark.parametrize("length", [len(GOOD) + 1, 4 * MIB])
def test_truncated_manifest_is_refused(member, length):
    headers = {"Content-Type": OCI, "Content-Length": str(length)}
    answer = member.put(f"{NAME}/manifests/1.0", 400, headers=headers, stream=BytesIO(GOOD))
    assert answer.codes == ["SIZE_INVALID"]
    assert not any(stored())


# ── References ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_each_missing_blob_is_an_error_of_its_own(member):
    missing = [b"one", b"two", b"three"]
    content = document(
        layers=[layer(), *(descriptor(data, OCI_LAYER_GZIP) for data in missing), NEVER_HERE, NEVER_HERE]
    )
    answer = member.push_manifest(NAME, "1.0", content, expect=400)
    assert answer.codes == ["MANIFEST_BLOB_UNKNOWN"] * 4
    details = {error["detail"]["digest"] for error in answer.json()["errors"]}
    assert details == {sha256(data) for data in (*missing, ABSENT_BLOB)}
    assert not any(stored())


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (document(config=descriptor(ABSENT_BLOB, OCI_CONFIG)), OCI),
        (document(layers=[NEVER_HERE]), OCI),
        (document(mediaType=DOCKER, layers=[NEVER_HERE]), DOCKER),
        (document(layers=[layer(digest="sha512:" + hashlib.sha512(LAYER).hexdigest())]), OCI),
        (index(NEVER_HERE), OCI_INDEX),
        (index(descriptor(GOOD, OCI)), OCI_INDEX),
        (index(descriptor(LAYER, OCI)), OCI_INDEX),
        (document(layers=[NEVER_HERE | {"urls": ["https://elsewhere.test/layer"]}]), OCI),
    ],
    ids=[
        "config",
        "layer",
        "Docker",
        "by another algorithm",
        "BuildKit's cache",
        "an index's image",
        "a blob for an image",
        "a layer with urls",
    ],
)
def test_missing_references_of_a_manifest_are_refused(member, content, media_type):
    answer = member.push_manifest(NAME, "1.0", content, media_type, expect=400)
    assert answer.codes == ["MANIFEST_BLOB_UNKNOWN"]
    assert not any(stored())


def test_blob_of_another_repository_cannot_be_named(docker, member):
    """Knowing a digest gives no access to its bytes."""
    docker("owner", BARE_HOST).push("lab/secret/app", "1.0", Image(layers=[b"a secret"]), shape="post")
    docker("member").push("public/app", "1.0", Image(layers=[b"in public"]), shape="post")
    before = [model.objects.count() for model in (Manifest, ManifestBlob, Tag, StoredImage, Event, BlobLease)]
    for data in (b"a secret", b"in public"):
        content = document(layers=[descriptor(data, OCI_LAYER_GZIP)])
        assert member.push_manifest(NAME, "1.0", content, expect=400).codes == ["MANIFEST_BLOB_UNKNOWN"]
    assert before == [model.objects.count() for model in (Manifest, ManifestBlob, Tag, StoredImage, Event, BlobLease)]


def test_layer_of_the_repository_can_be_named_by_all_its_images(docker, member):
    docker("pusher").push_manifest("web/quite/another", "1.0", GOOD)
    assert docker("viewer").pull("web/quite/another", "1.0")[0] == GOOD


def test_layer_with_an_expired_lease_cannot_be_named(member):
    BlobLease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert set(member.push_manifest(NAME, "1.0", GOOD, expect=400).codes) == {"MANIFEST_BLOB_UNKNOWN"}
    for data in (CONFIG, LAYER):
        member.push_blob(NAME, data)
    member.push_manifest(NAME, "1.0", GOOD)


# ── Indexes ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("index_type", "image_type"), [(OCI_INDEX, OCI), (DOCKER_LIST, DOCKER), (OCI_INDEX, DOCKER), (DOCKER_LIST, OCI)]
)
def test_index_is_pulled_unchanged(docker, member, index_type, image_type):
    images = [document(mediaType=image_type, annotations={"for": platform}) for platform in ("amd64", "arm64")]
    for image in images:
        member.push_manifest(NAME, sha256(image), image, image_type)
    platforms = [{"os": "linux", "architecture": name} for name in ("amd64", "arm64")]
    entries = [descriptor(image, image_type, platform=at) for image, at in zip(images, platforms, strict=True)]
    content = index(*entries, mediaType=index_type, custom="one's own")
    member.push_manifest(NAME, "1.0", content, index_type)
    pulled = docker("viewer").get(f"{NAME}/manifests/1.0", 200)
    assert (pulled.body, pulled.headers["Content-Type"]) == (content, index_type)
    for entry in pulled.json()["manifests"]:
        assert docker("viewer").pull(NAME, entry["digest"])[1] == image_type


def test_an_index_may_name_an_index(member):
    member.push_manifest(NAME, sha256(GOOD), GOOD)
    inner = index(descriptor(GOOD, OCI))
    member.push_manifest(NAME, sha256(inner), inner, OCI_INDEX)
    member.push_manifest(NAME, "1.0", index(descriptor(inner, OCI_INDEX), descriptor(GOOD, OCI)), OCI_INDEX)


def test_index_with_a_missing_child_is_refused(member):
    """Sparse indexes are refused: the specification leaves this open, and some platforms could not be pulled."""
    member.push_manifest(NAME, sha256(GOOD), GOOD)
    absent = [document(annotations={"for": platform}) for platform in ("arm64", "s390x")]
    content = index(descriptor(GOOD, OCI), *(descriptor(image, OCI) for image in absent))
    answer = member.push_manifest(NAME, "1.0", content, OCI_INDEX, expect=400)
    assert answer.codes == ["MANIFEST_BLOB_UNKNOWN"] * 2
    assert {error["detail"]["digest"] for error in answer.json()["errors"]} == {sha256(image) for image in absent}
    assert member.tags(NAME) == []


def test_index_with_a_child_of_another_image_is_refused(member):
    member.push_manifest("web/other", "1.0", GOOD)
    answer = member.push_manifest(NAME, "1.0", index(descriptor(GOOD, OCI)), OCI_INDEX, expect=400)
    assert answer.codes == ["MANIFEST_BLOB_UNKNOWN"]


# ── Subjects ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "subject",
    [GOOD, b"never pushed", "blake3:" + "a" * 64, "sha512:" + "a" * 128],
    ids=["pushed", "absent", "of an unknown algorithm", "sha512"],
)
@pytest.mark.parametrize("media_type", [OCI, OCI_INDEX])
def test_a_subject_may_be_missing_and_is_confirmed(member, subject, media_type):
    member.push_manifest(NAME, "1.0", GOOD)
    digest = subject if isinstance(subject, str) else sha256(subject)
    named = {"mediaType": OCI, "digest": digest, "size": 123}
    content = document(subject=named) if media_type == OCI else index(subject=named)
    answer = member.push_manifest(NAME, sha256(content), content, media_type)
    assert answer.headers["OCI-Subject"] == digest
    again = member.push_manifest(NAME, "signature", content, media_type)
    assert again.headers["OCI-Subject"] == digest


def test_null_subject_is_no_subject(member):
    assert "OCI-Subject" not in member.push_manifest(NAME, "1.0", document(subject=None)).headers


# ── By tag and by digest ─────────────────────────────────────────────────────────────────────────────────────────────
SHA512 = "sha512:" + hashlib.sha512(GOOD).hexdigest()


@pytest.mark.parametrize("digest", [sha256(GOOD), SHA512], ids=["sha256", "sha512"])
def test_a_manifest_is_pushed_by_its_digest(docker, member, digest):
    answer = member.push_manifest(NAME, digest, GOOD)
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["Location"] == f"/v2/{NAME}/manifests/{digest}"
    pulled = docker("viewer").get(answer.headers["Location"], 200)
    assert pulled.body == GOOD
    assert pulled.headers["Docker-Content-Digest"] == digest
    assert docker("viewer").head(answer.headers["Location"], 200).headers["Docker-Content-Digest"] == digest
    assert member.tags(NAME) == []
    member.delete(answer.headers["Location"], 202)
    member.get(answer.headers["Location"], 404)


def test_manifest_is_found_only_by_the_algorithm_it_was_pushed_with(member):
    member.push_manifest(NAME, SHA512, GOOD)
    assert member.get(f"{NAME}/manifests/{sha256(GOOD)}", 404).codes == ["MANIFEST_UNKNOWN"]
    member.push_manifest(NAME, sha256(GOOD), GOOD)
    for digest in (SHA512, sha256(GOOD)):
        assert member.get(f"{NAME}/manifests/{digest}", 200).body == GOOD


WRONG_DIGESTS = [
    sha256(b"something else"),
    "sha512:" + hashlib.sha512(b"something else").hexdigest(),
    "sha256:baddigeststring",
    sha256(GOOD).upper(),
    "sha256:" + sha256(GOOD)[7:].upper(),
    sha256(GOOD)[:-1],
    f"{sha256(GOOD)}0",
    f"{sha256(GOOD)}%0a",
    f"{sha256(GOOD)}%00",
    "md5:" + hashlib.md5(GOOD).hexdigest(),
    "sha256:",
    ":",
    "1.0:latest",
    "sha256:..%5c..%5cetc%5cpasswd",
]


def test_wrong_digest_of_the_body_is_refused(member, subtests):
    for digest in WRONG_DIGESTS:
        with subtests.test(digest):
            answer = member.put(f"{NAME}/manifests/{digest}", 400, body=GOOD, headers={"Content-Type": OCI})
            assert answer.codes == ["DIGEST_INVALID"]
    assert not any(stored())


BAD_TAGS = [
    ".hidden",
    "-option",
    "a" * 129,
    "a!b",
    "a b",
    "%ec%8b%9c%ec%9e%91",
    "1.0%0a",
    "1.0%00",
    "..",
    "a%25b",
    "a@b",
]


def test_invalid_tag_is_refused_by_push_pull_and_delete(member, subtests):
    for tag in BAD_TAGS:
        with subtests.test(tag):
            pushed = member.put(f"{NAME}/manifests/{tag}", body=GOOD, headers={"Content-Type": OCI})
            assert pushed.status in (400, 404)
            assert pushed.codes[0] in ("MANIFEST_INVALID", "MANIFEST_UNKNOWN")
            assert member.get(f"{NAME}/manifests/{tag}", 404).codes == ["MANIFEST_UNKNOWN"]
            assert member.delete(f"{NAME}/manifests/{tag}", 404).codes == ["MANIFEST_UNKNOWN"]
    assert not any(stored())


def test_every_tag_of_the_grammar_is_accepted(member, subtests):
    for tag in ("a", "0", "_", "A" * 128, "1.0-rc.1_x", "sha256-" + "a" * 64, "v1..2", "x.sig", "latest"):
        with subtests.test(tag):
            member.push_manifest(NAME, tag, GOOD)
            assert member.get(f"{NAME}/manifests/{tag}", 200).body == GOOD


def test_repeated_push_of_a_tag_adds_one_event_and_of_a_digest_none(docker, member):
    member.push_manifest(NAME, "1.0", GOOD)
    events, rows = Event.objects.count(), Tag.objects.count()
    for reference in ("1.0", sha256(GOOD)):
        answer = member.push_manifest(NAME, reference, GOOD)
        assert answer.headers["Docker-Content-Digest"] == sha256(GOOD)
    assert Event.objects.count() == events + 1
    docker("pusher").push_manifest(NAME, "1.0", GOOD)
    assert (Event.objects.count(), Tag.objects.count(), Manifest.objects.count()) == (events + 2, rows, 1)


# ── Pulled ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_manifest_is_pulled_with_the_headers_that_clients_read(docker, member):
    member.push_manifest(NAME, "1.0", GOOD)
    for reference in ("1.0", sha256(GOOD)):
        for method in ("GET", "HEAD"):
            answer = docker("viewer").request(method, f"{NAME}/manifests/{reference}", 200)
            assert answer.headers["Content-Type"] == OCI
            assert answer.headers["Content-Length"] == str(len(GOOD))
            assert answer.headers["Docker-Content-Digest"] == sha256(GOOD)
            assert answer.headers["ETag"] == f'"{sha256(GOOD)}"'
            assert answer.body == (GOOD if method == "GET" else b"")


@pytest.mark.parametrize(
    "accept", ["", "*/*", "text/html", DOCKER, "application/vnd.docker.distribution.manifest.v1+json"]
)
def test_stored_media_type_is_sent_whatever_accept_says(member, accept):
    member.push_manifest(NAME, "1.0", GOOD)
    answer = member.get(f"{NAME}/manifests/1.0", 200, headers={"Accept": accept})
    assert (answer.body, answer.headers["Content-Type"]) == (GOOD, OCI)


def test_matching_if_none_match_is_304(member, subtests):
    member.push_manifest(NAME, "1.0", GOOD)
    etag = member.head(f"{NAME}/manifests/1.0", 200).headers["ETag"]
    for condition in (etag, f"W/{etag}", f'"another", {etag}', "*"):
        for method in ("GET", "HEAD"):
            with subtests.test(f"{method} {condition}"):
                answer = member.request(method, f"{NAME}/manifests/1.0", 304, headers={"If-None-Match": condition})
                assert answer.body == b""
                assert answer.headers["ETag"] == etag
                assert answer.headers["Docker-Content-Digest"] == sha256(GOOD)


def test_outdated_if_none_match_gets_the_manifest(member):
    member.push_manifest(NAME, "1.0", GOOD)
    etag = member.head(f"{NAME}/manifests/1.0", 200).headers["ETag"]
    newer = document(layers=[])
    member.push_manifest(NAME, "1.0", newer)
    assert member.get(f"{NAME}/manifests/1.0", 200, headers={"If-None-Match": etag}).body == newer
    assert member.get(f"{NAME}/manifests/{sha256(GOOD)}", 200).body == GOOD, "what a tag was before is still there"


def test_last_modified_says_when_digest_and_tag_were_pushed(docker, member, subtests):
    """Some tools wait until a release has a minimum age."""
    newer = document(layers=[])
    member.push_manifest(NAME, "1.0", GOOD)
    member.push_manifest(NAME, "1.0", newer)
    first, second, pushed = (datetime(2026, 9, day, 10, 30, 15, 999_999, UTC) for day in (1, 2, 3))
    Tag.objects.filter(ended_at=None).update(started_at=second, pushed_at=second)
    Tag.objects.exclude(ended_at=None).update(started_at=first, ended_at=second)
    Manifest.objects.update(pushed_at=pushed)
    for reference, expected in (
        ("1.0", "Wed, 02 Sep 2026 10:30:15 GMT"),
        ("1.0--at-20260901t1200z", "Tue, 01 Sep 2026 10:30:15 GMT"),
        (sha256(GOOD), "Thu, 03 Sep 2026 10:30:15 GMT"),
        (sha256(newer), "Thu, 03 Sep 2026 10:30:15 GMT"),
    ):
        etag = docker("viewer").head(f"{NAME}/manifests/{reference}", 200).headers["ETag"]
        for method, headers, status in (("GET", {}, 200), ("HEAD", {}, 200), ("GET", {"If-None-Match": etag}, 304)):
            with subtests.test(f"{method} {reference} {status}"):
                answer = docker("viewer").request(method, f"{NAME}/manifests/{reference}", status, headers=headers)
                assert answer.headers["Last-Modified"] == expected
                assert answer.headers["Cache-Control"] == "no-cache"


def test_last_modified_is_never_in_the_future(member):
    """The clocks of several machines may differ."""
    member.push_manifest(NAME, "1.0", GOOD)
    Tag.objects.update(pushed_at=timezone.now() + timedelta(minutes=5))
    said = member.head(f"{NAME}/manifests/1.0", 200).headers["Last-Modified"]
    assert parsedate_to_datetime(said) <= timezone.now()


def test_if_modified_since_is_ignored(member):
    """A tag may move twice in a second, so only the digest is a valid condition."""
    member.push_manifest(NAME, "1.0", GOOD)
    said = member.head(f"{NAME}/manifests/1.0", 200).headers["Last-Modified"]
    newer = document(layers=[])
    member.push_manifest(NAME, "1.0", newer)
    assert member.get(f"{NAME}/manifests/1.0", 200, headers={"If-Modified-Since": said}).body == newer


@pytest.mark.parametrize("reference", ["2.0", sha256(b"never pushed"), "sha512:" + "a" * 128])
def test_missing_manifest_is_manifest_unknown(member, reference):
    assert member.get(f"{NAME}/manifests/{reference}", 404).codes == ["MANIFEST_UNKNOWN"]
    member.push_manifest(NAME, "1.0", GOOD)
    assert member.get(f"{NAME}/manifests/{reference}", 404).codes == ["MANIFEST_UNKNOWN"]
    assert member.head(f"{NAME}/manifests/{reference}", 404).body == b""


def test_digest_is_found_only_in_its_image(member):
    member.push_manifest(NAME, "1.0", GOOD)
    for reference in ("1.0", sha256(GOOD)):
        assert member.get(f"web/other/manifests/{reference}", 404).codes == ["MANIFEST_UNKNOWN"]


def test_unknown_repository_is_name_unknown(docker):
    for method in ("GET", "PUT", "DELETE"):
        answer = docker("member").request(method, "nowhere/app/manifests/1.0", 404, body=GOOD)
        assert answer.codes == ["NAME_UNKNOWN"]


# ── Deleted ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_deleting_a_tag_leaves_the_digest_and_the_other_tags(member):
    member.push_manifest(NAME, "1.0", GOOD)
    member.push_manifest(NAME, "latest", GOOD)
    assert member.delete(f"{NAME}/manifests/1.0", 202).body == b""
    assert member.get(f"{NAME}/manifests/1.0", 404).codes == ["MANIFEST_UNKNOWN"]
    assert member.get(f"{NAME}/manifests/latest", 200).body == GOOD
    assert member.get(f"{NAME}/manifests/{sha256(GOOD)}", 200).body == GOOD
    assert member.tags(NAME) == ["latest"]
    assert member.delete(f"{NAME}/manifests/1.0", 404).codes == ["MANIFEST_UNKNOWN"]
    member.delete(f"{NAME}/manifests/latest", 202)
    assert member.tags(NAME) == []
    assert member.pull(NAME, sha256(GOOD))[0] == GOOD


def test_deleting_a_digest_takes_all_its_tags_at_once(docker, member):
    newer = document(layers=[])
    for tag in ("1", "1.0", "latest"):
        member.push_manifest(NAME, tag, GOOD)
    member.push_manifest(NAME, "2.0", newer)
    assert member.delete(f"{NAME}/manifests/{sha256(GOOD)}", 202).body == b""
    for reference in ("1", "1.0", "latest", sha256(GOOD)):
        for client in (member, docker("viewer")):
            assert client.get(f"{NAME}/manifests/{reference}", 404).codes == ["MANIFEST_UNKNOWN"]
            client.head(f"{NAME}/manifests/{reference}", 404)
    assert member.tags(NAME) == ["2.0"]
    assert member.pull(NAME, "2.0")[0] == newer
    assert member.delete(f"{NAME}/manifests/{sha256(GOOD)}", 404).codes == ["MANIFEST_UNKNOWN"]


def test_deleting_something_unknown_deletes_nothing(member):
    assert member.delete(f"{NAME}/manifests/1.0", 404).codes == ["MANIFEST_UNKNOWN"]
    member.push_manifest(NAME, "1.0", GOOD)
    for reference in ("2.0", sha256(b"never pushed")):
        assert member.delete(f"{NAME}/manifests/{reference}", 404).codes == ["MANIFEST_UNKNOWN"]
    assert member.delete(f"{NAME}/manifests/sha256:nonsense", 400).codes == ["DIGEST_INVALID"]
    assert member.pull(NAME, "1.0")[0] == GOOD


@pytest.mark.parametrize("tagged", [False, True], ids=["by digest", "by tag"])
def test_push_of_a_deleted_manifest_revives_it(docker, member, tagged):
    member.push_manifest(NAME, "1.0", GOOD)
    member.delete(f"{NAME}/manifests/{sha256(GOOD)}", 202)
    member.push_manifest(NAME, "1.0" if tagged else sha256(GOOD), GOOD)
    assert docker("viewer").pull(NAME, sha256(GOOD))[0] == GOOD
    assert member.tags(NAME) == (["1.0"] if tagged else [])


def test_child_of_a_live_index_is_not_deleted(docker, member):
    member.push_manifest(NAME, "amd64", GOOD)
    member.push_manifest(NAME, "all", index(descriptor(GOOD, OCI)), OCI_INDEX)
    refused = member.delete(f"{NAME}/manifests/{sha256(GOOD)}", 405)
    assert refused.codes == ["UNSUPPORTED"]
    member.delete(f"{NAME}/manifests/amd64", 202)
    assert docker("viewer").pull(NAME, sha256(GOOD))[0] == GOOD


def test_deleted_index_takes_its_untagged_children(member):
    tagged, untagged = document(annotations={"for": "amd64"}), document(annotations={"for": "arm64"})
    member.push_manifest(NAME, "amd64", tagged)
    member.push_manifest(NAME, sha256(untagged), untagged)
    all_of_them = index(descriptor(tagged, OCI), descriptor(untagged, OCI))
    member.push_manifest(NAME, "all", all_of_them, OCI_INDEX)
    member.delete(f"{NAME}/manifests/{sha256(all_of_them)}", 202)
    assert member.get(f"{NAME}/manifests/{sha256(untagged)}", 404).codes == ["MANIFEST_UNKNOWN"]
    assert member.pull(NAME, "amd64")[0] == tagged
    # A second push must bring the missing children first, and then restores everything.
    answer = member.push_manifest(NAME, "all", all_of_them, OCI_INDEX, expect=400)
    assert answer.codes == ["MANIFEST_BLOB_UNKNOWN"]
    assert answer.json()["errors"][0]["detail"]["digest"] == sha256(untagged)
    member.push_manifest(NAME, sha256(untagged), untagged)
    member.push_manifest(NAME, "all", all_of_them, OCI_INDEX)
    assert member.get(f"{NAME}/manifests/all", 200).body == all_of_them


def test_child_of_two_indexes_is_deleted_with_the_second(member):
    member.push_manifest(NAME, sha256(GOOD), GOOD)
    indexes = [index(descriptor(GOOD, OCI), annotations={"number": number}) for number in ("1", "2")]
    for number, content in enumerate(indexes):
        member.push_manifest(NAME, f"all-{number}", content, OCI_INDEX)
    member.delete(f"{NAME}/manifests/{sha256(indexes[0])}", 202)
    assert member.pull(NAME, sha256(GOOD))[0] == GOOD
    assert member.delete(f"{NAME}/manifests/{sha256(GOOD)}", 405).codes == ["UNSUPPORTED"]
    member.delete(f"{NAME}/manifests/{sha256(indexes[1])}", 202)
    member.get(f"{NAME}/manifests/{sha256(GOOD)}", 404)


# ── Expired images ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_expired_image_is_neither_pulled_nor_pushed_and_the_reason_is_given(docker, member):
    member.push_manifest(NAME, "1.0", GOOD)
    member.push_manifest("web/other", "1.0", GOOD)
    StoredImage.objects.filter(name="app").update(expires_at=timezone.now() - timedelta(seconds=1))
    for reference in ("1.0", sha256(GOOD)):
        for client in (member, docker("viewer"), docker("owner")):
            refused = client.get(f"{NAME}/manifests/{reference}", 403)
            assert refused.codes == ["DENIED"]
            assert "expired" in refused.message
            client.head(f"{NAME}/manifests/{reference}", 403)
        refused = member.push_manifest(NAME, reference, GOOD, expect=403)
        assert refused.codes == ["DENIED"]
        assert "expired" in refused.message
    assert member.push_manifest(NAME, "2.0", document(layers=[]), expect=403).codes == ["DENIED"]
    assert docker("viewer").pull("web/other", "1.0")[0] == GOOD, "other images of the repository have their own date"
    StoredImage.objects.update(expires_at=timezone.now() + timedelta(days=1))
    assert docker("viewer").pull(NAME, "1.0")[0] == GOOD
    member.push_manifest(NAME, "2.0", document(layers=[]))


def test_the_layers_of_an_expired_image_are_not_pulled_unless_another_image_has_them(docker, member):
    alone, shared = b"a layer of its own", b"a layer of both"
    member.push(NAME, "1.0", Image(layers=[alone, shared]))
    member.push("web/other", "1.0", Image(layers=[shared]))
    BlobLease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    StoredImage.objects.filter(name="app").update(expires_at=timezone.now() - timedelta(seconds=1))
    for client in (docker("viewer"), member, docker("owner")):
        for method in (client.get, client.head) if client is not member else (client.get,):
            assert method(f"{NAME}/blobs/{sha256(alone)}", 403)
        assert "expired" in client.get(f"web/other/blobs/{sha256(alone)}", 403).message
        assert client.get(f"{NAME}/blobs/{sha256(shared)}", 200).body == shared
    docker("stranger").get(f"{NAME}/blobs/{sha256(alone)}", 404)
    # A lease does not help either: here a push brings the bytes again.
    bearer = {"Authorization": f"Bearer {member.token(f'repository:{NAME}:pull,push')}"}
    member.head(f"{NAME}/blobs/{sha256(alone)}", 404, headers=bearer)
    member.post(f"public/app/blobs/uploads/?mount={sha256(alone)}&from={NAME}", 202)
    manifest = Image(config=Image().config, layers=[alone]).manifest
    assert member.push_manifest("web/other", "2.0", manifest, expect=400).codes == ["MANIFEST_BLOB_UNKNOWN"]
    member.push("web/other", "2.0", Image(layers=[alone]))
    assert docker("viewer").get(f"{NAME}/blobs/{sha256(alone)}", 200).body == alone
    StoredImage.objects.update(expires_at=None)
    assert docker("viewer").pull(NAME, "1.0")[0] == Image(layers=[alone, shared]).manifest


def test_expiry_is_not_revealed_to_users_without_access(docker, member):
    member.push_manifest(NAME, "1.0", GOOD)
    StoredImage.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert docker("stranger").get(f"{NAME}/manifests/1.0", 404).codes == ["NAME_UNKNOWN"]
    assert docker(None).get(f"{NAME}/manifests/1.0", 401).codes == ["UNAUTHORIZED"]


def test_permission_of_a_slow_push_is_checked_after_its_body(docker, world):
    """A user whose role is revoked during the upload is refused."""
    member, image = docker("member"), Image()
    for data in (image.config, *image.layers):
        member.push_blob(NAME, data)

    class Slow(BytesIO):
        def read(self, *size):
            keys.revoke(world.member.key)
            return super().read(*size)

        read1 = read

    headers = member.basic() | {"Content-Type": image.media_type}
    answer = member.raw("PUT", f"/v2/{NAME}/manifests/late", stream=Slow(image.manifest), headers=headers)
    assert answer.status == 401
    assert not Tag.objects.filter(name="late").exists()
