"""``python -m bench.crowds``: the speed of one client while a crowd at another address uses all it can get.

Prints, for the embedded default and behind nginx, and for each crowd of tests/support/crowds.py: the median and the
longest of 20 requests of ``/v2/``, and the speed of a push and a pull of 64 MiB as a share of the speed without the
crowd, with the spread of BENCH_ROUNDS (3) rounds. With and without the crowd take turns. Arguments: the names of
crowds, else all of them.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

from tests.support.crowds import CROWDS, Crowd, CrowdedServer
from tests.support.images import sha256
from tests.support.nginx import behind_nginx

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.registry_client import RegistryClient

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SIZE = 64 * 1024 * 1024
PROBES = 20


def seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def transfers(api: RegistryClient) -> tuple[float, float]:
    """Seconds of a push and of a pull."""
    data = os.urandom(SIZE)
    push = seconds(lambda: api.push_blob(data))
    pull = seconds(lambda: api.ask("GET", f"blobs/{sha256(data)}"))
    api.ask("DELETE", f"blobs/{sha256(data)}")
    return push, pull


def compare(server: CrowdedServer, crowd: Crowd) -> str:
    api, waits, pushes, pulls = server.api(), [], [], []
    for _ in range(ROUNDS):
        alone = transfers(api)
        with crowd.around(server):
            waits += [seconds(lambda: api.ask("GET", "/v2/")) for _ in range(PROBES)]
            beside = transfers(api)
        pushes.append(alone[0] / beside[0])
        pulls.append(alone[1] / beside[1])
    answers = f"/v2/ {statistics.median(waits) * 1000:5.0f} ms, at most {max(waits) * 1000:5.0f} ms"
    return f"{answers}   push {spread(pushes)}   pull {spread(pulls)}"


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"


def main() -> None:
    for proxied in (False, True):
        server = CrowdedServer("bench")
        with behind_nginx(server) if proxied else server:
            server.people()
            print("behind nginx" if proxied else "embedded", flush=True)
            for name, crowd in {"nothing": None, **CROWDS}.items():
                if sys.argv[1:] and name not in sys.argv[1:]:
                    continue
                around = crowd or Crowd(0, lambda _server: "")
                print(f"  {name:28} {compare(server, around)}", flush=True)


if __name__ == "__main__":
    main()
