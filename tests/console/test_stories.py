"""Workflows in the console: repositories, images, tags, members, audit log, Recovery, garbage collection, cleanup."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from accounts import organizations
from accounts import tasks as account_tasks
from accounts.actors import SYSTEM
from accounts.models import OrganizationMembership, ProjectMembership, ProjectRole, User
from console.templatetags.numbers import plain_size
from console.templatetags.times import day
from registry import garbage, members, repositories, tasks
from registry.garbage import collector
from registry.models import BlobLease, CleanupPolicy, Collection, Deletion, Event, Image, Repository, Tag
from tests.support.images import image_of
from tests.support.pages import Page, see

REPOSITORY = {
    "name": "shop",
    "description": "",
    "visibility": "private",
    "overwrite": "yes",
    "scan": "auto",
    "block_severity": "0",
}
WEB = "/projects/demo/repositories/web/"
APP = f"{WEB}app/"


def text(answer) -> str:
    return answer.content.decode()


# ── Repositories ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_repository_is_created_once_when_the_form_is_sent_twice(console, world):
    browser = console("member")
    for _ in range(2):  # the form is sent twice
        answer = browser.post("/projects/demo/repositories/new", REPOSITORY)
        assert answer.url == "/projects/demo/repositories/shop/"
    assert Repository.objects.filter(name="shop").count() == 1
    assert "Waiting for your first push" in text(browser.get(answer.url))
    assert "docker push localhost:8080/demo/shop/IMAGE:TAG" in text(browser.get(answer.url))


def test_errors_are_shown_at_their_fields_and_typed_values_are_kept(console, world):
    browser = console("member")
    answer = text(
        browser.post("/projects/demo/repositories/new", REPOSITORY | {"name": "Not Good", "description": "mine"})
    )
    assert 'id="id_name_error"' in answer
    assert 'value="Not Good"' in answer
    assert 'value="mine"' in answer
    assert 'aria-invalid="true"' in answer
    assert "There is a repository web already." in text(
        browser.post("/projects/demo/repositories/new", REPOSITORY | {"name": "web", "description": "another"})
    )


def test_settings_opened_by_two_people_do_not_overwrite_each_other(console, world):
    mina, joon = console("member"), console("admin")
    hers, his = (see(browser, f"{WEB}-/settings").form("description") for browser in (mina, joon))
    assert his.submit(joon, description="joon's").status_code == 302
    answer = text(hers.submit(mina, visibility="public", description="mina's"))
    assert "admin@acme.test changed demo/web meanwhile" in answer
    assert "mina&#x27;s" in answer
    web = Repository.objects.get(project__name="demo", name="web")
    assert (web.description, web.is_public) == ("joon's", False)
    event = Event.objects.filter(action="repository.update").get()
    assert event.detail == {"before": {"description": ""}, "after": {"description": "joon's"}}
    assert event.client.startswith("console")


def test_making_a_repository_public_allows_anonymous_pulls(console, docker, pushed):
    docker(None).get("web/app/manifests/1.0", expect=401)
    browser = console("member")
    see(browser, f"{WEB}-/settings").form("visibility").submit(browser, visibility="public")
    docker(None).pull("web/app", "1.0")


def test_role_on_a_repository_is_given_changed_and_removed(console, docker, pushed, world):
    browser = console("member")
    docker("stranger").get("web/app/manifests/1.0", expect=404)
    browser.post(f"{WEB}-/permissions/add", {"email": "Stranger@acme.test", "role": "viewer"})
    docker("stranger").pull("web/app", "1.0")
    assert "stranger@acme.test" in text(browser.get(f"{WEB}-/permissions"))
    browser.post(f"{WEB}-/permissions", {"email": "stranger@acme.test", "role": "member"})
    docker("stranger").push("web/app", "theirs")
    browser.post(f"{WEB}-/permissions", {"email": "stranger@acme.test", "role": ""})
    docker("stranger").get("web/app/manifests/1.0", expect=404)
    assert "change the role in the project instead" in text(
        browser.post(f"{WEB}-/permissions/add", {"email": "reader@acme.test", "role": "viewer"})
    )
    assert "No member of acme has this address" in text(
        browser.post(f"{WEB}-/permissions/add", {"email": "outsider@other.test", "role": "viewer"})
    )
    assert browser.post(f"{WEB}-/permissions", {"email": "stranger@acme.test", "role": "god"}).status_code == 404


# ── Images, tags, digests ────────────────────────────────────────────────────────────────────────────────────────────
def test_lists_show_repositories_images_and_tags(console, pushed):
    browser = console("reader")
    assert "app" in text(browser.get(WEB))
    tags = text(browser.get(APP))
    assert all(f">{name}</a>" in tags for name in ("1.0", "latest", "2.0"))
    assert pushed["first"] in tags
    assert "arm64" in tags
    assert pushed["untagged"] in text(browser.get(f"{APP}-/untagged"))
    assert pushed["arm"] not in text(browser.get(f"{APP}-/untagged"))
    history = text(browser.get(f"{APP}-/tag-history?tag=latest"))
    assert pushed["first"] in history
    assert pushed["second"] in history


def test_a_digest_shows_layers_with_their_commands_and_the_configuration(console, pushed):
    page = text(console("reader").get(f"{APP}-/manifests/1.0"))
    for words in ("COPY first /", "RUN make first", "/run", "PATH=/bin", "app", "team", "localhost:8080/demo/web/app@"):
        assert words in page
    assert "ENV A=1" not in page
    assert "podman pull --tls-verify=false localhost:8080/demo/web/app:1.0" in page
    assert f"docker://localhost:8080/demo/web/app@{pushed['first']}" in page
    index = text(console("reader").get(f"{APP}-/manifests/2.0"))
    assert "linux/arm64" in index
    assert pushed["arm"] in index


def test_tag_is_added_moved_deleted_and_recovered(console, docker, pushed):
    browser = console("member")
    see(browser, f"{APP}-/tags/add").form("tag").submit(browser, tag="stable", digest="1.0")
    assert docker("reader").pull("web/app", "stable")
    asked = see(browser, f"{APP}-/tags/add").form("tag").submit(browser, tag="stable", digest="latest")
    assert Page(text(asked), f"{APP}-/tags/add").form("seen").submit(browser).status_code == 302
    assert Tag.objects.live().get(name="stable").manifest.digest == pushed["second"]
    asked = text(browser.get(f"{APP}-/tags/delete?tag=stable&tag=1.0"))
    assert "Delete 2 tags" in asked
    assert pushed["first"] in asked
    assert f"Recoverable until {day(timezone.now() + timedelta(days=14))}." in asked
    answer = browser.post(f"{APP}-/tags/delete", {"tag": ["stable", "1.0"], "sure": "yes"}, follow=True)
    assert "2 tags have been deleted." in text(answer)
    docker("reader").get("web/app/manifests/stable", expect=404)
    form = Page(text(answer), answer.request["PATH_INFO"]).form("deletion")
    assert form.action == "/projects/demo/recovery/restore"
    back = browser.post(form.action, form.shown, follow=True)
    assert "Recovered: demo/web/app (2 tags)." in text(back)
    docker("reader").pull("web/app", "stable")


def test_deleting_a_digest_first_lists_its_tags(console, docker, pushed):
    browser = console("member")
    page = text(browser.get(f"{APP}-/manifests/{pushed['first']}/delete"))
    assert "Also deletes the tag 1.0." in page
    browser.post(f"{APP}-/manifests/{pushed['first']}/delete")
    docker("reader").get("web/app/manifests/1.0", expect=404)


def test_console_does_not_overwrite_protected_tags(console, docker, world):
    docker("member").push("fixed/app", "1", image_of("a"))
    other = image_of("b")
    docker("member").push("fixed/app", "2", other)
    form = see(console("admin"), "/projects/demo/repositories/fixed/app/-/tags/add").form("tag")
    answer = form.submit(console("admin"), tag="1", digest=other.digest)
    assert "does not allow tags to be overwritten" in text(answer)


def test_an_image_expires(console, docker, pushed):
    browser = console("member")
    yesterday = (timezone.now() - timedelta(days=1)).date().isoformat()
    asked = see(browser, f"{APP}-/settings").form("expires_on").submit(browser, expires_on=yesterday)
    docker("reader").pull("web/app", "1.0")
    assert Page(text(asked), f"{APP}-/settings").form("sure").submit(browser).status_code == 302
    assert docker("reader").get("web/app/manifests/1.0", expect=403).codes == ["DENIED"]
    assert "expired" in text(browser.get(APP))
    see(browser, f"{APP}-/settings").form("expires_on").submit(browser, expires_on="")
    docker("reader").pull("web/app", "1.0")
    assert [event.action for event in Event.objects.filter(image__name="app").order_by("-pk")[:2]] == [
        "image.expiry"
    ] * 2


def test_expiry_of_an_image_changes_only_with_another_day(console, pushed, world):
    """The day is shown in the reader's time zone. Submitting it unchanged keeps the time."""
    world.admin.user.time_zone = "Asia/Seoul"
    world.admin.user.save()
    console("admin").post(f"{APP}-/settings", {"description": "", "expires_on": "2030-03-01"})
    ends = Image.objects.get(name="app").expires_at
    assert ends.isoformat() == "2030-02-28T15:00:00+00:00"
    browser = console("member")
    form = see(browser, f"{APP}-/settings").form("description")
    assert form.shown["expires_on"] == "2030-02-28"
    form.submit(browser, description="the shop")
    image = Image.objects.get(name="app")
    assert (image.expires_at, image.description) == (ends, "the shop")


