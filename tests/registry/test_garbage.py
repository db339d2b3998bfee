"""The garbage collector: deletes only unreferenced blobs; runs stop and continue; scrubs repair nothing."""

from __future__ import annotations

import errno
import io
import json
import os
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.actors import SYSTEM
from registry import blobs, garbage, storage_check, tasks, trash
from registry.garbage import collector
from registry.models import (
    Blob,
    BlobLease,
    BlobReview,
    Collection,
    Deletion,
    Event,
    Manifest,
    ManifestBlob,
    ObjectTrash,
)
from registry.oci.names import ImageName
from tests.support import later
from tests.support.database import plan
from tests.support.images import Image, sha256

pytestmark = pytest.mark.django_db
RIVAL_HOST = "rival.kr-central-2.kcr.localhost:8080"
WASTE = [f"waste {number}".encode() * 100 for number in range(5)]
KEPT = Image(layers=[b"a layer"])
State = Collection.State


@pytest.fixture
def member(docker):
    return docker("member")


@pytest.fixture
def demo(world):
    return world.projects["demo"]


@pytest.fixture
def wasted(member):
    """Push an image, and five blobs that are no longer referenced."""
    member.push("web/app", "1.0", KEPT)
    for data in WASTE:
        member.push_blob("web/app", data)
    later.leases_end()
    return sum(len(data) for data in WASTE)


def left() -> set[str]:
    return set(Blob.objects.values_list("digest", flat=True))


def needed() -> set[str]:
    return {sha256(KEPT.config), *map(sha256, KEPT.layers)}


def collect(project) -> int:
    """Collect everything due. Return the number of deleted blobs."""
    went = 0
    while counted := collector.collect(project.pk if project else None, timezone.now()):
        went += counted["collected"]
    return went


def files(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in (folder / "blobs").glob("*/*")}


def command(*arguments: str) -> tuple[dict[str, object], str]:
    """Run a command. Return its JSON and its other output."""
    output, said = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=output, stderr=said)
    return json.loads(output.getvalue()), said.getvalue()


# ── Deletion ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_unreferenced_blobs_are_deleted_and_referenced_blobs_stay(wasted, demo, docker):
    assert collect(demo) == len(WASTE)
    assert left() == needed()
    assert not BlobReview.objects.exists()
    assert docker("reader").pull("web/app", "1.0")[0] == KEPT.manifest


@pytest.mark.parametrize("answered", ["an upload", "HEAD", "a mount"])
def test_acknowledged_blob_can_be_named_within_its_lease_despite_the_collector(member, world, answered):
    data = b"what will be named"
    if answered == "a mount":
        member.push("public/app", "1.0", Image(layers=[data]))
        member.post(f"web/app/blobs/uploads/?mount={sha256(data)}&from=public/app", 201)
        trash.delete_references(SYSTEM, world.repository("public"), ImageName("demo", "public", "app"), ["1.0"])
    else:
        member.push("web/app", "old", Image(layers=[data]))
        if answered == "HEAD":
            BlobLease.objects.all().delete()
            bearer = {"Authorization": f"Bearer {member.token('repository:web/app:pull,push')}"}
            member.head(f"web/app/blobs/{sha256(data)}", 200, headers=bearer)
        trash.delete_references(SYSTEM, world.repository("web"), ImageName("demo", "web", "app"), ["old"])
    # Everything pushed is purged; only the lease remains.
    for repository in ("public", "web"):
        name = ImageName("demo", repository, "app")
        for manifest in Manifest.objects.live().filter(image__path=str(name)):
            trash.delete_references(SYSTEM, world.repository(repository), name, [manifest.digest])
    later.recovery_ends()
    trash.purge()
    assert not ManifestBlob.objects.exists()
    for _ in range(2):
        BlobReview.objects.update(review_after=timezone.now())
        for project in (world.projects["demo"], None):
            collect(project)
    assert sha256(data) in left()
    assert BlobReview.objects.get(blob__digest=sha256(data)).review_after > timezone.now() + blobs.LEASE / 3
    member.push_blob("web/app", KEPT.config)
    member.push_manifest("web/app", "new", Image(config=KEPT.config, layers=[data]).manifest)
    assert member.get(f"web/app/blobs/{sha256(data)}", 200).body == data


