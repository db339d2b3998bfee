"""Recovery: deletions are recovered unchanged or refused with the reason, and are purged after their deadline."""

import json
from datetime import timedelta
from itertools import combinations

import pytest
from django.db.models import F
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from registry import audit, errors, garbage, repositories, trash, uploads
from registry.garbage import collector
from registry.models import (
    Blob,
    BlobLease,
    BlobReview,
    Deletion,
    Event,
    Manifest,
    ManifestBlob,
    ManifestChild,
    ObjectTrash,
    Repository,
    Tag,
    UploadSession,
)
from registry.models import (
    Image as StoredImage,
)
from registry.oci import media_types
from registry.oci.names import ImageName
from registry.trash import purging, restoring
from registry.trash.deleting import closure
from tests.support import later
from tests.support.images import Image, descriptor, index_of, sha256

pytestmark = pytest.mark.django_db
PATH = "demo/web/app"
NAME = ImageName("demo", "web", "app")
A, B, C = (Image(layers=[name.encode() * 10, b"a shared layer"]) for name in "ABC")
MODELS = (
    *(Repository, StoredImage, Manifest, ManifestBlob, ManifestChild, Tag, Deletion, Event),
    *(Blob, BlobLease, BlobReview, ObjectTrash),
)


def everything() -> dict[str, list[dict[str, object]]]:
    """Return all rows that deletion and recovery may change."""
    return {model.__name__: list(model.objects.order_by("pk").values()) for model in MODELS}


def referrer_of(subject: bytes, media_type: str, note: str) -> Image:
    more = {"subject": descriptor(subject, media_type), "artifactType": "text/plain", "annotations": {"note": note}}
    return Image(layers=[note.encode()], more=more)


@pytest.fixture
def act(world):
    """``act(what, ...)`` deletes as the owner, and returns the deletion."""

    def delete(*references: str, name: ImageName = NAME) -> Deletion:
        return trash.delete_references(world.owner.actor, world.repository(name.repository), name, references)

    return delete


@pytest.fixture
def delete_image(world):
    def delete(name: str = "app", repository: str = "web") -> Deletion:
        (deletion,) = trash.delete_images(world.owner.actor, world.repository(repository), [name])
        return deletion

    return delete


@pytest.fixture
def restore(world):
    def bring_back(*deletions: Deletion, **how) -> trash.Restored:
        return trash.restore(world.owner.actor, [deletion.pk for deletion in deletions], **how)

    return bring_back


@pytest.fixture
def member(docker):
    return docker("member")


def meaning(path: str = PATH) -> dict[str, str]:
    """Return the digest of each live tag of the image."""
    found = Tag.objects.live().filter(image__path=path, image__deletion=None).select_related("manifest")
    return {tag.name: tag.manifest.digest for tag in found}


def newest(action: Event.Action) -> Event:
    return Event.objects.filter(action=action).latest("pk")


# ── Recovery ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_recovered_tag_starts_a_new_interval(member, world, act, restore):
    member.push("web/app", "1.0", A)
    deletion = act("1.0")
    member.get("web/app/manifests/1.0", 404)

    restored = restore(deletion)

    assert ([each.pk for each in restored.deletions], restored.tags) == ([deletion.pk], 1)
    assert (restored.skipped, restored.refused) == ([], [])
    assert member.pull("web/app", "1.0") == (A.manifest, A.media_type)
    closed, opened = Tag.objects.order_by("pk")
    event = newest(Event.Action.TAG_RECOVER)
    assert closed.ended_at <= opened.started_at
    assert (closed.deletion, opened.opened_by, opened.ended_at) == (None, event, None)
    assert (event.path, event.tag, event.digest, event.user) == (PATH, "1.0", A.digest, world.owner.user)
    assert not Deletion.objects.exists()


def test_tags_deleted_together_are_recovered_together(member, act, restore):
    for tag, image in (("1.0", A), ("1.1", B), ("2.0", C), ("kept", C)):
        member.push("web/app", tag, image)
    before = meaning()
    deletion = act("1.0", "1.1", "2.0")
    assert meaning() == {"kept": C.digest}
    assert restore(deletion).tags == 3
    assert meaning() == before


def test_several_deletions_are_recovered_at_once(member, act, restore):
    for tag in ("a", "b", "c"):
        member.push("web/app", tag, A)
    acts = [act(tag) for tag in ("a", "b", "c")]
    restored = restore(*acts, acts[0])
    assert (len(restored.deletions), restored.tags) == (3, 3)
    assert sorted(meaning()) == ["a", "b", "c"]


def test_digest_is_recovered_with_all_its_tags(member, act, restore):
    for tag in ("1.0", "latest", "stable"):
        member.push("web/app", tag, A)
    member.push("web/app", "other", B)
    before, past = meaning(), list(Event.objects.order_by("pk").values())
    deletion = act(A.digest)
    assert meaning() == {"other": B.digest}
    member.get(f"web/app/manifests/{A.digest}", 404)

    assert restore(deletion).tags == 3

    assert meaning() == before
    assert member.pull("web/app", A.digest) == (A.manifest, A.media_type)
    event = newest(Event.Action.IMAGE_RECOVER)
    assert (event.path, event.digest) == (PATH, A.digest)
    assert list(Event.objects.order_by("pk").values())[: len(past)] == past


