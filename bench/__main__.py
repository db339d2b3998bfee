"""``make bench``: KCR and, where it is installed, Debian's docker-registry, in turn, over the same loopback.

Prints, for each figure, the median of all rounds, its spread, and the ratio round by round. Environment:
``BENCH_ROUNDS`` (5), ``BENCH_BYTES`` (1 GiB), ``BENCH_SECONDS`` (5, of each load of manifests; needs wrk).
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.programs import free_port
from tests.support.server import People, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
BYTES = int(os.environ.get("BENCH_BYTES", str(1024**3)))
SECONDS = int(os.environ.get("BENCH_SECONDS", "5"))
BLOCK = 1024 * 1024
SCOPE = "repository:demo/web/bench:pull,push"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class Registry:
    """A registry under test: port, name of the image, headers of requests."""

    name: str
    port: int
    image: str
    headers: dict[str, str] = field(default_factory=dict)
    figures: dict[str, list[float]] = field(default_factory=dict)

    def send(self, method: str, path: str, body: object = None, **headers: str) -> http.client.HTTPResponse:
        """Send a request; return the response with its body unread."""
        connection = http.client.HTTPConnection("localhost", self.port)
        connection.request(method, path, body, self.headers | headers)  # type: ignore[arg-type]
        answer = connection.getresponse()
        if answer.status >= 400:
            sys.exit(f"{self.name}: {method} {path}: {answer.status} {answer.read()[:300]!r}")
        return answer

    def push(self, source: Path, digest: str) -> None:
        """Push a blob as docker does: POST, one chunked PATCH, an empty PUT."""
        location = self.send("POST", f"/v2/{self.image}/blobs/uploads/").headers["Location"]
        with source.open("rb") as file:
            chunks = iter(lambda: file.read(BLOCK), b"")
            location = self.send("PATCH", _path(location), chunks).headers["Location"]
        joiner = "&" if "?" in location else "?"
        self.send("PUT", f"{_path(location)}{joiner}digest={digest}").read()

    def pull(self, digest: str) -> None:
        """Read a blob to its end."""
        answer = self.send("GET", f"/v2/{self.image}/blobs/{digest}")
        while answer.read(BLOCK):
            pass

    def note(self, figure: str, value: float) -> None:
        """Keep a figure of this round."""
        self.figures.setdefault(figure, []).append(value)


def _path(location: str) -> str:
    return location.removeprefix("http://").partition("/")[2].join(("/", "")) if "://" in location else location


def _random_file(folder: Path, size: int) -> tuple[Path, str]:
    """Write a file of new bytes; return its path and digest."""
    path, digest = folder / os.urandom(8).hex(), hashlib.sha256()
    with path.open("wb") as file:
        seed = os.urandom(BLOCK)
        for number in range(max(1, size // BLOCK)):
            block = number.to_bytes(8, "big") + seed[8:]
            digest.update(block)
            file.write(block)
    return path, f"sha256:{digest.hexdigest()}"


def _push_image(registry: Registry, folder: Path) -> None:
    """A small image with the tag ``bench``, for the load of manifests."""
    path, digest = _random_file(folder, BLOCK)
    registry.push(path, digest)
    part = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": path.stat().st_size}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": part, "layers": []})
    registry.send("PUT", f"/v2/{registry.image}/manifests/bench", manifest, **{"Content-Type": MANIFEST_TYPE})


def _requests_a_second(registry: Registry) -> float:
    headers = [word for name, value in registry.headers.items() for word in ("-H", f"{name}: {value}")]
    url = f"http://localhost:{registry.port}/v2/{registry.image}/manifests/bench"
    command = ["wrk", "-t2", "-c16", f"-d{SECONDS}s", *headers, "-H", f"Accept: {MANIFEST_TYPE}", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"Requests/sec:\s+([\d.]+)", said)
    return float(match[1]) if match else 0.0


@contextlib.contextmanager
def _kcr() -> Iterator[Registry]:
    with Server("bench") as server:
        people = People(server)
        challenge = {"realm": f"{server.url}/token", "service": server.host, "scope": SCOPE}
        token = server.client(people.member).token(challenge)
        yield Registry("KCR", server.port, "demo/web/bench", {"Authorization": f"Bearer {token}"})


@contextlib.contextmanager
def _docker_registry(folder: Path) -> Iterator[Registry]:
    port = free_port()
    configuration = folder / "registry.yml"
    configuration.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'other'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(2)
        yield Registry("docker-registry", port, "demo/web/bench")
    finally:
        process.terminate()
        process.wait()


def _round(registry: Registry, folder: Path) -> None:
    path, digest = _random_file(folder, BYTES)
    started = time.perf_counter()
    registry.push(path, digest)
    registry.note("push, seconds", time.perf_counter() - started)
    started = time.perf_counter()
    registry.pull(digest)
    registry.note("pull, seconds", time.perf_counter() - started)
    path.unlink()
    if shutil.which("wrk"):
        registry.note("manifests by tag, requests/s", _requests_a_second(registry))


def _print(registries: list[Registry]) -> None:
    for figure in registries[0].figures:
        print(f"\n{figure}")
        for registry in registries:
            values = registry.figures[figure]
            spread = f"{min(values):10.2f} - {max(values):.2f}"
            print(f"  {registry.name:16} median {statistics.median(values):10.2f}   {spread}")
        for other in registries[1:]:
            pairs = zip(registries[0].figures[figure], other.figures[figure], strict=True)
            ratios = sorted(ours / theirs for ours, theirs in pairs)
            print(f"  KCR / {other.name}: {statistics.median(ratios):.2f}   ({ratios[0]:.2f} - {ratios[-1]:.2f})")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="kcr-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        registries = [stack.enter_context(_kcr())]
        if shutil.which("docker-registry"):
            registries.append(stack.enter_context(_docker_registry(folder)))
        else:
            print("docker-registry is not installed: KCR alone")
        for registry in registries:
            _push_image(registry, folder)
        for number in range(ROUNDS):
            for registry in registries:
                _round(registry, folder)
            print(f"round {number + 1} of {ROUNDS}", flush=True)
        _print(registries)


if __name__ == "__main__":
    main()
