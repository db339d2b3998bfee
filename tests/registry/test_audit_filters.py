"""The audit log: filters, paging in both directions, CSV, pruning and use of indexes."""

import csv
import io
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from accounts.actors import SYSTEM
from accounts.models import ProjectRole, RepositoryRole, User
from registry import audit, images, manifests, members, projects, repositories, trash
from registry.audit import Wanted
from registry.cleanup import policies
from registry.errors import Denied
from registry.models import Deletion, Event, Image, Tag
from registry.oci.names import ImageName
from tests.support.database import plan
from tests.support.images import Image as Pushed

pytestmark = pytest.mark.django_db
START = datetime(2026, 1, 1, tzinfo=UTC)
Action = Event.Action
OWNER, PUSHER, MEMBER = "owner@acme.test", "pusher@acme.test", "member@acme.test"


@pytest.fixture
def filled(world) -> list[Event]:
    """Record 300 events of all users in two repositories and four images of demo, an hour apart. Return them newest first."""
    chance = random.Random(4)
    home = {name: world.repository(name) for name in ("web", "public", "secret")}
    places = [
        Image.objects.create(repository=home[name], name=f"i{number}", path=f"{home[name]}/i{number}")
        for name in home
        for number in range(2)
    ]
    User.objects.filter(email=PUSHER).update(name="Contract Builder")
    people = [world.member, world.pusher, world.owner]
    made = []
    for hour in range(300):
        who, image = chance.choice(people), chance.choice(places)
        made.append(
            Event(
                at=START + timedelta(hours=hour),
                action=chance.choice([Action.IMAGE_PUSH, Action.TAG_ADD, Action.TAG_MOVE, Action.IMAGE_DELETE]),
                project=image.repository.project,
                repository=image.repository,
                image=image,
                path=image.path,
                tag=chance.choice(["", "stable", "latest"]),
                user=who.user,
                key=who.key,
                actor=who.user.email,
                detail={"number": hour},
            )
        )
        if hour % 9 == 1:
            made[-1].action, made[-1].user, made[-1].key = Action.SCAN_DONE, None, None
        if hour % 11 == 1:
            made[-1].action, made[-1].user, made[-1].key = Action.TAG_DELETE, None, None
            made[-1].actor = "cleanup policy"
    Event.objects.all().delete()
    return sorted(Event.objects.bulk_create(made), key=lambda event: event.pk, reverse=True)


def is_of_system(event: Event) -> bool:
    """Return whether the actor is the system."""
    return event.action == Action.SCAN_DONE or event.actor in {"system", "cleanup policy"}