def test_blob_leased_by_another_repository_stays(member, docker, demo):
    member.push_blob("web/app", WASTE[0])
    later.leases_end()
    docker("member").push_blob("public/app", WASTE[0])
    BlobReview.objects.update(review_after=timezone.now())
    assert collect(demo) == 0
    assert left() == {sha256(WASTE[0])}


def test_collected_blob_is_unknown_to_pushers_until_it_is_pushed_again(wasted, demo, member, storage_folder):
    first = Blob.objects.get(digest=sha256(WASTE[0])).storage_key
    collect(demo)
    member.head(f"web/app/blobs/{sha256(WASTE[0])}", 404)
    member.push_blob("web/app", WASTE[0])
    second = Blob.objects.get(digest=sha256(WASTE[0])).storage_key
    assert first != second  # a storage key is never used again
    later.trash_is_due()
    garbage.reap()
    assert first not in files(storage_folder)
    assert member.get(f"web/app/blobs/{sha256(WASTE[0])}", 200).body == WASTE[0]


def test_bytes_are_deleted_two_hours_after_their_row_and_a_running_download_continues(wasted, demo, storage_folder):
    blob = Blob.objects.get(digest=sha256(WASTE[0]))
    with blobs.open_bytes(blob) as download:
        collect(demo)
        waits = ObjectTrash.objects.get(pk=blob.storage_key).delete_after - timezone.now()
        assert timedelta(hours=1, minutes=55) < waits <= timedelta(hours=2)
        before = files(storage_folder)
        assert garbage.reap() == 0
        assert files(storage_folder) == before
        ObjectTrash.objects.update(delete_after=timezone.now())
        assert garbage.reap() == ObjectTrash.objects.count() + len(WASTE) == len(WASTE)
        assert download.read() == WASTE[0]
    assert len(files(storage_folder)) == len(needed())


def test_bytes_of_a_live_blob_are_never_deleted_even_when_in_the_trash(wasted, storage_folder, caplog):
    """Only a defect can cause this state. The bytes stay and an alarm is logged."""
    blob = Blob.objects.get(digest=sha256(KEPT.config))
    ObjectTrash.objects.create(storage_key=blob.storage_key, delete_after=timezone.now())
    assert garbage.reap() == 0
    assert blob.storage_key in files(storage_folder)
    assert "trash names the bytes of living blobs" in caplog.text


def test_project_collects_only_its_own_blobs(wasted, world, demo):
    lab = world.projects["lab"]
    BlobReview.objects.filter(blob__digest=sha256(WASTE[0])).update(project=lab)
    BlobReview.objects.filter(blob__digest=sha256(WASTE[1])).update(project=None)
    assert collect(demo) == len(WASTE) - 2
    assert collect(None) == 1
    assert collect(lab) == 1


def test_shared_blob_is_deleted_with_the_last_project_and_each_counts_its_own(wasted, member, docker, world, demo):
    rival, blob = world.projects["rival"], Blob.objects.get(digest=sha256(WASTE[0]))
    docker("outsider", RIVAL_HOST).push_blob("rivals/theirs", WASTE[0])
    assert collect(demo) == len(WASTE)
    assert left() == needed() | {blob.digest}
    assert collect(rival) == 0  # its lease has one more day
    later.leases_end()
    assert (garbage.preview(rival).blobs, garbage.preview(rival).size) == (1, len(WASTE[0]))
    assert collect(rival) == 1
    assert left() == needed()
    assert ObjectTrash.objects.filter(pk=blob.storage_key).exists()


def test_locked_blob_is_released_and_deleted_by_the_unclaimed_run(wasted, demo, monkeypatch):
    """SQLite locks no rows, so the blob that PostgreSQL would skip is left out here."""
    busy = Blob.objects.get(digest=sha256(WASTE[0]))
    original = Blob.objects.select_for_update
    monkeypatch.setattr(Blob.objects, "select_for_update", lambda **how: original(**how).exclude(pk=busy.pk))
    assert collect(demo) == len(WASTE)
    assert left() == needed() | {busy.digest}
    review = BlobReview.objects.get(blob=busy)
    assert (review.project, review.attempts) == (None, 1)
    assert timezone.now() < review.review_after <= timezone.now() + collector.BACKOFF
    monkeypatch.undo()
    BlobReview.objects.update(review_after=timezone.now())
    assert collect(None) == 1
    assert left() == needed()


