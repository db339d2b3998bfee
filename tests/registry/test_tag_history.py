"""Tag history: pulls as of a moment, intervals, and moving a tag back."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.actors import SYSTEM
from registry import errors, manifests, repositories, tags
from registry.models import Event, Manifest, Repository, Tag
from registry.models import Image as StoredImage
from registry.oci import names
from registry.oci.names import ImageName
from tests.support.database import plan
from tests.support.images import Image

pytestmark = pytest.mark.django_db
NAME = ImageName("demo", "web", "app")
OLD, NEW = Image(layers=[b"old"]), Image(layers=[b"new"])
JANUARY, MARCH, MAY = (datetime(2026, month, 1, 12, tzinfo=UTC) for month in (1, 3, 5))


@pytest.fixture
def moved(docker) -> StoredImage:
    """web/app:stable named OLD from January to March and NEW since then."""
    docker("member").push("web/app", "stable", OLD)
    docker("member").push("web/app", "stable", NEW)
    old, new = Tag.objects.order_by("pk")
    Tag.objects.filter(pk=old.pk).update(started_at=JANUARY, ended_at=MARCH)
    Tag.objects.filter(pk=new.pk).update(started_at=MARCH)
    return StoredImage.objects.get(path="demo/web/app")


def at(tag: str, moment: datetime) -> str:
    return f"{tag}--at-{moment:%Y%m%dt%H%Mz}"


def message(client, tag: str) -> str:
    answer = client.get(f"web/app/manifests/{tag}", 404)
    assert answer.codes == ["MANIFEST_UNKNOWN"]
    return answer.message


# ── Past tags ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_docker_pulls_a_tag_as_of_a_moment(docker, moved):
    viewer = docker("viewer")
    assert viewer.pull("web/app", at("stable", JANUARY))[0] == OLD.manifest
    assert viewer.pull("web/app", "stable--at-20260301t115959z")[0] == OLD.manifest
    assert viewer.pull("web/app", at("stable", MARCH))[0] == NEW.manifest
    assert viewer.pull("web/app", "stable--at-20260501T1200Z")[0] == NEW.manifest
    answer = viewer.head(f"web/app/manifests/{at('stable', JANUARY)}", 200)
    assert answer.headers["Docker-Content-Digest"] == OLD.digest


def test_deleted_tag_is_pulled_as_of_a_moment(docker, moved):
    docker("member").delete("web/app/manifests/stable", 202)
    assert docker("viewer").pull("web/app", at("stable", MAY))[0] == NEW.manifest
    assert "is in the future" in message(docker("viewer"), at("stable", timezone.now() + timedelta(minutes=2)))


def test_tag_is_unknown_before_its_first_push(docker, moved):
    assert "had no tag stable at 2025-12-31" in message(docker("viewer"), "stable--at-20251231t0000z")
    assert "had no tag none" in message(docker("viewer"), at("none", MARCH))


def test_future_moment_is_refused(docker, moved):
    assert "is in the future" in message(docker("viewer"), "stable--at-21000101t0000z")


@pytest.mark.parametrize("moment", ["20261301t0000z", "20260230t0000z", "20260101t2400z", "00000101t0000z"])
def test_moment_outside_the_calendar_is_refused(docker, moved, moment):
    assert "names no moment" in message(docker("viewer"), f"stable--at-{moment}")


@pytest.mark.parametrize("moment", ["2026-03-01", "20260301", "20260301t12z", "20260301t120000", "20260301t12000z"])
def test_other_forms_are_ordinary_tags(docker, moved, moment):
    docker("member").push("web/app", f"stable--at-{moment}", OLD)
    assert docker("viewer").pull("web/app", f"stable--at-{moment}")[0] == OLD.manifest


def test_past_tags_are_not_listed_and_cannot_be_deleted(docker, moved):
    assert docker("viewer").tags("web/app") == ["stable"]
    docker("member").delete(f"web/app/manifests/{at('stable', JANUARY)}", 404)
    assert docker("viewer").pull("web/app", "stable")[0] == NEW.manifest


def test_past_tag_of_a_deleted_digest_is_refused_with_its_recovery_deadline(docker, moved):
    docker("member").delete(f"web/app/manifests/{OLD.digest}", 202)
    words = message(docker("viewer"), at("stable", JANUARY))
    assert OLD.digest in words
    assert "in Recovery until" in words
    answer = docker("stranger").get(f"web/app/manifests/{at('stable', JANUARY)}", 404)
    assert answer.codes == ["NAME_UNKNOWN"]
    assert OLD.digest not in answer.message


@pytest.mark.parametrize(
    ("who", "status"),
    [("member", 200), ("reader", 200), ("viewer", 200), ("stranger", 404), ("outsider", 404), (None, 401)],
)
def test_past_tag_needs_the_permission_to_pull_the_tag(docker, moved, who, status):
    past, present = at("stable", JANUARY), "stable"
    for reference in (past, present):
        assert docker(who).get(f"web/app/manifests/{reference}").status == status


def test_revoked_role_cannot_pull_past_tags(docker, moved, world):
    docker("viewer").get(f"web/app/manifests/{at('stable', JANUARY)}", 200)
    repositories.set_role(SYSTEM, world.repository("web"), world.viewer.user, None)
    docker("viewer").get(f"web/app/manifests/{at('stable', JANUARY)}", 404)


def test_past_tags_of_an_expired_image_are_refused(docker, moved):
    StoredImage.objects.update(expires_at=timezone.now())
    assert docker("viewer").get(f"web/app/manifests/{at('stable', JANUARY)}", 403).codes == ["DENIED"]


def test_push_to_a_past_tag_is_refused(docker, moved):
    events, meanings = Event.objects.count(), Tag.objects.count()
    for path in (f"web/app/manifests/{at('stable', JANUARY)}", f"web/app/manifests/{NEW.digest}?tag={at('x', MAY)}"):
        answer = docker("member").put(path, 405, body=NEW.manifest, headers={"Content-Type": NEW.media_type})
        assert answer.codes == ["UNSUPPORTED"]
        assert "past of a tag" in answer.message
    assert (Event.objects.count(), Tag.objects.count()) == (events, meanings)


def test_live_tag_with_the_form_of_a_past_tag_takes_precedence(docker, moved):
    """The tag was pushed under another name and renamed, because only a former version accepted this form."""
    docker("member").push("web/app", "former", NEW)
    Tag.objects.filter(name="former").update(name=at("stable", JANUARY))
    member = docker("member")
    assert member.pull("web/app", at("stable", JANUARY))[0] == NEW.manifest
    assert at("stable", JANUARY) in member.tags("web/app")
    member.push("web/app", at("stable", JANUARY), OLD)  # an existing tag stays a tag
    assert member.pull("web/app", at("stable", JANUARY))[0] == OLD.manifest
    member.push("web/app", at("stable", JANUARY), NEW)
    member.delete(f"web/app/manifests/{at('stable', JANUARY)}", 202)
    assert member.pull("web/app", at("stable", JANUARY))[0] == OLD.manifest  # a past tag again


def test_past_tags_are_found_by_indexes(docker, moved):
    told = plan(Manifest.objects.as_of(str(NAME), "spelled", "stable", MAY).only("digest")[:1])
    assert "Seq Scan" not in told, told
    assert "SCAN registry" not in told, told
    if connection.vendor == "sqlite":
        assert "history_of_tag" in told
        assert "TEMP B-TREE" not in told


# ── Random histories ─────────────────────────────────────────────────────────────────────────────────────────────────
moves = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["a", "b"]), st.sampled_from([None, 0, 1, 2])), max_size=14
)


@pytest.mark.usefixtures("world")
@settings(max_examples=50, deadline=None, database=None)
@given(moves)
def test_any_history_of_a_tag_is_read_as_it_was_written(moves):
    """Any sequence of moves and deletions at any distance, read at and around each moment."""
    image, found = _image_of_three()
    now = {"a": None, "b": None}
    written: list[tuple[datetime, dict[str, str | None]]] = []
    clock = JANUARY
    for minutes, name, which in moves:
        clock += timedelta(minutes=minutes)
        live = Tag.objects.live().filter(image=image, name=name)
        live.update(ended_at=clock)
        if which is not None:
            Tag.objects.create(image=image, name=name, manifest=found[which], started_at=clock)
        now[name] = None if which is None else found[which].digest
        written.append((clock, dict(now)))
    for moment in sorted({at + timedelta(minutes=step) for at, _ in written for step in (-1, 0, 1)} | {JANUARY}):
        then = [meaning for at, meaning in written if at <= moment]
        for name in ("a", "b"):
            expected = then[-1][name] if then else None
            meant = Tag.objects.as_of(image, name, moment)
            assert (meant.manifest.digest if meant else None) == expected
            pulled = Manifest.objects.as_of("demo/web/hypothesis", "nothing", name, moment).first()
            assert (pulled.digest if pulled else None) == expected
    assert Tag.objects.history(image, "a").count() == sum(which is not None for _, name, which in moves if name == "a")


def _image_of_three() -> tuple[StoredImage, list[Manifest]]:
    repository = Repository.objects.get(name="web")
    image, _ = StoredImage.objects.get_or_create(repository=repository, name="hypothesis", path="demo/web/hypothesis")
    Tag.objects.filter(image=image).delete()  # of the previous example
    return image, [
        Manifest.objects.get_or_create(
            image=image, digest=f"sha256:{number}", defaults={"content": b"", "size": 0, "total_size": 0}
        )[0]
        for number in range(3)
    ]


@given(st.from_regex(r"[a-z0-9_.-]{1,110}", fullmatch=True), st.datetimes(timezones=st.just(UTC)))
def test_every_past_tag_is_a_valid_tag(tag, moment):
    text = f"{tag}--at-{moment.year:04}{moment:%m%dt%H%M%Sz}"
    if names.is_tag(text):
        assert names.past_tag(text) == (tag, moment.replace(microsecond=0))
        assert names.is_past_tag(text)
        assert names.past_tag(tag) is None or names.is_past_tag(tag)


def test_clock_that_goes_back_creates_no_negative_interval(docker, moved):
    """The clock of the machine that moved the tag last was an hour ahead."""
    ahead = timezone.now() + timedelta(hours=1)
    Tag.objects.live().update(started_at=ahead)
    docker("member").push_manifest("web/app", "stable", OLD.manifest)
    first, second = Tag.objects.filter(started_at__gte=MARCH).order_by("pk")
    assert (first.ended_at, second.started_at) == (ahead, ahead)
    assert Tag.objects.as_of(moved, "stable", ahead).manifest.digest == OLD.digest


# ── Intervals ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_usage_history_has_the_actors_of_each_interval(docker, moved, world):
    docker("owner").push("web/app", "other", NEW)
    docker("member").delete("web/app/manifests/stable", 202)
    new, old = Tag.objects.history(moved, "stable")
    assert (new.manifest.digest, old.manifest.digest) == (NEW.digest, OLD.digest)
    assert (old.opened_by.action, old.closed_by, new.opened_by.action, new.closed_by.action) == (
        "tag.add",
        new.opened_by,
        "tag.move",
        "tag.delete",
    )
    assert [tag.name for tag in Tag.objects.history(moved)] == ["other", "stable", "stable"]
    assert [tag.pk for tag in Tag.objects.history(moved).filter(pk__lt=new.pk)] == [old.pk]


def test_the_usage_history_costs_one_query(docker, moved, django_assert_num_queries):
    with django_assert_num_queries(1):
        for tag in Tag.objects.history(moved):
            assert tag.manifest.digest
            assert tag.opened_by.actor == "member@acme.test"
            assert tag.closed_by is None or tag.closed_by.actor


# ── Moving a tag back ────────────────────────────────────────────────────────────────────────────────────────────────
def point(world, digest: str, *, tag: str = "stable", seen: str = NEW.digest, repository: str = "web", who="member"):
    return manifests.point_tag(
        getattr(world, who).actor,
        world.repository(repository),
        ImageName("demo", repository, "app"),
        tag,
        digest,
        seen=seen,
    )


def test_tag_is_moved_back_to_a_former_digest(docker, moved, world):
    assert point(world, OLD.digest)
    assert docker("viewer").pull("web/app", "stable")[0] == OLD.manifest
    event = Event.objects.latest("pk")
    assert (event.action, event.tag, event.digest, event.detail) == (
        "tag.move",
        "stable",
        OLD.digest,
        {"before": NEW.digest},
    )
    assert (event.user, event.key) == (world.member.user, world.member.key)
    assert not point(world, OLD.digest), "a second click changes nothing"
    assert Event.objects.latest("pk") == event


def test_digest_gets_another_tag(docker, moved, world):
    assert point(world, OLD.digest, tag="rescued", seen="")
    assert docker("viewer").tags("web/app") == ["rescued", "stable"]


@pytest.mark.parametrize(("tag", "seen"), [("stable", OLD.digest), ("stable", ""), ("gone", NEW.digest)])
def test_concurrently_changed_tag_is_not_moved(docker, moved, world, tag, seen):
    third = docker("member").push("web/app", "third", Image(layers=[b"third"]))
    before = Event.objects.count()
    with pytest.raises(errors.Changed, match=r"now points to|was deleted meanwhile") as caught:
        point(world, third.digest, tag=tag, seen=seen)
    assert caught.value.detail == {"digest": NEW.digest if tag == "stable" else ""}
    assert Event.objects.count() == before


def test_tag_is_not_moved_in_a_repository_without_tag_overwrite(docker, world):
    docker("member").push("fixed/app", "1", OLD)
    docker("member").push("fixed/app", "2", NEW)
    with pytest.raises(errors.Denied, match="does not allow tags to be overwritten"):
        point(world, OLD.digest, tag="2", repository="fixed")
    assert point(world, OLD.digest, tag="3", seen="", repository="fixed")


def test_tagging_a_deleted_digest_is_refused_with_recovery_as_the_reason(docker, moved, world):
    docker("member").delete(f"web/app/manifests/{OLD.digest}", 202)
    with pytest.raises(errors.ManifestUnknown, match="in Recovery until"):
        point(world, OLD.digest)
    with pytest.raises(errors.ManifestUnknown, match="has no digest"):
        point(world, f"sha256:{'0' * 64}")


def test_full_image_refuses_new_tags_and_moves_existing_ones(docker, moved, world):
    world.projects["demo"].tag_limit = 1
    world.projects["demo"].save()
    with pytest.raises(errors.Denied, match="1 of 1 tags"):
        point(world, OLD.digest, tag="more", seen="")
    assert point(world, OLD.digest)


@pytest.mark.parametrize("tag", ["-x", "a b", "", "a" * 129])
def test_invalid_tag_is_refused(docker, moved, world, tag):
    with pytest.raises(errors.ManifestInvalid):
        point(world, OLD.digest, tag=tag, seen="")


def test_name_of_a_past_tag_is_refused_for_a_new_tag(docker, moved, world):
    with pytest.raises(errors.Unsupported):
        point(world, OLD.digest, tag=at("stable", JANUARY), seen="")
    assert tags.past(at("stable", JANUARY)) == tags.Past("stable", JANUARY)


def test_an_image_of_another_repository_is_not_found(docker, moved, world):
    with pytest.raises(errors.NameUnknown):
        manifests.point_tag(world.member.actor, world.repository("public"), NAME, "stable", OLD.digest, seen=NEW.digest)


def test_expired_image_gets_no_tag(docker, moved, world):
    StoredImage.objects.update(expires_at=timezone.now())
    with pytest.raises(errors.Denied, match="expired"):
        point(world, OLD.digest)