def test_list_of_images_shows_the_worst_tag_and_not_the_newest(console, scanned):
    """latest lacks the vulnerability of 1.0; the image is shown with it."""
    page = text(console("reader").get(WEB))
    assert re.search(r"Critical</span>.*?in 1 of 3", page, re.DOTALL), page


# ── Recovery ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_tag_with_a_reused_name_stays_in_recovery(console, docker, pushed):
    browser = console("member")
    browser.post(f"{APP}-/tags/delete", {"tag": "1.0", "act": "delete", "sure": "yes"})
    deletion = Deletion.objects.get()
    docker("member").push("web/app", "1.0", image_of("other"))
    page = text(browser.post("/projects/demo/recovery/restore", {"deletion": deletion.pk}, follow=True))
    assert "demo/web/app:1.0 points to another digest now and was skipped." in page
    assert Deletion.objects.filter(pk=deletion.pk).exists(), "it can still come back"
    browser.post("/projects/demo/recovery/restore", {"deletion": deletion.pk, "replace_tags": "yes"})
    assert Tag.objects.live().get(name="1.0").manifest.digest == pushed["first"]
    assert not Deletion.objects.filter(pk=deletion.pk).exists()


def test_repository_is_recovered_unchanged(console, docker, pushed):
    before = {name: docker("reader").pull("web/app", name) for name in ("1.0", "latest", "2.0")}
    browser = console("member")
    assert "Type web to confirm" in text(browser.get(f"{WEB}-/delete"))
    assert "This is not" in text(browser.post(f"{WEB}-/delete", {"typed": "wrong"}))
    assert Repository.objects.live().filter(name="web").exists()
    browser.post(f"{WEB}-/delete", {"typed": "web"})
    docker("reader").get("web/app/manifests/1.0", expect=404)
    assert "demo/web" in text(browser.get("/projects/demo/recovery"))
    assert "Deleted the repository" in text(browser.get("/projects/demo/audit-log"))
    deletion = Deletion.objects.get()
    browser.post("/projects/demo/recovery/restore", {"deletion": deletion.pk})
    assert {name: docker("reader").pull("web/app", name) for name in before} == before
    actions = Event.objects.filter(repository__name="web").values_list("action", flat=True)
    assert {"repository.delete", "repository.recover"} <= set(actions)