def test_due_blobs_are_found_by_an_index(wasted, demo):
    for project in (demo.pk, None):
        found = plan(collector._due(project, timezone.now()).values_list("pk")[: collector.BATCH])
        assert "INDEX" in found.upper()
        assert "TEMP B-TREE" not in found
        assert "Sort" not in found


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_preview_equals_the_run_and_changes_nothing(wasted, demo, member, world):
    member.push_blob("web/app", b"leased")
    member.push("web/app", "2.0", Image(layers=[b"in recovery"]))
    in_recovery = Image(layers=[b"in recovery"]).digest
    trash.delete_references(SYSTEM, world.repository("web"), ImageName("demo", "web", "app"), [in_recovery])
    rows = list(BlobReview.objects.order_by("pk").values())
    seen = garbage.preview(demo)
    assert list(BlobReview.objects.order_by("pk").values()) == rows
    assert (seen.blobs, seen.size) == (len(WASTE), wasted)
    assert (seen.leased, seen.in_recovery, seen.recovery_size) == (1, 1, len(b"in recovery"))
    run = garbage.run(garbage.request(SYSTEM, demo)[0].pk)
    assert (run.collected, run.size) == (seen.blobs, seen.size)


def test_run_reports_its_progress_and_result(wasted, demo, monkeypatch):
    monkeypatch.setattr(collector, "BATCH", 2)
    run, is_new = garbage.request(SYSTEM, demo)
    assert (is_new, run.state, run.percent) == (True, State.QUEUED, 0)
    assert garbage.request(SYSTEM, demo) == (run, False)
    progress = []

    def look(seconds):
        current = Collection.objects.get()
        progress.append((current.state, current.total, current.reviewed, current.collected))

    monkeypatch.setattr(collector.time, "sleep", look)
    due = BlobReview.objects.count()
    done = garbage.run(run.pk)
    assert [(state, total, reviewed) for state, total, reviewed, _ in progress] == [
        (State.RUNNING, due, min(due, 2 * (number + 1))) for number in range(len(progress))
    ]
    assert progress[-1][3] == len(WASTE)
    assert (done.state, done.percent, done.collected, done.size) == (State.DONE, 100, len(WASTE), wasted)
    actions = Event.objects.filter(action__startswith="collection").order_by("pk")
    assert [event.action for event in actions] == ["collection.run", "collection.done"]
    assert actions[1].detail == {"state": "done", "blobs": len(WASTE), "size": wasted}
    assert garbage.run(run.pk) is None  # a repeated task finds the run done
    assert garbage.request(SYSTEM, demo)[1]


def test_stopped_run_ends_after_its_batch_and_the_next_run_continues(wasted, demo, monkeypatch):
    monkeypatch.setattr(collector, "BATCH", 2)
    run, _ = garbage.request(SYSTEM, demo)
    monkeypatch.setattr(collector.time, "sleep", lambda seconds: garbage.stop(run))
    stopped = garbage.run(run.pk)
    assert (stopped.state, stopped.reviewed) == (State.STOPPED, 2)
    assert Event.objects.filter(action="collection.done").latest("pk").detail["state"] == "stopped"
    monkeypatch.undo()
    next_run = garbage.run(garbage.request(SYSTEM, demo)[0].pk)
    assert stopped.collected + next_run.collected == len(WASTE)
    assert left() == needed()


def test_long_run_continues_in_the_next_task(wasted, demo, monkeypatch):
    monkeypatch.setattr(collector, "BATCH", 2)
    run, _ = garbage.request(SYSTEM, demo)
    assert garbage.run(run.pk, seconds=-1).state == State.RUNNING
    Collection.objects.update(heartbeat_at=timezone.now() - collector.STALE - timedelta(seconds=1))
    assert garbage.unfinished() == [run.pk]
    assert garbage.run(run.pk).state == State.DONE
    assert left() == needed()


