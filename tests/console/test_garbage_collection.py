"""Garbage collection of a project: no number depends on bytes of another tenant."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import suppress
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from accounts.actors import SYSTEM
from registry import blobs, garbage, tasks, trash
from registry.models import BlobLease, BlobReview, Collection, Deletion, Event
from registry.oci.names import ImageName
from tests.support import later
from tests.support.images import Image, sha256

pytestmark = pytest.mark.django_db
RIVAL_HOST = "rival.kr-central-2.kcr.localhost:8080"
OURS, KEPT = b"the bytes in question", Image(layers=[b"a layer that stays"])


class Rival:
    """Another tenant, who does one thing with the bytes at one moment."""

    def __init__(self, docker, world, what: str, when: str) -> None:
        self.client, self.world, self.what, self.when = docker("outsider", RIVAL_HOST), world, what, when

    def act(self, moment: str) -> None:
        if moment != self.when or self.what == "nothing":
            return
        if self.what == "pushes the blob":
            self.client.push_blob("rivals/theirs", OURS)
            return
        image, name = Image(layers=[OURS]), ImageName("rival", "rivals", "theirs")
        self.client.push("rivals/theirs", "1", image)
        if self.what != "has an image":
            trash.delete_references(SYSTEM, self.world.repository("rivals"), name, [image.digest])
        if self.what == "has let go":
            later.recovery_ends()
            trash.purge()


class RollBack(Exception):
    """Undo the changes of a case before the next one."""


def figures(browser) -> list[str]:
    """Return the text of the page without times."""
    page = browser.get("/projects/demo/garbage-collection").content.decode()
    main = re.sub(r"<time.*?</time>", "", page[page.index('id="collection"') :], flags=re.DOTALL)
    main = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", main)
    return [word.strip() for word in re.sub(r"<[^>]*>", "\n", main).splitlines() if word.strip()]


def dry_run() -> dict[str, object]:
    output = io.StringIO()
    call_command("collectgarbage", "--dry-run", "--project", "demo", stdout=output)
    return json.loads(output.getvalue())


def our_time_is_over() -> None:
    """End our leases and make the reviews of our blobs due."""
    BlobLease.objects.filter(repository__project__name="demo").update(expires_at=timezone.now() - timedelta(days=1))
    BlobReview.objects.filter(project__name="demo").update(review_after=timezone.now() - timedelta(days=1))


def watched(docker, console, world, what: str, when: str) -> list[object]:
    """Return everything that our project can read about its garbage while the other tenant acts."""
    rival, member, browser = Rival(docker, world, what, when), docker("member"), console("member")
    demo, seen = world.projects["demo"], []
    name = ImageName("demo", "web", "app")

    def look() -> None:
        seen.extend([garbage.preview(demo), figures(browser), dry_run()])

    member.push("web/app", "kept", KEPT)
    rival.act("before our push")
    member.push_blob("web/app", OURS)
    rival.act("after our push")
    look()
    member.push("web/app", "1", Image(layers=[OURS]))
    trash.delete_references(SYSTEM, world.repository("web"), name, [Image(layers=[OURS]).digest])
    look()
    later.recovery_ends(Deletion.objects.filter(project=demo))
    trash.purge()
    our_time_is_over()
    rival.act("after our deletion")
    look()
    member.push_blob("web/app", b"and some more")
    blobs.drop(world.repository("web"), sha256(b"and some more"))
    browser.post("/projects/demo/garbage-collection", {"act": "run"})
    run = Collection.objects.get(project=demo)
    garbage.run(run.pk)
    run.refresh_from_db()
    seen.append([run.state, run.total, run.reviewed, run.collected, run.size])
    rival.act("after our run")
    look()
    seen.append(list(Event.objects.filter(project=demo, action="collection.done").values_list("detail", flat=True)))
    table = b"".join(browser.get("/projects/demo/audit-log.csv").streaming_content).decode("utf-8-sig")
    seen.append(
        [
            [cell for column, cell in row.items() if column not in {"time", "event"}]
            for row in csv.DictReader(table.splitlines())
        ]
    )
    return seen


def rolled_back(act, *arguments):
    seen = None
    with suppress(RollBack), transaction.atomic():
        seen = act(*arguments)
        raise RollBack
    return seen


@pytest.mark.parametrize("when", ["before our push", "after our push", "after our deletion", "after our run"])
@pytest.mark.parametrize("what", ["pushes the blob", "has an image", "has an image in Recovery", "has let go"])
def test_garbage_numbers_do_not_reveal_bytes_of_another_tenant(docker, console, world, monkeypatch, what, when):
    monkeypatch.setattr(tasks.run_collection, "delay", lambda pk: None)
    alone = rolled_back(watched, docker, console, world, "nothing", when)
    beside = rolled_back(watched, docker, console, world, what, when)
    assert beside == alone
    done = alone[-2]
    assert done[0]["size"] >= len(OURS)  # the collection deleted these bytes
