"""The setting that lets a push create repositories, and its words in the audit log."""

from __future__ import annotations

from accounts.models import Project
from registry.models import Event, Repository
from tests.console.test_audit_log import undo_form
from tests.support.docker_client import DockerClient
from tests.support.pages import see, text

SETTINGS = "/projects/demo/settings"


def test_admin_turns_it_on_and_chooses_the_settings_of_new_repositories(console, world):
    page = see(console("admin"), SETTINGS)
    form = page.form("create")
    assert form.shown["create"] == "no"
    assert (
        form.submit(console("admin"), create="yes", visibility="public", overwrite="no", scan="manual").status_code
        == 302
    )
    demo = Project.objects.get(name="demo")
    assert (demo.create_on_push, demo.new_is_public, demo.new_tag_overwrite, demo.new_auto_scan) == (
        *(True, True),
        *(False, False),
    )
    shown = see(console("admin"), SETTINGS).form("create").shown
    assert [shown[name] for name in ("create", "visibility", "overwrite", "scan")] == ["yes", "public", "no", "manual"]
    log = text(console("reader").get("/projects/demo/audit-log"))
    for words in ("create on push: no → yes", "public (of repositories that a push creates): no → yes"):
        assert words in log
    assert "Create on push" in text(console("member").get(SETTINGS))

    DockerClient(world.member).push("new/app", "1")
    assert Repository.objects.get(name="new").is_public
    assert "Created the repository demo/new by a push" in see(console("reader"), "/projects/demo/audit-log").text


def test_setting_is_undone(console, world):
    see(console("admin"), SETTINGS).form("create").submit(console("admin"), create="yes")
    event = Event.objects.get(action="project.update")
    undo_form(see(console("admin"), f"/projects/demo/audit-log/{event.pk}/undo")).submit(console("admin"))
    assert not Project.objects.get(name="demo").create_on_push


def test_member_cannot_change_it(console, world):
    assert console("member").post(SETTINGS, {"create": "yes"}).status_code in {403, 404}
    assert not Project.objects.get(name="demo").create_on_push