def every_filter(world, filled: list[Event]) -> dict[str, tuple[Wanted, list[Event]]]:
    """Return filters of every kind with the events they select."""
    demo = Wanted(world.projects["demo"])
    image = (
        filled[0].image
        if filled[0].project == demo.project
        else next(e.image for e in filled if e.project == demo.project)
    )
    since, until = START + timedelta(hours=50), START + timedelta(hours=200)
    cases = {
        "project": (demo, lambda _: True),
        "repository": (
            replace(demo, repository=world.repository("web")),
            lambda e: e.repository == world.repository("web"),
        ),
        "image": (replace(demo, image=image, repository=image.repository), lambda e: e.image == image),
        "one action": (replace(demo, actions=(Action.TAG_MOVE,)), lambda e: e.action == Action.TAG_MOVE),
        "two actions": (
            replace(demo, actions=(Action.TAG_MOVE, Action.TAG_ADD, Action.TAG_MOVE)),
            lambda e: e.action in {Action.TAG_MOVE, Action.TAG_ADD},
        ),
        "user": (replace(demo, user=world.member.user), lambda e: e.user == world.member.user),
        "key": (replace(demo, key=world.member.key), lambda e: e.key == world.member.key),
        "whole address": (replace(demo, who="owner@acme.test"), lambda e: e.actor == "owner@acme.test"),
        "part of two addresses": (replace(demo, who="ER@acme"), lambda e: e.actor in {OWNER, PUSHER, MEMBER}),
        "part of one address": (replace(demo, who="push"), lambda e: e.actor == PUSHER),
        "who and action": (
            replace(demo, who="push", actions=(Action.TAG_MOVE, Action.TAG_ADD)),
            lambda e: e.actor == PUSHER and e.action in {Action.TAG_MOVE, Action.TAG_ADD},
        ),
        "name of a person": (replace(demo, who="Contract"), lambda e: e.actor == PUSHER),
        "unknown": (replace(demo, who="xyz"), lambda _: False),
        "people": (replace(demo, by=audit.By.PEOPLE), lambda e: not is_of_system(e)),
        "system": (replace(demo, by=audit.By.SYSTEM), is_of_system),
        "people who scan": (replace(demo, by=audit.By.PEOPLE, actions=(Action.SCAN_DONE,)), lambda _: False),
        "system and actions": (
            replace(demo, by=audit.By.SYSTEM, actions=(Action.TAG_DELETE, Action.SCAN_DONE)),
            lambda e: is_of_system(e) and e.action in {Action.TAG_DELETE, Action.SCAN_DONE},
        ),
        "system by name": (replace(demo, who="cleanup"), lambda e: e.actor == "cleanup policy"),
        "system and who": (
            replace(demo, by=audit.By.SYSTEM, who="owner"),
            lambda e: is_of_system(e) and e.actor == OWNER,
        ),
        "tag": (replace(demo, tag="stable"), lambda e: e.tag == "stable"),
        "since": (replace(demo, since=since), lambda e: e.at >= since),
        "until": (replace(demo, until=until), lambda e: e.at < until),
        "a time before everything": (replace(demo, until=START), lambda _: False),
        "a time after everything": (replace(demo, since=timezone.now() + timedelta(days=9)), lambda _: False),
        "all of them": (
            Wanted(
                demo.project,
                repository=world.repository("web"),
                actions=(Action.TAG_ADD, Action.TAG_MOVE),
                user=world.member.user,
                tag="stable",
                since=since,
                until=until,
            ),
            lambda e: (
                e.repository == world.repository("web")
                and e.action in {Action.TAG_ADD, Action.TAG_MOVE}
                and e.user == world.member.user
                and e.tag == "stable"
                and since <= e.at < until
            ),
        ),
    }
    return {
        name: (wanted, [event for event in filled if event.project == demo.project and means(event)])
        for name, (wanted, means) in cases.items()
    }


def test_every_filter_gives_its_events_page_by_page_in_both_directions(world, filled):
    for name, (wanted, expected) in every_filter(world, filled).items():
        there: list[Event] = []
        page = audit.page(wanted, 7)
        assert not page.has_newer, name
        pages = [page]
        there += page.events
        while page.has_older:
            page = audit.page(wanted, 7, before=page.events[-1].pk)
            assert page.has_newer, name
            pages.append(page)
            there += page.events
        assert there == expected, name
        for former in reversed(pages[:-1]):
            page = audit.page(wanted, 7, after=page.events[0].pk)
            assert (page.events, page.has_newer, page.has_older) == (former.events, former.has_newer, True), name


def test_rows_are_complete_for_each_batch_size(world, filled, monkeypatch):
    monkeypatch.setattr(audit, "ROWS", 10)
    for name, (wanted, expected) in every_filter(world, filled).items():
        assert list(audit.rows(wanted)) == expected, name


def test_row_of_a_file_has_the_values_of_its_event(world, filled):
    event = filled[-1]
    Event.objects.filter(pk=event.pk).update(
        project=world.projects["demo"], actor="someone", client="docker", tag="1.0", detail={}
    )
    file = io.StringIO()
    csv.writer(file).writerows(audit.csv_rows(Wanted(world.projects["demo"], until=START + timedelta(minutes=1))))
    header, row = csv.reader(io.StringIO(file.getvalue()))
    assert tuple(header) == audit.CSV_HEADER
    told = dict(zip(header, row, strict=True))
    assert (told["who"], told["client"], told["tag"], told["detail"]) == ("someone", "docker", "1.0", "")
    assert (told["time"], told["event"], told["access key"]) == (START.isoformat(), str(event.pk), event.key.name)


def test_page_costs_the_same_queries_for_any_number_of_rows(world, filled, django_assert_num_queries):
    wanted = Wanted(world.projects["demo"])
    for limit in (1, 100):
        with django_assert_num_queries(1):
            assert [str(event.key) + str(event.image) for event in audit.page(wanted, limit).events]
    with django_assert_num_queries(2):
        audit.page(replace(wanted, actions=(Action.TAG_ADD, Action.TAG_MOVE)), 100)


