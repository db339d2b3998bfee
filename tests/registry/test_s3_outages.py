"""S3 that refuses connections, is silent, slow, or breaks off requests and answers, on TCP.

Clients get an error in bounded time, no row changes, the same request works later, and the sweeps delete what is left.
"""

from __future__ import annotations

import http.client
import os
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.retries import standard
from django.core.management import CommandError, call_command
from django.utils import timezone

from registry import garbage, uploads
from registry.models import Blob, BlobLease, BlobReview, ObjectTrash, UploadSession
from registry.storage import Unanswered, blob_storage, s3, silence
from tests.registry.test_s3 import BeginAgain, assert_nothing_is_left_over, read
from tests.support.fault_proxy import FaultProxy
from tests.support.images import OCTETS, sha256
from tests.support.programs import wait_until
from tests.support.s3 import CREDENTIALS, Fault, close_connections
from tests.support.server import LiveServer

pytestmark = pytest.mark.real

SMALL = b"a layer of some length" * 10
LARGE = os.urandom(12 * s3.MEBIBYTE)
SILENCE = 2  # seconds until boto3 repeats a request
PROMISED = 5  # seconds until a blob is refused while S3 is silent
LOADED = 3  # so many times slower may a loaded machine be
BOUND = 60  # seconds: more than all repetitions of some requests take
SERVED = ("/v2/", "manifests/1.0", "tags/list", "/sign-in", "/readyz")  # while S3 is silent


class Wire(FaultProxy):
    """A TCP proxy between KCR and the proxy that knows the names of requests."""

    def __init__(self, bucket):
        super().__init__(int(bucket.proxy.endpoint.rpartition(":")[2]))
        self.bucket, self.endpoint = bucket, f"http://127.0.0.1:{self.port}"

    def when(self, asked, answer, begin):
        """Begin a fault "before" or "after" S3 does each request of one operation."""

        def held(moment, operation):
            if (operation, moment) == (asked, answer):
                begin()
            return False

        self.bucket.proxy.held = held

    def heal(self):
        super().heal()
        self.bucket.proxy.held = lambda moment, operation: False


@pytest.fixture
def wire(bucket, settings, monkeypatch):
    """The smallest parts, a short silence, and no pauses."""
    monkeypatch.setattr(s3, "PART", 5 * s3.MEBIBYTE)
    monkeypatch.setitem(s3.OPTIONS, "read_timeout", SILENCE)
    monkeypatch.setitem(s3.HEAD_OPTIONS, "read_timeout", SILENCE)
    monkeypatch.setattr(silence, "PAUSE", 0)
    monkeypatch.setattr(standard.ExponentialBackoff, "delay_amount", lambda self, context: 0)
    with Wire(bucket) as between:
        bucket.use(settings, between.endpoint)
        yield between
        between.heal()
        close_connections()


@pytest.fixture
def insisting(wire, docker, monkeypatch):
    """A client that repeats a request that failed, once S3 works again."""
    member = docker("member")
    ask, member.failures = member.request, []

    def request(method, path, expect=None, **options):
        began = time.monotonic()
        answer = ask(method, path, **options)
        if answer.status >= 500:
            assert time.monotonic() - began < BOUND
            member.failures.append(answer.status)
            assert not Blob.objects.exists()
            wire.heal()
            UploadSession.objects.update(writer="")
            answer = ask(method, path, **options)
            if answer.status == 404:
                raise BeginAgain
        assert expect in {None, answer.status}, answer.body
        return answer

    monkeypatch.setattr(member, "request", request)
    return member


def pushed(client, data, shape):
    """Push a blob, from its begin once more if its upload is gone. Return the statuses of the failures."""
    try:
        client.push_blob("web/app", data, shape)
    except BeginAgain:
        client.push_blob("web/app", data, shape)
    assert sha256(read(Blob.objects.get())) == sha256(data)
    return client.failures


# ── Pushes ───────────────────────────────────────────────────────────────────────────────────────────────────────────
BEGINNINGS = {
    "refuses": lambda wire: wire.refuse(),
    "cuts heads": lambda wire: wire.cut(300, again=True),
    "cuts parts": lambda wire: wire.cut(s3.MEBIBYTE, again=True),
}


@pytest.mark.parametrize("shape", ["patch", "chunks", "post"])
@pytest.mark.parametrize("fault", BEGINNINGS)
def test_push_while_s3_takes_no_requests_fails_and_works_later(bucket, wire, insisting, fault, shape):
    BEGINNINGS[fault](wire)
    assert pushed(insisting, LARGE, shape) == [503]
    assert_nothing_is_left_over(bucket)


