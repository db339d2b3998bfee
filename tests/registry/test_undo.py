"""Undo of the changes of a key: the previous state returns, changes of others stay, and every step is reported."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from accounts import keys
from accounts.actors import SYSTEM
from accounts.models import ProjectRole, RepositoryRole, User
from registry import errors, images, manifests, members, projects, repositories, undo
from registry.cleanup import policies
from registry.models import CleanupPolicy, Deletion, Event, Manifest, Tag
from registry.models import Image as StoredImage
from registry.oci.names import ImageName
from registry.undo import plan
from registry.undo.plan import Kind
from tests.support.images import OCI_INDEX, Image, index_of
from tests.support.personas import make_key

pytestmark = pytest.mark.django_db
NAME = ImageName("demo", "web", "app")
A, B, C = (Image(layers=[name.encode()]) for name in "ABC")


@pytest.fixture
def thief(world):
    """A stolen key of the member. world.member is the member with another key."""
    world.people["thief"] = make_key(world.member.user, "leaked")
    return world.people["thief"]


@pytest.fixture
def stable(docker, thief):
    """web/app:stable names A. The owner also pushed B and C as b and c."""
    for tag, image in (("stable", A), ("b", B), ("c", C)):
        docker("owner").push("web/app", tag, image)
    return StoredImage.objects.get(path="demo/web/app")


def acts(world, **whose):
    return undo.acts(
        world.projects["demo"], timezone.now() - timedelta(hours=1), **(whose or {"key_id": world.thief.key.pk})
    )


def undo_all(world, **whose) -> undo.Undone:
    return undo.undo(world.owner.actor, acts(world, **whose))


def meaning() -> dict[str, str]:
    """Return what each tag of web/app names: A, B, C or a digest."""
    known = {A.digest: "A", B.digest: "B", C.digest: "C"}
    found = Tag.objects.live().filter(image__path="demo/web/app").select_related("manifest")
    return {tag.name: known.get(tag.manifest.digest, tag.manifest.digest) for tag in found}


def problems(result: undo.Undone) -> list[str]:
    return [step.problem for step in result.skipped]


def test_tags_return_to_their_previous_digests(docker, stable, world):
    thief = docker("thief")
    thief.push("web/app", "stable", B)
    thief.push("web/app", "stable", C)
    thief.push("web/app", "b", A)
    (first, second) = sorted(undo.preview(world.owner.actor, acts(world)), key=lambda step: step.tag)
    assert (first.kind, first.tag, first.before, first.after) == (Kind.POINT, "b", A.digest, B.digest)
    assert (second.tag, second.before, second.after, len(second.events)) == ("stable", C.digest, A.digest, 2)
    assert meaning() == {"stable": "C", "b": "A", "c": "C"}

    result = undo_all(world)
    assert meaning() == {"stable": "A", "b": "B", "c": "C"}
    assert result.skipped == []


def test_audit_log_has_the_actor_of_an_undo(docker, stable, world):
    docker("thief").push("web/app", "stable", B)
    stolen = Event.objects.latest("pk")
    undo_all(world)
    event = Event.objects.latest("pk")
    assert (event.action, event.tag, event.user) == ("tag.move", "stable", world.owner.user)
    assert event.detail == {"before": B.digest, "undoes": [stolen.pk]}


def test_repeated_undo_changes_nothing_more(docker, stable, world):
    thief = docker("thief")
    thief.push("web/app", "stable", B)
    thief.push("web/app", "new", Image(layers=[b"evil"]))
    thief.delete("web/app/manifests/b", 202)
    undo_all(world)
    events = Event.objects.count()
    again = undo_all(world)
    assert Event.objects.count() == events
    assert again == undo.Undone()
    assert undo.preview(world.owner.actor, acts(world)) == []


def test_content_pushed_by_the_key_becomes_one_deletion(docker, stable, world):
    evil = docker("thief").push("web/app", "evil", Image(layers=[b"evil"]))
    docker("thief").push_manifest("web/app", "evil2", A.manifest)
    assert {(step.kind, step.tag or step.digest) for step in undo.preview(world.owner.actor, acts(world))} == {
        (Kind.REMOVE, "evil"),
        (Kind.REMOVE, "evil2"),
        (Kind.REMOVE, evil.digest),
    }
    result = undo_all(world)
    assert (len(result.done), result.skipped) == (3, [])
    assert meaning() == {"stable": "A", "b": "B", "c": "C"}
    assert docker("owner").get(f"web/app/manifests/{evil.digest}", 404)
    assert Manifest.objects.get(digest=evil.digest).deletion is not None
    docker("owner").pull("web/app", A.digest)


def test_content_deleted_by_the_key_is_recovered(docker, stable, world):
    docker("thief").delete("web/app/manifests/stable", 202)
    docker("thief").delete(f"web/app/manifests/{B.digest}", 202)
    steps = undo.preview(world.owner.actor, acts(world))
    assert [step.kind for step in steps] == [Kind.RESTORE, Kind.RESTORE]
    result = undo_all(world)
    assert (len(result.done), result.skipped) == (2, [])
    assert meaning() == {"stable": "A", "b": "B", "c": "C"}
    assert not Deletion.objects.exists()


def test_tag_moved_and_deleted_returns_to_its_original_digest(docker, stable, world):
    thief = docker("thief")
    thief.push("web/app", "stable", B)
    thief.delete(f"web/app/manifests/{A.digest}", 202)
    thief.delete(f"web/app/manifests/{B.digest}", 202)
    assert meaning() == {"c": "C"}
    result = undo_all(world)
    assert meaning() == {"stable": "A", "b": "B", "c": "C"}
    assert result.skipped == []


def test_changes_of_others_since_are_kept_and_reported(docker, stable, world):
    docker("thief").push("web/app", "stable", B)
    docker("pusher").push("web/app", "stable", C)
    (step,) = undo.preview(world.owner.actor, acts(world))
    assert (step.tag, step.problem) == ("stable", "pusher@acme.test has changed it since")
    result = undo_all(world)
    assert (result.done, problems(result)) == ([], ["pusher@acme.test has changed it since"])
    assert meaning()["stable"] == "C"


def test_changes_of_others_between_two_acts_are_restored(docker, stable, world):
    docker("thief").push("web/app", "stable", B)
    docker("pusher").push("web/app", "stable", C)
    docker("thief").push("web/app", "stable", A)
    assert undo_all(world).skipped == []
    assert meaning()["stable"] == "C"


def test_tag_created_and_deleted_by_the_key_is_not_created_again(docker, stable, world):
    docker("thief").push("web/app", "evil", A)
    docker("thief").delete("web/app/manifests/evil", 202)
    undo_all(world)
    assert meaning() == {"stable": "A", "b": "B", "c": "C"}


def test_deleted_previous_digest_is_reported(docker, stable, world):
    docker("thief").push("web/app", "stable", B)
    docker("owner").delete(f"web/app/manifests/{A.digest}", 202)
    (step,) = undo.preview(world.owner.actor, acts(world))
    assert "in Recovery until" in step.problem
    assert "in Recovery until" in problems(undo_all(world))[0]
    assert meaning()["stable"] == "B"


def test_tag_of_a_repository_without_tag_overwrite_stays_with_the_reason(docker, stable, world):
    docker("thief").push("web/app", "stable", B)
    repositories.update(SYSTEM, world.repository("web"), tag_overwrite=False)
    (problem,) = problems(undo_all(world))
    assert "does not allow tags to be overwritten" in problem
    assert meaning()["stable"] == "B"


def test_digest_tagged_or_pushed_by_others_stays(docker, stable, world):
    evil, both = Image(layers=[b"evil"]), Image(layers=[b"both"])
    docker("thief").push("web/app", "evil", evil)
    docker("pusher").push_manifest("web/app", "wanted", evil.manifest)
    docker("thief").push("web/app", "both", both)
    docker("owner").delete(f"web/app/manifests/{both.digest}", 202)
    docker("pusher").push("web/app", both.digest, both)
    result = undo_all(world)
    assert {step.tag for step in result.done} == {"evil"}
    told = {step.tag or step.digest: step.problem for step in result.skipped}
    assert told == {
        evil.digest: "wanted points to it",
        both.digest: "pusher@acme.test has pushed it as well",
        "both": "owner@acme.test has changed it since",
    }
    docker("owner").pull("web/app", evil.digest)
    docker("owner").pull("web/app", both.digest)


def test_index_is_deleted_with_the_children_pushed_with_it(docker, stable, world):
    child = docker("thief").push("web/app", "child", Image(layers=[b"child"]))
    docker("thief").push_manifest("web/app", "index", index_of(child.manifest.descriptor()), OCI_INDEX)
    result = undo_all(world)
    assert result.skipped == []
    assert not Manifest.objects.live().exclude(digest__in=[A.digest, B.digest, C.digest]).exists()


def test_settings_policies_and_roles_are_restored(docker, stable, world):
    web, actor = world.repository("web"), world.thief.actor
    repositories.update(SYSTEM, web, description="ours")
    image = StoredImage.objects.get(path="demo/web/app")
    policies.set_policy(SYSTEM, web, keep_last=5)
    repositories.update(actor, web, is_public=True, description="theirs")
    repositories.update(actor, web, description="theirs again")
    images.update(actor, image, expires_at=datetime(2030, 1, 1, tzinfo=UTC), description="theirs")
    policies.set_policy(actor, web, keep_last=1, most_percent=100)
    repositories.set_role(actor, web, world.viewer.user, RepositoryRole.MEMBER)
    repositories.set_role(actor, web, world.pusher.user, None)
    members.set_role(actor, world.projects["demo"], world.reader.user, ProjectRole.ADMIN)
    members.set_role(actor, world.projects["demo"], world.stranger.user, ProjectRole.MEMBER)
    result = undo_all(world)
    assert result.skipped == []
    web.refresh_from_db()
    image.refresh_from_db()
    assert (web.is_public, web.description) == (False, "ours")
    assert (image.expires_at, image.description) == (None, "")
    policy = CleanupPolicy.objects.get()
    assert (policy.keep_last, policy.most_percent) == (5, 50)
    by_owner = Event.objects.filter(user=world.owner.user, detail__has_key="undoes")
    assert sorted(by_owner.values_list("action", flat=True)) == [
        "cleanup.policy",
        "image.expiry",
        *["project.member"] * 2,
        *["repository.role"] * 2,
        "repository.update",
    ]
    assert repositories.role_of(web, world.viewer.user) == RepositoryRole.VIEWER
    assert repositories.role_of(web, world.pusher.user) == RepositoryRole.MEMBER
    assert members.role_of(world.projects["demo"], world.reader.user) == ProjectRole.READER
    assert members.role_of(world.projects["demo"], world.stranger.user) is None
    assert undo.preview(world.owner.actor, acts(world)) == []
    assert undo_all(world) == undo.Undone()


def test_members_are_restored_by_project_admins_only(world):
    demo = world.projects["demo"]
    members.set_role(world.admin.actor, demo, world.reader.user, ProjectRole.MEMBER)
    members.set_role(world.admin.actor, demo, world.stranger.user, ProjectRole.ADMIN)
    repositories.set_role(world.admin.actor, world.repository("web"), world.viewer.user, None)
    theirs = acts(world, user_id=world.admin.user.pk)

    why = "only an admin of the project may change the roles in it"
    shown = undo.preview(world.member.actor, theirs)
    assert {step.name: step.problem for step in shown} == {
        "reader@acme.test": why,
        "stranger@acme.test": why,
        "viewer@acme.test": "",
    }
    result = undo.undo(world.member.actor, theirs)
    assert [step.name for step in result.done] == ["viewer@acme.test"]
    assert members.role_of(demo, world.reader.user) == ProjectRole.MEMBER
    assert members.role_of(demo, world.stranger.user) == ProjectRole.ADMIN

    assert undo.undo(world.owner.actor, theirs).done
    assert members.role_of(demo, world.reader.user) == ProjectRole.READER
    assert members.role_of(demo, world.stranger.user) is None


def test_settings_changed_later_by_others_stay(world, thief):
    web = world.repository("web")
    repositories.update(thief.actor, web, is_public=True, description="theirs")
    repositories.update(world.owner.actor, web, description="ours")
    repositories.set_role(thief.actor, web, world.viewer.user, None)
    repositories.set_role(world.owner.actor, web, world.viewer.user, RepositoryRole.MEMBER)
    result = undo_all(world)
    assert [step.name for step in result.done] == ["is_public"]
    assert {step.name: step.problem for step in result.skipped} == {
        "description": "another user has changed description since",
        "viewer@acme.test": "another user has changed the role since",
    }
    web.refresh_from_db()
    assert (web.is_public, web.description) == (False, "ours")
    assert repositories.role_of(web, world.viewer.user) == RepositoryRole.MEMBER


def test_readme_changed_by_the_key_is_reported_and_kept(world, thief):
    web = world.repository("web")
    repositories.update(thief.actor, web, is_public=True, readme="theirs")
    repositories.update(thief.actor, web, readme="theirs again")
    result = undo_all(world)
    assert [step.name for step in result.done] == ["is_public"]
    assert problems(result) == ["the readme of demo/web was changed: its former text is not kept"] * 2
    assert repositories.readme_of(web) == "theirs again"


def test_policy_created_by_the_key_is_disabled(world, thief):
    policies.set_policy(thief.actor, world.repository("web"), tag_days=1)
    undo_all(world)
    policy = CleanupPolicy.objects.get()
    assert (policy.is_active, policy.tag_days) == (False, None)


def test_repository_created_by_the_key_is_reported_and_kept(world, thief):
    repositories.create(thief.actor, world.projects["demo"], "evil")
    result = undo_all(world)
    assert problems(result) == ["demo/evil was created: delete it if it is not needed"]


def test_settings_of_a_project_are_restored_and_quotas_reported(world):
    demo, by = world.projects["demo"], world.admin.actor
    limit = demo.tag_limit
    projects.update(by, demo, description="evil")
    projects.update(by, demo, tag_limit=limit + 1)
    events = Event.objects.filter(project=demo, action="project.update")
    refused = undo.undo(world.member.actor, events)
    assert "only an admin of the project may change its settings" in problems(refused)
    result = undo.undo(by, events)
    demo.refresh_from_db()
    assert (demo.description, demo.tag_limit) == ("", limit + 1)
    assert problems(result) == ["the quotas of demo were changed: check them"]
    assert Event.objects.latest("pk").detail["undoes"] == [events.order_by("pk")[0].pk]
    assert undo.preview(by, events.filter(pk=events.order_by("pk")[0].pk)) == []


@pytest.mark.parametrize("action", sorted(set(Event.Action) - {"scan.done"}))
def test_every_event_action_is_undone_reported_or_listed_as_harmless(action):
    partly_reported = {"project.update", "repository.update"}  # quotas, readmes
    undone_by_steps = {
        *("tag.add", "tag.move", "tag.delete", "tag.recover", "image.push", "image.delete", "repository.delete"),
        *(str(each) for each in plan._SETTINGS if each not in partly_reported),
        *("notice.change", "vulnerability.accept", "vulnerability.withdraw"),  # scanning.undo
    }
    lasts_not = {"tag.push", "collection.run", "collection.done", "cleanup.run", "project.create"}
    assert (action in plan._BY_HAND) != (action in undone_by_steps | lasts_not)


def test_changes_of_others_earlier_or_elsewhere_are_not_touched(docker, stable, world):
    docker("member").push("web/app", "members", B)  # the same user with another key
    docker("thief").push("public/app", "evil", B)
    Event.objects.filter(path="demo/public/app").update(at=timezone.now() - timedelta(hours=2))
    assert undo_all(world) == undo.Undone()
    assert meaning()["members"] == "B"


def test_changes_of_a_user_are_undone_for_all_keys(docker, stable, world):
    docker("member").push("web/app", "one", B)
    docker("thief").push("web/app", "two", B)
    keys.revoke(world.thief.key)
    result = undo_all(world, user_id=world.member.user.pk)
    assert {step.tag for step in result.done} == {"one", "two"}
    assert meaning() == {"stable": "A", "b": "B", "c": "C"}


def test_single_change_is_undone(docker, stable, world):
    docker("thief").push("web/app", "stable", B)
    docker("thief").push("web/app", "c", B)
    moved = Event.objects.filter(tag="stable", action="tag.move")
    assert undo.undo(world.owner.actor, moved).skipped == []
    assert meaning() == {"stable": "A", "b": "B", "c": "B"}


def test_undoing_can_be_undone(docker, stable, world):
    docker("thief").push("web/app", "stable", B)
    undo_all(world)
    by_owner = Event.objects.filter(user=world.owner.user, detail__has_key="undoes")
    undo.undo(world.admin.actor, by_owner)
    assert meaning()["stable"] == "B"


def test_undo_needs_exactly_one_user_or_key(world, thief):
    for whose in ({"key_id": None}, {"key_id": 1, "user_id": 1}):
        with pytest.raises(TypeError):
            acts(world, **whose)


def test_tag_moved_between_preview_and_undo_stays(docker, stable, world):
    """point_tag gets the digest of the preview and refuses if the tag names another one."""
    docker("thief").push("web/app", "stable", B)
    with pytest.raises(errors.Changed):
        manifests.point_tag(world.owner.actor, world.repository("web"), NAME, "stable", A.digest, seen=C.digest)


def test_role_of_a_removed_user_is_reported(world, thief):
    repositories.set_role(thief.actor, world.repository("web"), world.viewer.user, None)
    User.objects.filter(pk=world.viewer.user.pk).delete()
    assert problems(undo_all(world)) == ["it is gone for good"]


def test_deleted_image_is_not_changed(docker, stable, world):
    docker("thief").push("web/app", "stable", B)
    docker("thief").push("web/app", "evil", A)
    event = Event.objects.latest("pk")
    deletion = Deletion.objects.create(kind="image", project=event.project, event=event, purge_after=timezone.now())
    Deletion.objects.update(event=Event.objects.earliest("pk"))
    StoredImage.objects.filter(pk=stable.pk).update(deletion=deletion)
    result = undo_all(world)
    assert result.done == []
    assert set(problems(result)) == {"the image is deleted"}
    assert meaning()["stable"] == "B"
