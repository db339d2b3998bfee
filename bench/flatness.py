"""``python -m bench.flatness``: what requests cost as a registry grows from hundreds of manifests to a million.

Fills an installation of its own by SQL, asks the WSGI application in this process at each size, and prints for each
request the median wall time and the mean processor time, in microseconds, and the wall time over that of the smallest
registry. At a million: 10,000 images, half of them in a repository of their own; one has 100,000 tags, referrers and
events. SQLite has no statistics, as ever. ``--postgresql`` starts a PostgreSQL, which analyzes its tables itself; its
processor time is in the wall time alone. A million takes about four minutes to fill on SQLite.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from typing import TYPE_CHECKING

from bench.machine import DurablePostgres, machine
from bench.requests import HOST, NAME, Api

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SMALLEST = 200  # images, more than a page shows
SIZES = (10_000, 100_000, 1_000_000)  # manifests
EACH = 90  # manifests of an image


def requests(api: Api) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is asked, by name."""
    digest = api.image.digest
    scope = "registry:catalog:*"
    catalog = f"Bearer {_token(api, scope)}"
    paths = {
        "GET manifest by tag": ("GET", f"{NAME}/manifests/latest", ""),
        "GET manifest by digest": ("GET", f"{NAME}/manifests/{digest}", ""),
        "HEAD manifest by tag": ("HEAD", f"{NAME}/manifests/latest", ""),
        "token": ("GET", api.path_of_token, api.basic),
        "tags, 100": ("GET", f"{NAME}/tags/list?n=100", ""),
        "tags, 100 in the middle": ("GET", f"{NAME}/tags/list?n=100&last=v1000100", ""),
        "referrers, 100": ("GET", f"{NAME}/referrers/{digest}?n=100", ""),
        "catalog, 100": ("GET", "/v2/_catalog?n=100", catalog),
        "catalog, 50 in the middle": ("GET", "/v2/_catalog?n=50&last=demo/web/crowd", catalog),
    }
    return {name: (lambda words=words: api.request(*words)) for name, words in paths.items()}  # type: ignore[misc]


def _token(api: Api, scope: str) -> str:
    import json

    return str(json.loads(api.ask("GET", f"/token?service={HOST}&scope={scope}", 200, api.basic)[1])["token"])


def measure(api: Api, times: int) -> dict[str, tuple[float, float]]:
    """Microseconds of wall time (median) and of processor time (mean)."""
    found = {}
    for name, make in requests(api).items():
        for _ in range(10):
            api.answer(make(), 200)
        walls, began = [], 0
        for _ in range(times):
            environ = make()
            used, started = time.process_time_ns(), time.perf_counter_ns()
            api.answer(environ, 200)
            walls.append((time.perf_counter_ns() - started) / 1000)
            began += time.process_time_ns() - used
        found[name] = statistics.median(walls), began / 1000 / times
    return found


def fill(manifest: Any, images: int, own: int, each: int) -> None:
    """Add rows (see ``grow``); an analysis of PostgreSQL follows as it would in operation."""
    from django.db import connection

    from tests.support.growth import grow

    grow(manifest, images, own, each)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")  # autovacuum would take up to a minute


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="manifests of the largest registry")
    parser.add_argument("--times", type=int, default=300, help="requests of each kind at each size")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kcr-bench-") as folder, contextlib.ExitStack() as stack:
        os.environ |= {
            "KCR_DATA_DIR": folder,
            "DJANGO_SETTINGS_MODULE": "registry.settings",
            "PYTHONWARNINGS": "ignore",
        }
        if options.postgresql:
            os.environ["KCR_DATABASE_URL"] = stack.enter_context(DurablePostgres("bench-postgres")).url
        api = Api()
        api.put_manifest("latest", api.image)
        from django.db import connection

        from registry.models import Manifest

        manifest = Manifest.objects.get(digest=api.image.digest)
        fill(manifest, SMALLEST, SMALLEST, 2)
        sizes, found, filled = [Manifest.objects.count()], [measure(api, options.times)], []
        for size in [size for size in SIZES if size <= options.most]:
            began = time.perf_counter()
            images = (size - sizes[-1]) // 100
            fill(manifest, images, size - sizes[-1] - images * EACH, EACH)
            filled.append(time.perf_counter() - began)
            sizes.append(Manifest.objects.count())
            found.append(measure(api, options.times))
        kind = "PostgreSQL" if options.postgresql else "SQLite"
        print(f"{machine()}. {kind}, filled in {sum(filled):.0f} s. Microseconds of wall time, of processor time.\n")
        print(f"| manifests | {' | '.join(f'{size:,}' for size in sizes)} | largest / smallest |")
        print(f"|---|{'---|' * (len(sizes) + 1)}")
        for name in found[0]:
            cells = [f"{each[name][0]:,.0f}, {each[name][1]:,.0f}" for each in found]
            print(f"| {name} | {' | '.join(cells)} | {found[-1][name][0] / found[0][name][0]:.2f} |")
        connection.close()


if __name__ == "__main__":
    main()
