"""Runs of cleanup policies: they delete what the preview shows, nothing that is kept or needed, and all is recoverable."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts.actors import SYSTEM
from registry import cleanup, errors, tasks, trash
from registry.celery import app
from registry.cleanup import policies, runs
from registry.models import (
    CleanupLine,
    CleanupPolicy,
    CleanupRun,
    Deletion,
    Event,
    Manifest,
    ManifestChild,
    Repository,
    Tag,
)
from registry.models import Image as StoredImage
from registry.oci import media_types
from registry.oci.names import ImageName
from registry.statistics import pulls
from tests.support.images import Image, descriptor, index_of, sha256

pytestmark = pytest.mark.django_db
State = CleanupRun.State


def ago(days: float):
    return timezone.now() - timedelta(days=days)


def image_of(number: object, **more: object) -> Image:
    """Return an image with its own digest. All share their blobs, so that a repository gets these once."""
    return Image(more={"annotations": {"number": str(number)}, **more})


@pytest.fixture
def tagged(docker, web):
    """Push web/app with the tags t0 (today) to t9 (90 days ago), each with its own digest, and web/other:t0."""
    member = docker("member")
    member.push("web/app", "t0", image_of(0))
    for number in range(1, 10):
        member.push_manifest("web/app", f"t{number}", image_of(number).manifest)
        age(f"t{number}", number * 10)
    member.push("web/other", "t0", image_of("other"))
    return StoredImage.objects.get(path="demo/web/app")


def age(tag: str, days: float) -> None:
    Tag.objects.filter(name=tag).update(started_at=ago(days), pushed_at=ago(days))


def policy_of(web: Repository, **rules: object) -> CleanupPolicy:
    return policies.set_policy(SYSTEM, web, **rules)


def live() -> list[str]:
    return sorted(f"{tag.image.name}:{tag.name}" for tag in Tag.objects.live().select_related("image"))


def shown(web: Repository, policy: CleanupPolicy) -> list[str]:
    found = policies.preview(web, policy, timezone.now())
    return [f"{judged.image.name}:{judged.verdict.tag or judged.verdict.digest}" for judged in found]


def lines(run: CleanupRun, outcome: str) -> list[str]:
    return sorted(run.lines.filter(outcome=outcome).values_list("tag", flat=True))


# ── Deletion ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_run_deletes_exactly_what_the_preview_shows(tagged, web):
    policy = policy_of(web, keep_last=3, keep_patterns=["t9"], tag_days=45)
    expected = shown(web, policy)
    assert expected == ["app:t5", "app:t6", "app:t7", "app:t8"]
    before = live()
    run = cleanup.run(policy.pk)
    assert run.state == State.DONE
    assert live() == sorted(set(before) - set(expected))
    assert (run.considered, run.to_delete, run.deleted, run.skipped) == (11, 4, 4, 0)
    assert shown(web, policy) == []


def test_preview_of_an_unsaved_policy_changes_nothing(tagged, web):
    before = Event.objects.count(), live()
    assert len(shown(web, CleanupPolicy(repository=web, keep_last=1))) == 9
    assert (Event.objects.count(), live()) == before
    assert not CleanupPolicy.objects.exists()


def test_every_tag_has_its_reason(tagged, web):
    run = cleanup.run(policy_of(web, keep_last=8, keep_patterns=["t9"]).pk)
    reasons = {(line.path, line.tag): (line.outcome, line.reason, line.facts) for line in run.lines.all()}
    assert len(reasons) == 11
    assert reasons["demo/web/app", "t9"] == ("kept", "pattern", {"pattern": "t9"})
    assert reasons["demo/web/app", "t0"] == ("kept", "newest", {"number": 8})
    assert reasons["demo/web/app", "t8"] == ("deleted", "not-newest", {"number": 8})


def test_deletions_of_a_policy_are_in_recovery_and_in_the_audit_log(tagged, web):
    run = cleanup.run(policy_of(web, keep_last=8).pk)
    assert lines(run, "deleted") == ["t8", "t9"]
    for tag in Tag.objects.filter(name__in=["t8", "t9"]).select_related("deletion__event", "manifest"):
        assert tag.deletion.purge_after > timezone.now()
        assert (tag.deletion.event.actor, tag.deletion.event.user) == ("cleanup policy", None)
        assert tag.manifest.deletion is None
    told = Event.objects.filter(action="cleanup.run").get()
    assert (told.path, told.detail) == (
        "demo/web",
        {"run": run.pk, "state": "done", "considered": 11, "to_delete": 2, "deleted": 2, "skipped": 0},
    )


def test_another_repository_is_left_alone(tagged, docker, web):
    docker("member").push("public/app", "old")
    Tag.objects.filter(image__path="demo/public/app").update(started_at=ago(1_000), pushed_at=ago(1_000))
    cleanup.run(policy_of(web, tag_days=500).pk)
    assert "app:old" in live()


# ── Digests without a tag ────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def untagged(docker, web):
    """Push to web/app an index with two children and a signature, another index in Recovery, and untagged digests, all old."""
    member = docker("member")
    found = {"child": image_of("child"), "other": image_of("other"), "loose": image_of("loose")}
    for image in found.values():
        member.push("web/app", image.digest, image)
    parts = [descriptor(found[name].manifest, media_types.OCI_MANIFEST) for name in ("child", "other")]
    documents = {name: index_of(*entries) for name, entries in (("index", parts[:1]), ("trashed", parts[1:]))}
    for name, document in documents.items():
        member.push_manifest("web/app", name, document, media_types.OCI_INDEX)
    member.push_manifest("web/app", "keeps-other", found["other"].manifest)
    member.delete(f"web/app/manifests/{sha256(documents['trashed'])}", 202)
    member.delete("web/app/manifests/keeps-other", 202)
    subject = descriptor(documents["index"], media_types.OCI_INDEX)
    found["signature"] = image_of("signature", subject=subject)
    found["orphan"] = image_of("orphan", subject=subject | {"digest": f"sha256:{'0' * 64}"})
    for name in ("signature", "orphan"):
        member.push("web/app", found[name].digest, found[name])
    Manifest.objects.update(pushed_at=ago(100), last_pushed_at=ago(100))
    Tag.objects.update(started_at=ago(100), pushed_at=ago(100))
    Tag.objects.exclude(ended_at=None).update(ended_at=ago(50))
    return {name: image.digest for name, image in found.items()} | {
        name: sha256(document) for name, document in documents.items()
    }


def test_untagged_digests_are_deleted_but_not_children_or_signatures_alone(untagged, web):
    policy = policy_of(web, untagged_days=30)
    expected = {f"app:{untagged[name]}" for name in ("loose", "orphan")}
    assert set(shown(web, policy)) == expected
    run = cleanup.run(policy.pk)
    assert (run.state, run.deleted) == (State.DONE, 2)
    there = set(Manifest.objects.live().values_list("digest", flat=True))
    assert there == {untagged[name] for name in ("child", "other", "index", "signature")}


def test_age_of_an_untagged_digest_counts_from_its_last_tag(untagged, web):
    Tag.objects.filter(manifest__digest=untagged["index"]).update(ended_at=ago(10))
    assert set(shown(web, policy_of(web, untagged_days=9))) == {
        f"app:{untagged[name]}" for name in ("loose", "orphan", "index")
    }
    assert f"app:{untagged['index']}" not in shown(web, policy_of(web, untagged_days=11))


def test_deleted_digest_takes_its_children_and_signatures(untagged, web):
    Tag.objects.filter(manifest__digest=untagged["index"]).update(ended_at=ago(40))
    cleanup.run(policy_of(web, untagged_days=30).pk)
    taken = Deletion.objects.get(manifests__digest=untagged["index"])
    assert {manifest.digest for manifest in taken.manifests.all()} >= {
        untagged[name] for name in ("index", "child", "signature")
    }


def test_untagged_digests_stay_without_a_rule(untagged, web):
    cleanup.run(policy_of(web, tag_days=500).pk)
    assert Manifest.objects.live().count() == 6


# ── Held runs ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_run_that_deletes_too_much_is_held_with_the_reason(tagged, web, caplog):
    policy = policy_of(web, keep_last=5, most_percent=45)
    before = live()
    run = cleanup.run(policy.pk)
    assert (run.state, run.to_delete, run.considered) == (State.AWAITING_APPROVAL, 5, 11)
    assert live() == before
    assert "awaits approval" in caplog.text
    assert Event.objects.get(action="cleanup.run").detail["state"] == "held"
    assert lines(run, "doomed") == ["t5", "t6", "t7", "t8", "t9"]


def test_run_at_exactly_the_percentage_is_not_held(tagged, web):
    policy_of(web, keep_last=5, most_percent=50)
    Tag.objects.filter(image__name="other").delete()
    run = cleanup.run(CleanupPolicy.objects.get().pk)
    assert (run.state, run.to_delete, run.considered) == (State.DONE, 5, 10)


def test_approved_run_deletes_only_the_listed_objects(tagged, docker, web, world):
    policy = policy_of(web, keep_last=2)
    held = cleanup.run(policy.pk)
    docker("member").push("web/app", "t8", image_of("t8 again"))  # moved: differs from the listed digest
    docker("member").push("web/app", "new", image_of("new"))  # t1 is no longer among the newest two, but was not listed
    assert cleanup.approve(world.member.actor, held.pk)
    assert not cleanup.approve(world.member.actor, held.pk)
    run = cleanup.run(policy.pk)
    assert (run.pk, run.state, run.approved_by) == (held.pk, State.DONE, "member@acme.test")
    assert live() == ["app:new", "app:t0", "app:t1", "app:t8", "other:t0"]
    assert lines(run, "left") == ["t8"]
    approved, done = (
        Event.objects.filter(action="cleanup.run", detail__run=run.pk).exclude(detail__state="held").order_by("pk")
    )
    assert (approved.user, approved.detail["state"]) == (world.member.user, "deleting")
    assert done.detail["state"] == "done"


def test_dismissed_run_is_judged_again_the_next_night(tagged, web, world):
    policy = policy_of(web, keep_last=2)
    held = cleanup.run(policy.pk)
    assert cleanup.dismiss(world.member.actor, held.pk)
    assert not cleanup.dismiss(world.member.actor, held.pk)
    assert not cleanup.approve(world.member.actor, held.pk)
    second = cleanup.run(policy.pk)
    third = cleanup.run(policy.pk)
    second.refresh_from_db()
    assert (second.state, third.state) == (State.DISMISSED, State.AWAITING_APPROVAL)
    assert len(live()) == 11


def test_changed_policy_ends_its_earlier_runs(tagged, web, world):
    held = cleanup.run(policy_of(web, keep_last=2).pk)
    policy_of(web, keep_last=10)
    held.refresh_from_db()
    assert held.state == State.DISMISSED
    assert not cleanup.approve(world.member.actor, held.pk)


# ── Interruptions ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_run_continues_after_a_killed_worker(tagged, web, monkeypatch):
    """Each step is one transaction, so a killed worker leaves the state after one of them."""
    monkeypatch.setattr(policies, "IMAGES", 1)
    monkeypatch.setattr(runs, "LINES", 2)
    policy = policy_of(web, keep_last=1, most_percent=100)
    run = runs._open(policy.pk)
    assert runs._judge_some(run.pk)
    half = runs._open(policy.pk)
    assert (half.pk, half.considered, half.state) == (run.pk, 10, State.JUDGING)
    while runs._judge_some(run.pk):
        pass
    assert runs._delete_some(run.pk)
    assert len(live()) == 9
    done = cleanup.run(policy.pk)
    assert (done.pk, done.state, done.considered, done.deleted) == (run.pk, State.DONE, 11, 9)
    assert live() == ["app:t0", "other:t0"]
    assert CleanupLine.objects.filter(run=run).count() == 11
    assert Event.objects.filter(action="tag.delete").count() == 9


def test_objects_changed_after_judging_are_not_deleted(tagged, docker, web):
    policy = policy_of(web, keep_last=7)
    run = runs._open(policy.pk)
    while runs._judge_some(run.pk):
        pass
    docker("member").push("web/app", "t8", image_of("new"))
    docker("member").delete("web/app/manifests/t0", 202)
    docker("member").delete("web/app/manifests/t9", 202)
    done = cleanup.run(policy.pk)
    assert (lines(done, "deleted"), lines(done, "left")) == (["t7"], ["t8", "t9"])
    assert "app:t8" in live()
    assert all("changed" in reason for reason in done.lines.filter(outcome="left").values_list("reason", flat=True))


def test_image_deleted_during_the_run_is_skipped(tagged, web):
    policy = policy_of(web, keep_last=7)
    run = runs._open(policy.pk)
    while runs._judge_some(run.pk):
        pass
    event = Event.objects.latest("pk")
    StoredImage.objects.update(
        deletion=Deletion.objects.create(kind="image", project=event.project, event=event, purge_after=timezone.now())
    )
    done = cleanup.run(policy.pk)
    assert (done.state, done.deleted, done.skipped) == (State.DONE, 0, 3)


def test_disabled_policy_stops_its_run(tagged, web):
    policy = policy_of(web, keep_last=7)
    run = runs._open(policy.pk)
    while runs._judge_some(run.pk):
        pass
    policy_of(web, is_active=False)
    assert not runs._delete_some(run.pk)
    assert cleanup.run(policy.pk) is None
    assert len(live()) == 11


def test_failed_run_is_reported_and_not_retried(tagged, web, caplog):
    policy = policy_of(web, keep_last=7)
    run = runs._open(policy.pk)
    CleanupRun.objects.filter(pk=run.pk).update(rules={"unheard of": 1})
    with pytest.raises(TypeError):
        cleanup.run(policy.pk)
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert (run.problem, "unheard of" in run.problem_detail) == ("error", True)
    assert "failed" in caplog.text
    assert Event.objects.get(action="cleanup.run").detail["state"] == "failed"
    assert cleanup.run(policy.pk).state == State.DONE


# ── Schedule ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


def test_policy_runs_once_each_night_despite_runs_by_day(tagged, web, world):
    policy = policy_of(web, keep_last=8)
    CleanupPolicy.objects.update(updated_at=at(2, 10))
    assert cleanup.due(at(2, 23, 59)) == cleanup.due(at(3, 2, 29)) == [], "a new policy waits for its first night"
    for day in (3, 4):
        assert cleanup.due(at(day, 2, 30)) == cleanup.due(at(day, 9)) == [policy.pk], "late is better than never"
        cleanup.run(policy.pk)
        CleanupRun.objects.filter(started_at__gt=at(day, 3)).update(started_at=at(day, 2, 31))
        assert cleanup.due(at(day, 2, 40)) == cleanup.due(at(day + 1, 2, 29)) == []
    cleanup.run(policy.pk)  # requested by a user, by day
    CleanupRun.objects.filter(started_at__gt=at(5, 0)).update(started_at=at(4, 14))
    assert cleanup.due(at(4, 20)) == []
    assert cleanup.due(at(5, 2, 30)) == [policy.pk]

    run = runs._open(policy.pk)
    assert cleanup.due(timezone.now()) == [], "a worker has it"
    CleanupRun.objects.filter(pk=run.pk).update(heartbeat_at=timezone.now() - timedelta(minutes=11))
    assert cleanup.due() == [policy.pk], "its worker is gone"
    policy_of(web, is_active=False)
    CleanupPolicy.objects.update(updated_at=ago(9))
    assert cleanup.due() == []


def test_approved_run_is_continued(tagged, web, world):
    policy = policy_of(web, keep_last=2)
    held = cleanup.run(policy.pk)
    now = timezone.now()
    assert cleanup.due(now) == []
    cleanup.approve(world.member.actor, held.pk)
    assert cleanup.due(now) == [policy.pk]


def test_the_tasks_of_the_schedule_exist(tagged, web):
    scheduled = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert {"registry.tasks.clean_repositories", "registry.tasks.prune_history"} <= scheduled
    assert scheduled <= app.tasks.keys()
    policy = policy_of(web, keep_last=8)
    tasks.clean_repository(policy.pk)
    tasks.clean_repository(policy.pk)
    assert len(live()) == 9
    assert tasks.prune_history() == 0


def test_older_runs_keep_only_their_deletions_and_are_pruned(tagged, web):
    policy = policy_of(web, keep_last=8)
    first = cleanup.run(policy.pk)
    second = cleanup.run(policy.pk)
    assert [first.lines.count(), second.lines.count()] == [2, 9]
    CleanupRun.objects.update(started_at=ago(100))
    third = cleanup.run(policy.pk)
    assert list(CleanupRun.objects.all()) == [third]


# ── Rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_setting_a_policy_is_one_event_with_before_and_after(web, world):
    first = policies.set_policy(world.member.actor, web, keep_last=5)
    policies.set_policy(world.member.actor, web, keep_last=5)
    policies.set_policy(world.member.actor, web, tag_days=30, is_active=False)
    made, changed = Event.objects.filter(action="cleanup.policy").order_by("pk")
    assert (made.path, made.user) == ("demo/web", world.member.user)
    assert (made.detail["before"], made.detail["after"]) == ({}, policies.rules_of(first))
    assert changed.detail["before"] == made.detail["after"]
    assert changed.detail["after"] == made.detail["after"] | {"tag_days": 30, "is_active": False}


@pytest.mark.parametrize(
    "rules",
    [
        *(
            {name: value}
            for name in ("keep_last", "tag_days", "unpulled_days", "untagged_days")
            for value in (0, -1, 36_501)
        ),
        {"most_percent": 101},
        {"most_percent": -1},
        {"keep_patterns": [""]},
        {"keep_patterns": ["x" * 129]},
        {"keep_patterns": ["x"] * 51},
    ],
)
def test_invalid_rules_are_refused(web, world, rules):
    with pytest.raises(errors.RequestInvalid):
        policies.set_policy(world.member.actor, web, **rules)
    assert not CleanupPolicy.objects.exists()


# ── Replay ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_replay_lists_past_deletions_and_later_pulls(tagged, docker, web, monkeypatch):
    member = docker("member")
    member.push("web/app", "again", image_of(8))  # the digest of t8, tagged again 5 days ago
    age("again", 5)
    pulled = Tag.objects.get(name="t9")
    monkeypatch.setattr(pulls, "last_pulls", lambda _: {pulled.pk: ago(1)})
    replayed = {one.deletion.tag: one.deletion for one in policies.replay(web, CleanupPolicy(tag_days=60), days=90)}
    assert replayed.keys() == {"t6", "t7", "t8", "t9"}
    days = {tag: round((timezone.now() - deletion.at) / timedelta(days=1)) for tag, deletion in replayed.items()}
    assert days in ({"t6": 0, "t7": 10, "t8": 20, "t9": 30}, {"t6": 0, "t7": 9, "t8": 19, "t9": 29})
    assert {tag for tag, deletion in replayed.items() if deletion.pulled_at} == {"t9"}
    assert {tag for tag, deletion in replayed.items() if deletion.tagged_at} == {"t8"}
    assert len(live()) == 12


def test_replay_of_today_equals_the_preview(tagged, untagged, web):
    Tag.objects.filter(manifest__digest=untagged["index"]).update(ended_at=ago(40))
    policy = CleanupPolicy(repository=web, keep_last=3, tag_days=45, untagged_days=30)
    replayed = [
        f"{one.image.name}:{one.deletion.tag or one.deletion.digest}" for one in policies.replay(web, policy, days=0)
    ]
    assert sorted(replayed) == sorted(shown(web, policy))
    assert replayed


# ── Cost ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_judging_costs_the_same_queries_for_any_number_of_images(docker, web):
    policy = CleanupPolicy(repository=web, keep_last=1, untagged_days=1)
    counts = []
    for number in range(6):
        for tag in range(2):
            docker("member").push(f"web/i{number}", f"t{tag}")
        with CaptureQueriesContext(connection) as queries:
            list(policies.judge(web, policy, timezone.now()))
            list(policies.replay(web, policy))
        counts.append(len(queries))
    assert len(set(counts)) == 1, counts


# ── For every repository ─────────────────────────────────────────────────────────────────────────────────────────────
manifest_rows = st.lists(
    st.tuples(
        st.integers(-1, 7), st.integers(-1, 7), st.integers(0, 40), st.sampled_from(["", "", "a", "b", "c", "d"])
    ),
    max_size=8,
)


@pytest.mark.usefixtures("world")
@hypothesis_settings(max_examples=60, deadline=None, database=None)
@given(manifest_rows, st.integers(1, 30), st.none() | st.integers(1, 3))
def test_no_run_deletes_needed_manifests(rows, days, keep_last):
    """For any graph of manifests: live manifests keep their children, and no live tag names a deleted manifest."""
    web = Repository.objects.get(project__name="demo", name="web")
    image, found = _fill(web, rows)
    policy = CleanupPolicy.objects.update_or_create(
        repository=web,
        defaults={"untagged_days": days, "tag_days": days, "keep_last": keep_last, "most_percent": 100},
    )[0]
    newest = list(Tag.objects.live().filter(image=image).order_by("-pushed_at", "-pk")[: keep_last or 0])
    expected = shown(web, policy)
    run = cleanup.run(policy.pk)
    assert run.deleted == len(expected)
    assert all(tag.pk in Tag.objects.live().values_list("pk", flat=True) for tag in newest)
    assert not ManifestChild.objects.filter(parent__deletion=None, child__deletion__isnull=False).exists()
    assert not Tag.objects.live().filter(manifest__deletion__isnull=False).exists()
    there = {manifest.digest for manifest in Manifest.objects.live().filter(image=image)}
    for manifest in found:
        if manifest.subject in there and manifest.digest != manifest.subject:
            assert manifest.digest in there, "a referrer went without its subject"


def _fill(web: Repository, rows) -> tuple[StoredImage, list[Manifest]]:
    StoredImage.objects.filter(name="hypothesis").update(deletion=None)
    image, _ = StoredImage.objects.get_or_create(repository=web, name="hypothesis", path="demo/web/hypothesis")
    Tag.objects.filter(image=image).delete()
    ManifestChild.objects.filter(parent__image=image).delete()
    Manifest.objects.filter(image=image).delete()
    found: list[Manifest] = []
    for number, (child, subject, age_in_days, tag) in enumerate(rows):
        manifest = Manifest.objects.create(
            image=image,
            digest=f"sha256:{number:064}",
            subject=f"sha256:{subject:064}" if subject >= 0 else "",
            content=b"",
            size=0,
            total_size=0,
            pushed_at=ago(age_in_days),
            last_pushed_at=ago(age_in_days),
        )
        if 0 <= child < len(found):
            ManifestChild.objects.create(parent=manifest, child=found[child])
        if tag and not Tag.objects.filter(image=image, name=tag).exists():
            since = ago(age_in_days)
            Tag.objects.create(image=image, name=tag, manifest=manifest, started_at=since, pushed_at=since)
        found.append(manifest)
    return image, found


def test_several_objects_are_deleted_together_or_not_at_all(tagged, docker, web, world):
    name = ImageName("demo", "web", "app")
    with pytest.raises(errors.ManifestUnknown):
        trash.delete_references(world.member.actor, web, name, ["t1", "none", "t2"])
    assert len(live()) == 11
    trash.delete_references(world.member.actor, web, name, ["t1", image_of(2).digest])
    assert len(live()) == 9