def test_no_filter_of_a_page_reads_or_sorts_a_whole_table(world, filled):
    """An index in the order of time finds the newest events, so that a million more rows change nothing."""
    for name, (wanted, _) in every_filter(world, filled).items():
        for part in audit._parts(wanted):
            told = plan(part.order_by("-pk")[:10])
            assert "Sort" not in told, (name, told)
            assert "TEMP B-TREE" not in told, (name, told)
            assert "Seq Scan" not in told, (name, told)
            assert "SCAN registry_event" not in told, (name, told)


@pytest.mark.sqlite_only  # PostgreSQL chooses by statistics; the test above covers both databases
def test_each_filter_uses_its_index(world, filled):
    cases = every_filter(world, filled)
    for name, index in {
        "project": "events_of_project",
        "image": "events_of_image",
        "tag": "project_events_by_tag",
        "part of one address": "project_events_by_actor",
        "key": "events_of_key",
        "user": "events_of_user",
    }.items():
        for part in audit._parts(cases[name][0]):
            assert index in plan(part.order_by("-pk")[:10]), name
    by_action = audit._chosen(cases["one action"][0]).filter(action=Action.TAG_MOVE).order_by("-pk")[:10]
    assert "project_events_by_action" in plan(by_action)


def test_events_whose_clocks_disagree_are_found_by_their_time(world, filled):
    """Ids and times may differ in order, because several machines write at once."""
    late, early = filled[100], filled[101]
    Event.objects.filter(pk=late.pk).update(at=early.at - timedelta(minutes=5))
    for edge in (early.at - timedelta(minutes=6), early.at, late.at):
        expected = list(Event.objects.filter(at__gte=edge).order_by("-pk"))
        assert list(Event.objects.between(edge, None).order_by("-pk")) == expected
        expected = list(Event.objects.filter(at__lt=edge).order_by("-pk"))
        assert list(Event.objects.between(None, edge).order_by("-pk")) == expected


# ── Pruning ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_events_are_kept_for_ever_when_history_days_is_zero(filled, settings):
    settings.HISTORY_DAYS = 0
    assert audit.prune() == 0
    assert Event.objects.count() == 300


def test_older_events_are_pruned_and_newer_ones_kept(filled, settings, monkeypatch):
    monkeypatch.setattr(audit, "ROWS", 7)
    settings.HISTORY_DAYS = (timezone.now() - START - timedelta(hours=200)).days
    end = timezone.now() - timedelta(days=settings.HISTORY_DAYS)
    expected = {event.pk for event in filled if event.at >= end}
    assert 0 < len(expected) < 300
    assert audit.prune() == 300 - len(expected)
    assert set(Event.objects.values_list("pk", flat=True)) == expected
    assert audit.prune() == 0


def test_pruning_keeps_the_event_that_opened_a_live_tag(docker, world, settings):
    member = docker("member")
    member.push("web/app", "live", Pushed(layers=[b"1"]))
    member.push("web/app", "gone", Pushed(layers=[b"2"]))
    member.push("web/app", "moved", Pushed(layers=[b"3"]))
    member.push("web/app", "moved", Pushed(layers=[b"4"]))
    member.delete("web/app/manifests/gone", 202)
    Event.objects.update(at=timezone.now() - timedelta(days=400))
    settings.HISTORY_DAYS = 365
    assert audit.prune() > 0
    assert Tag.objects.get(name="live").opened_by.tag == "live"
    gone, deletion = Tag.objects.get(name="gone"), Deletion.objects.get()
    assert (gone.opened_by, gone.closed_by, deletion.event) == (None, None, None)
    assert (deletion.actor, deletion.requested) == ("member@acme.test", ["gone"])
    before, now = Tag.objects.filter(name="moved").order_by("pk")
    assert (before.opened_by, before.closed_by, now.opened_by) == (None, now.opened_by, now.opened_by)
    assert now.opened_by.action == "tag.move"
    assert Event.objects.filter(action="image.push").count() == 0


# ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_settings_of_a_repository_change_with_one_event_of_before_and_after(world):
    web = world.repository("web")
    assert repositories.update(world.member.actor, web, is_public=True, description="shop", tag_overwrite=True)
    event = Event.objects.latest("pk")
    assert (event.action, event.path, event.user) == ("repository.update", "demo/web", world.member.user)
    assert event.detail == {
        "before": {"is_public": False, "description": ""},
        "after": {"is_public": True, "description": "shop"},
    }
    web.refresh_from_db()
    assert (web.is_public, web.description, web.tag_overwrite) == (True, "shop", True)
    assert not repositories.update(world.member.actor, web, is_public=True)
    assert Event.objects.latest("pk") == event