def test_failed_recovery_shows_the_reason(console, docker, pushed, world):
    browser = console("member")
    browser.post(f"{APP}-/delete", {"sure": "yes"})
    docker("member").push("web/app", "new")
    deletion = Deletion.objects.get()
    answer = browser.post("/projects/demo/recovery/restore", {"deletion": deletion.pk}, follow=True)
    assert "There is an image demo/web/app again" in text(answer)
    assert Deletion.objects.filter(pk=deletion.pk).exists()
    foreign = console("outsider").post("/projects/rival/recovery/restore", {"deletion": deletion.pk}, follow=True)
    assert "recovered already, or is gone" in text(foreign)
    Deletion.objects.update(purge_after=timezone.now())
    assert "could be recovered until" in text(
        browser.post("/projects/demo/recovery/restore", {"deletion": deletion.pk}, follow=True)
    )


def test_held_deletion_is_kept_and_then_purged(console, pushed):
    browser, member = console("admin"), console("member")
    member.post(f"{APP}-/delete", {"sure": "yes"})
    deletion = Deletion.objects.get()
    assert member.post(f"/projects/demo/recovery/{deletion.pk}/purge", {"typed": "demo/web/app"}).status_code == 403
    assert "Only an admin of the project may do this." in text(
        member.get(f"/projects/demo/recovery/{deletion.pk}/purge")
    )
    member.post(f"/projects/demo/recovery/{deletion.pk}/hold", {"on": "yes"})
    assert "Held what was deleted of <strong>demo/web/app</strong>" in text(
        member.get("/projects/demo/audit-log?action=recover")
    )
    refused = browser.post(f"/projects/demo/recovery/{deletion.pk}/purge", {"typed": "demo/web/app"}, follow=True)
    assert "is held" in text(refused)
    browser.post(f"/projects/demo/recovery/{deletion.pk}/hold", {"on": "no"})
    assert "Ended the hold on <strong>demo/web/app</strong>" in text(member.get("/projects/demo/audit-log"))
    browser.post(f"/projects/demo/recovery/{deletion.pk}/purge", {"typed": "demo/web/app"})
    assert not Image.objects.filter(path="demo/web/app").exists()
    assert not Deletion.objects.exists()