def test_push_to_a_silent_s3_fails_and_works_later(bucket, wire, insisting):
    wire.when("UploadPart", "after", wire.silence)
    assert pushed(insisting, LARGE, "patch") == [503]
    assert_nothing_is_left_over(bucket)


CALLS = ("CreateMultipartUpload", "UploadPart", "PutObject", "GetObject", "CompleteMultipartUpload", "HeadObject")


@pytest.mark.parametrize("after", [1, 100])
@pytest.mark.parametrize("call", CALLS)
def test_push_whose_answers_break_off_fails_and_works_later(bucket, wire, insisting, call, after):
    """The object of a completed multipart upload is found, although no answer says that it was completed.

    A head that breaks off after its status looks like a whole one. Of a PutObject, the status is enough.
    """
    wire.when(call, "after", lambda: wire.cut(after))
    works = call == "CompleteMultipartUpload" or (call, after) == ("PutObject", 100)
    assert pushed(insisting, LARGE, "chunks") == ([] if works else [503])
    assert_nothing_is_left_over(bucket)


@pytest.mark.parametrize("call", [*CALLS, "DeleteObject"])
def test_client_does_not_see_one_answer_that_breaks_off(bucket, wire, insisting, call):
    struck = []

    def strike():
        if not struck:
            struck.append(wire.cut(1))

    wire.when(call, "after", strike)
    assert pushed(insisting, LARGE, "chunks") == []
    assert struck
    assert_nothing_is_left_over(bucket)


def test_slow_s3_is_waited_for(bucket, wire, insisting):
    wire.delay(0.01)
    assert pushed(insisting, LARGE, "chunks") == []
    assert_nothing_is_left_over(bucket)


# ── Pulls ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("fault", ["refuses", "cuts heads", "silent"])
def test_pull_fails_and_manifests_are_served(wire, docker, fault):
    member = docker("member")
    image = member.push("web/app", "1.0")
    path = f"web/app/blobs/{image.layers[0].digest}"
    (BEGINNINGS | {"silent": lambda wire: wire.silence()})[fault](wire)
    for method in ("GET", "HEAD"):
        began = time.monotonic()
        assert member.request(method, path).status == 503
        assert time.monotonic() - began < BOUND
    assert member.get("web/app/manifests/1.0", 200).body == image.manifest
    member.get("web/app/tags/list", 200)
    wire.heal()
    assert member.get(path, 200).body == image.layers[0]


def test_bytes_that_break_off_or_do_not_come_are_an_error(wire, docker):
    digest = docker("member").push_blob("web/app", LARGE)
    blob = Blob.objects.get(digest=digest)
    for fault in (lambda: wire.cut(s3.MEBIBYTE), wire.silence):
        with blob_storage().open(blob.storage_key) as file:
            file.read(1000)
            fault()
            with pytest.raises(Unanswered):
                file.read()
        wire.heal()
    assert sha256(read(blob)) == digest


@pytest.mark.parametrize("after", [20, 100])
def test_head_that_breaks_off_is_no_missing_blob(wire, docker, after):
    member = docker("member")
    path = f"web/app/blobs/{member.push_blob('web/app', SMALL)}"
    wire.when("HeadObject", "after", lambda: wire.cut(after))
    for method in ("GET", "HEAD"):
        assert member.request(method, path).status == 503
    wire.when("GetObject", "after", lambda: wire.cut(after))
    for start in (0, 5):
        with blob_storage().open(Blob.objects.get().storage_key) as file:
            file.seek(start)
            with pytest.raises(Unanswered):
                file.read()
    wire.heal()
    assert member.get(path, 200).body == SMALL


MARK = "x-amz-request-id: 1\r\n"
HEADS = {
    "HTTP/1.1 404 Not Found\r\n": Unanswered,
    "HTTP/1.1 404 Not Found\r\nServer: a proxy\r\n\r\n": Unanswered,
    f"HTTP/1.1 404 Not Found\r\n{MARK}\r\n": False,
    f"HTTP/1.1 200 OK\r\n{MARK}Content-Length: 2": Unanswered,
    f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{MARK}\r\n": False,
    f"HTTP/1.1 200 OK\r\n{MARK}Content-Length: 220\r\n\r\n": True,
}