def test_abandoned_runs_are_found(demo, world):
    queued, _ = garbage.request(SYSTEM, demo)
    at_work, _ = garbage.request(SYSTEM, world.projects["lab"])
    Collection.objects.filter(pk=at_work.pk).update(state=State.RUNNING, started_at=timezone.now())
    assert garbage.unfinished() == [queued.pk]
    Collection.objects.update(heartbeat_at=timezone.now() - collector.STALE - timedelta(seconds=1))
    assert garbage.unfinished() == sorted([queued.pk, at_work.pk])
    Collection.objects.update(state=State.DONE)
    assert garbage.unfinished() == []


def test_failed_run_shows_the_reason(wasted, demo, monkeypatch, caplog):
    run, _ = garbage.request(SYSTEM, demo)

    def fails(*arguments):
        raise ValueError("of a defect")

    monkeypatch.setattr(collector, "_let_go", fails)
    monkeypatch.setattr(collector.connection, "close", lambda: None)  # the transaction of the test
    failed = garbage.run(run.pk)
    assert (failed.state, failed.problem) == (State.FAILED, "ValueError: of a defect")
    assert "a collection failed" in caplog.text
    assert Event.objects.filter(action="collection.done").latest("pk").detail["state"] == "failed"
    assert garbage.unfinished() == []
    monkeypatch.undo()
    assert garbage.run(garbage.request(SYSTEM, demo)[0].pk).collected == len(WASTE)


def test_nightly_task_starts_runs_for_projects_and_unclaimed_blobs_that_are_due(wasted, world, monkeypatch):
    queued = []
    monkeypatch.setattr(tasks.run_collection, "delay", queued.append)
    BlobReview.objects.filter(blob__digest=sha256(WASTE[0])).update(project=None)
    assert tasks.collect_garbage() == 2
    runs = Collection.objects.in_bulk(queued)
    assert {run.project for run in runs.values()} == {world.projects["demo"], None}
    assert tasks.collect_garbage() == 0  # these runs are already open
    assert tasks.sweep_collections() == 2
    for run in runs:
        tasks.run_collection(run)
        tasks.run_collection(run)
    assert left() == needed()
    assert sum(Collection.objects.values_list("collected", flat=True)) == len(WASTE)


# ── Alarms ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_blob_without_a_review_raises_an_alarm_and_is_deleted_a_day_later(wasted, demo, caplog):
    assert garbage.reconcile() == 0
    assert caplog.text == ""
    BlobReview.objects.filter(blob__digest__in=[sha256(data) for data in WASTE[:2]]).delete()
    BlobLease.objects.all().delete()
    assert garbage.reconcile() == 2
    assert "2 blobs had neither a reference, nor a lease, nor a review" in caplog.text
    assert garbage.reconcile() == 0
    assert collect(demo) == len(WASTE) - 2
    later.leases_end()
    assert collect(None) == 2


