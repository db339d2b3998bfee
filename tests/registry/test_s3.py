"""Blobs in S3: pushes, pulls and deletions on SeaweedFS, and what happens when S3 does not do what it is asked."""

import itertools
import json
import os
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from botocore.retries import standard
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from registry import blobs, env, errors, garbage, layouts, storage_check, uploads
from registry.garbage import reaper
from registry.models import Blob, BlobLease, BlobReview, Manifest, ObjectTrash, UploadSession
from registry.storage import Saved, blob_storage, s3, storage_at
from tests.support.docker_client import SHAPES
from tests.support.images import Image, sha256
from tests.support.s3 import BUCKET, HANGS, Fault, SeaweedFS, close_connections

pytestmark = pytest.mark.real

SMALL = b"a layer of some length" * 10
LARGE = os.urandom(12 * s3.MEBIBYTE)


@pytest.fixture(autouse=True)
def quick(bucket, monkeypatch):
    """The smallest parts, and no pauses."""
    monkeypatch.setattr(s3, "PART", 5 * s3.MEBIBYTE)
    monkeypatch.setitem(s3.OPTIONS, "read_timeout", HANGS - 1)
    monkeypatch.setattr(standard.ExponentialBackoff, "delay_amount", lambda self, context: 0)
    monkeypatch.setattr(reaper, "PAUSE", 0)


@pytest.fixture
def member(docker):
    return docker("member")


def sweep():
    """Time passes: uploads end, and what is in the trash is deleted."""
    past = timezone.now() - timedelta(days=2)
    UploadSession.objects.update(expires_at=past)
    uploads.sweep()
    ObjectTrash.objects.update(delete_after=past)
    garbage.reap()
    assert not UploadSession.objects.exists()


def assert_nothing_is_left_over(bucket):
    sweep()
    assert bucket.keys == list(Blob.objects.values_list("storage_key", flat=True))
    assert bucket.multiparts == []


def read(blob):
    with blobs.open_bytes(blob) as file:
        return file.read()


# ── Pushes ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_clients_of_a_process_share_one_model_without_its_documentation(bucket):
    storage = blob_storage()
    clients = (storage.client, storage._head_client, storage._public_client)
    models = [client.meta.service_model for client in clients]
    assert len({id(model._service_description) for model in models}) == 1
    assert "documentation" in models[0]._service_description["operations"]["PutObject"]
    assert '"documentation": "<' not in json.dumps(models[0]._service_description)


def test_threads_that_need_clients_at_once_use_the_session_one_after_the_other(bucket, monkeypatch):
    """Else two of them may register a handler of the session at once, and each may read a model of its own."""
    storage = storages.create_storage(storages.backends["blobs"])
    inside, most = set(), []
    session = storage._session
    original = session.resource

    def resource(*args, **options):
        inside.add(threading.get_ident())
        most.append(len(inside))
        time.sleep(0.1)
        inside.remove(threading.get_ident())
        return original(*args, **options)

    monkeypatch.setattr(session, "resource", resource)
    names = ["connection", "_head_client", "_public_client"]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: getattr(storage, name), names))
    assert most == [1, 1, 1]


def test_boto3_reads_parts_in_small_blocks(bucket):
    """It would hash them in blocks of a mebibyte, and each of many threads would hold one."""
    tail = s3._Tail()
    with closing(tail.file):
        tail.write(LARGE)
        body = tail.whole()
        blocks = list(iter(lambda: body.read(s3.MEBIBYTE), b""))
    assert b"".join(blocks) == LARGE
    assert max(map(len, blocks)) <= 64 * 1024


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "data", [b"", SMALL, LARGE, LARGE[: 10 * s3.MEBIBYTE]], ids=["empty", "small", "large", "full"]
)
def test_what_is_pushed_is_pulled_and_nothing_else_is_stored(bucket, member, shape, data):
    digest = member.push_blob("web/app", data, shape)
    assert bucket.keys == [Blob.objects.get().storage_key]
    assert member.get(f"web/app/blobs/{digest}", 200).body == data
    assert_nothing_is_left_over(bucket)


