"""Upload sessions: writers, limits, sweeps and full disks."""

import hashlib
import os
from collections import OrderedDict
from datetime import timedelta
from uuid import uuid4

import pytest

from registry import blobs, errors, manifests, trash, uploads
from registry.models import UploadSession
from registry.oci import digests
from registry.oci.names import ImageName
from registry.running_hashes import RunningHashes
from registry.storage import filesystem
from tests.support.images import sha256
from tests.support.personas import make_key
from tests.support.threads import Overtaking


def sha512(content):
    return f"sha512:{hashlib.sha512(content).hexdigest()}"


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


@pytest.fixture
def reads(monkeypatch):
    """The numbers of bytes of uploads that are read again at their end."""
    found, read_again = [], uploads._digest_of

    def counted(chunks, algorithm):
        content = b"".join(chunks)
        found.append(len(content))
        return read_again([content], algorithm)

    monkeypatch.setattr(uploads, "_digest_of", counted)
    return found


def push_in_parts(world, parts, digest, meanwhile=lambda part: None):
    actor, repository = world.member.actor, world.repository("web")
    upload = str(uploads.start(actor, repository, "app").pk)
    for part in parts:
        uploads.append(uploads.find(actor, repository, "app", upload), uploads.Piece([part]))
        meanwhile(part)
    return uploads.finish(actor, repository, "app", upload, digest, uploads.Piece([b", end"]))


def test_upload_in_several_requests_to_one_process_is_hashed_once(world, reads):
    content = b"first, second, end"
    assert read(push_in_parts(world, [b"first", b", second"], sha256(content))) == content
    with pytest.raises(errors.DigestInvalid):
        push_in_parts(world, [b"first", b", other"], sha256(content))
    assert reads == []


def test_upload_whose_hash_is_not_here_is_read_again(world, reads, monkeypatch):
    content = b"first, second, end"

    def elsewhere(part):
        monkeypatch.setattr(uploads, "_hashes", RunningHashes(8))

    assert read(push_in_parts(world, [b"first", b", second"], sha256(content), elsewhere)) == content
    with pytest.raises(errors.DigestInvalid):
        push_in_parts(world, [b"first", b", other"], sha256(content), elsewhere)
    assert reads == [len(content), len(b"first, other, end")]


def test_hash_of_other_bytes_than_those_of_the_row_is_not_used(world, reads, monkeypatch):
    """As if another process had written to the upload: the kept hash lacks its bytes."""
    here, content = uploads._hashes, b"first, second, end"
    elsewhere = {b"first": RunningHashes(8), b", second": here}
    blob = push_in_parts(
        world,
        [b"first", b", second"],
        sha256(content),
        lambda part: monkeypatch.setattr(uploads, "_hashes", elsewhere[part]),
    )
    assert read(blob) == content
    assert reads == [len(content)]


def test_cut_request_leaves_the_hash_as_it_was(world, reads):
    actor, repository = world.member.actor, world.repository("web")
    upload = str(uploads.start(actor, repository, "app").pk)

    def cut():
        yield b" cut"
        raise errors.SizeInvalid

    uploads.append(uploads.find(actor, repository, "app", upload), uploads.Piece([b"first"]))
    with pytest.raises(errors.SizeInvalid):
        uploads.append(uploads.find(actor, repository, "app", upload), uploads.Piece(cut()))
    blob = uploads.finish(actor, repository, "app", upload, sha256(b"first, end"), uploads.Piece([b", end"]))
    assert read(blob) == b"first, end"
    assert reads == []


def test_other_algorithm_at_the_end_reads_the_upload_again(world, reads):
    content = b"first, second, end"
    assert read(push_in_parts(world, [b"first", b", second"], sha512(content))) == content
    assert reads == [len(content)]


def test_only_the_newest_hashes_are_kept():
    kept, names = RunningHashes(2), [uuid4() for _ in range(3)]
    for name in names:
        kept.keep(name, digests.new_hash("sha256"))
    of_nothing = sha256(b"")
    assert [kept.of(name, of_nothing) is not None for name in names] == [False, True, True]
    kept.forget(names[1])
    assert kept.of(names[1], of_nothing) is None


def test_hash_of_an_upload_that_ends_while_it_is_kept_is_forgotten():
    overtaking, kept, upload = Overtaking(), RunningHashes(2), uuid4()

    class Hashes(OrderedDict):
        def __setitem__(self, *item):
            super().__setitem__(*item)
            overtaking.pause()

    kept._lock, kept._hashes = overtaking, Hashes()
    overtaking.run(lambda: kept.keep(upload, digests.new_hash("sha256")), lambda: kept.forget(upload))
    assert kept.of(upload, sha256(b"")) is None


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