def test_digests_are_deleted_together_after_a_preview(console, docker, pushed):
    browser = console("member")
    asked = text(browser.get(f"{APP}-/untagged/delete?digest={pushed['untagged']}&digest={pushed['first']}"))
    assert "Delete 2 digests" in asked
    assert "Also deletes the tag 1.0." in asked
    assert Tag.objects.live().filter(name="1.0").exists()
    wanted = {"digest": [pushed["untagged"], pushed["first"]], "sure": "yes"}
    answer = text(browser.post(f"{APP}-/untagged/delete", wanted, follow=True))
    assert "2 digests have been deleted." in answer
    docker("reader").get("web/app/manifests/1.0", expect=404)
    browser.post("/projects/demo/recovery/restore", {"deletion": Deletion.objects.get().pk})
    docker("reader").pull("web/app", "1.0")
    docker("reader").pull("web/app", pushed["untagged"])
    assert browser.get(f"{APP}-/untagged/delete?digest={pushed['arm'][:-1]}0").status_code == 404


# ── History ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_history_is_filtered_and_downloaded(console, pushed):
    browser = console("reader")
    page = text(browser.get("/projects/demo/audit-log?tag=latest"))
    assert "Moved" in page
    assert "demo/web/app:1.0" not in page
    assert "Created the repository" in text(browser.get("/projects/demo/audit-log?action=update"))
    console("member").post(f"{APP}-/settings", {"description": "", "expires_on": "2999-01-02", "seen": ""})
    assert "expiry: 2 Jan 2999, 00:00 UTC" in text(browser.get("/projects/demo/audit-log?action=update"))
    assert text(browser.get("/projects/demo/audit-log?since=2999-01-01")).count("<li>") == 0
    for junk in (
        "?since=9999-12-31&until=9999-12-31",
        "?since=x&action=y",
        "?before=x",
        f"?before={'9' * 40}",
        "?key=none",
    ):
        assert browser.get(f"/projects/demo/audit-log{junk}").status_code == 200
    rows = (
        b"".join(browser.get("/projects/demo/audit-log.csv?tag=latest").streaming_content)
        .decode("utf-8-sig")
        .splitlines()
    )
    assert rows[0].startswith("time,action,object")
    assert len(rows) == 3


def test_undo_of_all_changes_of_a_user_shows_a_preview(console, docker, pushed):
    docker("pusher").push("web/app", "latest", image_of("evil"))
    docker("pusher").push("web/app", "evil", image_of("evil"))
    browser = console("admin")
    asked = {"who": "pusher@acme.test", "hours": "24"}
    page = text(browser.get("/projects/demo/undo", asked))
    assert "point demo/web/app:latest" in page
    assert Tag.objects.live().filter(name="evil").exists()
    assert "Undone" in text(browser.post("/projects/demo/undo", asked))
    assert not Tag.objects.live().filter(name="evil").exists()
    assert Tag.objects.live().get(name="latest").manifest.digest == pushed["second"]
    assert "There is nothing to undo." in text(browser.get("/projects/demo/undo", {"who": "no@one.test", "hours": "1"}))