def test_each_digest_of_a_recovered_deletion_has_its_event(member, act, restore):
    many = [Image(layers=[f"layer {number}".encode()]) for number in range(6)]
    for image in many:
        member.push("web/app", image.digest, image)
    restore(act(*(image.digest for image in many)))
    recovered = Event.objects.filter(action=Event.Action.IMAGE_RECOVER).values_list("digest", flat=True)
    assert sorted(recovered) == sorted(image.digest for image in many)


def test_index_is_recovered_with_its_children_and_their_referrers(member, act, restore):
    for part in (A, B):
        member.push("web/app", part.digest, part)
    index = index_of(A.manifest.descriptor(), B.manifest.descriptor())
    member.push_manifest("web/app", "multi", index, media_types.OCI_INDEX)
    signature = referrer_of(index, media_types.OCI_INDEX, "signed")
    inventory = referrer_of(A.manifest, media_types.OCI_MANIFEST, "what is inside")
    for extra in (signature, inventory):
        member.push("web/app", extra.digest, extra)
    digests = [A.digest, B.digest, sha256(index), signature.digest, inventory.digest]

    def lists() -> list[bytes]:
        return [member.get(f"web/app/referrers/{digest}", 200).body for digest in (sha256(index), A.digest)]

    before = lists()
    deletion = act(sha256(index))
    for digest in digests:
        member.get(f"web/app/manifests/{digest}", 404)
    assert [json.loads(body)["manifests"] for body in lists()] == [[], []]

    assert restore(deletion).tags == 1

    assert lists() == before
    assert member.get("web/app/manifests/multi", 200).body == index
    for image in (A, B, signature, inventory):
        assert member.pull("web/app", image.digest)[0] == image.manifest


def test_index_recovers_children_of_an_earlier_deletion(member, act, restore):
    member.push("web/app", A.digest, A)
    index = index_of(A.manifest.descriptor())
    member.push_manifest("web/app", "multi", index, media_types.OCI_INDEX)
    first = act(sha256(index))  # deletes the child too
    member.push("web/app", A.digest, A)
    second = act(A.digest)
    restore(first)
    assert member.get("web/app/manifests/multi", 200).body == index
    assert member.pull("web/app", A.digest)[0] == A.manifest
    assert restore(second).deletions == [second]  # nothing is left to recover, and nothing is reported
    assert not Deletion.objects.exists()


def test_image_is_recovered_with_exactly_the_contents_of_its_deletion(member, delete_image, act, restore):
    for tag, image in (("1.0", A), ("2.0", B), ("3.0", C)):
        member.push("web/app", tag, image)
    act("3.0")  # a separate deletion stays separate
    act(B.digest)
    before = meaning()
    deletion = delete_image()
    member.get("web/app/tags/list", 404)
    assert restore(deletion).tags == 1
    assert meaning() == before == {"1.0": A.digest}
    member.get(f"web/app/manifests/{B.digest}", 404)
    assert Deletion.objects.count() == 2
    event = newest(Event.Action.IMAGE_RECOVER)
    assert (event.path, event.tag, event.digest) == (PATH, "", "")


def test_repository_of_thirty_images_is_recovered_unchanged(docker, world, restore, monkeypatch):
    monkeypatch.setattr(restoring, "ROWS", 7)
    member = docker("member")
    signatures = {}
    for number in range(30):
        name = f"web/image{number:02}"
        old, new = (Image(layers=[f"{number} {age}".encode(), b"everywhere"]) for age in ("old", "new"))
        member.push(name, "1.0", old)
        member.push(name, "1.0", new)
        member.push(name, "2.0", old)
        signatures[name] = referrer_of(new.manifest, media_types.OCI_MANIFEST, f"signed {number}")
        member.push(name, signatures[name].digest, signatures[name])
        if number % 10 == 0:
            member.push_manifest(
                name, "multi", index_of(old.manifest.descriptor(), new.manifest.descriptor()), media_types.OCI_INDEX
            )
    hours_ago = timezone.now() - timedelta(hours=2)
    Tag.objects.filter(ended_at=None).update(started_at=hours_ago)
    Tag.objects.filter(ended_at__isnull=False).update(started_at=hours_ago - timedelta(hours=1), ended_at=hours_ago)
    long_ago = f"{hours_ago - timedelta(minutes=30):%Y%m%dt%H%Mz}"

    def seen() -> dict[str, object]:
        """Return everything that docker can read, byte for byte."""
        found: dict[str, object] = {"catalog": member.get("_catalog?n=1000", 200).json()}
        for name, signature in signatures.items():
            tags = member.tags(name)
            subject = json.loads(signature.manifest)["subject"]["digest"]
            found[name] = {
                "tags": tags,
                "pulled": [member.get(f"{name}/manifests/{tag}", 200).body for tag in tags],
                "whole": [member.pull(name, tag) for tag in ("1.0", "2.0", signature.digest)],
                "referrers": member.get(f"{name}/referrers/{subject}", 200).body,
                "past": member.get(f"{name}/manifests/1.0--at-{long_ago}", 200).body,
            }
        return found

    before, past = seen(), list(Event.objects.order_by("pk").values())
    meanings = list(Tag.objects.filter(ended_at__isnull=False).order_by("pk").values())
    later.leases_end()
    deletion = trash.delete_repository(world.owner.actor, world.repository("web"))
    assert not [name for name in member.get("_catalog?n=1000", 200).json()["repositories"] if name.startswith("web/")]
    assert Tag.objects.live().count() == 0

    restored = restore(deletion)

    assert restored.tags == 63
    assert seen() == before
    assert list(Event.objects.order_by("pk").values())[: len(past)] == past
    kept = Tag.objects.filter(pk__in=[meaning["id"] for meaning in meanings]).order_by("pk")
    assert list(kept.values()) == meanings
    member.push("web/image00", "3.0", A)  # roles, names and settings are unchanged
    docker("viewer").pull("web/image00", "3.0")


