"""The contract of storages (registry.storage.contract), tested for every kind of storage."""

import errno
import os
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.exceptions import SuspiciousFileOperation
from django.utils import timezone

from registry.storage import Busy, Full, Missing, TooLarge, blob_storage

LIMIT = 1000
SOON = timedelta(minutes=1)


@pytest.fixture
def storage():
    """A storage of each kind."""
    return blob_storage()


def write(storage, upload, data, offset=0, limit=LIMIT):
    """Append in chunks of three bytes. Return the offset and the observed bytes."""
    seen = []
    chunks = (data[start : start + 3] for start in range(0, len(data), 3))
    with storage.writing(upload) as append:
        return append(offset, chunks, limit, seen.append), b"".join(seen)


def staged(storage, upload, offset):
    return b"".join(storage.staged(upload, offset))


def key_of(upload):
    return f"blobs/{upload.hex[:2]}/{upload}"


def read(storage, key):
    with storage.open(key) as file:
        return file.read()


def test_appended_bytes_are_stored_and_observed(storage):
    upload = uuid4()
    assert write(storage, upload, b"first, ") == (7, b"first, ")
    assert write(storage, upload, b"second", offset=7) == (13, b"second")
    assert staged(storage, upload, 13) == b"first, second"
    assert staged(storage, upload, 5) == b"first"


def test_bytes_behind_the_offset_are_dropped(storage):
    upload = uuid4()
    write(storage, upload, b"what was answered, and what was not")
    assert write(storage, upload, b"!", offset=17) == (18, b"!")
    assert staged(storage, upload, 18) == b"what was answered!"
    storage.publish(upload, 18, key_of(upload))
    assert read(storage, key_of(upload)) == b"what was answered!"


def test_append_beyond_the_stored_bytes_is_refused(storage):
    upload = uuid4()
    write(storage, upload, b"1234")
    with pytest.raises(Missing):
        write(storage, upload, b"x", offset=5)
    for offset in (5, 1000):
        with pytest.raises(Missing):
            staged(storage, upload, offset)
    with pytest.raises(Missing):
        staged(storage, uuid4(), 1)


def test_exception_in_the_chunks_keeps_the_former_offset(storage):
    upload = uuid4()
    write(storage, upload, b"1234")

    def breaks_off():
        yield b"5678"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError), storage.writing(upload) as append:
        append(4, breaks_off(), LIMIT, len)
    assert write(storage, upload, b"x", offset=4) == (5, b"x")
    assert staged(storage, upload, 5) == b"1234x"


def test_upload_is_cut_at_its_limit(storage):
    upload = uuid4()
    assert write(storage, upload, b"12345", limit=5) == (5, b"12345")
    with pytest.raises(TooLarge):
        write(storage, upload, b"6", offset=5, limit=5)
    with pytest.raises(TooLarge):
        write(storage, uuid4(), b"1234567", limit=5)


def test_second_writer_of_an_upload_is_refused_without_waiting(storage):
    first, second = uuid4(), uuid4()
    with storage.writing(first):
        with pytest.raises(Busy), storage.writing(first):
            pass
        assert write(storage, second, b"x") == (1, b"x")
    assert write(storage, first, b"x") == (1, b"x")


def test_published_upload_is_a_blob(storage):
    upload = uuid4()
    write(storage, upload, b"content")
    assert not storage.exists(key_of(upload))
    storage.publish(upload, 7, key_of(upload))
    assert read(storage, key_of(upload)) == b"content"
    assert storage.holds(key_of(upload), 7)
    assert storage.exists(key_of(upload))
    with pytest.raises(Missing):
        staged(storage, upload, 7)


def test_publishing_again_after_a_crash_changes_nothing(storage):
    upload = uuid4()
    write(storage, upload, b"content")
    for _ in range(2):
        storage.publish(upload, 7, key_of(upload))
    assert read(storage, key_of(upload)) == b"content"


@pytest.mark.parametrize("key", ["../outside", "blobs/../../outside", "{folder}/outside"])
def test_publish_never_writes_outside_the_storage(storage, storage_folder, tmp_path, key):
    upload = uuid4()
    write(storage, upload, b"content")
    with pytest.raises(SuspiciousFileOperation):
        storage.publish(upload, 7, key.format(folder=tmp_path))
    assert staged(storage, upload, 7) == b"content"
    assert list(tmp_path.iterdir()) == [storage_folder]


@pytest.mark.parametrize("offset", [0, 6, 8])
def test_only_verified_bytes_are_published(storage, offset):
    upload = uuid4()
    write(storage, upload, b"content")
    with pytest.raises(Missing):
        storage.publish(upload, offset, key_of(upload))
    with pytest.raises(Missing):
        storage.publish(uuid4(), 7, key_of(uuid4()))
    assert not storage.exists(key_of(upload))


def test_empty_blob_is_stored(storage):
    upload = uuid4()
    assert write(storage, upload, b"") == (0, b"")
    storage.publish(upload, 0, key_of(upload))
    assert storage.holds(key_of(upload), 0)
    assert read(storage, key_of(upload)) == b""


def test_blob_exists_only_with_all_its_bytes(storage):
    upload = uuid4()
    write(storage, upload, b"content")
    storage.publish(upload, 7, key_of(upload))
    assert not storage.holds(key_of(upload), 6)
    assert not storage.holds(key_of(upload), 8)
    assert not storage.holds(key_of(uuid4()), 0)
    with pytest.raises(FileNotFoundError):
        storage.open(key_of(uuid4()))