def test_scrub_lists_problems_and_repairs_nothing(member, storage_folder):
    member.push("web/app", "1.0", KEPT)
    for data in WASTE:
        member.push_blob("web/app", data)
    keys = dict(Blob.objects.values_list("digest", "storage_key"))
    whole, missing, short, damaged, *_ = (storage_folder / keys[sha256(data)] for data in WASTE)
    missing.unlink()
    short.write_bytes(short.read_bytes()[:-1])
    damaged.write_bytes(b"X" + damaged.read_bytes()[1:])
    old, young = (storage_folder / "blobs" / "00" / f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2))
    old.parent.mkdir(parents=True, exist_ok=True)
    for path in (old, young):
        path.write_bytes(b"nobody's")
    three_days_ago = (timezone.now() - timedelta(days=3)).timestamp()
    for path in (old, whole, short, damaged):
        os.utime(path, (three_days_ago, three_days_ago))
    before = {path: path.read_bytes() for path in storage_folder.rglob("*") if path.is_file()}

    def problems(**how):
        return {
            (each.kind, each.digest or each.key)
            for each in storage_check.verify(**how)
            if isinstance(each, storage_check.Problem)
        }

    quick = {
        ("missing", sha256(WASTE[1])),
        ("short", sha256(WASTE[2])),
        ("orphan", str(old.relative_to(storage_folder))),
    }
    assert problems() == quick
    assert problems(full=True) == quick | {("damaged", sha256(WASTE[3]))}
    assert {path: path.read_bytes() for path in storage_folder.rglob("*") if path.is_file()} == before

    for number in (1, 2):  # a push repairs missing and short files; damaged bytes need a decision
        member.push_blob("web/app", WASTE[number])
    assert problems(full=True) == {("damaged", sha256(WASTE[3])), ("orphan", str(old.relative_to(storage_folder)))}


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), PermissionError(errno.EACCES, "no")])
def test_scrub_continues_after_an_unreadable_file(member, storage_folder, monkeypatch, error):
    for data in WASTE[:3]:
        member.push_blob("web/app", data)
    bad = Blob.objects.get(digest=sha256(WASTE[1])).storage_key
    opened = type(storage_check.blob_storage()).open

    def unreadable(storage, key, *arguments):
        if key == bad:
            raise error
        return opened(storage, key, *arguments)

    monkeypatch.setattr(type(storage_check.blob_storage()), "open", unreadable)
    assert list(storage_check.verify(full=True)) == [storage_check.Problem("damaged", bad, sha256(WASTE[1])), 3]


@pytest.mark.parametrize("name", ["00/notes.txt", "00/sha256-00", "00/\udcff", "00/folder/x", "of no folder"])
def test_scrub_lists_foreign_files(db, storage_folder, name):
    path = storage_folder / "blobs" / name
    path.parent.mkdir(parents=True)
    path.write_text("x")
    os.utime(path, (0, 0))
    found = [each for each in storage_check.verify(full=True) if isinstance(each, storage_check.Problem)]
    assert found == [storage_check.Problem("orphan", f"blobs/{name}")]


def test_bytes_in_the_trash_or_of_an_upload_are_not_orphans(wasted, demo, member, storage_folder):
    collect(demo)
    for path in (storage_folder / "blobs").glob("*/*"):
        os.utime(path, (0, 0))
    assert [found for found in storage_check.verify() if isinstance(found, storage_check.Problem)] == []


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_collectgarbage_previews_and_then_deletes(wasted, storage_folder):
    before = files(storage_folder)
    said, _ = command("collectgarbage", "--dry-run")
    assert said == {"blobs": len(WASTE), "bytes": wasted, "dry_run": True}
    assert files(storage_folder) == before
    assert not Collection.objects.exists()
    said, progress = command("collectgarbage")
    assert said == {"purged": 0, "blobs": len(WASTE), "bytes": wasted, "objects": 0, "dry_run": False}
    assert f"demo: {len(WASTE) + 2} of {len(WASTE) + 2} looked at, {len(WASTE)} collected" in progress
    later.trash_is_due()
    assert command("collectgarbage")[0]["objects"] == len(before) - len(needed())
    assert left() == needed()


def test_collectgarbage_purges_expired_deletions(member, world):
    member.push("web/app", "1.0", KEPT)
    trash.delete_references(SYSTEM, world.repository("web"), ImageName("demo", "web", "app"), [KEPT.digest])
    later.recovery_ends()
    later.leases_end()
    said, _ = command("collectgarbage", "--project", "demo")
    assert (said["purged"], said["blobs"]) == (1, len(needed()))
    assert not Deletion.objects.exists()


def test_collectgarbage_refuses_an_unknown_project(db):
    with pytest.raises(CommandError, match="there is no project nowhere"):
        call_command("collectgarbage", "--project", "nowhere")


def test_verifystorage_reports_problems_by_its_exit_status(wasted, storage_folder):
    said, _ = command("verifystorage", "--full")
    assert said == {"blobs": len(WASTE) + 2, "missing": 0, "short": 0, "damaged": 0, "orphan": 0}
    (storage_folder / Blob.objects.get(digest=sha256(WASTE[0])).storage_key).unlink()
    output, words = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verifystorage", stdout=output, stderr=words)
    assert ended.value.code == 1
    assert json.loads(output.getvalue())["missing"] == 1
    assert f"missing: {sha256(WASTE[0])}" in words.getvalue()