def test_an_upload_goes_on_in_another_process(bucket, settings, world):
    """Each request has a storage object of its own, as another process has."""
    actor, repository = world.member.actor, world.repository("web")
    upload = str(uploads.start(actor, repository, "app").pk)
    cuts = [0, 1, 3, 6 * s3.MEBIBYTE, 6 * s3.MEBIBYTE, 11 * s3.MEBIBYTE, len(LARGE)]
    for start, end in itertools.pairwise(cuts):
        bucket.use(settings)
        uploads.append(uploads.find(actor, repository, "app", upload), uploads.Piece([LARGE[start:end]], start))
    bucket.use(settings)
    assert read(uploads.finish(actor, repository, "app", upload, sha256(LARGE), uploads.Piece([]))) == LARGE
    assert_nothing_is_left_over(bucket)


def test_bytes_with_another_digest_are_discarded(bucket, member):
    for shape in SHAPES:
        with pytest.raises(AssertionError, match="DIGEST_INVALID"):
            member.push_blob("web/app", LARGE, shape, digest=sha256(SMALL))
    assert bucket.keys == bucket.multiparts == []
    assert_nothing_is_left_over(bucket)


def test_a_body_that_breaks_off_changes_nothing(bucket, world):
    actor, repository = world.member.actor, world.repository("web")
    session = uploads.append(uploads.start(actor, repository, "app"), uploads.Piece([b"first, "]))

    def breaks_off():
        yield LARGE
        raise ConnectionResetError

    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            uploads.append(session, uploads.Piece(breaks_off()))
    assert bucket.multiparts == []
    blob = uploads.finish(
        actor, repository, "app", str(session.pk), sha256(b"first, second"), uploads.Piece([b"second"])
    )
    assert read(blob) == b"first, second"
    assert_nothing_is_left_over(bucket)


def test_an_upload_that_grows_too_large_is_discarded(bucket, member, settings):
    settings.MAX_BLOB_SIZE = len(LARGE) - 1
    location = member.start("web/app").headers["Location"]
    location = member.patch(location, 202, body=LARGE[:-10]).headers["Location"]
    member.patch(location, 413, body=b"12345678901")
    assert bucket.keys == bucket.multiparts == []


def test_a_cancelled_upload_is_gone_at_once(bucket, member):
    location = member.start("web/app").headers["Location"]
    location = member.patch(location, 202, body=LARGE).headers["Location"]
    assert len(bucket.keys) == len(bucket.multiparts) == 1
    member.delete(location, 204)
    assert bucket.keys == bucket.multiparts == []


def test_the_same_blob_twice_is_stored_once(bucket, docker):
    for name in ("web/app", "public/app"):
        docker("member").push_blob(name, LARGE)
    assert len(bucket.keys) == 2
    assert_nothing_is_left_over(bucket)
    assert len(bucket.keys) == 1


def test_a_lost_object_is_unknown_until_it_is_pushed_again(bucket, member):
    digest = member.push_blob("web/app", SMALL)
    bucket.server.client.delete_object(Bucket=BUCKET, Key=f"{bucket.prefix}/{bucket.keys[0]}")
    member.get(f"web/app/blobs/{digest}", 404)
    member.head(f"web/app/blobs/{digest}", 404)
    member.push_blob("web/app", SMALL)
    assert member.get(f"web/app/blobs/{digest}", 200).body == SMALL
    assert_nothing_is_left_over(bucket)


def test_parts_grow_so_that_ten_thousand_are_enough(monkeypatch):
    monkeypatch.setattr(s3, "PART", 8 * s3.MEBIBYTE)
    sizes = [s3.part_size(number) for number in range(1, s3.PARTS + 1)]
    assert (sizes[0], sizes[-1], sorted(sizes)) == (8 * s3.MEBIBYTE, s3.LARGEST_PART, sizes)
    assert sum(sizes) == s3.MAX_BLOB_SIZE == 250 * 1024**3


