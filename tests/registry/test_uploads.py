"""Writers of one upload, one after the other: what was answered is never overwritten."""

import pytest

from registry import blobs, errors, repositories, uploads
from tests.docker_client import sha256


def read(blob):
    with blobs.open_bytes(blob) as file:
        return file.read()


def test_who_found_the_upload_before_another_wrote_does_not_overwrite_it(world):
    actor, repository = world.member.actor, world.repository("web")
    upload = str(uploads.start(actor, repository, "app").pk)
    first, late = (uploads.find(actor, repository, "app", upload) for _ in range(2))
    uploads.append(first, uploads.Piece([b"what was answered"]))
    with pytest.raises(errors.RangeInvalid) as refused:
        uploads.append(late, uploads.Piece([b"what came too late"]))
    assert refused.value.detail == {"offset": 17}
    blob = uploads.finish(actor, repository, "app", upload, sha256(b"what was answered"), uploads.Piece([]))
    assert read(blob) == b"what was answered"


def test_nobody_writes_while_somebody_writes(world):
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


def test_a_sweep_ends_what_is_overdue_and_nothing_else(world, storage_folder):
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


def test_no_upload_begins_in_a_repository_that_was_deleted_meanwhile(world):
    repository = world.repository("web")
    repositories.delete(world.owner.actor, repository)
    with pytest.raises(errors.NameUnknown):
        uploads.start(world.member.actor, repository, "app")