# ── Collection and cleanup ───────────────────────────────────────────────────────────────────────────────────────────
def test_garbage_collection_is_requested_once_and_shown(console, docker, world, monkeypatch):
    monkeypatch.setattr(tasks.run_collection, "delay", lambda pk: None)
    docker("member").push_blob("web/app", b"nobody's")
    BlobLease.objects.all().delete()
    collector.BlobReview.objects.update(review_after=timezone.now())
    browser = console("member")
    assert "1 blob" in text(browser.get("/projects/demo/garbage-collection"))
    for _ in range(2):
        browser.post("/projects/demo/garbage-collection", {"act": "run"})
    run = Collection.objects.get()
    page = text(browser.get("/projects/demo/garbage-collection"))
    assert "Queued" in page
    assert 'hx-trigger="every 2s"' in page
    garbage.run(run.pk)
    done = text(browser.get("/projects/demo/garbage-collection"))
    assert 'hx-trigger="every' not in done
    assert "done" in done
    browser.post("/projects/demo/garbage-collection", {"act": "run"})
    browser.post("/projects/demo/garbage-collection", {"act": "stop"})
    assert garbage.run(Collection.objects.latest("pk").pk).state == "stopped"


def test_cleanup_policy_is_previewed_before_it_is_saved(console, pushed, monkeypatch):
    browser = console("member")
    form = see(browser, f"{WEB}-/cleanup").form("keep_last")
    wanted = {"keep_last": "1", "keep_patterns": "release-*\n v?", "most_percent": "90", "is_active": "on"}
    answer = form.submit(browser, **wanted, act="preview")
    assert "2 would be deleted now" in text(answer)
    sizes = dict(Tag.objects.live().values_list("name", "manifest__total_size"))
    rows = Page(answer.content.decode()).table("Tag or digest", "Size")
    assert {row["Tag or digest"]: row["Size"] for row in rows} == {
        row["Tag or digest"]: plain_size(sizes[row["Tag or digest"]]) for row in rows
    }
    assert len(rows) == 2
    assert not CleanupPolicy.objects.exists()
    form.submit(browser, **wanted, act="save")
    policy = CleanupPolicy.objects.get()
    assert (policy.keep_last, policy.keep_patterns, policy.is_active) == (1, ["release-*", "v?"], True)
    another = text(form.submit(browser, **wanted | {"keep_last": "2"}, act="save"))
    assert "member@acme.test changed the cleanup policy of demo/web meanwhile" in another
    from registry import cleanup

    run = cleanup.run(policy.pk)
    lines = text(browser.get(f"{WEB}-/cleanup/runs/{run.pk}?outcome=deleted"))
    assert "1.0" in lines
    assert "newest 1" in lines
    wrong = text(browser.post(f"{WEB}-/cleanup", {"keep_last": "0", "most_percent": "500", "act": "save"}))
    assert wrong.count('class="error"') == 2
    shown = text(console("reader").get(f"{WEB}-/cleanup"))
    assert "release-*, v?" in shown
    assert 'name="keep_last"' not in shown
    form = see(browser, f"{WEB}-/cleanup").form("keep_last")
    for keep, status in (("3", 302), ("4", 200)):  # the second form was loaded before the first was sent
        assert form.submit(console("admin"), keep_last=keep, act="save").status_code == status
    policy.refresh_from_db()
    assert policy.keep_last == 3


# ── People ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_page_explains_why_a_user_may_push_or_pull(console, world):
    browser = console("reader")
    for person, words in {
        "viewer": ("may pull, not push", "Repository Viewer"),
        "pusher": ("may push and pull", "Repository Member"),
        "reader": ("may pull, not push", "Reader of the project"),
        "owner": ("may push and pull", "Owner of the organization"),
        "stranger": ("may neither push nor pull", "no role"),
    }.items():
        page = text(browser.get(f"{WEB}-/permissions", {"who": f"{person}@acme.test"}))
        answer = re.search(r'<p role="status">(.*?)</section>', page, re.DOTALL)[1]
        assert all(each in answer for each in words), person
    assert "The repository is public" in text(
        browser.get("/projects/demo/repositories/public/-/permissions", {"who": "stranger@acme.test"})
    )
    nobody = text(browser.get(f"{WEB}-/permissions", {"who": "outsider@other.test"}))
    assert "No member of acme has this address." in nobody