# ── Names in use ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_recovery_reports_a_used_name_and_keeps_it(member, act, restore):
    member.push("web/app", "1.0", A)
    member.push("web/app", "free", A)
    deletion = act(A.digest)
    member.push("web/app", "1.0", B)
    restored = restore(deletion)
    assert restored.skipped == [trash.SkippedTag(PATH, "1.0", B.digest)]
    assert restored.tags == 1
    assert meaning() == {"1.0": B.digest, "free": A.digest}


def test_recovery_moves_a_used_name_back_on_request(member, act, restore):
    member.push("web/app", "1.0", A)
    deletion = act("1.0")
    member.push("web/app", "1.0", B)
    restored = restore(deletion, replace_tags=True)
    assert (restored.skipped, restored.tags) == ([], 1)
    assert meaning() == {"1.0": A.digest}
    event = newest(Event.Action.TAG_MOVE)
    assert (event.tag, event.digest, event.detail) == ("1.0", A.digest, {"before": B.digest})


def test_name_with_the_same_digest_is_not_a_conflict(member, act, restore):
    member.push("web/app", "1.0", A)
    deletion = act("1.0")
    member.push("web/app", "1.0", A)
    restored = restore(deletion)
    assert ([each.pk for each in restored.deletions], restored.tags, restored.skipped) == ([deletion.pk], 0, [])
    assert Tag.objects.live().count() == 1


def test_recovery_does_not_overwrite_a_tag_without_tag_overwrite(docker, act, restore):
    member, name = docker("member"), ImageName("demo", "fixed", "app")
    member.push("fixed/app", "1.0", A)
    deletion = act("1.0", name=name)
    member.push("fixed/app", "1.0", B)
    before = everything()
    with pytest.raises(errors.Denied, match="does not allow tags to be overwritten"):
        restore(deletion, replace_tags=True)
    assert everything() == before
    assert restore(deletion).skipped == [trash.SkippedTag("demo/fixed/app", "1.0", B.digest)]
    assert meaning("demo/fixed/app") == {"1.0": B.digest}


def test_manifest_revived_by_a_push_gets_its_tags_back(member, act, restore):
    member.push("web/app", "1.0", A)
    deletion = act(A.digest)
    member.push("web/app", "2.0", A)
    assert restore(deletion).tags == 1
    assert meaning() == {"1.0": A.digest, "2.0": A.digest}
    assert Manifest.objects.count() == 1


def test_recovery_of_a_revived_manifest_changes_nothing(member, act, restore):
    member.push("web/app", A.digest, A)
    deletion = act(A.digest)
    member.push("web/app", A.digest, A)
    assert restore(deletion).deletions == [deletion]
    assert member.pull("web/app", A.digest)[0] == A.manifest
    assert not Deletion.objects.exists()


def test_new_image_under_a_reused_name_is_not_overwritten(member, delete_image, restore):
    member.push("web/app", "1.0", A)
    first = delete_image()
    member.push("web/app", "1.0", B)
    before = everything()
    with pytest.raises(errors.NameTaken, match=f"there is an image {PATH} again"):
        restore(first, replace_tags=True)
    assert everything() == before
    second = delete_image()
    restore(first)
    assert meaning() == {"1.0": A.digest}
    with pytest.raises(errors.NameTaken):
        restore(second)


def test_new_repository_under_a_reused_name_is_not_overwritten(docker, world, restore):
    docker("member").push("web/app", "1.0", A)
    deletion = trash.delete_repository(world.owner.actor, world.repository("web"))
    anew, is_new = repositories.create(world.owner.actor, world.projects["demo"], "web")
    assert is_new
    docker("owner").push("web/app", "1.0", B)
    before = everything()
    with pytest.raises(errors.NameTaken, match="there is a repository demo/web again"):
        restore(deletion)
    assert everything() == before
    trash.delete_repository(world.owner.actor, anew)
    restore(deletion)
    assert meaning() == {"1.0": A.digest}
    assert docker("viewer").pull("web/app", "1.0")[0] == A.manifest  # the roles on it were recovered too