def test_invalid_settings_change_nothing(world):
    before = Event.objects.count()
    with pytest.raises(repositories.NameInvalid):
        repositories.update(SYSTEM, world.repository("web"), description="x" * 101)
    with pytest.raises(TypeError, match="name"):
        repositories.update(SYSTEM, world.repository("web"), name="other")
    assert Event.objects.count() == before


def test_settings_of_an_image_change_with_one_event_of_before_and_after(docker, world):
    docker("member").push("web/app", "1")
    image = Image.objects.get(path="demo/web/app")
    day = datetime(2027, 1, 1, tzinfo=UTC)
    assert images.update(world.member.actor, image, expires_at=day, description="shop")
    event = Event.objects.latest("pk")
    assert (event.action, event.path, event.image) == ("image.expiry", "demo/web/app", image)
    assert event.detail == {
        "before": {"expires_at": None, "description": ""},
        "after": {"expires_at": "2027-01-01T00:00:00+00:00", "description": "shop"},
    }
    image.refresh_from_db()
    assert (image.expires_at, image.description) == (day, "shop")
    assert not images.update(world.member.actor, image, expires_at=day)
    with pytest.raises(images.NameInvalid):
        images.update(SYSTEM, image, description="x" * 101)


def test_a_role_in_a_project_is_part_of_its_history(world):
    demo, actor = world.projects["demo"], world.admin.actor
    assert members.set_role(actor, demo, world.stranger.user, ProjectRole.READER)
    assert not members.set_role(actor, demo, world.stranger.user, ProjectRole.READER)
    assert members.set_role(actor, demo, world.stranger.user, None)
    given, taken = Event.objects.filter(action="project.member", user=world.admin.user).order_by("pk")
    assert (given.path, given.project, given.repository, given.user) == ("demo", demo, None, world.admin.user)
    assert given.detail == {"user": "stranger@acme.test", "before": "", "after": "reader"}
    assert taken.detail == {"user": "stranger@acme.test", "before": "reader", "after": ""}
    with pytest.raises(Denied, match="not in the organization"):
        members.set_role(actor, demo, world.outsider.user, ProjectRole.READER)


CHANGES = {
    "settings": ("repository.update", lambda w: repositories.update(w.actor, w.web, is_public=True)),
    "right": ("repository.role", lambda w: repositories.set_role(w.actor, w.web, w.stranger, RepositoryRole.VIEWER)),
    "role": ("project.member", lambda w: members.set_role(w.actor, w.web.project, w.stranger, ProjectRole.READER)),
    "policy": ("cleanup.policy", lambda w: policies.set_policy(w.actor, w.web, keep_last=5)),
    "project": ("project.update", lambda w: projects.update(w.actor, w.web.project, description="all of it")),
    "repository": ("repository.create", lambda w: repositories.create(w.actor, w.web.project, "new")),
    "image": ("image.update", lambda w: images.update(w.actor, w.image, description="shop")),
    "tag": ("tag.add", lambda w: manifests.point_tag(w.actor, w.web, w.name, "new", w.digest)),
    "move": ("tag.move", lambda w: manifests.point_tag(w.actor, w.web, w.name, "1", w.digest, seen=w.former)),
    "tag's end": ("tag.delete", lambda w: trash.delete_references(w.actor, w.web, w.name, ["1"])),
    "digest's end": ("image.delete", lambda w: trash.delete_references(w.actor, w.web, w.name, [w.digest])),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_is_one_event_with_actor_address_and_detail(docker, world, what):
    former = docker("owner").push("web/app", "1")
    other = docker("owner").push("web/app", "2", Pushed(layers=[b"other"]))
    action, change = CHANGES[what]
    scene = SimpleNamespace(
        actor=replace(world.member.actor, address="10.1.2.3", client="a browser"),
        web=world.repository("web"),
        image=Image.objects.get(path="demo/web/app"),
        name=ImageName("demo", "web", "app"),
        stranger=world.stranger.user,
        digest=other.digest,
        former=former.digest,
    )
    last = Event.objects.latest("pk").pk
    assert change(scene)
    event = Event.objects.get(pk__gt=last)
    assert (event.action, event.user, event.key) == (action, world.member.user, world.member.key)
    assert (event.actor, event.address, event.client) == ("member@acme.test", "10.1.2.3", "a browser")
    assert (event.project, event.path.partition("/")[0]) == (world.projects["demo"], "demo")
