"""What a request or page costs does not depend on how many images, tags, digests and events there are.

The database's own work is counted, because time is not the same on every machine, and a plan does not say how many rows it
reads: on SQLite the steps of its virtual machine, on PostgreSQL the rows that it reads. SQLite has no statistics, as in
operation. PostgreSQL has them, because its autovacuum collects them within minutes; pulls must not need them.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Self

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts.actors import SYSTEM
from accounts.models import Project
from registry import service_accounts
from registry.database.postgresql import base
from registry.models import Event, Manifest, Repository, Tag
from registry.models import Image as StoredImage
from tests.console.test_matrix import PAGES, PERSONAL, VIEW
from tests.support.growth import grow
from tests.support.images import Image, sha256

if TYPE_CHECKING:
    from collections.abc import Callable

FEW, MANY = 200, 10_000  # of images; more than a page has
# Tags, referrers and events of one image. PostgreSQL knows when most tags are those of one image, and then reads the tags
# of all images in the order of their names: so only as many as the quota allows.
OWN = 100_000 if connection.vendor == "sqlite" else 1_000
MORE = 100 if connection.vendor == "sqlite" else MANY // 10  # units of work that do not count as growth
FILES = {"sbom", "openvex", "vulnerabilities_json", *(name for name in PAGES if name.endswith("csv"))}  # not pages
STEPS = 20  # of SQLite's virtual machine, in a unit of work


class Work:
    """Counts the work of the database while it is open."""

    def __enter__(self) -> Self:
        self.done = 0
        connection.ensure_connection()
        if connection.vendor == "sqlite":
            connection.connection.set_progress_handler(self._step, STEPS)
        else:
            self.done = -_rows_read()
        return self

    def __exit__(self, *error: object) -> None:
        if connection.vendor == "sqlite":
            connection.connection.set_progress_handler(None, STEPS)
        else:
            self.done += _rows_read()

    def _step(self) -> None:
        self.done += 1


def _rows_read() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables")
        return int(cursor.fetchone()[0])


def requests(docker: Callable[..., Any], digest: str, layer: str) -> dict[str, Callable[[], object]]:
    """Requests of clients, by name."""
    client = docker("member")
    paths = {
        "pull by tag": "/v2/web/app/manifests/latest",
        "pull by digest": f"/v2/web/app/manifests/{digest}",
        "pull of a blob": f"/v2/web/app/blobs/{layer}",
        "tags": "/v2/web/app/tags/list?n=100",
        "later tags": "/v2/web/app/tags/list?n=100&last=v1000100",
        "referrers": f"/v2/web/app/referrers/{digest}?n=50",
        "catalog": "/v2/_catalog?n=100",
        "later catalog": "/v2/_catalog?n=50&last=web/crowd",
    }
    found: dict[str, Callable[[], object]] = {
        name: (lambda path=path: client.get(path, 200)) for name, path in paths.items()
    }
    found["HEAD by tag"] = lambda: client.head("/v2/web/app/manifests/latest", 200)
    found["token"] = lambda: client.token("repository:web/app:pull,push")
    return found


def pages(world: Any) -> dict[str, Callable[[], object]]:
    """Pages of the console that a member may see, by name."""
    service_accounts.create(SYSTEM, world.projects["demo"], "ci")
    browser = Client(SERVER_NAME="localhost", SERVER_PORT="8080")
    browser.force_login(world.people["member"].user, backend="django.contrib.auth.backends.ModelBackend")

    def show(address: str) -> None:
        answer = browser.get(address)
        assert answer.status_code == 200, address
        b"".join(answer) if answer.streaming else answer.content

    found = {}
    for name, (kind, words, status) in PAGES.items():
        if kind not in {VIEW, PERSONAL} or status != 200 or name in FILES or {"subscription", "run"} & words.keys():
            continue
        named = words | ({"reference": "latest"} if "reference" in words else {})
        query = {"search": "?q=crowd/12", "suggestions": "?q=crowd/12", "home": "?all=1"}.get(name, "")
        address = reverse(f"console:{name}", kwargs=named) + query
        found[f"page {name}"] = lambda address=address: show(address)
    found["page of tags by name"] = lambda: show(reverse("console:image", args=["demo", "web", "app"]) + "?sort=name")
    found["page tag_history of a tag"] = lambda: show(
        reverse("console:tag_history", args=["demo", "web", "app"]) + "?tag=latest"
    )
    return found


def assert_flat(asked: dict[str, Callable[[], object]], manifest: Manifest) -> None:
    """Each may cost half as much again beside MANY images, and OWN tags, referrers and events of the manifest's image."""

    def measure() -> dict[str, int]:
        found = {}
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        for name, ask in asked.items():
            ask()  # now statements are written and caches filled
            with Work() as work:
                ask()
            found[name] = work.done
        return found

    grow(manifest, FEW, FEW)
    few = measure()
    grow(manifest, MANY, OWN)
    assert Tag.objects.count() > OWN
    many = measure()
    grown = {name: (few[name], many[name]) for name in asked if many[name] > 1.5 * few[name] + MORE}
    assert not grown, "\n".join(f"{name}: {before} before, {after} after" for name, (before, after) in grown.items())


@pytest.mark.django_db
def test_requests_of_clients_cost_the_same_in_a_large_registry(docker, world):
    image = Image()
    docker("member").push("web/app", "latest", image)
    assert_flat(requests(docker, image.digest, sha256(image.layers[0])), Manifest.objects.get())