def test_discarded_upload_is_deleted(storage):
    upload = uuid4()
    write(storage, upload, b"content")
    for _ in range(2):
        storage.discard(upload)
    with pytest.raises(Missing):
        staged(storage, upload, 7)
    assert write(storage, upload, b"x") == (1, b"x")


@pytest.mark.parametrize("is_published", [True, False])
def test_delete_removes_staged_and_published_bytes(storage, is_published):
    upload = uuid4()
    write(storage, upload, b"content")
    if is_published:
        storage.publish(upload, 7, key_of(upload))
    for _ in range(2):
        storage.delete(key_of(upload))
    assert not storage.exists(key_of(upload))
    with pytest.raises(Missing):
        staged(storage, upload, 7)


def test_open_reader_reads_to_the_end_after_a_delete(storage):
    upload = uuid4()
    write(storage, upload, b"content")
    storage.publish(upload, 7, key_of(upload))
    with storage.open(key_of(upload)) as file:
        storage.delete(key_of(upload))
        assert file.read() == b"content"


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_bytes_are_placed_for_programs_that_read_files(storage, tmp_path, monkeypatch, is_elsewhere):
    upload, path = uuid4(), tmp_path / "placed"
    write(storage, upload, b"content")
    storage.publish(upload, 7, key_of(upload))
    if is_elsewhere:  # on another file system, where hard links do not work

        def refuse(link, target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    storage.place(key_of(upload), path)
    storage.delete(key_of(upload))
    assert path.read_bytes() == b"content"
    with pytest.raises(FileNotFoundError):
        storage.place(key_of(upload), tmp_path / "other")


def test_old_blobs_are_listed_while_others_are_deleted(storage):
    uploads = [uuid4() for _ in range(4)]
    keys = [f"blobs/00/{upload}" for upload in uploads]
    for upload, key in zip(uploads, keys, strict=True):
        write(storage, upload, b"content")
        storage.publish(upload, 7, key)
    assert sorted(storage.keys(older_than=timezone.now() + SOON)) == sorted(keys)
    assert list(storage.keys(older_than=timezone.now() - SOON)) == []
    listing = storage.keys(older_than=timezone.now() + SOON)
    first = next(listing)
    for key in keys:
        storage.delete(key)
    assert list(listing) == []
    assert first in keys


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_nearly_full_disk_refuses_new_uploads(storage, monkeypatch):
    storage.check_room()
    nearly = os.statvfs_result((4096, 4096, 10**9, 10**6, 10**4, 1, 1, 1, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: nearly)
    with pytest.raises(Full):
        storage.check_room()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_reported_and_loses_nothing(storage, monkeypatch, code):
    upload = uuid4()
    write(storage, upload, b"1234")

    written = os.write

    def fails(descriptor, data):
        if written(descriptor, data[:1]):
            raise OSError(code, os.strerror(code))

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", fails)
        with pytest.raises(Full):
            write(storage, upload, b"56", offset=4)
    assert storage.size(f"staging/{upload}") == 4, "what did not fit is gone at once"
    assert write(storage, upload, b"5", offset=4) == (5, b"5")
    assert staged(storage, upload, 5) == b"12345"


def test_writer_keeps_its_lock_after_publishing(storage, storage_folder):
    """A repeated request waits until the first one commits. The published bytes have another name then."""
    upload = uuid4()
    write(storage, upload, b"content")
    with storage.writing(upload, key_of(upload)):
        storage.publish(upload, 7, key_of(upload))
        with pytest.raises(Busy), storage.writing(upload, key_of(upload)):
            pass
        assert list((storage_folder / "staging").iterdir()) == []
    with storage.writing(upload, key_of(upload)) as append, pytest.raises(Missing):
        append(7, [b"more"], 100, lambda _: None)


def test_files_are_private_and_links_are_not_followed(storage, storage_folder, tmp_path):
    upload, other = uuid4(), uuid4()
    write(storage, upload, b"content")
    storage.publish(upload, 7, key_of(upload))
    file = storage_folder / key_of(upload)
    assert file.stat().st_mode & 0o077 == 0
    assert {folder.stat().st_mode & 0o077 for folder in (storage_folder, file.parent)} == {0}
    victim = tmp_path / "victim"
    victim.write_bytes(b"somebody else's")
    (storage_folder / "staging" / str(other)).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        write(storage, other, b"x")
    assert victim.read_bytes() == b"somebody else's"


@pytest.mark.parametrize("key", ["../outside", "{folder}/outside", "blobs/../../outside"])
def test_keys_cannot_point_outside_the_storage(storage, storage_folder, key, tmp_path):
    """The keys point to a file of this test, which publish and delete would change with a defect."""
    upload, key = uuid4(), key.format(folder=storage_folder.parent)
    write(storage, upload, b"x")
    acts = (
        storage.open,
        storage.exists,
        storage.delete,
        lambda name: storage.holds(name, 1),
        lambda name: storage.publish(upload, 1, name),
        lambda name: storage.place(name, tmp_path / "placed"),
    )
    for act in acts:
        with pytest.raises(SuspiciousFileOperation):
            act(key)
    assert staged(storage, upload, 1) == b"x"


def test_acknowledged_bytes_survive_a_power_cut(storage, storage_folder, monkeypatch):
    """Bytes are synced before the offset is acknowledged, and the folder of the renamed file before the blob is."""
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
    write(storage, upload, b"the bytes of a layer")
    assert ("sync", f"staging/{upload}") in steps
    steps.clear()
    storage.publish(upload, 20, key_of(upload))
    moved = steps.index(("rename", key_of(upload)))
    assert ("sync", f"blobs/{upload.hex[:2]}") in steps[moved:]
    assert ("sync", "blobs") in steps[:moved], "a new folder is made durable in its parent"