def test_where_an_etag_is_no_md5_the_object_is_read(bucket, member, monkeypatch):
    monkeypatch.setattr(s3._ObjectWriter, "_expected_etag", lambda writer: "")
    digest = member.push_blob("web/app", LARGE)
    assert bucket.proxy.seen.count("GetObject") == 2  # the state, and the object
    assert member.get(f"web/app/blobs/{digest}", 200).body == LARGE


# ── Writers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_concurrent_write_to_an_upload_is_refused(bucket, world):
    actor, repository = world.member.actor, world.repository("web")
    upload = str(uploads.start(actor, repository, "app").pk)

    def slowly():
        yield b"first half, "
        with pytest.raises(errors.RangeInvalid):
            uploads.append(uploads.find(actor, repository, "app", upload), uploads.Piece([b"another"]))
        yield b"second half"

    session = uploads.append(uploads.find(actor, repository, "app", upload), uploads.Piece(slowly()))
    assert session.offset == len(b"first half, second half")
    assert UploadSession.objects.get().writer == ""


@pytest.mark.parametrize("ends_in", [timedelta(seconds=-1), timedelta(days=1)], ids=["late", "clock set back"])
@pytest.mark.parametrize("end", [b"second half", b"A" * 11, LARGE])
def test_a_writer_that_is_replaced_does_no_harm(bucket, world, end, ends_in):
    """Its request stops for longer than the lease. Another request takes the upload, and ends it or does not yet."""
    actor, repository = world.member.actor, world.repository("web")
    upload = str(uploads.start(actor, repository, "app").pk)
    uploads.append(uploads.find(actor, repository, "app", upload), uploads.Piece([b"first half, "]))
    whole = b"first half, second half"

    def stops():
        yield end[:5]
        UploadSession.objects.update(writer_until=timezone.now() + ends_in)
        uploads.append(uploads.find(actor, repository, "app", upload), uploads.Piece([b"second half"]))
        yield end[5:]

    with pytest.raises(errors.BlobUploadUnknown):
        uploads.append(uploads.find(actor, repository, "app", upload), uploads.Piece(stops()))
    assert read(uploads.finish(actor, repository, "app", upload, sha256(whole), uploads.Piece([]))) == whole
    assert_nothing_is_left_over(bucket)


def test_a_writer_that_is_replaced_makes_nothing_visible(bucket, world):
    actor, repository = world.member.actor, world.repository("web")
    upload = str(uploads.start(actor, repository, "app").pk)

    def stops():
        yield SMALL
        UploadSession.objects.update(writer="another", writer_until=timezone.now() + timedelta(seconds=30))

    with pytest.raises(errors.BlobUploadUnknown):
        uploads.finish(actor, repository, "app", upload, sha256(SMALL), uploads.Piece(stops()))
    assert not Blob.objects.exists()
    assert_nothing_is_left_over(bucket)


def test_a_lease_is_renewed_while_bytes_arrive_and_its_loss_is_noticed(bucket, world, monkeypatch):
    monkeypatch.setattr(uploads, "WRITER_LEASE", timedelta(0))
    actor, repository = world.member.actor, world.repository("web")
    upload = str(uploads.start(actor, repository, "app").pk)
    untils = []

    def slowly():
        for _ in range(3):
            yield b"x"
            untils.append(UploadSession.objects.get().writer_until)
        UploadSession.objects.update(writer="another")
        yield b"y"

    with pytest.raises(errors.RangeInvalid):
        uploads.append(uploads.find(actor, repository, "app", upload), uploads.Piece(slowly()))
    assert untils == sorted(set(untils))


