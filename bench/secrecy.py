"""``python -m bench.secrecy``: does the time of an answer tell whether a private repository exists?

A stranger requests a private and a missing repository in turn, on every route. Prints the median of each, and the
difference: it should be far below 5 ms, and have either sign. ``BENCH_TRIES`` (200) is the number of tries each.
"""

from __future__ import annotations

import http.client
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

from tests.support.images import sha256
from tests.support.server import LiveServer

if TYPE_CHECKING:
    from tests.support.server import AccessKey

TRIES = int(os.environ.get("BENCH_TRIES", "200"))
LAYER = b"a layer of a private image"
ROUTES = {
    "manifest by tag": ("GET", "/v2/demo/{}/app/manifests/1.0"),
    "blob": ("GET", f"/v2/demo/{{}}/app/blobs/{sha256(LAYER)}"),
    "tags": ("GET", "/v2/demo/{}/app/tags/list"),
    "referrers": ("GET", f"/v2/demo/{{}}/app/referrers/{sha256(LAYER)}"),
    "an upload": ("POST", "/v2/demo/{}/app/blobs/uploads/"),
    "a token": ("GET", "/token?service={service}&scope=repository:demo/{}/app:pull,push"),
}


def _milliseconds(server: LiveServer, headers: dict[str, str], method: str, path: str) -> tuple[float, int]:
    """Return the milliseconds until the last byte of an answer, and its status."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.connect()
        began = time.perf_counter()
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return (time.perf_counter() - began) * 1000, answer.status
    finally:
        connection.close()


def _compare(server: LiveServer, headers: dict[str, str], method: str, path: str) -> str:
    """Return the medians of both repositories, requested in turn so that other load on the machine affects both."""
    times: dict[str, list[float]] = {"web": [], "none": []}
    statuses: dict[str, set[int]] = {"web": set(), "none": set()}
    for number in range(2 * TRIES):
        repository = ("web", "none")[number % 2]
        asked = path.replace("{}", repository).replace("{service}", server.host)
        took, status = _milliseconds(server, headers, method, asked)
        times[repository].append(took)
        statuses[repository].add(status)
    if statuses["web"] != statuses["none"]:
        sys.exit(f"{method} {path}: {statuses}")
    there, absent = statistics.median(times["web"]), statistics.median(times["none"])
    return f"{there:7.2f} ms {absent:7.2f} ms {there - absent:+7.2f} ms"


def _ways(server: LiveServer, stranger: AccessKey) -> dict[str, dict[str, str]]:
    """Return the headers of a stranger with a key, with a token and without credentials."""
    host = {"Host": server.host}
    challenge = {"realm": f"{server.url}/token", "service": server.host, "scope": "repository:demo/web/app:pull"}
    client = server.client(stranger)
    return {
        "key": host | {"Authorization": f"Basic {client.basic}"},
        "token": host | {"Authorization": f"Bearer {client.token(challenge)}"},
        "nothing": host,
    }


def main() -> None:
    """Measure, and print one line for each route and way."""
    with LiveServer("secrecy") as server:
        api = server.people().api()
        if (api.push_blob(LAYER), api.push_manifest("1.0", LAYER)) != (201, 201):
            sys.exit("the image could not be pushed")
        server.manage("adduser", "stranger@acme.test", "--organization", "acme")
        ways = _ways(server, server.access_key("stranger@acme.test"))
        print(f"{'':24}{'is there':>10} {'is not':>10} {'difference':>10}   {TRIES} tries each")
        for route, (method, path) in ROUTES.items():
            for way, headers in ways.items():
                print(f"{route}, {way:8}".ljust(24), _compare(server, headers, method, path))


if __name__ == "__main__":
    main()