@pytest.mark.parametrize("head", HEADS)
def test_head_that_breaks_off_within_a_header_is_no_missing_blob(settings, bucket, head):
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while self.rfile.readline().strip():
                pass
            self.wfile.write(head.encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        bucket.use(settings, f"http://127.0.0.1:{server.server_address[1]}")
        if HEADS[head] is Unanswered:
            with pytest.raises(Unanswered):
                blob_storage().holds("blobs/ab/x", 220)
        else:
            assert blob_storage().holds("blobs/ab/x", 220) is HEADS[head]
        server.shutdown()
        close_connections()


def test_404_of_a_proxy_is_no_missing_blob(bucket, wire, docker):
    member = docker("member")
    path = f"web/app/blobs/{member.push_blob('web/app', SMALL)}"
    with bucket.proxy.failing(Fault("HeadObject", "no-upload")):
        for method in ("GET", "HEAD"):
            assert member.request(method, path).status == 503
        octets = {"Content-Type": OCTETS}
        member.post(f"web/app/blobs/uploads/?digest={sha256(SMALL)}", 503, body=SMALL, headers=octets)
    assert not ObjectTrash.objects.filter(storage_key=Blob.objects.get().storage_key).exists()
    assert member.get(path, 200).body == SMALL
    assert not blob_storage().exists("blobs/none")


# ── Background work ──────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("fault", ["refuses", "cuts heads"])
def test_sweeps_fail_and_are_repeated(bucket, wire, docker, fault):
    member = docker("member")
    member.push_blob("web/app", SMALL)
    member.patch(member.start("web/app").headers["Location"], 202, body=LARGE)
    ObjectTrash.objects.create(storage_key=Blob.objects.get().storage_key, delete_after=timezone.now())
    for model in (BlobReview, BlobLease, Blob):
        model.objects.all().delete()
    UploadSession.objects.update(expires_at=timezone.now())
    BEGINNINGS[fault](wire)
    with pytest.raises(Unanswered):
        garbage.reap()
    with pytest.raises(Unanswered):
        uploads.discard_abandoned()
    assert uploads.sweep() == 2  # each failure is logged, and the next upload has its turn
    with pytest.raises(CommandError, match="S3 does not answer"):
        call_command("verifystorage")
    wire.heal()
    assert bucket.keys
    assert_nothing_is_left_over(bucket)


# ── A real server ────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def server(bucket):
    with Wire(bucket) as between:
        settings = {"KCR_STORAGE_URL": bucket.url(between.endpoint, presign="off"), "KCR_WEB_WORKERS": "1"}
        with LiveServer("s3-outages", settings | CREDENTIALS) as running:
            running.wire = between
            yield running.people()


def test_silent_s3_holds_no_thread_and_blobs_are_refused_within_seconds(server):
    api, wire = server.api(), server.wire
    assert api.push_blob(SMALL) == 201
    assert api.push_manifest("1.0", SMALL) == 201
    blob = f"blobs/{sha256(SMALL)}"
    wire.silence()

    def ask(method, path, body=None):
        authorized = server.api()  # asks for a token, which takes a while for 400 clients at once
        began = time.monotonic()
        status, headers, _ = authorized.ask(method, path, body)
        assert time.monotonic() - began < PROMISED * LOADED, (method, path)
        return status, headers.get("Retry-After")

    heads = [("GET", blob), ("HEAD", blob)] * 200  # more than there are threads
    with ThreadPoolExecutor(2 * len(heads)) as threads:
        refused = [threads.submit(ask, *each) for each in heads]
        time.sleep(silence.PATIENCE + 1)
        refused += [threads.submit(ask, "POST", f"blobs/uploads/?digest={sha256(b'1')}", b"1") for _ in range(20)]
        served = [threads.submit(ask, "GET", path) for path in SERVED]
        assert [each.result() for each in served] == [(200, None)] * len(SERVED)
        assert {each.result() for each in refused} == {(503, "5")}
    wire.heal()
    assert wait_until(lambda: ask("GET", blob)[0] == 200, timeout=60)
    assert server.api().push_blob(LARGE) == 201


def breaks_off(api, path, headers):
    """Whether a GET has no answer, an error, or an answer that ends before its Content-Length."""
    try:
        return api.ask("GET", path, **headers).status == 503
    except (http.client.IncompleteRead, OSError):
        return True


def test_client_notices_a_pull_that_breaks_off(server):
    api, wire = server.api(), server.wire
    assert api.push_blob(LARGE) == 201
    path = f"blobs/{sha256(LARGE)}"
    for headers, expected in (({}, LARGE), ({"Range": "bytes=1000-"}, LARGE[1000:])):
        for after in (1000, 100_000, 6 * s3.MEBIBYTE):
            wire.when("GetObject", "after", lambda after=after: wire.cut(after))
            assert breaks_off(api, path, headers)
            wire.heal()
            assert sha256(api.ask("GET", path, **headers).body) == sha256(expected)
