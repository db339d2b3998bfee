"""The page of a project's audit log: lines, links, actors, undo and restore."""

from __future__ import annotations

import csv
import html
import re

import pytest
from django.urls import reverse

from accounts.actors import SYSTEM
from accounts.models import Project, ProjectRole
from console.queries import audit_log
from console.templatetags.audit_log import event_words
from registry import audit, images, manifests, members, projects, repositories, trash
from registry.audit import By, Wanted
from registry.models import Event, Image, Repository, Severity, Tag
from registry.oci.names import ImageName
from scanning.models import Subscription
from scanning.notifications import subscriptions
from tests.support.factories import make_manifest, subscribe
from tests.support.images import image_of
from tests.support.pages import Form, Page, see

LOG = "/projects/demo/audit-log"
APP = "/projects/demo/repositories/web/app/"
NAME = ImageName("demo", "web", "app")
EMPTY = "\N{EN DASH}"


def lines(browser, address: str = LOG) -> list[str]:
    """Return the sentences of the page without markup."""
    page = browser.get(address).content.decode()
    items = re.findall(r"<li>\s*<svg.*?</svg>\s*<div>(.*?)<div", page, re.DOTALL)
    return [html.unescape(" ".join(re.sub(r"<[^>]+>", "", item).split())) for item in items]


def record_scans(world, number: int, **detail: int | str) -> None:
    """Record scans of the image demo/web/app that ended one after the other."""
    image = Image.objects.get(path="demo/web/app")
    for each in range(number):
        audit.record(SYSTEM, Event.Action.SCAN_DONE, image, digest=f"sha256:{each:064}", **detail)


# ── Lines ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_push_is_one_line_with_links_and_the_name_of_its_key(console, docker, world):
    first = docker("pusher").push("web/app", "1.0", image_of("first"))
    second = docker("pusher").push("web/app", "1.0", image_of("second"))
    browser = console("reader")
    assert lines(browser)[:2] == [
        f"Pushed demo/web/app:1.0: {second.digest[7:19]}, before it was {first.digest[7:19]}",
        f"Pushed demo/web/app:1.0: {first.digest[7:19]}",
    ]
    links = {link.text: link.href for link in see(browser, f"{LOG}?who=pusher").links}
    assert links["demo/web/app"] == APP
    assert links["1.0"] == f"{APP}-/tag-history?tag=1.0"
    assert links[second.digest[7:19]] == f"{APP}-/manifests/{second.digest}"
    assert links["pusher@acme.test"] == f"{LOG}?who=pusher%40acme.test"
    key = links[f"key {world.pusher.key.name}"]
    assert key == f"{LOG}?key={world.pusher.key.identifier}"
    assert len(lines(browser, key)) == 2
    assert "Only what the access key" in see(browser, key).text
    for address in links.values():
        assert browser.get(address, follow=True).status_code == 200, address


def test_repeated_pushes_of_a_tag_are_one_line(console, docker):
    image, other = image_of("first"), image_of("other")
    for _ in range(4):
        docker("pusher").push("web/app", "1.0", image)
    docker("member").push("web/app", "1.0", image)
    docker("pusher").push("web/app", "2.0", other)
    docker("pusher").push("web/app", "2.0", other)
    assert lines(console("reader"))[:5] == [
        f"Pushed demo/web/app:2.0 again: {other.digest[7:19]}",
        f"Pushed demo/web/app:2.0: {other.digest[7:19]}",
        f"Pushed demo/web/app:1.0 again: {image.digest[7:19]}",
        f"Pushed demo/web/app:1.0 again, 3 times: {image.digest[7:19]}",
        f"Pushed demo/web/app:1.0: {image.digest[7:19]}",
    ]


def test_a_push_is_not_joined_with_that_of_another_person(console, docker):
    image = image_of("first")
    docker("member").push("web/app", image.digest, image)
    docker("pusher").push_manifest("web/app", "1.0", image.manifest)
    assert [line.partition(" ")[0] for line in lines(console("reader"))[:2]] == ["Added", "Pushed"]


def test_deleted_objects_are_named_without_a_link(console, docker, world):
    docker("member").push("web/app", "1.0")
    trash.delete_images(world.member.actor, world.repository("web"), ["app"])
    page = see(console("reader"), LOG)
    assert "demo/web/app" in page.text
    assert "demo/web/app" not in {link.text for link in page.links}