def test_people_are_paged_and_filtered(console, world):
    demo = world.projects["demo"]
    for number in range(60):
        user, _ = organizations.add_user(demo.organization, f"p{number:02}@acme.test", name="Crowd")
        members.set_role(SYSTEM, demo, user, ProjectRole.READER)
    browser = console("owner")
    for address in ("/projects/demo/members", "/organizations/acme/"):
        page = text(browser.get(address))
        assert "p59@acme.test" not in rows(page)
        assert "p59@acme.test" in rows(text(browser.get(Page(page, address).link("next").href)))
        assert rows(text(browser.get(address, {"q": "p5"}))).count('<td class="name">') == 10
        assert "p00@acme.test" in rows(text(browser.get(address, {"q": "crowd"})))
        assert "Nothing matches" in text(browser.get(address, {"q": "nobody"}))


def rows(page: str) -> str:
    return page.partition("<tbody>")[2].partition("</tbody>")[0]


def test_members_of_a_project_are_added_changed_and_removed(console, world):
    browser = console("admin")
    browser.post("/projects/demo/members/add", {"email": "stranger@acme.test", "role": "reader"})
    assert console("stranger").get("/projects/demo/").status_code == 200
    browser.post("/projects/demo/members", {"email": "stranger@acme.test", "role": "admin"})
    assert ProjectMembership.objects.get(user=world.people["stranger"].user).role == "admin"
    browser.post("/projects/demo/members", {"email": "stranger@acme.test", "role": ""})
    assert console("stranger").get("/projects/demo/").status_code == 404
    assert "No member of acme has this address" in text(
        browser.post("/projects/demo/members/add", {"email": "outsider@other.test", "role": "reader"})
    )
    assert Event.objects.filter(action="project.member", actor="admin@acme.test").count() == 3


def test_a_role_in_the_project_replaces_one_on_a_repository(console, world):
    console("admin").post("/projects/demo/members/add", {"email": "viewer@acme.test", "role": "reader"})
    assert repositories.role_of(world.repository("web"), world.viewer.user) is None


@pytest.mark.parametrize(
    ("there", "email", "role"),
    [
        ("/projects/demo/members", "reader@acme.test", "reader"),
        ("/projects/demo/repositories/web/-/permissions", "viewer@acme.test", "viewer"),
        ("/organizations/acme/", "stranger@acme.test", "member"),
    ],
)
def test_outdated_form_does_not_restore_a_role(console, world, there, email, role):
    """Another user changed or removed the role while the page was open."""
    browser = console("owner")
    page = browser.get(there).content.decode()
    assert f'name="seen" value="{role}"' in page
    other = {"/projects/demo/members": "member", "/organizations/acme/": "owner"}.get(there, "member")
    browser.post(there, {"email": email, "role": other, "seen": role})
    stale = text(browser.post(there, {"email": email, "role": "", "seen": role}, follow=True))
    assert "was changed meanwhile: look again" in stale
    browser.post(there, {"email": email, "role": "", "seen": other})
    assert f'name="email" value="{email}"' not in browser.get(there).content.decode()
    if there != "/organizations/acme/":
        again = text(browser.post(there, {"email": email, "role": other, "seen": role}, follow=True))
        assert "was changed meanwhile: look again" in again
        assert f'name="email" value="{email}"' not in browser.get(there).content.decode()


@pytest.mark.parametrize(
    ("there", "email", "held", "wanted"),
    [
        ("/projects/demo/members", "admin@acme.test", "admin", "member"),
        ("/projects/demo/repositories/web/-/permissions", "pusher@acme.test", "member", "viewer"),
    ],
)
def test_adding_an_existing_member_keeps_their_role(console, world, there, email, held, wanted):
    browser = console("owner")
    page = text(browser.post(f"{there}/add", {"email": email, "role": wanted}, follow=True))
    assert f"{email} is here already: change the role in the list." in page
    assert f'name="seen" value="{held}"' in browser.get(there).content.decode()


def test_refused_role_is_shown_with_the_reason(console, world):
    there = "/projects/demo/repositories/web/-/permissions"
    page = text(console("admin").post(there, {"email": "reader@acme.test", "role": "member", "seen": ""}, follow=True))
    assert "reader@acme.test is Reader of the project demo" in page


