"""Events, tag intervals and deletions of pushes and deletes."""

import pytest

from registry.models import Deletion, Event, Manifest, Tag
from tests.support.docker_client import DockerClient
from tests.support.images import OCI_INDEX, Blob, Image, index_of, sha256

pytestmark = pytest.mark.django_db


def actions() -> list[str]:
    """Return the actions since the world was created, in order."""
    setup = {Event.Action.REPOSITORY_CREATE, Event.Action.ROLE_CHANGE}
    return list(Event.objects.exclude(action__in=setup).order_by("pk").values_list("action", flat=True))


def test_every_push_records_actor_action_and_address(docker, world):
    image = docker("pusher").push("web/app", "1.0")
    push, add = Event.objects.filter(path="demo/web/app").order_by("pk")
    assert (push.action, push.digest, push.actor) == ("image.push", image.digest, "pusher@acme.test")
    assert (add.action, add.tag, add.digest) == ("tag.add", "1.0", image.digest)
    assert (add.user, add.key, add.address) == (world.pusher.user, world.pusher.key, "10.0.0.1")
    assert add.repository == world.repository("web")


def test_repeated_push_is_recorded_and_changes_nothing(docker):
    docker("member").push("web/app", "1.0")
    before = actions()
    docker("member").push("web/app", "1.0")
    assert actions() == [*before, "tag.push"]
    assert Tag.objects.count() == 1


def test_moving_a_tag_closes_one_interval_and_opens_another(docker):
    old = docker("member").push("web/app", "stable")
    new = docker("member").push("web/app", "stable", Image(layers=[b"newer"]))
    first, second = Tag.objects.order_by("pk")
    assert (first.manifest.digest, second.manifest.digest) == (old.digest, new.digest)
    assert first.ended_at == second.started_at
    assert first.closed_by == second.opened_by
    assert second.ended_at is None
    assert second.opened_by.action == "tag.move"
    assert second.opened_by.detail == {"before": old.digest, "media_type": new.media_type}


def test_refused_push_writes_no_event(docker):
    docker("member").push("fixed/app", "1.0")
    before, manifests = actions(), Manifest.objects.count()
    other = Image(layers=[b"other"])
    for data in (other.config, *other.layers):
        docker("member").push_blob("fixed/app", data)
    answer = docker("member").push_manifest("fixed/app", "1.0", other.manifest, expect=403)
    assert answer.codes == ["DENIED"]
    assert "overwrit" in answer.message
    assert actions() == before
    assert Manifest.objects.count() == manifests


def test_deleting_a_tag_keeps_its_digest(docker):
    image = docker("member").push("web/app", "1.0")
    docker("member").push_manifest("web/app", "latest", image.manifest)
    docker("member").delete("web/app/manifests/1.0", 202)
    assert docker("viewer").tags("web/app") == ["latest"]
    docker("viewer").pull("web/app", image.digest)
    deletion = Deletion.objects.get()
    assert (deletion.kind, deletion.path, deletion.name) == ("tag", "demo/web/app", "1.0")
    assert [tag.name for tag in deletion.tags.all()] == ["1.0"]
    assert deletion.purge_after > deletion.at


def test_deleting_a_digest_deletes_its_tags_children_and_signatures_together(docker):
    member = docker("member")
    child = member.push("web/app", "child")
    entry = {"mediaType": child.media_type, "digest": child.digest, "size": len(child.manifest)}
    index = (
        '{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}'.format(OCI_INDEX, str(entry).replace("'", '"'))
    ).encode()
    member.push_manifest("web/app", "1.0", index, OCI_INDEX)
    member.push_manifest("web/app", "latest", index, OCI_INDEX)
    member.delete("web/app/manifests/child", 202)  # deletes the tag only: now only the index references the child
    subject = {"mediaType": OCI_INDEX, "digest": sha256(index), "size": len(index)}
    signature = member.push("web/app", Image(more={"subject": subject}).digest, Image(more={"subject": subject}))
    member.delete(f"web/app/manifests/{sha256(index)}", 202)

    deletion = Deletion.objects.get(kind="manifest")
    assert {manifest.digest for manifest in deletion.manifests.all()} == {
        sha256(index),
        child.digest,
        signature.digest,
    }
    assert sorted(tag.name for tag in deletion.tags.all()) == ["1.0", "latest"]
    assert deletion.event.detail == {"tags": ["1.0", "latest"]}
    for digest in (sha256(index), child.digest, signature.digest):
        member.get(f"web/app/manifests/{digest}", 404)
    assert member.get(f"web/app/referrers/{sha256(index)}", 200).json()["manifests"] == []


def test_child_of_another_index_or_with_a_tag_stays(docker):
    member = docker("member")
    child = member.push("web/app", "child")
    index = index_of(child.manifest.descriptor())
    member.push_manifest("web/app", "1.0", index, OCI_INDEX)
    member.delete(f"web/app/manifests/{sha256(index)}", 202)
    member.pull("web/app", "child")


def test_push_of_a_deleted_digest_revives_it(docker):
    image = docker("member").push("web/app", "1.0")
    docker("member").delete(f"web/app/manifests/{image.digest}", 202)
    docker("member").push("web/app", "2.0", image)
    assert docker("viewer").tags("web/app") == ["2.0"]
    docker("viewer").pull("web/app", image.digest)


def push_signature_in_index(member: DockerClient) -> tuple[Image, Image, Blob]:
    """Push an image, its signature, and an index with the signature as its child. Return the three."""
    signed = member.push("web/app", "signed", Image(layers=[b"signed"]))
    signature = Image(more={"subject": signed.manifest.descriptor()})
    member.push("web/app", signature.digest, signature)
    index = index_of(signature.manifest.descriptor())
    member.push_manifest("web/app", "index", index, OCI_INDEX)
    return signed, signature, index


def test_signature_that_is_a_child_of_an_index_stays_with_the_index(docker):
    """Deleting the signed digest must not delete a child of a live index."""
    member = docker("member")
    signed, signature, _ = push_signature_in_index(member)
    member.delete(f"web/app/manifests/{signed.digest}", 202)
    member.get(f"web/app/manifests/{signature.digest}", 200)
    assert [manifest.digest for manifest in Deletion.objects.get().manifests.all()] == [signed.digest]


def test_a_signature_that_is_in_an_index_outlives_the_index(docker):
    """The signed digest is still there."""
    member = docker("member")
    signed, signature, index = push_signature_in_index(member)
    member.delete(f"web/app/manifests/{sha256(index)}", 202)
    member.get(f"web/app/manifests/{signature.digest}", 200)
    member.delete(f"web/app/manifests/{signed.digest}", 202)
    member.get(f"web/app/manifests/{signature.digest}", 404)
