"""What a place for blobs must do (registry.storage.contract): the same tests for every kind of place."""

import errno
import os
import shutil
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.exceptions import SuspiciousFileOperation
from django.utils import timezone

from registry.storage import Busy, Full, Missing, Saved, TooLarge, blob_storage, upload_of

LIMIT = 1000
NOTHING = Saved()
SOON = timedelta(minutes=1)


S3 = [pytest.param(name, marks=pytest.mark.real) for name in ("seaweed", "swift")]


@pytest.fixture(params=["files", *S3])
def storage(request, monkeypatch):
    if request.param != "files":
        monkeypatch.setenv("KCR_TEST_S3", request.param)
        request.getfixturevalue("bucket")
    return blob_storage()


@pytest.fixture
def files():
    return blob_storage()


def key_of(upload):
    return f"blobs/{upload.hex[:2]}/{upload}"


def write(storage, upload, data, saved=NOTHING, limit=LIMIT):
    """Append bytes; what is saved, and what was seen."""
    seen = bytearray()
    with storage.writing(upload, key_of(upload)) as writer:
        assert writer.append(saved, [data[:3], data[3:]], limit, seen.extend) == saved.size + len(data)
        return writer.save(), bytes(seen)


def staged(storage, upload, saved):
    """The bytes of an upload, as the last request of it reads them."""
    with storage.writing(upload, key_of(upload)) as writer:
        writer.append(saved, [], LIMIT, len)
        writer.seal()
        return b"".join(writer.read())


def publish(storage, upload, saved):
    """The key of the blob."""
    with storage.writing(upload, key_of(upload)) as writer:
        writer.append(saved, [], LIMIT, len)
        writer.seal()
        return writer.publish()


def stored(storage, data, upload=None):
    """The key of a blob with these bytes."""
    upload = upload or uuid4()
    saved, _ = write(storage, upload, data)
    return publish(storage, upload, saved)


def read(storage, key):
    with storage.open(key) as file:
        return file.read()


def test_appended_bytes_are_stored_and_observed(storage):
    upload = uuid4()
    first, seen = write(storage, upload, b"first, ")
    assert (first.size, seen) == (7, b"first, ")
    second, seen = write(storage, upload, b"second", first)
    assert (second.size, seen) == (13, b"second")
    assert staged(storage, upload, second) == b"first, second"


def test_unacknowledged_bytes_are_dropped(storage):
    upload = uuid4()
    answered, _ = write(storage, upload, b"what was answered")
    with suppress(ConnectionResetError), storage.writing(upload, key_of(upload)) as writer:
        writer.append(answered, [b", and what was not"], LIMIT, len)
        writer.save()
        raise ConnectionResetError
    saved, _ = write(storage, upload, b"!", answered)
    assert saved.size == 18
    assert read(storage, publish(storage, upload, saved)) == b"what was answered!"


def test_append_beyond_the_stored_bytes_is_refused(storage):
    upload = uuid4()
    saved, _ = write(storage, upload, b"1234")
    with pytest.raises(Missing):
        write(storage, upload, b"x", saved._replace(size=5))
    with pytest.raises(Missing):
        write(storage, uuid4(), b"x", saved)


def test_exception_in_the_chunks_keeps_the_former_offset(storage):
    upload = uuid4()
    saved, _ = write(storage, upload, b"1234")

    def breaks_off():
        yield b"5678"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError), storage.writing(upload, key_of(upload)) as writer:
        writer.append(saved, breaks_off(), LIMIT, len)
    saved, _ = write(storage, upload, b"x", saved)
    assert staged(storage, upload, saved) == b"1234x"


def test_upload_is_cut_at_its_limit(storage):
    upload = uuid4()
    saved, _ = write(storage, upload, b"12345", limit=5)
    with pytest.raises(TooLarge):
        write(storage, upload, b"6", saved, limit=5)
    with pytest.raises(TooLarge):
        write(storage, uuid4(), b"1234567", limit=5)


def test_published_upload_is_a_blob(storage):
    upload = uuid4()
    saved, _ = write(storage, upload, b"content")
    assert list(storage.unfinished(older_than=timezone.now() + SOON)) == [upload]
    assert list(storage.keys(older_than=timezone.now() + SOON)) == []
    key = publish(storage, upload, saved)
    assert key.startswith(key_of(upload))
    assert upload_of(key) == upload
    assert read(storage, key) == b"content"
    assert storage.holds(key, 7)
    assert storage.exists(key)
    assert list(storage.unfinished(older_than=timezone.now() + SOON)) == []
    assert list(storage.keys(older_than=timezone.now() + SOON)) == [key]


def test_publishing_again_changes_nothing(storage):
    upload = uuid4()
    saved, _ = write(storage, upload, b"content")
    with storage.writing(upload, key_of(upload)) as writer:
        writer.append(saved, [b"!"], LIMIT, len)
        assert writer.seal()
        assert b"".join(writer.read()) == b"content!"
        assert writer.seal()
        keys = {writer.publish() for _ in range(2)}
    assert [read(storage, key) for key in keys] == [b"content!"]