def test_roles_do_not_apply_to_a_new_repository_under_a_reused_name(docker, world):
    docker("viewer").get("web/app/tags/list", 404)
    trash.delete_repository(world.owner.actor, world.repository("web"))
    repositories.create(world.owner.actor, world.projects["demo"], "web")
    docker("owner").push("web/app", "1.0", B)
    assert docker("viewer").get("web/app/manifests/1.0", 404).codes == ["NAME_UNKNOWN"]


# ── Quotas ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def limit(world, **limits: int) -> None:
    project = world.projects["demo"]
    type(project).objects.filter(pk=project.pk).update(**limits)


def test_recovery_of_a_repository_into_a_full_project_is_refused(world, restore):
    deletion = trash.delete_repository(world.owner.actor, world.repository("web"))
    limit(world, repository_limit=2)
    before = everything()
    with pytest.raises(errors.Denied, match="2 of 2 repositories"):
        restore(deletion)
    assert everything() == before
    limit(world, repository_limit=3)
    restore(deletion)


def test_recovery_of_an_image_into_a_full_repository_is_refused(member, world, delete_image, restore):
    member.push("web/app", "1.0", A)
    deletion = delete_image()
    member.push("web/other", "1.0", A)
    limit(world, image_limit=1)
    before = everything()
    with pytest.raises(errors.Denied, match="1 of 1 images"):
        restore(deletion)
    assert everything() == before
    limit(world, image_limit=2)
    restore(deletion)


def test_full_image_recovers_all_tags_of_a_deletion_or_none(member, world, act, restore):
    for tag in ("a", "b", "c"):
        member.push("web/app", tag, A)
    deletion = act(A.digest)
    member.push("web/app", "new", B)
    limit(world, tag_limit=3)
    before = everything()
    with pytest.raises(errors.Denied, match="3 of 3 tags"):
        restore(deletion)
    assert everything() == before
    limit(world, tag_limit=4)
    assert restore(deletion).tags == 3


def test_deletion_frees_the_quota_immediately(member, world, act, delete_image):
    limit(world, tag_limit=1, image_limit=1, repository_limit=3)
    member.push("web/app", "a", A)
    member.push_manifest("web/app", "b", A.manifest, expect=403)
    act("a")
    member.push_manifest("web/app", "b", A.manifest)
    member.push_manifest("web/other", "1", A.manifest, expect=403)
    delete_image()
    member.push_manifest("web/other", "1", A.manifest)
    with pytest.raises(errors.Denied):
        repositories.create(world.owner.actor, world.projects["demo"], "more")
    trash.delete_repository(world.owner.actor, world.repository("web"))
    repositories.create(world.owner.actor, world.projects["demo"], "more")


# ── Deadlines, repetition and order ──────────────────────────────────────────────────────────────────────────────────
def test_recoverable_deletions_are_listed_with_actor_time_and_deadline(member, world, act, delete_image, settings):
    settings.RECOVERY_DAYS = 3
    member.push("web/app", "1.0", A)
    member.push("web/other", "1.0", A)
    member.push("public/app", "1.0", A)
    tag, image = act("1.0"), delete_image("other")
    repository = trash.delete_repository(world.owner.actor, world.repository("public"))
    listed = list(trash.listed(world.projects["demo"]))
    assert listed == [repository, image, tag]
    assert [(each.kind, each.path, each.name) for each in listed] == [
        ("repository", "demo/public", ""),
        ("image", "demo/web/other", ""),
        ("tag", PATH, "1.0"),
    ]
    assert {each.actor for each in listed} == {world.owner.user.email}
    assert all(each.purge_after - each.at == timedelta(days=3) for each in listed)
    assert list(trash.listed(world.projects["demo"], repository=world.repository("web"))) == [image, tag]
    app = StoredImage.objects.get(path=PATH)
    assert list(trash.listed(world.projects["demo"], repository=world.repository("web"), image=app)) == [tag]
    assert list(trash.listed(world.projects["lab"])) == []
    later.recovery_ends()
    assert list(trash.listed(world.projects["demo"])) == []


def test_deletion_past_its_deadline_is_not_recovered_even_before_its_purge(member, act, restore):
    member.push("web/app", "1.0", A)
    deletion = act("1.0")
    later.recovery_ends()
    before = everything()
    with pytest.raises(errors.RecoveryGone, match="could be recovered until"):
        restore(deletion)
    assert everything() == before


@pytest.mark.parametrize("kind", ["tag", "manifest", "image", "repository"])
def test_deletion_purged_or_recovered_meanwhile_is_reported_as_gone(member, world, act, delete_image, restore, kind):
    ways = {
        "tag": lambda: act("1.0"),
        "manifest": lambda: act(A.digest),
        "image": delete_image,
        "repository": lambda: trash.delete_repository(world.owner.actor, world.repository("web")),
    }
    member.push("web/app", "1.0", A)
    deletion = ways[kind]()
    restore(deletion)
    with pytest.raises(errors.RecoveryGone):
        restore(deletion)
    deletion = ways[kind]()
    later.recovery_ends()
    assert trash.purge() == 1
    before = everything()
    with pytest.raises(errors.RecoveryGone):
        restore(deletion)
    assert everything() == before