def test_scans_in_a_row_are_one_line(console, docker, world):
    docker("member").push("web/app", "1.0")
    record_scans(world, 30, new=0, fixed=0)
    record_scans(world, 2, new=2, fixed=1)
    browser = console("reader")
    assert lines(browser)[0] == "Scanned 32 digests of 1 image: 4 new vulnerabilities, 2 fixed"
    assert lines(browser)[1].startswith("Pushed demo/web/app:1.0")
    assert browser.get(LOG).content.decode().count("(2 new, 1 fixed)") == 2


def test_joined_scans_say_how_many_results_are_incomplete(console, docker, world):
    docker("member").push("web/app", "1.0")
    record_scans(world, 2, new=0, state="scanned")
    record_scans(world, 3, new=0, state="unrecognised")
    record_scans(world, 1, new=0, state="uncovered")
    record_scans(world, 1, new=0, state="uncovered", problem="timeout")
    assert lines(console("reader"))[0] == (
        "Scanned 7 digests of 1 image: 0 new vulnerabilities, 3 with no packages found,"
        " 1 of a system that is not covered, 1 failed"
    )


def test_pages_show_every_event_once_when_lines_hold_several(docker, world, monkeypatch):
    monkeypatch.setattr(audit_log, "PAGE", 3)
    monkeypatch.setattr(audit_log, "READ", 9)
    monkeypatch.setattr(audit_log, "MOSTLY", 4)
    member = docker("member")
    for number in range(6):
        member.push("web/app", f"v{number}", image_of(f"{number}"))
        if number % 2:
            record_scans(world, 7, new=0)
    wanted = Wanted(world.projects["demo"])
    expected = list(Event.objects.filter(project=wanted.project).order_by("-pk").values_list("pk", flat=True))
    pages, asked, seen = [], {}, []
    while True:
        page = audit_log.page(wanted, asked)
        assert 0 < len(page["lines"]) <= 3
        pages.append(page)
        seen += [event.pk for line in page["lines"] for event in line.events]
        if page["older"] is None:
            break
        asked = {"before": str(page["older"])}
    assert seen == expected
    assert len(pages) > 4
    back, page = [], pages[-1]
    while page["newer"] is not None:
        page = audit_log.page(wanted, {"after": str(page["newer"])})
        back = [event.pk for line in page["lines"] for event in line.events] + back
    assert back == expected[: len(back)]
    last = {event.pk for line in pages[-1]["lines"] for event in line.events}
    assert set(back) | last == set(expected)


def test_page_is_full_when_its_first_line_holds_many_events(world, monkeypatch):
    monkeypatch.setattr(audit_log, "PAGE", 3)
    monkeypatch.setattr(audit_log, "MOSTLY", 4)
    project = make_manifest(world.repository("web"), "latest", image="app").image.repository.project
    for _number in range(4):
        audit.record(SYSTEM, Event.Action.PROJECT_UPDATE, project, before={}, after={})
    record_scans(world, 7, new=0)
    page = audit_log.page(Wanted(project), {})
    assert [len(line.events) for line in page["lines"]] == [7, 1, 1]


def test_log_is_filtered_by_people_and_system(console, docker, world):
    docker("pusher").push("web/app", "1.0")
    record_scans(world, 3, new=1)
    trash.delete_references(audit.CLEANUP, world.repository("web"), NAME, ["1.0"])
    browser = console("reader")
    assert [line.partition(" ")[0] for line in lines(browser, f"{LOG}?by=system")][:2] == ["Deleted", "Scanned"]
    people = lines(browser, f"{LOG}?by=people")
    assert people[0].startswith("Pushed")
    assert not any(line.startswith("Scanned") for line in people)
    assert len(lines(browser, f"{LOG}?by=people&who=push")) == 1
    assert [line.events for line in audit_log.recent(world.projects["demo"], 8)["lines"]] == [
        line.events for line in audit_log.page(Wanted(world.projects["demo"], by=By.PEOPLE), {})["lines"]
    ][:8]


