"""Upload sessions: writers, limits, sweeps and full disks."""

import os
from datetime import timedelta

import pytest

from registry import blobs, errors, manifests, trash, uploads
from registry.models import UploadSession
from registry.oci.names import ImageName
from registry.storage import filesystem
from tests.support.images import sha256
from tests.support.personas import make_key


def read(blob):
    with blobs.open_bytes(blob) as file:
        return file.read()


def test_request_that_loaded_the_upload_earlier_does_not_overwrite_it(world):
    actor, repository = world.member.actor, world.repository("web")
    upload = str(uploads.start(actor, repository, "app").pk)
    first, late = (uploads.find(actor, repository, "app", upload) for _ in range(2))
    uploads.append(first, uploads.Piece([b"what was answered"]))
    with pytest.raises(errors.RangeInvalid) as refused:
        uploads.append(late, uploads.Piece([b"what came too late"]))
    assert refused.value.detail == {"offset": 17}
    blob = uploads.finish(actor, repository, "app", upload, sha256(b"what was answered"), uploads.Piece([]))
    assert read(blob) == b"what was answered"


def test_concurrent_write_to_an_upload_is_refused(world):
    actor, repository = world.member.actor, world.repository("web")
    upload = str(uploads.start(actor, repository, "app").pk)

    def slowly():
        yield b"first half, "
        with pytest.raises(errors.RangeInvalid):
            uploads.append(uploads.find(actor, repository, "app", upload), uploads.Piece([b"somebody else"]))
        with pytest.raises(errors.RangeInvalid):
            uploads.finish(actor, repository, "app", upload, sha256(b"x"), uploads.Piece([b"x"]))
        yield b"second half"

    session = uploads.append(uploads.find(actor, repository, "app", upload), uploads.Piece(slowly()))
    assert session.offset == len(b"first half, second half")
    blob = uploads.finish(actor, repository, "app", upload, sha256(b"first half, second half"), uploads.Piece([]))
    assert read(blob) == b"first half, second half"


def test_sweep_ends_only_overdue_uploads(world, storage_folder):
    actor, repository = world.member.actor, world.repository("web")
    old, young = (uploads.start(actor, repository, "app") for _ in range(2))
    for session in (old, young):
        uploads.append(session, uploads.Piece([b"bytes"]))
    old.expires_at = old.created_at
    old.save(update_fields=["expires_at"])
    assert uploads.sweep() == 1
    assert [path.name for path in (storage_folder / "staging").iterdir()] == [str(young.pk)]
    with pytest.raises(errors.BlobUploadUnknown):
        uploads.find(actor, repository, "app", str(old.pk))


def test_no_upload_starts_in_a_concurrently_deleted_repository(world):
    repository = world.repository("web")
    trash.delete_repository(world.owner.actor, repository)
    with pytest.raises(errors.NameUnknown):
        uploads.start(world.member.actor, repository, "app")


# ── Limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(uploads, "OPEN_SESSIONS", 3)


def idle(*sessions, hours=2):
    for session in sessions:
        session.expires_at -= timedelta(hours=hours)
        session.save(update_fields=["expires_at"])


def test_key_at_the_limit_starts_no_upload_until_one_ends(world, few):
    actor, repository = world.member.actor, world.repository("web")
    opened = [uploads.start(actor, repository, "app") for _ in range(3)]
    with pytest.raises(errors.TooManyRequests, match="end them in your profile"):
        uploads.start(actor, repository, "app")
    uploads.start(world.pusher.actor, repository, "app")  # the limit is per key
    uploads.finish(actor, repository, "app", str(opened[0].pk), sha256(b""), uploads.Piece([]))
    uploads.start(actor, repository, "app")


def test_user_at_the_limit_starts_no_upload_with_another_key(world, monkeypatch):
    monkeypatch.setattr(uploads, "OPEN_SESSIONS_OF_USER", 3)
    actor, repository = world.member.actor, world.repository("web")
    opened = [uploads.start(actor, repository, "app") for _ in range(3)]
    another = make_key(world.member.user, "another").actor
    with pytest.raises(errors.TooManyRequests, match="3 of your uploads"):
        uploads.start(another, repository, "app")
    idle(opened[1])
    uploads.start(another, repository, "app")
    assert not UploadSession.objects.filter(pk=opened[1].pk).exists()