def test_failures_are_reported_beside_recovered_deletions(member, world, act, delete_image, restore):
    member.push("web/app", "1.0", A)
    member.push("web/other", "1.0", A)
    member.push("public/app", "1.0", A)
    image = delete_image()
    member.push("web/app", "1.0", B)
    other = delete_image("other")
    restored = restore(image, other)
    assert restored.deletions == [other]
    ((refused, why),) = restored.refused
    assert (refused, why) == (image, f"there is an image {PATH} again: delete that one first, it can be recovered too")


def test_contents_of_a_deleted_container_wait_for_it(member, world, act, delete_image, restore):
    member.push("web/app", "1.0", A)
    member.push("web/app", "2.0", B)
    tag, digest = act("1.0"), act(B.digest)
    image = delete_image()
    for part in (tag, digest):
        with pytest.raises(errors.NameUnknown, match=f"the image {PATH} is deleted: recover it first"):
            restore(part)
    repository = trash.delete_repository(world.owner.actor, world.repository("web"))
    before = everything()
    with pytest.raises(errors.NameUnknown, match="the repository demo/web is deleted: recover it first"):
        restore(image)
    with pytest.raises(errors.NameUnknown, match="the repository demo/web is deleted: recover it first"):
        restore(tag)
    assert everything() == before
    restored = restore(tag, digest, image, repository)  # in any order of the arguments
    assert [each.kind for each in restored.deletions] == ["repository", "image", "manifest", "tag"]
    assert meaning() == {"1.0": A.digest, "2.0": B.digest}


def test_tag_of_a_later_deleted_digest_waits_for_the_digest(member, act, restore):
    member.push("web/app", "1.0", A)
    member.push("web/app", "2.0", A)
    tag, digest = act("1.0"), act(A.digest)
    before = everything()
    with pytest.raises(errors.ManifestUnknown, match="which was deleted afterwards: recover that"):
        restore(tag)
    assert everything() == before
    assert restore(tag, digest).tags == 2
    assert sorted(meaning()) == ["1.0", "2.0"]


def test_tag_of_a_purged_digest_cannot_be_recovered(member, act, restore):
    member.push("web/app", "1.0", A)
    member.push("web/app", "kept", B)
    tag, digest = act("1.0"), act(A.digest)
    later.recovery_ends(Deletion.objects.filter(pk=digest.pk))
    assert trash.purge() == 1
    with pytest.raises(errors.RecoveryGone, match="gone for good"):
        restore(tag)


def test_restoring_an_unknown_deletion_is_refused_as_gone(world):
    with pytest.raises(errors.RecoveryGone):
        trash.restore(world.owner.actor, [12345])


# ── Deleted content is not visible ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", ["tag", "manifest", "image", "repository"])
def test_deleted_content_is_visible_nowhere(docker, world, act, delete_image, kind):
    member, reader = docker("member"), docker("reader")
    member.push("web/app", "1.0", A)
    signature = referrer_of(A.manifest, media_types.OCI_MANIFEST, "signed")
    member.push("web/app", signature.digest, signature)
    reader.pull("web/app", "1.0")
    later.leases_end()
    {
        "tag": lambda: act("1.0"),
        "manifest": lambda: act(A.digest),
        "image": delete_image,
        "repository": lambda: trash.delete_repository(world.owner.actor, world.repository("web")),
    }[kind]()
    layer = sha256(A.layers[0])
    for client in (member, reader):
        client.get("web/app/manifests/1.0", 404)
        client.head("web/app/manifests/1.0", 404)
        expected = 200 if kind == "tag" else 404  # deleting a tag keeps its digest
        for digest in (A.digest, signature.digest):
            client.get(f"web/app/manifests/{digest}", expected)
            client.head(f"web/app/manifests/{digest}", expected)
        client.get(f"web/app/blobs/{layer}", expected)
        client.head(f"web/app/blobs/{layer}", expected)
        referrers = client.get(f"web/app/referrers/{A.digest}")
        named = referrers.json().get("manifests", []) if referrers.status == 200 else []
        assert [each["digest"] for each in named] == ([signature.digest] if kind == "tag" else [])
        tags = client.get("web/app/tags/list")
        assert tags.status == 404 or tags.json()["tags"] == []
        catalog = client.get("_catalog?n=1000", 200).json()["repositories"]
        assert ("web/app" in catalog) == (kind == "tag")
    mounted = member.post(f"public/app/blobs/uploads/?mount={layer}&from=web/app")
    assert mounted.status == (201 if kind == "tag" else 202)
    answer = member.push_manifest("public/app", "1.0", A.manifest, expect=400)
    assert set(answer.codes) == {"MANIFEST_BLOB_UNKNOWN"}
    if kind in {"manifest", "image"}:
        member.push_manifest("web/app", "again", B.manifest, expect=400)


