"""The bytes of an upload to S3 that do not fill a part yet."""

from __future__ import annotations

import errno
from contextlib import closing

import pytest

from registry.storage import Full
from registry.storage.s3 import IN_MEMORY, _Tail


@pytest.fixture
def tail():
    made = _Tail()
    with closing(made.file):
        yield made


def test_few_bytes_wait_in_memory_and_more_in_a_file(tail):
    tail.write(b"x" * IN_MEMORY)
    assert not tail.file._rolled
    tail.write(b"y")
    assert tail.file._rolled
    assert b"".join(tail.blocks()) == b"x" * IN_MEMORY + b"y"


@pytest.mark.parametrize("size", [9, 2 * IN_MEMORY])
def test_shorter_part_has_no_bytes_of_the_longer_one_before(tail, size):
    tail.write(b"x" * size)
    tail.clear()
    tail.write(b"yy")
    assert (tail.size, tail.whole().read()) == (2, b"yy")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_said_to_be_full(tail, monkeypatch, code):
    def fail(_data):
        raise OSError(code, "no room")

    monkeypatch.setattr(tail.file, "write", fail)
    with pytest.raises(Full):
        tail.write(b"x")
    monkeypatch.undo()
    assert tail.size == 0


def test_other_error_of_the_disk_is_not_taken_for_a_full_one(tail, monkeypatch):
    def fail(_data):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(tail.file, "write", fail)
    with pytest.raises(OSError, match="broken"):
        tail.write(b"x")