def test_key_at_the_limit_ends_no_upload_of_another_key(world, few):
    actor, repository = world.member.actor, world.repository("web")
    another = make_key(world.member.user, "another").actor
    of_another = uploads.start(another, repository, "app")
    idle(of_another)
    opened = [uploads.start(actor, repository, "app") for _ in range(3)]
    with pytest.raises(errors.TooManyRequests):
        uploads.start(actor, repository, "app")
    idle(opened[0])
    uploads.start(actor, repository, "app")
    assert set(UploadSession.objects.filter(key=another.key_id).values_list("pk", flat=True)) == {of_another.pk}


def test_longest_idle_upload_is_ended_and_its_bytes_deleted(world, few, storage_folder):
    actor, repository = world.member.actor, world.repository("web")
    opened = [uploads.start(actor, repository, "app") for _ in range(3)]
    for session in opened:
        uploads.append(session, uploads.Piece([b"bytes"]))
        session.refresh_from_db()
    idle(opened[0], hours=2)
    idle(opened[1], hours=3)
    new = uploads.start(actor, repository, "app")
    left = set(UploadSession.objects.values_list("pk", flat=True))
    assert left == {opened[0].pk, opened[2].pk, new.pk}
    assert {path.name for path in (storage_folder / "staging").iterdir()} == {str(opened[0].pk), str(opened[2].pk)}


def test_upload_is_not_idle_during_a_long_request(world, few):
    actor, repository = world.member.actor, world.repository("web")
    slow, *others = [uploads.start(actor, repository, "app") for _ in range(3)]
    idle(slow, hours=3)

    def body():
        yield b"first half, "
        with pytest.raises(errors.TooManyRequests):
            uploads.start(actor, repository, "app")
        yield b"second half"

    session = uploads.append(uploads.find(actor, repository, "app", str(slow.pk)), uploads.Piece(body()))
    assert session.offset == len(b"first half, second half")
    idle(others[0])
    uploads.start(actor, repository, "app")
    assert not UploadSession.objects.filter(pk=others[0].pk).exists()


def test_users_end_only_their_own_uploads(world, storage_folder):
    session = uploads.start(world.member.actor, world.repository("web"), "app")
    uploads.append(session, uploads.Piece([b"bytes"]))
    assert not uploads.end(world.pusher.user.pk, session.pk)
    assert uploads.end(world.member.user.pk, session.pk)
    assert not uploads.end(world.member.user.pk, session.pk)
    assert list((storage_folder / "staging").iterdir()) == []


# ── A full disk ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_upload_into_the_reserve_is_cut_and_its_bytes_deleted(world, storage_folder, monkeypatch):
    actor, repository = world.member.actor, world.repository("web")
    session = uploads.start(actor, repository, "app")
    uploads.append(session, uploads.Piece([b"what was answered"]))
    free = [50]

    def room(path):
        return os.statvfs_result((4096, 2**20, 10**4, free[0], free[0], 1, 1, 1, 0, 255))

    def body():
        for _ in range(100):
            yield b"x" * 2**20
            free[0] -= 1  # of 2**20 bytes, as a disk does

    monkeypatch.setattr(os, "statvfs", room)
    monkeypatch.setattr(filesystem, "RESERVE_BYTES", 10 * 2**20)
    with pytest.raises(errors.StorageFull):
        uploads.append(session, uploads.Piece(body()))
    assert free[0] == 10
    staged = storage_folder / "staging" / str(session.pk)
    assert staged.read_bytes() == b"what was answered"
    free[0] = 9
    with pytest.raises(errors.StorageFull):
        manifests.push(actor, repository, ImageName("demo", "web", "app"), "1", b"{}", content_type="")
    free[0] = 50
    blob = uploads.finish(actor, repository, "app", str(session.pk), sha256(b"what was answered"), uploads.Piece([]))
    assert read(blob) == b"what was answered"