# ── Hold and immediate purge ─────────────────────────────────────────────────────────────────────────────────────────
def test_held_deletion_is_not_purged_after_its_deadline(member, world, act, restore):
    member.push("web/app", "1.0", A)
    deletion = act(A.digest)
    trash.hold(world.owner.actor, deletion, on=True)
    trash.hold(world.owner.actor, deletion, on=True)  # a repetition changes nothing
    later.recovery_ends()
    assert trash.purge() == 0
    assert list(trash.listed(world.projects["demo"])) == [deletion]
    with pytest.raises(errors.Denied, match="is held: end the hold first"):
        trash.purge_now(world.owner.actor, deletion)
    restore(deletion)
    assert member.pull("web/app", "1.0")[0] == A.manifest
    held = Event.objects.filter(action=Event.Action.DELETION_HOLD)
    assert [(each.path, each.detail) for each in held] == [
        (PATH, {"kind": "manifest", "name": A.digest, "hold": True}),
    ]
    with pytest.raises(errors.RecoveryGone):
        trash.hold(world.owner.actor, deletion, on=True)


def test_released_deletion_is_purged(member, world, act):
    member.push("web/app", "1.0", A)
    deletion = act(A.digest)
    trash.hold(world.owner.actor, deletion, on=True)
    trash.hold(world.owner.actor, deletion, on=False)
    later.recovery_ends()
    assert trash.purge() == 1
    assert not Manifest.objects.exists()


@pytest.mark.parametrize("outer", ["image", "repository"])
def test_hold_on_a_part_keeps_the_containing_deletion(member, world, act, delete_image, restore, outer):
    """The image was deleted after its digest: purging it would purge the held digest."""
    member.push("web/app", "1.0", A)
    member.push("web/app", "2.0", B)
    part = act(A.digest)
    trash.hold(world.owner.actor, part, on=True)
    whole = delete_image() if outer == "image" else trash.delete_repository(world.owner.actor, world.repository("web"))
    with pytest.raises(errors.Denied, match="is held"):
        trash.purge_now(world.owner.actor, whole)
    later.recovery_ends()
    assert trash.purge() == 0
    whole.refresh_from_db()
    assert whole.purge_after > timezone.now()  # it is tried again later
    restore(whole, part)
    assert meaning() == {"1.0": A.digest, "2.0": B.digest}


@pytest.mark.parametrize("kind", ["tag", "manifest", "image", "repository"])
def test_immediate_purge_leaves_only_an_event(member, world, act, delete_image, kind):
    member.push("web/app", "1.0", A)
    member.push("web/app", "kept", B)
    deletion = {
        "tag": lambda: act("1.0"),
        "manifest": lambda: act(A.digest),
        "image": delete_image,
        "repository": lambda: trash.delete_repository(world.owner.actor, world.repository("web")),
    }[kind]()
    trash.purge_now(world.owner.actor, deletion)
    assert not Deletion.objects.exists()
    event = newest(Event.Action.DELETION_PURGE)
    assert (event.path, event.user, event.project) == (deletion.path, world.owner.user, world.projects["demo"])
    assert event.detail == {"kind": kind, "name": deletion.name}
    left = {"tag": {A.digest, B.digest}, "manifest": {B.digest}}.get(kind, set())
    assert set(Manifest.objects.values_list("digest", flat=True)) == left
    assert Tag.objects.count() == {"tag": 2, "manifest": 1}.get(kind, 0)
    assert StoredImage.objects.exists() == (kind in {"tag", "manifest"})
    assert Repository.objects.filter(name="web").exists() == (kind != "repository")
    with pytest.raises(errors.RecoveryGone):
        trash.purge_now(world.owner.actor, deletion)


def test_purged_repository_takes_its_unfinished_uploads(docker, world, storage_folder):
    member = docker("member")
    location = member.start("web/app").headers["Location"]
    member.patch(location, 202, body=b"half of it", headers={"Content-Type": media_types.BLOB})
    member.push("web/app", "1.0", A)
    deletion = trash.delete_repository(world.owner.actor, world.repository("web"))
    trash.purge_now(world.owner.actor, deletion)
    assert not Deletion.objects.exists()
    assert not UploadSession.objects.exists()
    assert list((storage_folder / "staging").iterdir()) == []
    later.leases_end()
    assert collector.collect(world.projects["demo"].pk, timezone.now()) is not None
    later.trash_is_due()
    garbage.reap()
    assert list((storage_folder / "blobs").glob("*/*")) == []


def test_children_of_a_recoverable_index_are_not_purged_before_it(member, world, act, restore):
    member.push("web/app", A.digest, A)
    index = index_of(A.manifest.descriptor())
    member.push_manifest("web/app", "multi", index, media_types.OCI_INDEX)
    of_index = act(sha256(index))
    member.push("web/app", A.digest, A)
    of_part = act(A.digest)
    with pytest.raises(errors.Denied, match="an index in Recovery"):
        trash.purge_now(world.owner.actor, of_part)
    assert not Event.objects.filter(action=Event.Action.DELETION_PURGE).exists()
    later.recovery_ends(Deletion.objects.filter(pk=of_part.pk))
    assert trash.purge() == 0  # postponed
    restore(of_index)
    assert member.pull("web/app", A.digest)[0] == A.manifest