def test_two_objects_of_one_multipart_upload_are_told_apart():
    """Both writers go on after the same bytes. The second one learns that the object is not its own, and reads it."""
    storage, upload = blob_storage(), uuid4()
    key = UploadSession(pk=upload).storage_key
    with storage.writing(upload, key) as first:
        first.append(Saved(), [LARGE[: 6 * s3.MEBIBYTE]], 2**40, len)
        saved = first.save()
    one, other = storage.writing(upload, key), storage.writing(upload, key)
    with one as writer, other as late:
        writer.append(saved, [b"A" * 2**20], 2**40, len)
        late.append(saved, [b"B" * 2**20], 2**40, len)
        assert writer.seal()
        assert not late.seal()
        expected = LARGE[: 6 * s3.MEBIBYTE] + b"A" * 2**20
        assert b"".join(late.read()) == b"".join(writer.read()) == expected


# ── Faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────
class BeginAgain(Exception):
    """The upload is gone: a client begins another one."""


@pytest.fixture
def insisting(bucket, member, monkeypatch):
    """A client that repeats a request that failed, once S3 works again."""
    ask, member.failures = member.request, []

    def request(method, path, expect=None, **options):
        answer = ask(method, path, **options)
        if answer.status >= 500:
            member.failures.append(answer.status)
            assert not Blob.objects.exists()
            bucket.proxy.faults = []
            answer = ask(method, path, **options)
            if answer.status == 404:
                raise BeginAgain
        assert expect in {None, answer.status}, answer.body
        return answer

    monkeypatch.setattr(member, "request", request)
    return member


STATE, BLOB = "/staging/", "/blobs/"
CALLS = [
    *((shape, SMALL, "PutObject", 0, BLOB) for shape in SHAPES),
    *((shape, SMALL, call, 0, STATE) for shape in ("patch", "chunks") for call in ("PutObject", "GetObject")),
    ("chunks", SMALL, "PutObject", 1, STATE),
    ("chunks", SMALL, "GetObject", 0, BLOB),
    *((shape, LARGE, "CreateMultipartUpload", 0, BLOB) for shape in SHAPES),
    *((shape, LARGE, "UploadPart", number, BLOB) for shape in ("patch", "chunks", "post") for number in range(3)),
    *((shape, LARGE, "CompleteMultipartUpload", 0, BLOB) for shape in ("patch", "chunks", "post")),
    *((shape, LARGE, "HeadObject", 0, BLOB) for shape in ("patch", "chunks", "post")),
    *(("chunks", LARGE, call, 1, STATE) for call in ("PutObject", "GetObject")),
    ("chunks", LARGE, "GetObject", 0, BLOB),
]
KINDS = {"GetObject": ("500", "reset", "cut"), "CompleteMultipartUpload": ("500", "slow-down", "reset", "200")}


@pytest.mark.parametrize(
    ("shape", "data", "call", "after", "key", "how"),
    [
        pytest.param(*each, how, id=f"{each[0]}-{'large' if each[1] is LARGE else 'small'}-{each[2]}-{each[3]}-{how}")
        for each in CALLS
        for how in KINDS.get(each[2], ("500", "lost"))
    ],
)
def test_a_push_fails_with_s3_and_works_again(bucket, insisting, shape, data, call, after, key, how):
    bucket.proxy.faults = [Fault(call, how, after=after, key=key)]
    try:
        insisting.push_blob("web/app", data, shape)
    except BeginAgain:
        insisting.push_blob("web/app", data, shape)
    assert insisting.failures == [503]
    assert read(Blob.objects.get()) == data
    assert_nothing_is_left_over(bucket)


@pytest.mark.parametrize("how", ["500", "slow-down", "lost", "reset", "hang"])
@pytest.mark.parametrize("shape", ["chunks", "post"])
def test_a_fault_that_passes_is_not_seen_by_clients(bucket, member, shape, how):
    calls = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject", "GetObject", "HeadObject")
    bucket.proxy.faults = [Fault(call, how, times=1) for call in calls]
    member.push_blob("web/app", LARGE, shape)
    bucket.proxy.faults = []
    assert read(Blob.objects.get()) == LARGE
    assert_nothing_is_left_over(bucket)