def test_empty_blob_is_stored(storage):
    key = stored(storage, b"")
    assert storage.holds(key, 0)
    assert read(storage, key) == b""


def test_blob_exists_only_with_all_its_bytes(storage):
    key, other = stored(storage, b"content"), uuid4()
    assert not storage.holds(key, 6)
    assert not storage.holds(key, 8)
    assert not storage.holds(key_of(other), 0)
    assert not storage.exists(key_of(other))
    with pytest.raises(FileNotFoundError):
        read(storage, key_of(other))


def test_blob_is_read_from_any_position(storage):
    with storage.open(stored(storage, b"content")) as file:
        assert file.read(3) == b"con"
        assert file.read(100) == b"tent"
        assert file.read(100) == b""
        assert (file.seek(5), file.read(), file.read(1)) == (5, b"nt", b"")
        assert (file.seek(0), file.read(2), file.tell()) == (0, b"co", 2)
        assert (file.seek(7), file.read(0)) == (7, b"")


def test_discarded_upload_is_deleted(storage):
    upload = uuid4()
    saved, _ = write(storage, upload, b"content")
    for _ in range(2):
        storage.discard(upload)
    assert list(storage.unfinished(older_than=timezone.now() + SOON)) == []
    with pytest.raises(Missing):
        write(storage, upload, b"x", saved)
    storage.discard(upload)
    assert write(storage, upload, b"x")[0].size == 1


def test_discard_keeps_the_named_blob(storage):
    upload = uuid4()
    key = stored(storage, b"content", upload)
    storage.discard(upload, keep=key)
    assert read(storage, key) == b"content"


@pytest.mark.parametrize("is_published", [True, False])
def test_delete_removes_staged_and_published_bytes(storage, is_published):
    upload = uuid4()
    saved, _ = write(storage, upload, b"content")
    if is_published:
        publish(storage, upload, saved)
    for _ in range(2):
        storage.delete(key_of(upload))
    assert list(storage.keys(older_than=timezone.now() + SOON)) == []
    assert list(storage.unfinished(older_than=timezone.now() + SOON)) == []


def test_delete_removes_one_blob(storage):
    key, other = stored(storage, b"content"), stored(storage, b"another")
    for _ in range(2):
        storage.delete(key)
    assert not storage.exists(key)
    assert list(storage.keys(older_than=timezone.now() + SOON)) == [other]