# ── Purge ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def files(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in (folder / "blobs").glob("*/*")}


def collect_everything(world) -> None:
    for project in (world.projects["demo"].pk, None):
        while collector.collect(project, timezone.now()):
            pass


def test_shared_layer_is_deleted_with_its_last_owner(docker, world, act, storage_folder):
    member = docker("member")
    member.push("web/app", "1.0", A)
    member.push("public/app", "1.0", B)
    later.uploads_end()
    uploads.sweep()
    shared = Blob.objects.get(digest=sha256(b"a shared layer"))
    only_a = Blob.objects.get(digest=sha256(A.layers[0]))

    act(A.digest)
    later.recovery_ends()
    assert trash.purge() == 1
    later.leases_end()
    collect_everything(world)
    assert not Blob.objects.filter(pk=only_a.pk).exists()
    assert docker("reader").pull("public/app", "1.0")[0] == B.manifest
    assert only_a.storage_key in files(storage_folder)  # a client may still read it
    later.trash_is_due()
    garbage.reap()
    assert only_a.storage_key not in files(storage_folder)
    assert shared.storage_key in files(storage_folder)

    act(B.digest, name=ImageName("demo", "public", "app"))
    collect_everything(world)
    later.leases_end()
    collect_everything(world)
    assert Blob.objects.filter(pk=shared.pk).exists()  # recoverable content keeps its bytes
    later.recovery_ends()
    assert trash.purge() == 1
    collect_everything(world)
    assert not Blob.objects.filter(pk=shared.pk).exists()
    later.trash_is_due()
    garbage.reap()
    assert files(storage_folder) == set()


def test_purge_of_an_image_ends_earlier_deletions_and_keeps_shared_blobs(member, world, act, delete_image):
    """Purging an image ends all deletions in it. Deletions elsewhere stay."""
    member.push("web/app", "1.0", A)
    member.push("web/app", "2.0", B)
    member.push("web/other", "1.0", B)
    act("1.0"), act(A.digest)
    elsewhere = act("1.0", name=ImageName("demo", "web", "other"))
    trash.purge_now(world.owner.actor, delete_image())
    assert list(Deletion.objects.all()) == [elsewhere]
    assert list(StoredImage.objects.values_list("path", flat=True)) == ["demo/web/other"]
    assert set(ManifestBlob.objects.values_list("blob__digest", flat=True)) == {
        *map(sha256, B.layers),
        sha256(B.config),
    }


class Killed(BaseException):
    """Ends a process between two transactions."""


def test_killed_purge_is_continued(docker, world, restore, monkeypatch):
    monkeypatch.setattr(purging, "IMAGES", 2)
    monkeypatch.setattr(purging, "ROWS", 2)
    member = docker("member")
    for number in range(5):
        member.push(f"web/image{number}", "1.0", A)
        member.push(f"web/image{number}", "2.0", B)
        member.push(f"web/image{number}", C.digest, C)
    deletion = trash.delete_repository(world.owner.actor, world.repository("web"))
    later.recovery_ends()

    def die(name: str) -> None:
        if name == "purge.piece":
            raise Killed

    left = []
    with monkeypatch.context() as patched:
        patched.setattr(purging, "failpoint", die)
        for _ in range(2):
            with pytest.raises(Killed):
                trash.purge()
            left.append(StoredImage.objects.count())
    assert left == [3, 1]
    before = everything()
    with pytest.raises(errors.RecoveryGone, match="is being deleted for good at this moment"):
        restore(deletion)
    with pytest.raises(errors.RecoveryGone):
        trash.hold(world.owner.actor, deletion, on=True)
    assert everything() == before
    assert list(trash.listed(world.projects["demo"])) == []
    deletion.refresh_from_db()
    assert deletion.is_purging

    assert trash.purge() == 1
    assert not any(model.objects.exists() for model in (StoredImage, Manifest, Tag, Deletion))
    assert BlobReview.objects.filter(review_after__lte=timezone.now()).count() == Blob.objects.count()


def test_failing_purge_does_not_block_other_purges(member, act, monkeypatch, caplog):
    member.push("web/app", "1.0", A)
    member.push("web/app", "2.0", B)
    first = act(A.digest)
    act(B.digest)
    later.recovery_ends()
    original = purging._purge_piece

    def fail(deletion_id: int) -> bool | None:
        if deletion_id == first.pk:
            raise errors.Unavailable
        return original(deletion_id)

    monkeypatch.setattr(purging, "_purge_piece", fail)
    assert trash.purge() == 1
    assert list(Deletion.objects.all()) == [first]
    assert str(first.pk) in caplog.text


