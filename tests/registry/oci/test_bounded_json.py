"""Bounded JSON: the cost of a document is limited before it is parsed."""

import json
import threading

import pytest

from registry.oci import bounded_json, configs, documents, media_types

EMPTY = {"mediaType": media_types.OCI_CONFIG, "digest": f"sha256:{'0' * 64}", "size": 2}
MANIFEST = {"schemaVersion": 2, "config": EMPTY, "layers": []}


@pytest.mark.parametrize("value", ["{}", "[]", "1", '""', '{"a":1}', "[[[[]]]]"])
def test_a_document_of_too_many_values_is_refused_before_it_is_built(value, monkeypatch):
    monkeypatch.setattr(json, "loads", None)
    content = b'{"schemaVersion":2,"a":[' + b",".join([value.encode()] * 1_000_000)[: documents.MAX_BYTES] + b"]}"
    with pytest.raises(documents.InvalidDocument, match="too many values: more than 100,000"):
        documents.parse(content, media_types.OCI_MANIFEST)
    assert configs.parse(content) == configs.Config(is_too_complex=True)


def test_the_largest_index_that_is_useful_is_read():
    """The index has 4,000 entries with all fields."""
    entry = {
        "mediaType": media_types.OCI_MANIFEST,
        "digest": f"sha256:{'0' * 64}",
        "size": 1,
        "artifactType": "application/x",
        "platform": {"architecture": "arm64", "os": "linux", "os.version": "1", "variant": "v8", "os.features": ["x"]},
        "annotations": {f"key{number}": "value" for number in range(4)},
    }
    content = json.dumps({"schemaVersion": 2, "manifests": [entry] * 4_000}, separators=(",", ":")).encode()
    assert len(documents.parse(content, media_types.OCI_INDEX).manifests) == 4_000


@pytest.mark.parametrize("size", [bounded_json.LARGE, bounded_json.LARGE + 1])
def test_large_documents_are_limited_and_small_ones_never_wait(size):
    content, inside, leave = b" " * size, threading.Semaphore(0), threading.Event()

    def read():
        with bounded_json.turn(content):
            inside.release()
            leave.wait(60)

    readers = [threading.Thread(target=read) for _ in range(5)]
    for reader in readers:
        reader.start()
    is_large = size > bounded_json.LARGE
    for _ in range(bounded_json.LARGE_AT_ONCE if is_large else len(readers)):
        assert inside.acquire(timeout=60)
    assert bounded_json._turns.acquire(blocking=False) is not is_large
    if not is_large:
        bounded_json._turns.release()
    assert not inside.acquire(blocking=False)
    leave.set()
    for reader in readers:
        reader.join()


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (lambda content: documents.parse(content, ""), json.dumps(MANIFEST | {"mediaType": media_types.OCI_MANIFEST})),
        (configs.parse, "{}"),
    ],
)
def test_manifests_and_configurations_wait_for_their_turn(read, content, monkeypatch):
    waited = []
    turn = bounded_json.turn
    monkeypatch.setattr(bounded_json, "turn", lambda content: waited.append(len(content)) or turn(content))
    read(content.encode() + b" " * bounded_json.LARGE)
    assert waited == [len(content) + bounded_json.LARGE]


@pytest.mark.parametrize("character", ["\\ud800", "\\u0000"])
def test_characters_that_databases_refuse_are_found_in_texts_of_any_length(character):
    text = "x" * 3_000_000 + character
    content = json.dumps(MANIFEST)[:-1] + f', "annotations": {{"a": "{text}"}}}}'
    with pytest.raises(documents.InvalidDocument, match="surrogate"):
        documents.parse(content.encode(), media_types.OCI_MANIFEST)
