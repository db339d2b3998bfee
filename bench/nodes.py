"""``python -m bench.nodes [ROUNDS]``: what each request of a node costs that pulls an image, on PostgreSQL and S3.

One web process serves each kind of request again and again, over connections of their own, as nginx sends them. Prints
for each kind the milliseconds of processor time of the web process with its server (median, least and most of the
rounds), the statements that PostgreSQL got, and the requests that S3 got. docs/operate/sizing.md calculates with them.
"""

from __future__ import annotations

import re
import statistics
import sys
from contextlib import ExitStack
from typing import NamedTuple

from bench.client import Client
from bench.machine import DurablePostgres, machine
from bench.registries import IMAGE, Registry
from tests.support.images import OCI_MANIFEST, sha256
from tests.support.s3 import CREDENTIALS, FaultyProxy, SeaweedFS
from tests.support.server import LiveServer

ROUNDS, REQUESTS = 5, 300
LAYER = b"a layer that clients fetch from S3" * 100


class LoggingPostgres(DurablePostgres):
    """A PostgreSQL that logs each statement."""

    settings = (*DurablePostgres.settings, "log_statement=all")

    def statements(self) -> int:
        """How many statements it got."""
        return len(re.findall(r"LOG:  (?:statement|execute)", self.log.read_text()))


class Kind(NamedTuple):
    """A kind of request, and the status of its answer."""

    name: str
    status: int
    method: str
    path: str
    headers: dict[str, str]


def kinds(server: LiveServer) -> list[Kind]:
    """Push an image; return the requests of a pull."""
    api = server.api(IMAGE)
    assert api.push_blob(LAYER) == 201
    assert api.push_manifest("1.0", LAYER) == 201
    digest = api.ask("HEAD", "manifests/1.0").headers["Docker-Content-Digest"]
    token = {"Authorization": api.headers["Authorization"], "Accept": OCI_MANIFEST}
    basic = {"Authorization": f"Basic {server.client(server.key).basic}"}
    path = f"/v2/{IMAGE}"
    return [
        Kind("GET /v2/ without a token", 401, "GET", "/v2/", {}),
        Kind("token", 200, "GET", f"/token?service={server.host}&scope=repository:{IMAGE}:pull", basic),
        Kind("HEAD manifest by tag", 200, "HEAD", f"{path}/manifests/1.0", token),
        Kind("GET manifest by digest", 200, "GET", f"{path}/manifests/{digest}", token),
        Kind("GET blob, sent to S3", 307, "GET", f"{path}/blobs/{sha256(LAYER)}", token),
    ]


def ask(server: LiveServer, kind: Kind) -> None:
    """Send a request over a connection of its own."""
    with Client(server.port, {"Host": server.host, "Connection": "close", **kind.headers}) as client:
        client.ask(kind.status, kind.method, kind.path)


def main(rounds: int) -> None:
    """Measure and print."""
    with ExitStack() as stack:
        postgres, seaweed = stack.enter_context(LoggingPostgres("nodes")), stack.enter_context(SeaweedFS())
        s3 = stack.enter_context(FaultyProxy(seaweed.port))
        url = seaweed.url("nodes", s3.endpoint, presign="on", presign_from="0")
        settings = {"KCR_DATABASE_URL": postgres.url, "KCR_STORAGE_URL": url, "KCR_WEB_WORKERS": "1", **CREDENTIALS}
        server = stack.enter_context(LiveServer("nodes", settings)).people()
        registry = Registry("KCR", server, server.port)
        found = [(kind, list[tuple[float, ...]]()) for kind in kinds(server)]
        for kind, _ in found:
            ask(server, kind)
        print(f"{machine()}\n")
        for _ in range(rounds):
            for kind, figures in found:
                before = registry.processor()[0], postgres.statements(), len(s3.seen)
                for _ in range(REQUESTS):
                    ask(server, kind)
                after = registry.processor()[0], postgres.statements(), len(s3.seen)
                figures.append(tuple((b - a) / REQUESTS for a, b in zip(before, after, strict=True)))
        print("| request | processor, ms | statements | requests to S3 |\n|---|---|---|---|")
        for kind, figures in found:
            times, statements, requests = zip(*figures, strict=True)
            spread = f"{min(times) * 1000:.2f} - {max(times) * 1000:.2f}"
            print(
                f"| {kind.name} | {statistics.median(times) * 1000:.2f} ({spread})"
                f" | {statistics.median(statements):.1f} | {statistics.median(requests):.1f} |"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