if connection.vendor == "postgresql":

    def plan_anew(statistics: str, mode: str) -> None:
        """Forget all plans. ``statistics``: "none", "row counts" alone (of a VACUUM), "all". ``mode``: plan_cache_mode."""
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")  # first: it locks the tables, so autovacuum waits for no row that is locked next
            if statistics == "none":  # earlier tests may have left some: ANALYZE counts rows outside of its transaction
                cursor.execute("UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid >= 16384")
            if statistics != "all":
                cursor.execute("DELETE FROM pg_statistic WHERE starelid >= 16384")
            cursor.execute("DISCARD PLANS")
            cursor.execute(f"SET LOCAL plan_cache_mode = {mode}")

    def rows_read_by(asked: dict[str, Callable[[], object]]) -> dict[str, int]:
        found = {}
        for name, ask in asked.items():
            with Work() as work:
                ask()
            found[name] = work.done
        return found

    def reads_and_pushes(docker: Callable[..., Any], image: Image) -> dict[str, Callable[[], object]]:
        """Requests about web/last, by name. Each call of a push brings something new."""
        client, number = docker("member"), count()
        layer = sha256(image.layers[0])

        def new() -> Image:
            return Image(layers=[f"layer {next(number)}".encode(), *image.layers])

        return {
            "tag": lambda: client.get("web/last/manifests/latest", 200),
            "tag as of a day": lambda: client.get("web/last/manifests/latest--at-20260201t0000z", 404),
            "digest": lambda: client.get(f"web/last/manifests/{image.digest}", 200),
            "tags": lambda: client.get("web/last/tags/list?n=10", 200),
            "referrers": lambda: client.get(f"web/last/referrers/{image.digest}", 200),
            "HEAD of a blob to push": lambda: client.head(f"web/last/blobs/{layer}", 200),
            "push again": lambda: client.push("web/last", "latest", image),
            "push of a new tag": lambda: client.push("web/last", f"t{next(number)}", image),
            "push of a new image": lambda: client.push("web/last", f"t{next(number)}", new()),
            "push to a new name": lambda: client.push(f"public/new{next(number)}", "latest", image),
        }

    @pytest.mark.django_db
    def test_plans_of_empty_tables_are_not_kept(docker, world):
        """An importer pushes to a new installation before PostgreSQL has analyzed a table.

        Such plans read 30,000 rows for each blob. Some requests may read half of the images until there are statistics.
        """
        image = Image()
        docker("member").push("web/app", "latest", image)
        manifest = Manifest.objects.get()
        docker("member").push("web/last", "latest", image)
        plan_anew("none", "force_generic_plan")
        asked = reads_and_pushes(docker, image)
        rows_read_by(asked)
        grow(manifest, MANY, FEW)
        connection.connection.planned_at -= base.PLAN_SECONDS
        assert {which: rows for which, rows in rows_read_by(asked).items() if rows > MANY} == {}

    @pytest.mark.django_db
    @pytest.mark.parametrize("person", ["member", "viewer"])
    def test_pulls_read_few_rows_by_every_plan_of_postgresql(docker, world, person):
        """Plans for one value and for all values, each without statistics, with row counts alone, and with statistics."""
        image, client = Image(), docker(person)
        docker("member").push("web/app", "latest", image)
        grow(Manifest.objects.get(), MANY, FEW)
        docker("member").push("web/last", "latest", image)  # the last of all that an index finds
        tag, digest = "web/last/manifests/latest", f"web/last/manifests/{image.digest}"
        asked = {
            "tag": lambda: client.get(tag, 200),
            "HEAD of the tag": lambda: client.head(tag, 200),
            "tag as of a day": lambda: client.get(f"{tag}--at-20260201t0000z", 404),
            "digest": lambda: client.get(digest, 200),
            "HEAD of the digest": lambda: client.head(digest, 200),
            "blob": lambda: client.get(f"web/last/blobs/{sha256(image.layers[0])}", 200),
            "token": lambda: client.token("repository:web/last:pull,push"),
        }
        read = {}
        for statistics in ("none", "row counts", "all"):
            for mode in ("force_custom_plan", "force_generic_plan"):
                plan_anew(statistics, mode)
                for name, ask in asked.items():
                    ask()
                    with Work() as work:
                        ask()
                    read[name, statistics, mode] = work.done
        assert {which: rows for which, rows in read.items() if rows > MORE} == {}


@pytest.mark.sqlite_only
@pytest.mark.django_db
def test_pages_cost_the_same_beside_large_projects(docker, world):
    """Within a project, quotas limit the rows; bench.console measures pages at the quotas."""
    docker("member").push("web/app", "latest", Image())
    manifest = Manifest.objects.get()
    project = Project.objects.create(organization=world.projects["rival"].organization, name="large")
    repository = Repository.objects.create(project=project, name="web")
    image = StoredImage.objects.create(repository=repository, name="app", path="large/web/app")
    fields = ("digest", "media_type", "content", "platforms", "size", "total_size")
    other = Manifest.objects.create(image=image, **{name: getattr(manifest, name) for name in fields})
    Tag.objects.create(image=image, name="latest", manifest=other)
    Event.objects.create(action="tag.add", project=project, repository=repository, image=image, path=image.path)
    assert_flat(pages(world), other)
