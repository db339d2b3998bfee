"""Power cuts after every step of a push: acknowledged bytes survive, and no row names missing bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from registry import errors, uploads
from registry.models import Blob
from registry.storage import blob_storage, filesystem
from tests.support import later
from tests.support.docker_client import SHAPES
from tests.support.images import Image, sha256
from tests.support.power import Disk

DATA = b"a layer of some length" * 50


@pytest.fixture
def disk(storage_folder, monkeypatch):
    """The simulated disk of the storage folder."""
    storage_folder.mkdir()
    with Disk(storage_folder).watching(monkeypatch) as watched:
        yield watched


@pytest.fixture
def member(docker):
    return docker("member")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_push_survives_a_power_cut_after_every_step(disk, member, shape):
    for data in (DATA, b"another", b""):
        member.push_blob("web/app", data, shape)
        disk.answer(sha256(data))
    assert disk.broken == []
    assert {"fsync", "rename", "commit", "201"} <= {step.partition(" ")[0] for step in disk.steps}


def test_image_and_blobs_survive_a_power_cut_after_every_step(disk, member):
    image = Image(layers=[b"first", b"second"])
    member.push("web/app", "1.0", image)
    for data in (image.config, *image.layers):
        disk.answer(sha256(data))
    assert disk.broken == []


def test_push_of_an_existing_blob_survives_a_power_cut(disk, member, docker):
    """The file of the second push goes to the trash."""
    for name in ("web/app", "public/app"):
        member.push_blob(name, DATA)
        disk.answer(sha256(DATA))
    assert disk.broken == []


def test_acknowledged_upload_continues_after_a_power_cut(disk, world):
    actor, repository = world.member.actor, world.repository("web")
    session = uploads.start(actor, repository, "app")
    for piece in (b"first, ", b"second, ", b""):
        session = uploads.append(session, uploads.Piece([piece[:3], piece[3:]]))
    whole = b"first, second, third"
    uploads.finish(actor, repository, "app", str(session.pk), sha256(whole), uploads.Piece([b"third"]))
    disk.answer(sha256(whole))
    assert disk.broken == []


def test_interrupted_request_and_wrong_digest_survive_a_power_cut(disk, world):
    actor, repository = world.member.actor, world.repository("web")
    session = uploads.append(uploads.start(actor, repository, "app"), uploads.Piece([b"what was answered"]))

    def breaks_off():
        yield b"what was not"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        uploads.append(session, uploads.Piece(breaks_off()))
    with pytest.raises(errors.DigestInvalid):
        uploads.finish(actor, repository, "app", str(session.pk), sha256(b"another"), uploads.Piece([]))
    assert disk.broken == []


def test_repair_of_a_lost_file_survives_a_power_cut(disk, member):
    member.push_blob("web/app", DATA)
    disk.answer(sha256(DATA))
    assert disk.broken == []
    Path(blob_storage().path(Blob.objects.get().storage_key)).unlink()
    member.push_blob("web/app", DATA)
    disk.broken.clear()  # before the push the row named the lost file
    disk.answer(sha256(DATA))
    assert disk.broken == []


def test_sweep_of_uploads_survives_a_power_cut(disk, world):
    uploads.append(uploads.start(world.member.actor, world.repository("web"), "app"), uploads.Piece([DATA]))
    later.uploads_end()
    assert uploads.sweep() == 1
    assert disk.broken == []


# ── Controls: the disk detects a missing sync ────────────────────────────────────────────────────────────────────────
def test_missing_sync_of_the_file_is_detected(disk, member, monkeypatch):
    def sync_directories_only(descriptor):
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            synced(descriptor)

    synced = os.fsync
    monkeypatch.setattr(os, "fsync", sync_directories_only)
    member.push_blob("web/app", DATA)
    assert any("has a row and other bytes" in problem for problem in disk.broken)
    assert any("an upload stands at" in problem for problem in disk.broken)


def test_missing_sync_of_the_directories_is_detected(disk, member, monkeypatch):
    monkeypatch.setattr(filesystem, "_sync_directory", lambda directory: None)
    member.push_blob("web/app", DATA)
    assert any("has a row and no file" in problem for problem in disk.broken)


def test_row_before_its_bytes_is_detected(disk, member, monkeypatch):
    monkeypatch.setattr(filesystem._FileWriter, "publish", lambda writer: writer._key)  # the rename is still to come
    member.push_blob("web/app", DATA, "post")
    assert any("has a row and no file" in problem for problem in disk.broken)