def test_log_is_filtered_by_part_of_a_name_or_address(console, docker, world):
    docker("pusher").push("web/app", "1.0")
    browser = console("reader")
    assert len(lines(browser, f"{LOG}?who=Pusher")) == 1
    assert len(lines(browser, f"{LOG}?who=pusher@acme.test")) == 1
    assert lines(browser, f"{LOG}?who=xyz") == []
    assert "Nothing matches" in see(browser, f"{LOG}?who=xyz").text


# ── Undo and restore in the row ──────────────────────────────────────────────────────────────────────────────────────
def test_a_deletion_is_restored_from_its_row(console, docker, world):
    docker("member").push("web/app", "1.0")
    trash.delete_references(world.member.actor, world.repository("web"), NAME, ["1.0"])
    assert not any("deletion" in form.names for form in see(console("reader"), LOG).forms)
    browser = console("member")
    see(browser, LOG).form("deletion").submit(browser)
    assert Tag.objects.live().filter(name="1.0").exists()
    assert not any("deletion" in form.names for form in see(browser, LOG).forms)


def undo_form(page: Page) -> Form:
    (form,) = (form for form in page.forms if form.method == "post" and form.action == page.path)
    return form


def undo_links(page) -> list[str]:
    return [link.href for link in page.links if link.href.endswith("/undo") and link.href != "/projects/demo/undo"]


def test_a_move_of_a_tag_is_undone_from_its_row(console, docker, world):
    first = docker("pusher").push("web/app", "1.0", image_of("first"))
    second = docker("pusher").push("web/app", "1.0", image_of("second"))
    assert undo_links(see(console("reader"), LOG)) == []
    browser = console("member")
    link = undo_links(see(browser, LOG))[0]
    page = see(browser, link)
    assert page.table("What", "Now", "After the undo") == [
        {"What": "demo/web/app:1.0", "Now": second.digest[7:19], "After the undo": first.digest[7:19]}
    ]
    undo_form(page).submit(browser)
    assert Tag.objects.live().get(name="1.0").manifest.digest == first.digest
    after = see(browser, LOG)
    assert "The change has been undone." in after.text
    assert link not in undo_links(after)


def test_change_is_not_undone_after_a_later_change(console, docker, world):
    docker("pusher").push("web/app", "1.0", image_of("first"))
    docker("pusher").push("web/app", "1.0", image_of("second"))
    browser = console("member")
    link = undo_links(see(browser, LOG))[0]
    page = see(browser, link)
    third = docker("member").push("web/app", "1.0", image_of("third"))
    answer = undo_form(page).submit(browser)
    assert Tag.objects.live().get(name="1.0").manifest.digest == third.digest
    assert "member@acme.test has changed it since" in see(browser, answer.url).text
    assert "Undo this change" not in see(browser, link).text