def test_open_reader_reads_to_the_end_after_a_delete(storage):
    key = stored(storage, b"content")
    with storage.open(key) as file:
        first = file.read(1)
        storage.delete(key)
        assert first + file.read() == b"content"


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_bytes_are_placed_for_programs_that_read_files(storage, tmp_path, monkeypatch, is_elsewhere):
    key, path = stored(storage, b"content"), tmp_path / "placed"
    if is_elsewhere:  # on another file system, which no link reaches

        def refuse(link, target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    storage.place(key, path)
    storage.delete(key)
    assert path.read_bytes() == b"content"
    with pytest.raises(FileNotFoundError):
        storage.place(key, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_old_blobs_are_listed_while_others_are_deleted(storage):
    keys = [stored(storage, b"content") for _ in range(4)]
    assert sorted(storage.keys(older_than=timezone.now() + SOON)) == sorted(keys)
    assert list(storage.keys(older_than=timezone.now() - SOON)) == []
    listing = iter(storage.keys(older_than=timezone.now() + SOON))
    first = next(listing)
    for key in keys:
        storage.delete(key)
    assert {first, *listing} <= set(keys)


def test_adopted_blob_appears_only_when_it_is_whole(storage):
    keys = [key_of(uuid4()), f"{key_of(uuid4())}/name"]  # as files and as objects

    def breaks_off():
        yield b"12345678" * 2**20
        raise ConnectionResetError

    for key in keys:
        with pytest.raises(ConnectionResetError):
            storage.adopt(key, breaks_off())
        assert list(storage.unfinished(older_than=timezone.now() + SOON)) == []
        assert not storage.exists(key)
        for data in (b"", b"content"):
            storage.adopt(key, [data])
        assert read(storage, key) == b"content"
    assert sorted(storage.keys(older_than=timezone.now() + SOON)) == sorted(keys)
    for key in keys:
        storage.delete(key)
    assert list(storage.keys(older_than=timezone.now() + SOON)) == []


def test_storage_is_ready(storage):
    storage.check()
    storage.check_room(1)


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_nearly_full_disk_refuses_new_uploads(files, monkeypatch):
    files.check_room()
    nearly = os.statvfs_result((4096, 4096, 10**9, 10**6, 10**4, 1, 1, 1, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: nearly)
    with pytest.raises(Full):
        files.check_room()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_reported_and_loses_nothing(files, monkeypatch, code):
    upload = uuid4()
    saved, _ = write(files, upload, b"1234")

    written = os.write

    def fails(descriptor, data):
        if written(descriptor, data[:1]):
            raise OSError(code, os.strerror(code))

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", fails)
        with pytest.raises(Full):
            write(files, upload, b"56", saved)
    assert files.size(f"staging/{upload}") == 4, "what did not fit is gone at once"
    saved, _ = write(files, upload, b"5", saved)
    assert staged(files, upload, saved) == b"12345"


def test_second_writer_of_an_upload_is_refused_without_waiting(files):
    first, second = uuid4(), uuid4()
    with files.writing(first, key_of(first)):
        with pytest.raises(Busy), files.writing(first, key_of(first)):
            pass
        assert write(files, second, b"x")[0].size == 1
    assert write(files, first, b"x")[0].size == 1


def test_writer_keeps_its_lock_after_publishing(files, storage_folder):
    """A request that is sent again waits for the first one to commit: the bytes are not gone, they have another name."""
    upload = uuid4()
    saved, _ = write(files, upload, b"content")
    with files.writing(upload, key_of(upload)) as writer:
        writer.append(saved, [], LIMIT, len)
        assert writer.publish() == key_of(upload)
        with pytest.raises(Busy), files.writing(upload, key_of(upload)):
            pass
        assert list((storage_folder / "staging").iterdir()) == []
    with pytest.raises(Missing):
        write(files, upload, b"more", saved)


@pytest.mark.parametrize("change", [b"", b"conten", b"content!"])
def test_only_verified_bytes_are_published(files, storage_folder, change):
    upload = uuid4()
    saved, _ = write(files, upload, b"content")
    with files.writing(upload, key_of(upload)) as writer:
        writer.append(saved, [], LIMIT, len)
        (storage_folder / "staging" / str(upload)).write_bytes(change)
        with pytest.raises(Missing):
            writer.publish()
    assert not files.exists(key_of(upload))


def test_files_are_private_and_links_are_not_followed(files, storage_folder, tmp_path):
    upload, other = uuid4(), uuid4()
    stored(files, b"content", upload)
    file = storage_folder / key_of(upload)
    assert file.stat().st_mode & 0o077 == 0
    assert {folder.stat().st_mode & 0o077 for folder in (storage_folder, file.parent)} == {0}
    victim = tmp_path / "victim"
    victim.write_bytes(b"somebody else's")
    (storage_folder / "staging" / str(other)).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        write(files, other, b"x")
    assert victim.read_bytes() == b"somebody else's"


@pytest.mark.parametrize("key", ["../outside", "{folder}/outside", "blobs/../../outside"])
def test_keys_cannot_point_outside_the_storage(storage, storage_folder, key, tmp_path):
    """The keys lead to a file of this test only: with a defect in the storage, publish and delete would change it."""
    upload, key = uuid4(), key.format(folder=storage_folder.parent)
    saved, _ = write(storage, upload, b"x")
    before = sorted(tmp_path.rglob("*"))

    def published():
        with storage.writing(upload, key) as writer:
            writer.append(saved, [], LIMIT, len)
            writer.seal()
            writer.publish()

    acts = (
        lambda: read(storage, key),
        lambda: storage.exists(key),
        lambda: storage.delete(key),
        lambda: storage.holds(key, 1),
        lambda: storage.place(key, tmp_path / "placed"),
        published,
    )
    for act in acts:
        with pytest.raises(SuspiciousFileOperation):
            act()
    assert sorted(tmp_path.rglob("*")) == before
    assert staged(storage, upload, saved) == b"x"


def test_acknowledged_bytes_survive_a_power_cut(files, storage_folder, monkeypatch):
    """Bytes are synced before the offset is answered; the renamed file's folder before the blob is."""
    steps = []

    def synced(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append(("sync", os.path.relpath(path, storage_folder)))
        return sync(descriptor)

    def renamed(self, target):
        steps.append(("rename", str(Path(target).relative_to(storage_folder))))
        return rename(self, target)

    sync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    upload = uuid4()
    saved, _ = write(files, upload, b"the bytes of a layer")
    assert ("sync", f"staging/{upload}") in steps
    assert {("sync", "blobs"), ("sync", ".")} <= set(steps), "new folders are made durable in their parents"
    assert len(list((storage_folder / "blobs").iterdir())) == 256
    steps.clear()
    publish(files, upload, saved)
    assert steps == [("rename", key_of(upload)), ("sync", f"blobs/{upload.hex[:2]}")]


def test_folders_that_are_gone_or_that_another_process_made_are_made_durable(files, storage_folder, monkeypatch):
    stored(files, b"by a process that may not have synced the folders yet")
    synced, sync = [], os.fsync

    def noting(descriptor):
        synced.append(os.path.relpath(Path(f"/proc/self/fd/{descriptor}").readlink(), storage_folder))
        return sync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    another = type(files)(location=storage_folder)
    another.check_room()
    assert synced == ["blobs", "."]
    another.check_room()
    assert synced == ["blobs", "."]
    shutil.rmtree(storage_folder)
    upload = uuid4()
    assert read(another, stored(another, b"content", upload)) == b"content"