def test_people_of_an_organization_are_added_changed_and_removed(console, world, monkeypatch):
    monkeypatch.setattr(account_tasks.send_invitation, "delay", account_tasks.send_invitation)
    browser = console("owner")
    there = "/organizations/acme/"
    browser.post(f"{there}invite", {"email": "New@acme.test", "role": "member"})
    (letter,) = mail.outbox
    assert letter.to == ["new@acme.test"]
    assert "owner@acme.test" in letter.body
    assert not User.objects.filter(email="new@acme.test").exists()
    assert "last owner" in text(browser.post(there, {"email": "owner@acme.test", "role": "member"}, follow=True))
    again = text(browser.post(f"{there}invite", {"email": "owner@acme.test", "role": "member"}, follow=True))
    assert "owner@acme.test is here already: change the role in the list." in again
    assert OrganizationMembership.objects.get(user=world.owner.user).role == "owner"
    browser.post(there, {"email": "pusher@acme.test", "role": ""})
    assert not OrganizationMembership.objects.filter(user=world.pusher.user).exists()
    assert repositories.role_of(world.repository("web"), world.pusher.user) is None
    assert browser.post(there, {"email": "outsider@other.test", "role": "owner"}).status_code == 404


def test_project_settings_opened_by_two_people_do_not_overwrite_each_other(console, world):
    form = see(console("admin"), "/projects/demo/settings").form("display_name")
    assert form.submit(console("owner"), display_name="First").status_code == 302
    late = text(form.submit(console("admin"), display_name="Second"))
    assert "owner@acme.test changed demo meanwhile" in late
    assert 'value="Second"' in late
    world.projects["demo"].refresh_from_db()
    assert world.projects["demo"].display_name == "First"
    assert "Changed the project <strong>demo</strong>: name: “First”" in text(
        console("reader").get("/projects/demo/audit-log?action=update")
    )


def test_owner_creates_a_project(console, world):
    browser = console("owner")
    there = "/organizations/acme/projects/new"
    for _ in range(2):  # the form is sent twice
        assert browser.post(there, {"name": "shop", "display_name": "Shop"}).url == "/projects/shop/"
    assert Event.objects.get(action="project.create", actor="owner@acme.test").path == "shop"
    assert "There is a project of this name already." in text(browser.post(there, {"name": "demo"}))
    assert "has 3 to 40" in text(browser.post(there, {"name": "No"}))
    assert "is taken" in text(browser.post(there, {"name": "rival"}))
    assert browser.get("/projects/shop/").status_code == 200


def test_unknown_form_fields_change_nothing(console, world):
    console("member").post(
        "/profile",
        {"name": "M", "is_superuser": "on", "is_active": "", "email": "x@y.test", "language": "", "time_zone": ""},
    )
    user = User.objects.get(pk=world.member.user.pk)
    assert (user.email, user.is_superuser, user.is_active) == ("member@acme.test", False, True)


def test_a_profile_has_a_language_and_a_theme(console, world):
    browser = console("member")
    assert (
        browser.post("/profile", {"name": "M", "language": "ko", "theme": "dark", "time_zone": ""}).status_code == 302
    )
    page = text(browser.get("/profile"))
    assert '<html lang="ko" data-theme="dark">' in page
    assert 'class="error"' in text(browser.post("/profile", {"theme": "pink"}))


# ── Search ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("person", ["member", "viewer", "outsider"])
def test_search_finds_only_visible_names(console, pushed, person):
    browser = console(person)
    found = {
        words: text(browser.get("/search", {"q": words}))
        for words in ("app", "web", "latest", "app:1", pushed["first"][7:27])
    }
    for words, page in found.items():
        assert ("/projects/demo/" in page) == (person == "member"), words


def test_search_finds_names_that_look_like_digests(console, docker):
    for name, tag in (("web/facade", "20240101"), ("web/app", "3f9ac01")):
        docker("member").push(name, tag, image_of(name))
    browser = console("member")
    for words, place in (
        ("facade", "web/facade"),
        ("20240101", "web/facade"),
        ("3f9ac01", "web/app"),
        ("web/facade:2024", "web/facade"),
        ("app:3f9ac01", "web/app"),
    ):
        assert f"/projects/demo/repositories/{place}/" in browser.get("/search", {"q": words}).content.decode(), words
