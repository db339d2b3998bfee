"""``copystorage``: blobs move between files and S3, and the registry goes on."""

import io
import json
from contextlib import nullcontext
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from registry import env, garbage, storage_check, storage_copy, uploads
from registry.models import Blob, ObjectTrash, UploadSession
from registry.storage import blob_storage
from tests.support.images import Image, sha256
from tests.support.s3 import BUCKET, Fault

pytestmark = pytest.mark.real

LAYERS = [b"first", b"second", b""]


@pytest.fixture(params=["to-s3", "to-files"])
def way(request, bucket, storage_folder, settings):
    """URLs of the source, which is in use, and of the target."""
    files = storage_folder.as_uri()
    urls = (files, bucket.url()) if request.param == "to-s3" else (bucket.url(), files)
    use(settings, urls[0])
    return urls


def use(settings, url):
    settings.STORAGES = settings.STORAGES | {"blobs": env.storage_at(url)}


def copied(*way, status=0):
    """What one run prints, as JSON and as words."""
    output, words = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) if status else nullcontext() as end:
        call_command("copystorage", *way, stdout=output, stderr=words)
    assert not status or end.value.code == status
    return json.loads(output.getvalue()), words.getvalue()


def counted(numbers):
    return numbers["there"], numbers["copied"], numbers["failed"]


def test_blobs_move_and_everything_works_there(way, docker, settings, bucket):
    member, image = docker("member"), Image(layers=LAYERS)
    member.push("web/app", "1.0", image)
    number = Blob.objects.count()
    numbers, words = copied(*way)
    assert counted(numbers) == (0, number, 0)
    assert "Stop KCR and run this again" in words
    late = member.push_blob("web/app", b"came later")
    assert counted(copied(*way)[0]) == (number, 1, 0)
    numbers, words = copied(*way)
    assert counted(numbers) == (number + 1, 0, 0)
    assert "Nothing was left to copy" in words

    use(settings, way[1])
    member.pull("web/app", "1.0")
    assert member.get(f"web/app/blobs/{late}", 200).body == b"came later"
    UploadSession.objects.update(expires_at=timezone.now())  # they were finished in the other storage
    uploads.sweep()
    assert [found for found in storage_check.verify(full=True) if not isinstance(found, int)] == []
    member.push_blob("web/app", b"pushed afterwards")
    blob = Blob.objects.get(digest=late)
    garbage.collector._take([blob], timezone.now() - timedelta(days=1))
    garbage.reap()
    assert not blob_storage().exists(blob.storage_key)
    assert ObjectTrash.objects.count() == 0
    member.pull("web/app", "1.0")


def test_an_upload_that_is_on_its_way_begins_again_after_the_switch(way, docker, settings):
    member = docker("member")
    location = member.patch(member.start("web/app").headers["Location"], 202, body=b"half").headers["Location"]
    use(settings, way[1])
    member.patch(location, 404, body=b"another half")
    assert member.push_blob("web/app", b"half, another half")


def test_a_run_that_fails_is_continued(way, docker, bucket):
    member = docker("member")
    for number in range(4):
        member.push_blob("web/app", b"%d" % number)
    call = "PutObject" if way[1].startswith("s3") else "GetObject"
    with bucket.proxy.failing(Fault(call, "500", after=2)), pytest.raises(CommandError, match="run this again"):
        copied(*way)
    assert counted(copied(*way)[0]) == (2, 2, 0)


def test_every_batch_is_copied(way, docker, monkeypatch):
    monkeypatch.setattr(storage_copy, "BATCH", 2)
    for number in range(5):
        docker("member").push_blob("web/app", b"%d" % number)
    assert counted(copied(*way)[0]) == (0, 5, 0)


def test_half_a_blob_at_the_target_is_replaced(way, docker, bucket, storage_folder, settings):
    digest = docker("member").push_blob("web/app", b"content")
    copied(*way)
    key = Blob.objects.get(digest=digest).storage_key
    if way[1].startswith("s3"):
        bucket.server.client.put_object(Bucket=BUCKET, Key=f"{bucket.prefix}/{key}", Body=b"con")
    else:
        (storage_folder / key).write_bytes(b"con")
    assert counted(copied(*way)[0]) == (0, 1, 0)
    use(settings, way[1])
    assert docker("member").get(f"web/app/blobs/{digest}", 200).body == b"content"


def test_a_damaged_blob_is_named_and_not_copied(way, docker, bucket, storage_folder, settings, caplog):
    member = docker("member")
    digests = [member.push_blob("web/app", data) for data in (b"good", b"damaged", b"missing")]
    good, damaged, missing = (Blob.objects.get(digest=digest).storage_key for digest in digests)
    if way[0].startswith("s3"):
        bucket.server.client.put_object(Bucket=BUCKET, Key=f"{bucket.prefix}/{damaged}", Body=b"DAMAGED")
        bucket.server.client.delete_object(Bucket=BUCKET, Key=f"{bucket.prefix}/{missing}")
    else:
        (storage_folder / damaged).write_bytes(b"DAMAGED")
        (storage_folder / missing).unlink()
    for there in (0, 1):
        assert counted(copied(*way, status=1)[0]) == (there, 1 - there, 2)
    assert all(digest in caplog.text for digest in digests[1:])
    use(settings, way[1])
    assert list(blob_storage().keys(older_than=timezone.now() + timedelta(minutes=1))) == [good]


def test_a_blob_that_is_deleted_meanwhile_is_no_failure(way, docker, monkeypatch):
    digest = docker("member").push_blob("web/app", b"content")
    verified = storage_copy._verified

    def deleted(source, blob):
        source.delete(blob.storage_key)
        garbage.collector._take([blob], timezone.now())
        return verified(source, blob)

    monkeypatch.setattr(storage_copy, "_verified", deleted)
    assert counted(copied(*way)[0]) == (0, 0, 0)
    assert not Blob.objects.filter(digest=digest).exists()


@pytest.mark.parametrize("wrong", ["/srv/blobs", "s3://B", "http://example.com"])
def test_a_storage_that_cannot_be(wrong, storage_folder):
    for way in ((wrong, storage_folder.as_uri()), (storage_folder.as_uri(), wrong)):
        with pytest.raises(CommandError, match="cannot be used"):
            copied(*way)


def test_the_digest_decides(way, docker):
    """A source with other bytes of the same length."""
    assert sha256(b"content") == docker("member").push_blob("web/app", b"content")
    Blob.objects.update(digest=sha256(b"another"))
    assert counted(copied(*way, status=1)[0]) == (0, 0, 1)
