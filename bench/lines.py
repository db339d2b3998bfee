"""The lines of ``make bench``: what a registry is asked to do, and what the requests are."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.client import BLOCK, path_of
from bench.registries import IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.client import Client
    from bench.registries import Registry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CHUNKS = 8
PULLS = 16
PUSHES = 32
LAYERS = 20
CONNECTIONS = 5  # layers that docker pushes at once
SMALL = 2048
NUMBERS = itertools.count()


@dataclass(frozen=True)
class Sizes:
    """``large``: bytes of a large blob. ``pushed``: bytes of each of many blobs. ``seconds``: of each load."""

    large: int
    pushed: int
    seconds: int


class Blob:
    """New bytes, with their digest."""

    def __init__(self, size: int) -> None:
        self.data = memoryview(_noise(size))
        self.data[:16] = os.urandom(16)
        self.digest = f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    def pieces(self, size: int = BLOCK) -> list[memoryview]:
        """The bytes in pieces."""
        return [self.data[start : start + size] for start in range(0, len(self.data), size)]

    def describe(self, kind: str) -> dict[str, object]:
        """Its descriptor in a manifest."""
        return {"mediaType": kind, "digest": self.digest, "size": len(self.data)}


def _noise(size: int) -> bytearray:
    block = bytearray(os.urandom(min(size, BLOCK)))
    return (block * (size // len(block) + 1))[:size]


@dataclass(frozen=True)
class Line:
    """``prepare`` returns the action that is measured, which returns how often it did what the line says."""

    name: str
    prepare: Callable[[Registry, Sizes], Callable[[], int]]
    is_load: bool = False  # many requests: printed as requests a second
    ours_only: bool = False


# ── Pushes ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def start(client: Client) -> str:
    """Open an upload. Return its path."""
    return path_of(client.ask(202, "POST", f"/v2/{IMAGE}/blobs/uploads/").headers["location"])


def finish(client: Client, path: str, blob: Blob, *body: memoryview) -> None:
    """End an upload."""
    client.ask(201, "PUT", path_of(path, digest=blob.digest), body, Content_Type="application/octet-stream")


def push(client: Client, blob: Blob, *, chunked: bool = True) -> None:
    """POST, one PATCH with all bytes, PUT: as docker does, which sends the PATCH in chunked coding."""
    answer = client.ask(202, "PATCH", start(client), blob.pieces(), chunked=chunked)
    finish(client, path_of(answer.headers["location"]), blob)


def push_whole(client: Client, blob: Blob) -> None:
    """POST, PUT with all bytes."""
    finish(client, start(client), blob, *blob.pieces())


def push_parts(client: Client, blob: Blob) -> None:
    """POST, several PATCHes, PUT."""
    path, size, sent = start(client), -(-len(blob.data) // CHUNKS), 0
    for part in blob.pieces(size):
        span = f"{sent}-{sent + len(part) - 1}"
        answer = client.ask(
            202, "PATCH", path, [part[at : at + BLOCK] for at in range(0, len(part), BLOCK)], Content_Range=span
        )
        path, sent = path_of(answer.headers["location"]), sent + len(part)
    finish(client, path, blob)


def _push_large(way: Callable[[Client, Blob], None]) -> Callable[[Registry, Sizes], Callable[[], int]]:
    def prepare(registry: Registry, sizes: Sizes) -> Callable[[], int]:
        blob, client = Blob(sizes.large), registry.client()

        def act() -> int:
            with client:
                way(client, blob)
            return 1

        return act

    return prepare


def _at_once(number: int, act: Callable[[int], object]) -> None:
    with ThreadPoolExecutor(number) as threads:
        list(threads.map(act, range(number)))


def _push_many(registry: Registry, sizes: Sizes) -> Callable[[], int]:
    blobs = [Blob(sizes.pushed) for _ in range(PUSHES)]
    clients = [registry.client() for _ in blobs]

    def one(number: int) -> None:
        with clients[number] as client:
            push(client, blobs[number])

    def act() -> int:
        _at_once(PUSHES, one)
        return 1

    return act


def _push_image(registry: Registry, _: Sizes) -> Callable[[], int]:
    layers, config = [Blob(SMALL) for _ in range(LAYERS)], Blob(SMALL)
    clients = [registry.client() for _ in range(CONNECTIONS)]
    tag = f"image{next(NUMBERS)}"

    def some(number: int) -> None:
        for layer in layers[number::CONNECTIONS]:
            clients[number].ask(404, "HEAD", f"/v2/{IMAGE}/blobs/{layer.digest}")
            push(clients[number], layer)

    def act() -> int:
        _at_once(CONNECTIONS, some)
        push(clients[0], config)
        put_manifest(clients[0], tag, config, layers)
        for client in clients:
            client.close()
        return 1

    return act


def put_manifest(client: Client, tag: str, config: Blob, layers: list[Blob]) -> str:
    """Push a manifest. Return its digest."""
    parts = [layer.describe(LAYER) for layer in layers]
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config.describe(CONFIG), "layers": parts}
    data = json.dumps(document).encode()
    client.ask(201, "PUT", f"/v2/{IMAGE}/manifests/{tag}", [memoryview(data)], Content_Type=MANIFEST)
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# ── Pulls ────────────────────────────────────────────────────────────────────────────────────────────────────────────
class Content:
    """What each registry has before the measurements: a large blob, a medium one, an image with the tag ``bench``."""

    def __init__(self, registry: Registry, sizes: Sizes) -> None:
        large, medium, small, config = (Blob(size) for size in (sizes.large, sizes.large // CHUNKS, SMALL, SMALL))
        with registry.client() as client:
            for blob in (large, medium, small, config):
                push(client, blob)
            self.manifest = put_manifest(client, "bench", config, [small, medium, large])
        self.large, self.medium, self.small = large.digest, medium.digest, small.digest


CONTENTS: dict[str, Content] = {}


def _pull(registry: Registry, _: Sizes) -> Callable[[], int]:
    client = registry.client()

    def act() -> int:
        with client:
            client.ask(200, "GET", f"/v2/{IMAGE}/blobs/{CONTENTS[registry.name].large}")
        return 1

    return act


def _pull_many(registry: Registry, _: Sizes) -> Callable[[], int]:
    clients = [registry.client() for _ in range(PULLS)]

    def one(number: int) -> None:
        with clients[number] as client:
            client.ask(200, "GET", f"/v2/{IMAGE}/blobs/{CONTENTS[registry.name].medium}")

    def act() -> int:
        _at_once(PULLS, one)
        return 1

    return act


# ── Loads ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _load(connections: int, path: Callable[[Registry], str]) -> Callable[[Registry, Sizes], Callable[[], int]]:
    """wrk asks the same question again and again. It costs a tenth of what a registry needs for the answer."""

    def prepare(registry: Registry, sizes: Sizes) -> Callable[[], int]:
        headers = {"Accept": MANIFEST, "User-Agent": "docker/28.1.1", **registry.headers()}
        if registry.is_ours and path is _token:
            headers["Authorization"] = f"Basic {registry.server.api().basic}"  # type: ignore[attr-defined]
        words = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
        threads = min(connections, os.cpu_count() or 1)
        url = f"http://localhost:{registry.port}{path(registry)}"
        command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{sizes.seconds}s", *words, url]

        def act() -> int:
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found = re.search(r"(\d+) requests in", said)
            if not found or "Non-2xx" in said or re.search(r"Socket errors: .*[1-9]", said):
                raise SystemExit(f"{registry.name}, {path(registry)}: {said}")
            return int(found[1])

        return act

    return prepare


def _tag(_: Registry) -> str:
    return f"/v2/{IMAGE}/manifests/bench"


def _digest(registry: Registry) -> str:
    return f"/v2/{IMAGE}/manifests/{CONTENTS[registry.name].manifest}"


def _blob(registry: Registry) -> str:
    return f"/v2/{IMAGE}/blobs/{CONTENTS[registry.name].small}"


def _token(registry: Registry) -> str:
    return f"/token?service=localhost:{registry.port}&scope=repository:{IMAGE}:pull"


def lines() -> Iterator[Line]:
    """All lines."""
    yield Line("push, one PATCH in chunked coding", _push_large(push))
    yield Line("push, one PATCH with its length", _push_large(lambda client, blob: push(client, blob, chunked=False)))
    yield Line("push, one PUT", _push_large(push_whole))
    yield Line(f"push in {CHUNKS} chunks", _push_large(push_parts))
    yield Line("pull", _pull)
    yield Line(f"{PULLS} pulls at once, of an eighth each", _pull_many)
    yield Line(f"{PUSHES} pushes at once, 1 MiB each", _push_many)
    yield Line(f"push of an image of {LAYERS} layers, 2 kB each", _push_image)
    yield Line("manifest by tag, 1 client", _load(1, _tag), is_load=True)
    yield Line("manifest by tag, 32 clients", _load(32, _tag), is_load=True)
    yield Line("manifest by digest, 32 clients", _load(32, _digest), is_load=True)
    yield Line("blob of 2 kB, 32 clients", _load(32, _blob), is_load=True)
    yield Line("token, 8 clients", _load(8, _token), is_load=True, ours_only=True)