def test_a_storage_without_space_is_said_to_be_full(bucket, member):
    location = member.start("web/app").headers["Location"]
    with bucket.proxy.failing(Fault("UploadPart", "full")):
        member.patch(location, 507, body=LARGE)
    member.patch(location, 202, body=LARGE)


@pytest.mark.parametrize("how", ["lost", "200"])
def test_an_object_that_is_there_although_s3_did_not_say_so(bucket, member, how):
    bucket.proxy.faults = [Fault("CompleteMultipartUpload", "lost", times=1), Fault("CompleteMultipartUpload", how)]
    digest = member.push_blob("web/app", LARGE)
    assert member.get(f"web/app/blobs/{digest}", 200).body == LARGE
    assert_nothing_is_left_over(bucket)


@pytest.mark.parametrize("call", ["UploadPart", "CompleteMultipartUpload"])
def test_when_s3_has_lost_the_multipart_upload_clients_begin_again(bucket, member, call):
    bucket.proxy.faults = [Fault(call, "no-upload", times=1)]
    with pytest.raises(AssertionError, match="BLOB_UPLOAD_UNKNOWN"):
        member.push_blob("web/app", LARGE)
    member.push_blob("web/app", LARGE)
    assert_nothing_is_left_over(bucket)


def test_a_state_that_cannot_be_deleted_is_swept_later(bucket, member):
    with bucket.proxy.failing(Fault("DeleteObject", "500")):
        member.push_blob("web/app", LARGE, "chunks")
    assert len(bucket.keys) > 1
    assert_nothing_is_left_over(bucket)


@pytest.mark.parametrize("call", ["ListObjectsV2", "ListMultipartUploads", "DeleteObject", "AbortMultipartUpload"])
def test_a_sweep_that_fails_is_repeated(bucket, member, call):
    location = member.start("web/app").headers["Location"]
    member.patch(location, 202, body=LARGE)
    with bucket.proxy.failing(Fault(call, "500")):
        UploadSession.objects.update(expires_at=timezone.now())
        assert uploads.sweep() == 1
    assert bucket.keys or bucket.multiparts
    assert_nothing_is_left_over(bucket)


def test_a_reaper_that_fails_is_repeated(bucket, member):
    member.push_blob("web/app", SMALL)
    ObjectTrash.objects.create(storage_key=Blob.objects.get().storage_key, delete_after=timezone.now())
    for model in (BlobReview, BlobLease, Blob):
        model.objects.all().delete()
    with bucket.proxy.failing(Fault("DeleteObject", "500")), pytest.raises(OSError, match="DeleteObject"):
        garbage.reap()
    assert len(bucket.keys) == 1
    assert_nothing_is_left_over(bucket)


@pytest.mark.parametrize("how", ["500", "reset"])
def test_a_pull_fails_with_s3(bucket, member, how):
    digest = member.push_blob("web/app", SMALL)
    for method in ("get", "head"):
        with bucket.proxy.failing(Fault("HeadObject", how)):
            assert getattr(member, method)(f"web/app/blobs/{digest}").status == 503
    assert member.get(f"web/app/blobs/{digest}", 200).body == SMALL


def test_servers_say_whether_the_bucket_answers_and_stay_ready(db, bucket, client):
    assert client.get("/readyz").json()["storage"] == "ok"
    with bucket.proxy.failing(Fault("HeadBucket", "500")):
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["storage"]) == (200, "unavailable")


# ── Pulls ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def fetched(address):
    with urllib.request.urlopen(address) as answer:
        return answer.read(), answer.headers