CHANGES = {
    "repository": (
        lambda w: repositories.update(w.member.actor, w.repository("web"), is_public=True, tag_overwrite=False),
        {"demo/web: public": ("yes", "no"), "demo/web: tag overwrite": ("no", "yes")},
        lambda w: Repository.objects.filter(pk=w.repository("web").pk, is_public=False, tag_overwrite=True).exists(),
    ),
    "image": (
        lambda w: images.update(w.member.actor, Image.objects.get(path="demo/web/app"), description="shop"),
        {"demo/web/app: description": ("“shop”", EMPTY)},
        lambda w: Image.objects.get(path="demo/web/app").description == "",
    ),
    "project": (
        lambda w: projects.update(w.admin.actor, w.projects["demo"], description="all of it"),
        {"demo: description": ("“all of it”", EMPTY)},
        lambda w: Project.objects.get(name="demo").description == "",
    ),
    "role in the project": (
        lambda w: members.set_role(w.owner.actor, w.projects["demo"], w.reader.user, ProjectRole.ADMIN),
        {"role of reader@acme.test in demo": ("Admin", "Reader")},
        lambda w: members.role_of(w.projects["demo"], w.reader.user) == ProjectRole.READER,
    ),
    "role on a repository": (
        lambda w: repositories.set_role(w.owner.actor, w.repository("web"), w.viewer.user, None),
        {"role of viewer@acme.test in demo/web": ("no role", "Viewer")},
        lambda w: repositories.role_of(w.repository("web"), w.viewer.user) == "viewer",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_settings_and_roles_are_changed_back_from_their_row(console, docker, world, what):
    docker("member").push("web/app", "1.0")
    change, expected, is_back = CHANGES[what]
    change(world)
    assert not is_back(world)
    browser = console("admin")
    link = undo_links(see(browser, LOG))[0]
    page = see(browser, link)
    rows = page.table("What", "Now", "After the undo")
    assert {row["What"]: (row["Now"], row["After the undo"]) for row in rows} == expected
    undo_form(page).submit(browser)
    assert is_back(world)
    assert "There is nothing to undo" in see(browser, link).text


def test_roles_in_the_project_are_offered_to_admins_only(console, world):
    members.set_role(world.owner.actor, world.projects["demo"], world.reader.user, ProjectRole.MEMBER)
    event = Event.objects.latest("pk")
    address = reverse("console:undo_event", args=["demo", event.pk])
    browser = console("member")
    assert address not in undo_links(see(browser, LOG))
    assert "only an admin of the project may change the roles in it" in see(browser, address).text
    browser.post(address)
    assert members.role_of(world.projects["demo"], world.reader.user) == ProjectRole.MEMBER


def test_an_event_of_another_project_is_not_undone_here(console, world):
    event = audit.record(SYSTEM, Event.Action.PROJECT_UPDATE, world.projects["lab"], before={}, after={})
    assert console("owner").get(reverse("console:undo_event", args=["demo", event.pk])).status_code == 404


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def said(event: Event) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", event_words(event)))


def test_events_of_notifications_use_the_words_of_their_pages(world):
    project, actor = world.projects["demo"], world.admin.actor
    made = subscriptions.create(
        actor,
        project,
        None,
        "mail",
        {"recipients": "jihye@acme.test"},
        min_severity=Severity.MEDIUM,
        frequency=Subscription.Frequency.NEW,
        language="en",
    ).subscription
    assert said(Event.objects.latest("pk")) == (
        "New notification of demo: channel: E-mail, recipients: jihye@acme.test, minimum severity: Medium and above,"
        " when it is sent: when something is new, language: English"
    )
    subscriptions.set_active(actor, made, is_active=False)
    assert said(Event.objects.latest("pk")) == "Paused a notification of demo"
    subscriptions.set_active(actor, made, is_active=True)
    assert said(Event.objects.latest("pk")) == "Resumed a notification of demo"
    subscriptions.update(actor, made, {"recipients": "jihye@acme.test"}, frequency="daily")
    assert said(Event.objects.latest("pk")) == (
        "Changed a notification of demo: when it is sent: when something is new → once a day"
    )
    subscriptions.delete(actor, made)
    assert said(Event.objects.latest("pk")).startswith(
        "Deleted a notification of demo: channel: E-mail, recipients: jihye@acme.test"
    )


def test_event_links_to_its_notification_until_it_is_deleted(console, world):
    subscription = subscribe(world.projects["demo"])
    subscriptions.set_active(world.admin.actor, subscription, is_active=False)
    browser, there = console("reader"), f"/projects/demo/notifications/{subscription.pk}"
    assert there in {link.href for link in see(browser, LOG).links}
    subscriptions.delete(world.admin.actor, subscription)
    assert there not in {link.href for link in see(browser, LOG).links}


def test_file_has_the_events_of_its_page_alone(console, world):
    web, public = world.repository("web"), world.repository("public")
    for thing in (web.project, web, public, *(make_manifest(web, name, image=name).image for name in ("app", "other"))):
        audit.record(world.member.actor, Event.Action.IMAGE_UPDATE, thing)
    for name, arguments, paths in (
        ("image_audit_log_csv", ["demo", "web", "app"], {"demo/web/app"}),
        ("repository_audit_log_csv", ["demo", "web"], {"demo/web", "demo/web/app", "demo/web/other"}),
    ):
        answer = console("member").get(reverse(f"console:{name}", args=arguments))
        rows = list(csv.DictReader(b"".join(answer.streaming_content).decode("utf-8-sig").splitlines()))
        assert {row["object"] for row in rows} == paths


def test_tag_added_in_the_console_is_not_shown_as_a_push(console, docker, world):
    image = docker("member").push("web/app", "1.0")
    manifests.point_tag(world.member.actor, world.repository("web"), NAME, "stable", image.digest)
    assert lines(console("reader"))[0] == f"Added demo/web/app:stable for {image.digest[7:19]}"