@pytest.mark.parametrize("kind", ["tag", "manifest", "image", "repository"])
def test_deletion_works_without_its_event(docker, world, act, delete_image, restore, settings, kind):
    """The deletion is listed, held, restored and purged after the audit log was pruned."""
    member = docker("member")
    many = [Image(layers=[f"layer {number}".encode()]) for number in range(5)]
    for number, image in enumerate(many):
        member.push("web/app", f"1.{number}", image)
    before = meaning()

    def delete() -> Deletion:
        return {
            "tag": lambda: act(*before),
            "manifest": lambda: act(*before.values()),
            "image": delete_image,
            "repository": lambda: trash.delete_repository(world.owner.actor, world.repository("web")),
        }[kind]()

    deletion = delete()
    Event.objects.update(at=F("at") - timedelta(days=5))
    settings.HISTORY_DAYS = 1
    audit.prune()
    assert not Event.objects.exists()

    (listed,) = trash.listed(world.projects["demo"])
    assert (listed.actor, listed.event) == (world.owner.user.email, None)
    trash.hold(world.owner.actor, deletion, on=True)
    assert restore(deletion).tags == 5
    assert meaning() == before
    recovered = Event.objects.filter(action=Event.Action.IMAGE_RECOVER, digest__in=before.values())
    assert recovered.count() == (5 if kind == "manifest" else 0)

    deletion = delete()
    Event.objects.all().delete()
    trash.purge_now(world.owner.actor, deletion)
    assert Manifest.objects.count() == (5 if kind == "tag" else 0)
    assert not Deletion.objects.exists()


def test_deletion_stores_its_requested_and_deleted_objects(member, act, delete_image, world):
    for number in range(15):
        member.push("web/app", f"tag{number:02}", A)
    member.push("web/app", "other", B)
    web = world.repository("web")
    app = StoredImage.objects.get(path=PATH)
    names = [f"tag{number:02}" for number in range(1, 13)]
    assert trash.consequences(app, [A.digest]).tags == [f"tag{number:02}" for number in range(15)]

    deletion = act("tag00", "tag14", "tag00")
    assert (deletion.requested, deletion.name) == (["tag00", "tag14"], "tag00, tag14")
    assert deletion.summary == {"tags": 0, "tag_names": []}
    deletion = act(A.digest, "other")
    assert (deletion.requested, deletion.summary) == ([A.digest, "other"], {"tags": 13, "tag_names": names})
    assert (deletion.project, deletion.repository, deletion.image) == (web.project, web, app)
    member.push("web/app", "1.0", C)
    deletion = delete_image()
    assert (deletion.requested, deletion.summary) == ([], {"tags": 1, "tag_names": ["1.0"]})
    assert (deletion.repository, deletion.image) == (web, app)
    member.push("web/app", "1.0", C)
    deletion = trash.delete_repository(world.owner.actor, web)
    assert (deletion.requested, deletion.summary) == ([], {"images": 1, "tags": 1})
    assert (deletion.repository, deletion.image) == (web, None)


def test_name_of_a_deletion_is_cut_and_its_requested_objects_are_not(member, world, act, restore):
    """Only the sixth digest is live again, and the name has no room for it."""
    many = [Image(layers=[f"layer {number}".encode()]) for number in range(6)]

    def push() -> None:
        for image in many:
            member.push("web/app", image.digest, image)

    push()
    deletion = act(*(image.digest for image in many))
    assert (len(deletion.name), many[5].digest in deletion.name) == (255, False)
    push()
    trash.purge_now(world.owner.actor, act(*(image.digest for image in many[:5])))
    assert restore(deletion).deletions == [deletion]


# ── Contents deleted with a digest ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("graph", "roots", "going"),
    [
        ({}, {1}, {1}),
        ({2: {1}}, {1}, {1, 2}),
        ({2: {1, 9}}, {1}, {1}),  # another index references it
        ({2: {1, 3}}, {1, 3}, {1, 2, 3}),
        ({2: {1}, 3: {2}, 4: {3, 2}}, {1}, {1, 2, 3, 4}),
        ({4: {3, 2}, 3: {9}, 2: {1}}, {1}, {1, 2}),
        ({2: set()}, {1}, {1}),  # nothing references it, so it is not deleted along
        ({2: {3}, 3: {2}}, {1}, {1}),
    ],
)
def test_digest_takes_what_only_it_references(graph, roots, going):
    assert closure(graph, roots) == going


manifests_by_number = st.integers(1, 8)
graphs = st.dictionaries(manifests_by_number, st.sets(manifests_by_number, max_size=3), max_size=8)


@given(graph=graphs, roots=st.sets(manifests_by_number, min_size=1, max_size=3))
def test_contents_deleted_with_a_digest_match_the_definition(graph, roots):
    def is_closed(numbers: frozenset[int]) -> bool:
        held_by_them = (each for each, holders in graph.items() if holders and holders <= numbers)
        return roots <= numbers and numbers.issuperset(held_by_them)

    everything_ = sorted(roots | set(graph))
    subsets = [frozenset(some) for size in range(len(everything_) + 1) for some in combinations(everything_, size)]
    assert closure(graph, roots) == frozenset.intersection(*filter(is_closed, subsets))