def test_the_bucket_is_created_once(bucket, settings, monkeypatch, capsys):
    name = f"bucket-{uuid4()}"
    with pytest.raises(OSError, match="HeadBucket"):
        storage_at(f"s3://{name}?region=eu-central-1&endpoint={bucket.server.endpoint}").check()
    for created in (True, False):
        monkeypatch.setenv("KCR_STORAGE_URL", f"s3://{name}?region=eu-central-1&endpoint={bucket.server.endpoint}")
        settings.STORAGES = settings.STORAGES | {"blobs": env.storage("KCR_STORAGE_URL", Path("unused"))}
        call_command("createbucket")
        assert json.loads(capsys.readouterr().out) == {"bucket": name, "created": created}
        blob_storage().check()
        close_connections()


def test_a_bucket_that_cannot_be_created_is_an_error(bucket, storage_folder, settings):
    with bucket.proxy.failing(Fault("HeadBucket", "500")), pytest.raises(CommandError, match="there is no bucket"):
        call_command("createbucket")
    settings.STORAGES = settings.STORAGES | {"blobs": env.storage_at(f"file://{storage_folder}")}
    with pytest.raises(CommandError, match="names no bucket"):
        call_command("createbucket")


def test_a_large_blob_is_fetched_from_s3(bucket, member, settings):
    bucket.use(settings, public_endpoint=bucket.server.endpoint, presign_from="100")
    digest = member.push_blob("web/app", SMALL)
    answer = member.get(f"web/app/blobs/{digest}", 307)
    assert (answer.body, answer.headers["Docker-Content-Digest"]) == (b"", digest)
    address = answer.headers["Location"]
    assert address.startswith(f"{bucket.server.endpoint}/{BUCKET}/{bucket.prefix}/blobs/")
    assert "X-Amz-Expires=300" in address
    content, headers = fetched(address)
    assert content == SMALL
    assert (headers["Content-Type"], headers["Content-Disposition"]) == ("application/octet-stream", "attachment")
    for wrong in (address.replace("attachment", "inline"), address.replace("=300", "=3000"), address.partition("?")[0]):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            fetched(wrong)


def test_what_is_not_fetched_from_s3(bucket, member, settings):
    bucket.use(settings, public_endpoint=bucket.server.endpoint, presign_from=str(len(SMALL)))
    digest, small = (member.push_blob("web/app", data) for data in (SMALL, SMALL[1:]))
    path = f"web/app/blobs/{digest}"
    assert member.get(f"web/app/blobs/{small}", 200).body == SMALL[1:]
    assert member.head(path, 200).headers["Content-Length"] == str(len(SMALL))
    member.get(path, 304, headers={"If-None-Match": f'"{digest}"'})
    bucket.server.client.delete_object(
        Bucket=BUCKET, Key=f"{bucket.prefix}/{Blob.objects.get(digest=digest).storage_key}"
    )
    member.get(path, 404)


def test_ranges_through_the_registry(bucket, member):
    path = f"web/app/blobs/{member.push_blob('web/app', LARGE)}"
    answer = member.get(path, 206, headers={"Range": "bytes=6000000-6000009"})
    assert answer.body == LARGE[6_000_000:6_000_010]
    assert answer.headers["Content-Range"] == f"bytes 6000000-6000009/{len(LARGE)}"
    assert member.get(path, 206, headers={"Range": "bytes=-5"}).body == LARGE[-5:]
    several = member.get(path, 206, headers={"Range": "bytes=0-3,7000000-7000003"}).body
    assert LARGE[:4] in several
    assert LARGE[7_000_000:7_000_004] in several
    member.get(path, 416, headers={"Range": f"bytes={len(LARGE)}-"})


def test_a_pull_costs_the_queries_that_it_costs_with_files(bucket, member, settings, storage_folder):
    used, s3_storage = [], settings.STORAGES
    files = {"BACKEND": "registry.storage.filesystem.FileSystemBlobStorage", "OPTIONS": {"location": storage_folder}}
    for number, storage in enumerate((files, s3_storage["blobs"])):
        settings.STORAGES = s3_storage | {"blobs": storage}
        image = Image(layers=[SMALL + bytes([number])])
        member.push("web/app", str(number), image)
        member.pull("web/app", str(number))
        with CaptureQueriesContext(
            connection,
        ) as queries:
            member.pull("web/app", str(number))
        used.append(len(queries))
    assert used[0] == used[1]


# ── The rest of the registry ─────────────────────────────────────────────────────────────────────────────────────────
def test_the_layout_for_trivy_has_the_layers(member, tmp_path):
    image = member.push("web/app", "1.0", Image(layers=[SMALL, b"second"]))
    layouts.write(Manifest.objects.get(), tmp_path)
    for layer in image.layers:
        assert (tmp_path / "blobs" / "sha256" / sha256(layer).partition(":")[2]).read_bytes() == layer


def problems():
    return sorted((found.kind, found.key) for found in storage_check.verify(full=True) if not isinstance(found, int))


def test_the_check_of_the_storage(bucket, member, monkeypatch):
    monkeypatch.setattr(storage_check, "ORPHAN_AGE", timedelta(seconds=-60))
    for data in (SMALL, LARGE, b"damaged", b"short", b"missing"):
        member.push_blob("web/app", data, "post")
    member.patch(member.start("web/app").headers["Location"], 202, body=LARGE)
    assert problems() == []
    keys = {blob.digest: blob.storage_key for blob in Blob.objects.all()}
    damaged, short, missing = (keys[sha256(data)] for data in (b"damaged", b"short", b"missing"))
    orphans = [f"blobs/aa/{uuid4()}/orphan", "blobs/foreign"]
    put = {damaged: b"DAMAGED", short: b"shor", orphans[0]: b"x", orphans[1]: b"x"}
    for key, data in put.items():
        bucket.server.client.put_object(Bucket=BUCKET, Key=f"{bucket.prefix}/{key}", Body=data)
    bucket.server.client.delete_object(Bucket=BUCKET, Key=f"{bucket.prefix}/{missing}")
    kinds = [("damaged", damaged), ("missing", missing), ("short", short), *(("orphan", key) for key in orphans)]
    assert problems() == sorted(kinds)


def test_a_check_ends_when_s3_does_not_answer(bucket, member):
    """Blobs are not reported as damaged then."""
    member.push_blob("web/app", SMALL)
    for call in ("HeadObject", "GetObject", "ListObjectsV2"):
        with bucket.proxy.failing(Fault(call, "500")), pytest.raises(CommandError, match="S3 refuses"):
            call_command("verifystorage", "--full")


def test_abandoned_bytes_are_deleted_and_blobs_are_not(bucket, member, monkeypatch):
    monkeypatch.setattr(uploads, "ABANDONED_AGE", timedelta(seconds=-60))
    member.push_blob("web/app", SMALL)
    key = Blob.objects.get().storage_key
    location = member.start("web/app").headers["Location"]
    member.patch(location, 202, body=LARGE)
    assert uploads.discard_abandoned() == 0
    UploadSession.objects.all().delete()
    store = bucket.server.client
    for root in (key.rpartition("/")[0], UploadSession(pk=uuid4()).storage_key):
        store.create_multipart_upload(Bucket=BUCKET, Key=f"{bucket.prefix}/{root}/late")
    store.put_object(Bucket=BUCKET, Key=f"{bucket.prefix}/staging/{uuid4()}/state", Body=b"x")
    store.put_object(Bucket=BUCKET, Key=f"{bucket.prefix}/staging/foreign", Body=b"x")
    assert uploads.discard_abandoned() == 4
    assert sorted(bucket.keys) == sorted([key, "staging/foreign"])
    assert bucket.multiparts == []
    assert uploads.discard_abandoned() == 0


def test_another_prefix_is_another_storage(seaweed: SeaweedFS, bucket, member):
    seaweed.client.put_object(Bucket=BUCKET, Key=f"{bucket.prefix}-other/blobs/foreign", Body=b"x")
    member.push_blob("web/app", SMALL)
    assert list(blob_storage().keys(older_than=timezone.now() + timedelta(minutes=1))) == [
        Blob.objects.get().storage_key
    ]
