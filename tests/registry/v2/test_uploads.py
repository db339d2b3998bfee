"""Uploads: every shape of a push, chunks, interruptions, wrong digests, limits and mounts."""

import hashlib
import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO

import pytest
from django.utils import timezone

from accounts.models import Project
from registry import trash
from registry.models import Blob, BlobLease, ObjectTrash, UploadSession
from registry.models import Image as StoredImage
from registry.oci import media_types
from tests.support.docker_client import BARE_HOST, PROJECT_HOST, DockerClient
from tests.support.images import Image, sha256
from tests.support.personas import make_key
from tests.support.registry_client import Answer

NAME = "web/app"
UPLOADS = f"{NAME}/blobs/uploads/"
DATA = bytes(range(256)) * 40
OCTETS = {"Content-Type": media_types.BLOB}
EMPTY = {"Content-Length": "0"}
NOTHING = sha256(b"")
RANDOM_ID = "8c5e6f0a-7d4b-4b6e-9c41-0c9d53a1f7aa"


def sha512(data: bytes) -> str:
    return f"sha512:{hashlib.sha512(data).hexdigest()}"


def with_digest(location: str, digest: str) -> str:
    """Append the digest to the Location, as clients do."""
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


@pytest.fixture
def member(docker):
    return docker("member")


@pytest.fixture
def staged(storage_folder):
    """Return the bytes in the staging folder."""
    return lambda: sum(file.stat().st_size for file in (storage_folder / "staging").glob("*"))


@dataclass
class Upload:
    """An upload of one client, and its offset."""

    client: DockerClient
    name: str = NAME
    location: str = ""

    def __post_init__(self):
        self.location = self.client.start(self.name).headers["Location"]

    def patch(self, data: bytes = b"", content_range: str | None = None, expect: int = 202, **options) -> Answer:
        headers = OCTETS | ({} if content_range is None else {"Content-Range": content_range})
        answer = self.client.patch(self.location, expect, body=data, headers=headers, **options)
        self.location = answer.headers.get("Location", self.location)
        return answer

    def put(
        self, digest: str, data: bytes = b"", content_range: str | None = None, expect: int = 201, **options
    ) -> Answer:
        headers = OCTETS | ({} if content_range is None else {"Content-Range": content_range})
        return self.client.put(with_digest(self.location, digest), expect, body=data, headers=headers, **options)

    @property
    def range(self) -> str:
        """Return the range that the registry reports."""
        return self.client.get(self.location, 204).headers["Range"]


class BrokenBody(BytesIO):
    """A body whose connection fails after these bytes."""

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        if not block:
            raise OSError("connection reset by peer")
        return block

    read1 = read


class SlowBody(BytesIO):
    """A body that calls a function once, while the registry waits for its bytes."""

    def __init__(self, data: bytes, meanwhile: Callable[[], object]):
        super().__init__(data)
        self.meanwhile = [meanwhile]

    def read(self, size: int | None = -1) -> bytes:
        if self.meanwhile:
            self.meanwhile.pop()()
        return super().read(size)

    read1 = read


# ── Opening ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_upload_is_opened_with_one_relative_location_and_a_random_id(member):
    answer = member.start(NAME)
    identifier = answer.headers["Docker-Upload-UUID"]
    assert uuid.UUID(identifier).version == 4
    assert answer.headers["Location"] == f"/v2/{UPLOADS}{identifier}"
    assert answer.headers["Range"] == "0-0"
    assert answer.headers["Content-Length"] == "0"
    assert answer.body == b""


def test_parameters_of_crane_are_ignored(member):
    answer = member.post(f"{UPLOADS}?origin=elsewhere.test/app", 202, headers={"Content-Type": "application/json"})
    assert answer.headers["Location"].startswith(f"/v2/{UPLOADS}")


@pytest.mark.parametrize("slash", ["", "/"])
def test_uploads_are_opened_with_and_without_a_trailing_slash(member, slash):
    member.post(f"{NAME}/blobs/uploads{slash}", 202)


def test_key_has_at_most_a_hundred_open_uploads(docker, world):
    member, repository = docker("member"), world.repository("web")
    tomorrow = timezone.now() + timedelta(hours=24)
    UploadSession.objects.bulk_create(
        UploadSession(
            repository=repository,
            image_name="app",
            user=world.member.user,
            key=world.member.key,
            algorithm="sha256",
            expires_at=tomorrow,
        )
        for _ in range(99)
    )
    hundredth = Upload(member)
    refused = member.post(UPLOADS, 429)
    assert refused.codes == ["TOOMANYREQUESTS"]
    assert int(refused.headers["Retry-After"]) > 0
    docker("pusher").post(UPLOADS, 202)
    DockerClient(make_key(world.member.user, "another")).post(UPLOADS, 202)
    member.delete(hundredth.location, 204)
    member.post(UPLOADS, 202)


# ── Shapes of a push ─────────────────────────────────────────────────────────────────────────────────────────────────
def docker_stream(client, data, digest):
    """docker: one PATCH without a length, an empty PUT."""
    upload = Upload(client)
    upload.patch(stream=BytesIO(data))
    return upload.put(digest)


def podman_patch(client, data, digest):
    """podman, crane: one PATCH with a length, an empty PUT."""
    upload = Upload(client)
    upload.patch(data)
    return upload.put(digest)


def containerd_put(client, data, digest):
    """containerd, buildkit: the whole body in the PUT."""
    return Upload(client).put(digest, data)


def chunked_put(client, data, digest):
    """The whole body in the PUT, without a length."""
    return Upload(client).put(digest, stream=BytesIO(data))


def oras_post(client, data, digest):
    """One POST with everything."""
    return client.post(
        f"{UPLOADS}?digest={digest}", 201, body=data, headers=OCTETS | {"Content-Length": str(len(data))}
    )


def chunked_post(client, data, digest):
    """One POST with everything, without a length."""
    return client.post(f"{UPLOADS}?digest={digest}", 201, stream=BytesIO(data), headers=OCTETS)


def thirds(data):
    """Return the data in three parts with their Content-Range, without empty parts."""
    edges = [0, len(data) // 3, 2 * len(data) // 3, len(data)]
    parts = [(data[start:end], f"{start}-{end - 1}") for start, end in itertools.pairwise(edges)]
    return [part for part in parts if part[0]]


def chunks_and_empty_put(client, data, digest):
    """Chunks with Content-Range, then an empty PUT."""
    upload = Upload(client)
    for part, content_range in thirds(data):
        upload.patch(part, content_range)
    return upload.put(digest)


def chunks_and_last_chunk_in_put(client, data, digest):
    """Chunks with Content-Range, the last one in the PUT."""
    upload = Upload(client)
    parts = thirds(data)
    for part, content_range in parts[:-1]:
        upload.patch(part, content_range)
    return upload.put(digest, *(parts[-1] if parts else ()))


def chunks_and_rest_in_put(client, data, digest):
    """Chunks with Content-Range, the rest in the PUT without one."""
    upload = Upload(client)
    parts = thirds(data)
    for part, content_range in parts[:-1]:
        upload.patch(part, content_range)
    return upload.put(digest, parts[-1][0] if parts else b"")


def chunks_without_length(client, data, digest):
    """Chunks with Content-Range whose bodies have no Content-Length."""
    upload = Upload(client)
    for part, content_range in thirds(data):
        upload.patch(content_range=content_range, stream=BytesIO(part))
    return upload.put(digest)


def streams(client, data, digest):
    """Several PATCHes without Content-Range, empty ones among them."""
    upload = Upload(client)
    upload.patch(b"")
    for part, _ in thirds(data):
        upload.patch(part)
        upload.patch(b"")
    return upload.put(digest)


SHAPES = [
    docker_stream,
    podman_patch,
    containerd_put,
    chunked_put,
    oras_post,
    chunked_post,
    chunks_and_empty_put,
    chunks_and_last_chunk_in_put,
    chunks_and_rest_in_put,
    chunks_without_length,
    streams,
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_blob_is_stored_for_every_shape_of_push(docker, staged, shape):
    member, pusher = docker("member"), docker("pusher")
    for data in (b"", b"x", DATA, DATA * 110):
        answer = shape(member, data, sha256(data))
        assert answer.status == 201
        assert answer.body == b""
        assert answer.headers["Docker-Content-Digest"] == sha256(data)
        assert answer.headers["Location"] == f"/v2/{NAME}/blobs/{sha256(data)}"
        assert pusher.get(answer.headers["Location"], 200).body == data
    assert staged() == 0


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_sha512_blob_is_stored_for_every_shape_of_push(docker, shape):
    answer = shape(docker("member"), DATA, sha512(DATA))
    assert answer.headers["Docker-Content-Digest"] == sha512(DATA)
    assert docker("pusher").get(f"{NAME}/blobs/{sha512(DATA)}", 200).body == DATA


def test_upload_opened_on_one_host_continues_on_the_other(docker):
    upload = Upload(docker("member"))
    elsewhere = f"/v2/demo{upload.location.removeprefix('/v2')}"
    answer = docker("member", BARE_HOST).patch(elsewhere, 202, body=DATA, headers=OCTETS)
    assert answer.headers["Location"] == elsewhere
    upload.put(sha256(DATA))
    assert docker("member", BARE_HOST).get(f"demo/{NAME}/blobs/{sha256(DATA)}", 200).body == DATA


# ── Chunks ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_patch_returns_the_range_of_the_upload(member):
    upload = Upload(member)
    for part, standing in ((b"", "0-0"), (b"a", "0-0"), (b"bc", "0-2"), (b"", "0-2"), (b"d" * 7, "0-9")):
        answer = upload.patch(part)
        assert answer.headers["Range"] == standing
        assert answer.headers["Location"] == f"/v2/{UPLOADS}{answer.headers['Docker-Upload-UUID']}"
        assert answer.body == b""
        for look in (member.get, member.head):
            status = look(upload.location, 204)
            assert status.headers["Range"] == standing
            assert status.headers["Location"] == upload.location
            assert status.headers["Docker-Upload-UUID"] == answer.headers["Docker-Upload-UUID"]
    upload.put(sha256(b"abc" + b"d" * 7))


def test_a_patch_without_bytes_and_without_a_length_changes_nothing(member):
    upload = Upload(member)
    upload.patch(b"abc")
    assert upload.patch(stream=BytesIO(b"")).headers["Range"] == "0-2"
    assert upload.patch(b"").headers["Range"] == "0-2"
    upload.put(sha256(b"abc"))


OUT_OF_ORDER = {
    "again": "0-4",
    "overlapping": "3-7",
    "with a gap": "6-10",
    "far ahead": f"{10**18}-{10**18 + 4}",
}
MALFORMED_RANGES = {
    "nothing": "",
    "one number": "5",
    "no start": "-9",
    "no end": "5-",
    "backwards": "9-5",
    "words": "a-b",
    "unit and total": "bytes 5-9/10",
    "unit": "bytes=5-9",
    "total": "5-9/10",
    "two": "5-9,10-14",
    "plus": "+5-9",
    "underscore": "5-0_9",
    "spaces inside": "5 - 9",
    "hexadecimal": "0x5-0x9",
    "other digits": "\N{ARABIC-INDIC DIGIT FIVE}-\N{ARABIC-INDIC DIGIT NINE}",
    "end of line": "5-9\n",
    "too long for a number": f"5-{'9' * 5000}",
}


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("ranges", [OUT_OF_ORDER, MALFORMED_RANGES], ids=["out of order", "malformed"])
def test_chunk_out_of_order_is_416_and_changes_nothing(member, subtests, method, ranges):
    upload = Upload(member)
    upload.patch(b"01234", "0-4")
    path = upload.location if method == "PATCH" else with_digest(upload.location, sha256(b"0123456789"))
    for case, content_range in ranges.items():
        with subtests.test(case):
            answer = member.request(method, path, 416, body=b"56789", headers=OCTETS | {"Content-Range": content_range})
            assert answer.codes == ["BLOB_UPLOAD_INVALID"]
            assert answer.headers["Location"] == upload.location
            assert answer.headers["Range"] == "0-4"
            assert upload.range == "0-4"
    upload.patch(b"56789", "5-9")
    upload.put(sha256(b"0123456789"))


def test_the_first_chunk_starts_at_zero(member):
    upload = Upload(member)
    answer = upload.patch(b"56789", "5-9", expect=416)
    assert answer.headers["Range"] == "0-0"
    assert answer.headers["Location"] == upload.location
    upload.patch(b"01234", "0-4")
    upload.put(sha256(b"01234"))


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_chunk_with_a_length_other_than_its_range_is_refused_and_changes_nothing(member, subtests, method):
    upload = Upload(member)
    upload.patch(b"01234", "0-4")
    path = upload.location if method == "PATCH" else with_digest(upload.location, sha256(b"0123456789"))
    for content_range in ("5-8", "5-10", f"5-{10**18}", "5-5"):
        with subtests.test(content_range):
            answer = member.request(method, path, 400, body=b"56789", headers=OCTETS | {"Content-Range": content_range})
            assert answer.codes == ["SIZE_INVALID"]
            assert upload.range == "0-4"
            chunked = {"stream": BytesIO(b"56789"), "headers": OCTETS | {"Content-Range": content_range}}
            assert member.request(method, path, 400, **chunked).codes == ["SIZE_INVALID"]
            assert upload.range == "0-4"
    upload.put(sha256(b"0123456789"), b"56789", "5-9")


# ── Truncated bodies ─────────────────────────────────────────────────────────────────────────────────────────────────
CUTS = {
    "shorter than its Content-Length": lambda: {
        "stream": BytesIO(b"567"),
        "headers": OCTETS | {"Content-Length": "50"},
    },
    "reset, with a length": lambda: {
        "stream": BrokenBody(b"567"),
        "headers": OCTETS | {"Content-Length": "5"},
    },
    "reset, chunked": lambda: {"stream": BrokenBody(b"567"), "headers": OCTETS},
    "a Content-Length that is no number": lambda: {"stream": BytesIO(b"567"), "headers": {"Content-Length": "5e1"}},
}


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("cut", CUTS)
def test_truncated_body_keeps_the_former_offset(member, method, cut):
    upload = Upload(member)
    upload.patch(b"01234")
    path = upload.location if method == "PATCH" else with_digest(upload.location, sha256(b"0123456789"))
    assert member.request(method, path, 400, **CUTS[cut]()).codes == ["SIZE_INVALID"]
    assert upload.range == "0-4"
    member.head(f"{NAME}/blobs/{sha256(b'01234567')}", 404)
    upload.patch(b"56789", "5-9")
    upload.put(sha256(b"0123456789"))
    assert member.get(f"{NAME}/blobs/{sha256(b'0123456789')}", 200).body == b"0123456789"


@pytest.mark.parametrize("cut", CUTS)
def test_truncated_single_post_leaves_nothing(member, staged, cut):
    """The client never got the address of the upload, so it could not be continued."""
    answer = member.post(f"{UPLOADS}?digest={sha256(b'567')}", 400, **CUTS[cut]())
    assert answer.codes == ["SIZE_INVALID"]
    member.head(f"{NAME}/blobs/{sha256(b'567')}", 404)
    assert staged() == 0
    assert not UploadSession.objects.exists()


# ── Wrong digests ────────────────────────────────────────────────────────────────────────────────────────────────────
def right_bytes_in_patch(client, digest):
    upload = Upload(client)
    upload.patch(DATA)
    return upload.put(digest, expect=400)


def right_bytes_in_put(client, digest):
    return Upload(client).put(digest, DATA, expect=400)


def right_bytes_in_post(client, digest):
    return client.post(f"{UPLOADS}?digest={digest}", 400, body=DATA, headers=OCTETS)


def right_bytes_in_chunks(client, digest):
    upload = Upload(client)
    for part, content_range in thirds(DATA):
        upload.patch(part, content_range)
    return upload.put(digest, expect=400)


@pytest.mark.parametrize(
    "shape",
    [right_bytes_in_patch, right_bytes_in_put, right_bytes_in_post, right_bytes_in_chunks],
    ids=lambda shape: shape.__name__,
)
def test_bytes_with_another_digest_are_discarded_and_the_right_push_works(
    member, subtests, staged, storage_folder, shape
):
    for digest in (sha256(b"something else"), sha512(b"something else"), NOTHING, sha256(DATA)[:-4] + "0000"):
        with subtests.test(digest):
            assert shape(member, digest).codes == ["DIGEST_INVALID"]
            for unseen in (digest, sha256(DATA), sha512(DATA)):
                member.head(f"{NAME}/blobs/{unseen}", 404)
            assert staged() == 0
            assert not list(storage_folder.glob("blobs/*/*"))
            assert not Blob.objects.exists()
            assert not UploadSession.objects.open().exists()
    member.push_blob(NAME, DATA)
    assert member.get(f"{NAME}/blobs/{sha256(DATA)}", 200).body == DATA


def test_upload_ends_after_a_wrong_digest(member):
    upload = Upload(member)
    upload.put(sha256(b"something else"), DATA, expect=400)
    assert member.get(upload.location, 404).codes == ["BLOB_UPLOAD_UNKNOWN"]


def test_an_upload_is_not_finished_without_a_digest(member):
    upload = Upload(member)
    upload.patch(DATA)
    assert member.put(upload.location, 400).codes == ["DIGEST_INVALID"]
    assert not Blob.objects.exists()


# ── Finished, cancelled and expired uploads ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("body", [b"", DATA], ids=["empty", "whole body"])
def test_repeated_last_request_succeeds_after_a_lost_answer(member, body):
    upload = Upload(member)
    if not body:
        upload.patch(DATA)
    first = upload.put(sha256(DATA), body)
    for _ in range(2):
        again = upload.put(sha256(DATA), body)
        assert again.headers["Location"] == first.headers["Location"]
        assert again.headers["Docker-Content-Digest"] == sha256(DATA)
    assert Blob.objects.count() == 1


def test_finished_upload_is_unknown(member):
    upload = Upload(member)
    upload.put(sha256(DATA), DATA)
    for method in ("GET", "PATCH", "DELETE"):
        assert member.request(method, upload.location, 404, body=b"more").codes == ["BLOB_UPLOAD_UNKNOWN"]
    member.head(upload.location, 404)
    assert upload.put(sha256(b"more"), b"more", expect=404).codes == ["BLOB_UPLOAD_UNKNOWN"]
    assert member.get(f"{NAME}/blobs/{sha256(DATA)}", 200).body == DATA


def test_a_cancelled_upload_leaves_nothing(docker, staged):
    pusher = docker("pusher")  # may push, may not delete
    upload = Upload(pusher)
    upload.patch(DATA)
    assert pusher.delete(upload.location, 204).body == b""
    assert staged() == 0
    assert not UploadSession.objects.exists()
    for method in ("GET", "PATCH", "DELETE"):
        assert pusher.request(method, upload.location, 404).codes == ["BLOB_UPLOAD_UNKNOWN"]
    assert upload.put(sha256(DATA), DATA, expect=404).codes == ["BLOB_UPLOAD_UNKNOWN"]


def test_idle_upload_expires(member):
    upload = Upload(member)
    upload.patch(DATA)
    UploadSession.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    for method in ("GET", "PATCH", "DELETE"):
        assert member.request(method, upload.location, 404).codes == ["BLOB_UPLOAD_UNKNOWN"]
    assert upload.put(sha256(DATA), expect=404).codes == ["BLOB_UPLOAD_UNKNOWN"]


def test_every_patch_extends_the_upload_by_a_day(member):
    upload = Upload(member)
    UploadSession.objects.update(expires_at=timezone.now() + timedelta(hours=1))
    upload.patch(b"a")
    assert UploadSession.objects.get().expires_at > timezone.now() + timedelta(hours=23)


def test_the_same_blob_pushed_twice_is_one_blob(docker, storage_folder):
    """The bytes of one of the two pushes are in the trash."""
    for person in ("member", "pusher", "owner"):
        docker(person).push_blob(NAME, DATA)
    blob = Blob.objects.get()
    files = {str(file.relative_to(storage_folder)) for file in storage_folder.glob("blobs/*/*")}
    trashed = set(ObjectTrash.objects.values_list("storage_key", flat=True))
    assert len(files) == 3
    assert files == trashed | {blob.storage_key}
    assert blob.storage_key not in trashed


def test_bytes_are_stored_under_their_upload_id_not_their_digest(member, storage_folder):
    identifier = Upload(member).put(sha256(DATA), DATA) and str(UploadSession.objects.get().pk)
    (file,) = storage_folder.glob("blobs/*/*")
    assert file.relative_to(storage_folder).parts == ("blobs", identifier[:2], identifier)
    assert file.read_bytes() == DATA
    assert Blob.objects.get().storage_key == f"blobs/{identifier[:2]}/{identifier}"


# ── Owners of uploads ────────────────────────────────────────────────────────────────────────────────────────────────
STRANGE_UPLOADS = {
    "another person's": lambda location: ("pusher", location),
    "through another repository": lambda location: ("member", location.replace("/web/", "/public/")),
    "through another image": lambda location: ("member", location.replace("/app/", "/other/")),
    "of an id that was never given": lambda location: ("member", f"/v2/{UPLOADS}{RANDOM_ID}"),
    "of a word": lambda location: ("member", f"/v2/{UPLOADS}nonsense"),
    "of dots": lambda location: ("member", f"/v2/{UPLOADS}.."),
    "of an id with an end of line": lambda location: ("member", f"{location}%0a"),
    "of an id with NUL": lambda location: ("member", f"{location}%00"),
    "of a very long id": lambda location: ("member", f"/v2/{UPLOADS}{'0' * 50_000}"),
}


def test_upload_is_found_only_by_its_owner_under_its_name(docker, subtests):
    upload = Upload(docker("member"))
    upload.patch(b"01234")
    for strange, request in STRANGE_UPLOADS.items():
        person, path = request(upload.location)
        client = docker(person)
        with subtests.test(strange):
            for method in ("GET", "PATCH", "DELETE"):
                assert client.request(method, path, 404, body=b"56789").codes == ["BLOB_UPLOAD_UNKNOWN"]
            client.head(path, 404)
            assert client.put(with_digest(path, sha256(b"01234")), 404).codes == ["BLOB_UPLOAD_UNKNOWN"]
            assert upload.range == "0-4"
    upload.put(sha256(b"0123456789"), b"56789")


REFUSED = {
    "viewer": (403, "DENIED"),
    "reader": (403, "DENIED"),
    "stranger": (404, "NAME_UNKNOWN"),
    "outsider": (404, "NAME_UNKNOWN"),
    None: (401, "UNAUTHORIZED"),
}


@pytest.mark.parametrize("person", REFUSED)
def test_user_without_push_cannot_open_or_change_an_upload(docker, subtests, staged, person):
    status, code = REFUSED[person]
    client = docker(person)
    for method, path in (
        ("POST", UPLOADS),
        ("POST", f"{UPLOADS}?digest={sha256(DATA)}"),
        ("POST", f"{UPLOADS}?mount={sha256(DATA)}&from=public/app"),
        ("PATCH", f"{UPLOADS}{RANDOM_ID}"),
        ("PUT", f"{UPLOADS}{RANDOM_ID}?digest={sha256(DATA)}"),
        ("GET", f"{UPLOADS}{RANDOM_ID}"),
        ("DELETE", f"{UPLOADS}{RANDOM_ID}"),
    ):
        with subtests.test(f"{method} {path}"):
            assert client.request(method, path, status, body=DATA).codes == [code]
    assert not UploadSession.objects.exists()
    assert staged() == 0


def test_a_repository_must_exist_before_a_push(docker):
    told = docker("member").post("nowhere/app/blobs/uploads/", 404)
    assert told.codes == ["NAME_UNKNOWN"]
    assert "createrepository demo/nowhere" in told.message
    assert docker("stranger").post("nowhere/app/blobs/uploads/", 404).codes == ["NAME_UNKNOWN"]


# ── Simultaneous requests ────────────────────────────────────────────────────────────────────────────────────────────
def test_one_of_two_simultaneous_patches_is_refused(docker):
    """The second request is sent while the body of the first is still being received."""
    upload, refused = Upload(docker("member")), []

    def push_too():
        refused.append(docker("member").patch(upload.location, body=b"B" * 50, headers=OCTETS))

    upload.patch(stream=SlowBody(b"A" * 100, push_too))
    assert [answer.status for answer in refused] == [416]
    assert refused[0].headers["Location"] == upload.location
    assert upload.range == "0-99"
    upload.put(sha256(b"A" * 100))


def test_upload_is_not_finished_during_a_patch(docker):
    upload, refused = Upload(docker("member")), []

    def finish_too():
        refused.append(docker("member").put(with_digest(upload.location, NOTHING), headers=OCTETS))

    upload.patch(stream=SlowBody(b"A" * 100, finish_too))
    assert [answer.status for answer in refused] == [416]
    upload.put(sha256(b"A" * 100))


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_upload_can_be_cancelled_during_a_patch(docker, staged, method):
    upload = Upload(docker("member"))
    path = upload.location if method == "PATCH" else with_digest(upload.location, sha256(b"A" * 100))
    body = SlowBody(b"A" * 100, lambda: docker("member").delete(upload.location, 204))
    assert upload.client.request(method, path, 404, stream=body, headers=OCTETS).codes == ["BLOB_UPLOAD_UNKNOWN"]
    assert staged() == 0
    assert not Blob.objects.exists()


# ── Size ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("shape", [podman_patch, docker_stream, containerd_put, oras_post, chunks_and_empty_put])
def test_a_blob_of_exactly_the_largest_size_is_accepted(member, settings, shape):
    settings.MAX_BLOB_SIZE = len(DATA)
    assert shape(member, DATA, sha256(DATA)).status == 201


@pytest.mark.parametrize(
    ("method", "chunked"), [("PATCH", False), ("PATCH", True), ("PUT", False), ("PUT", True), ("POST", False)]
)
def test_too_large_blob_is_refused_and_its_bytes_freed(member, settings, staged, method, chunked):
    settings.MAX_BLOB_SIZE = 3 * 512 * 1024
    data = b"x" * (2 * 1024 * 1024)
    body = {"stream": BytesIO(data)} if chunked else {"body": data}
    path = f"/v2/{UPLOADS}" if method == "POST" else Upload(member).location
    answer = member.request(method, with_digest(path, sha256(data)), 413, headers=OCTETS, **body)
    assert answer.codes == ["SIZE_INVALID"]
    member.head(f"{NAME}/blobs/{sha256(data)}", 404)
    assert staged() == 0


# ── Algorithms ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("hint", ["sha256", "sha512", ""])
@pytest.mark.parametrize("digest", [sha256(DATA), sha512(DATA)], ids=["sha256", "sha512"])
def test_algorithm_of_the_first_request_may_differ_from_the_digest(member, hint, digest):
    location = member.start(NAME, query=f"?digest-algorithm={hint}").headers["Location"]
    member.patch(location, 202, body=DATA, headers=OCTETS)
    member.put(with_digest(location, digest), 201)
    assert member.get(f"{NAME}/blobs/{digest}", 200).body == DATA


@pytest.mark.parametrize("algorithm", ["md5", "SHA256", "sha384", "sha512%0a", "sha256%00", "x" * 5000, "%20sha256"])
def test_an_unknown_algorithm_is_refused(member, algorithm):
    assert member.post(f"{UPLOADS}?digest-algorithm={algorithm}", 400).codes == ["DIGEST_INVALID"]
    assert not UploadSession.objects.exists()


def test_same_bytes_under_two_algorithms_are_two_blobs(member):
    member.push_blob(NAME, DATA, digest=sha512(DATA))
    member.head(f"{NAME}/blobs/{sha256(DATA)}", 404)
    member.push_blob(NAME, DATA)
    member.delete(f"{NAME}/blobs/{sha512(DATA)}", 202)
    member.head(f"{NAME}/blobs/{sha512(DATA)}", 404)
    assert member.head(f"{NAME}/blobs/{sha256(DATA)}", 200).headers["Docker-Content-Digest"] == sha256(DATA)


# ── A POST with a digest and nothing else ────────────────────────────────────────────────────────────────────────────
EMPTY_BODIES = {
    "Content-Length: 0": lambda: {"headers": EMPTY},
    "no header at all": dict,
    "chunked": lambda: {"stream": BytesIO(b"")},
}


@pytest.mark.parametrize("body", EMPTY_BODIES)
def test_a_post_with_a_digest_but_no_bytes_opens_an_upload(member, body):
    answer = member.post(f"{UPLOADS}?digest={sha256(DATA)}", 202, **EMPTY_BODIES[body]())
    assert answer.headers["Range"] == "0-0"
    member.put(with_digest(answer.headers["Location"], sha256(DATA)), 201, body=DATA, headers=OCTETS)
    assert member.get(f"{NAME}/blobs/{sha256(DATA)}", 200).body == DATA


@pytest.mark.parametrize("body", EMPTY_BODIES)
@pytest.mark.parametrize("digest", [NOTHING, sha512(b"")], ids=["sha256", "sha512"])
def test_a_post_with_the_digest_of_nothing_needs_no_bytes(member, body, digest):
    answer = member.post(f"{UPLOADS}?digest={digest}", 201, **EMPTY_BODIES[body]())
    assert answer.headers["Docker-Content-Digest"] == digest
    assert member.get(f"{NAME}/blobs/{digest}", 200).body == b""


# ── Mounts ───────────────────────────────────────────────────────────────────────────────────────────────────────────
LAYER = b"a layer"
IMAGE = Image(config=LAYER, layers=[])
ABSENT = sha256(b"never pushed")


@pytest.fixture
def sources(docker):
    """Push one layer in images of web, public, fixed and lab/secret, and an unreferenced layer in public."""
    for name in ("web/app", "public/app", "fixed/app"):
        docker("member").push(name, "1", IMAGE, shape="post")
    docker("owner", BARE_HOST).push("lab/secret/app", "1", IMAGE, shape="post")
    docker("member").push_blob("public/app", b"not in an image yet", "post")
    return docker


def test_pullable_blob_of_another_repository_is_mounted(sources, subtests):
    for person, host, target, source in (
        ("member", PROJECT_HOST, "web/a", "public/app"),
        ("member", PROJECT_HOST, "public/b", "web/app"),
        ("member", PROJECT_HOST, "web/c", "web/app"),
        ("member", PROJECT_HOST, "web/d", "fixed/another-image-of-it"),
        ("pusher", PROJECT_HOST, "web/e", "public/app"),
        ("owner", BARE_HOST, "demo/web/f", "lab/secret/app"),
        ("member", BARE_HOST, "demo/public/g", "demo/web/app"),
        ("outsider", BARE_HOST, "rival/rivals/h", "demo/public/app"),
    ):
        with subtests.test(f"{person} mounts from {source} into {target}"):
            client = sources(person, host)
            answer = client.post(f"{target}/blobs/uploads/?mount={sha256(LAYER)}&from={source}", 201)
            assert answer.headers["Location"] == f"/v2/{target}/blobs/{sha256(LAYER)}"
            assert answer.headers["Docker-Content-Digest"] == sha256(LAYER)
            assert answer.body == b""
            assert client.get(answer.headers["Location"], 200).body == LAYER
            client.push_manifest(target, "1", IMAGE.manifest)
    assert not UploadSession.objects.open().exists()


def test_mounted_blob_is_visible_to_pushers_only_until_an_image_names_it(sources):
    sources("pusher").post(f"web/new/blobs/uploads/?mount={sha256(b'not in an image yet')}&from=web/app", 202)
    sources("member").post(f"web/new/blobs/uploads/?mount={sha256(b'not in an image yet')}&from=public/app", 201)
    blob = f"web/new/blobs/{sha256(b'not in an image yet')}"
    sources("pusher").get(blob, 200)
    sources("viewer").get(blob, 404)
    sources("reader").get(blob, 404)


@dataclass
class NoMount:
    """A mount that must become an ordinary upload."""

    query: str
    person: str = "pusher"
    host: str = PROJECT_HOST
    target: str = "web/new"


NO_MOUNTS = {
    "no right on the source": NoMount(f"?mount={sha256(LAYER)}&from=fixed/app"),
    "no right on the source, absent blob": NoMount(f"?mount={ABSENT}&from=fixed/app"),
    "no right on the source, other project": NoMount(
        f"?mount={sha256(LAYER)}&from=lab/secret/app", host=BARE_HOST, target="demo/web/new"
    ),
    "absent blob": NoMount(f"?mount={ABSENT}&from=public/app"),
    "absent blob, own repository": NoMount(f"?mount={ABSENT}&from=web/app"),
    "a blob that no image of the source names": NoMount(
        f"?mount={sha256(b'not in an image yet')}&from=public/app",
    ),
    "no from": NoMount(f"?mount={sha256(LAYER)}"),
    "empty from": NoMount(f"?mount={sha256(LAYER)}&from="),
    "a source that does not exist": NoMount(f"?mount={sha256(LAYER)}&from=nowhere/app"),
    "a source of one word": NoMount(f"?mount={sha256(LAYER)}&from=web"),
    "a source in capitals": NoMount(f"?mount={sha256(LAYER)}&from=WEB/APP"),
    "dots": NoMount(f"?mount={sha256(LAYER)}&from=../web/app"),
    "NUL": NoMount(f"?mount={sha256(LAYER)}&from=public/app%00"),
    "end of line": NoMount(f"?mount={sha256(LAYER)}&from=public/app%0a"),
    "a very long source": NoMount(f"?mount={sha256(LAYER)}&from={'a/' * 20_000}a"),
    "a source spelled as on the bare host": NoMount(f"?mount={sha256(LAYER)}&from=demo/public/app"),
    "a digest of another algorithm": NoMount("?mount=md5:d41d8cd98f00b204e9800998ecf8427e&from=public/app"),
    "a word for a digest": NoMount("?mount=nonsense&from=public/app"),
    "a digest with dots": NoMount("?mount=sha256:../../etc/passwd&from=public/app"),
    "a digest in capitals": NoMount(f"?mount={sha256(LAYER).upper()}&from=public/app"),
    "a digest with NUL": NoMount(f"?mount={sha256(LAYER)}%00&from=public/app"),
    "an empty digest": NoMount("?mount=&from=public/app"),
}


def _without_the_id(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    identifier = answer.headers["Docker-Upload-UUID"]
    assert uuid.UUID(identifier).version == 4
    headers = {name: value.replace(identifier, "<id>") for name, value in answer.headers.items()}
    headers.pop("X-Request-Id")
    return answer.status, headers, answer.body


def test_refused_mount_opens_an_upload_and_reveals_nothing(sources, subtests):
    for case, mount in NO_MOUNTS.items():
        client = sources(mount.person, mount.host)
        with subtests.test(case):
            answer = client.post(f"{mount.target}/blobs/uploads/{mount.query}", 202)
            assert _without_the_id(answer) == _without_the_id(client.start(mount.target))
            client.delete(answer.headers["Location"], 204)


def test_a_token_for_the_target_alone_mounts_nothing_from_elsewhere(sources):
    member = sources("member")
    path = f"/v2/web/new/blobs/uploads/?mount={sha256(LAYER)}&from=public/app"
    bearer = {"Authorization": f"Bearer {member.token('repository:web/new:pull,push')}"}
    assert member.raw("POST", path, headers=bearer).status == 202
    both = member.token("repository:web/new:pull,push repository:public/app:pull")
    assert member.raw("POST", path, headers={"Authorization": f"Bearer {both}"}).status == 201


def test_a_key_without_a_token_mounts_only_what_its_holder_may_pull(sources):
    """Basic credentials have no scope, so only the permission on the source counts."""
    pusher = sources("pusher")
    path = f"/v2/web/new/blobs/uploads/?mount={sha256(LAYER)}&from="
    assert pusher.raw("POST", f"{path}fixed/app", headers=pusher.basic()).status == 202
    assert pusher.raw("POST", f"{path}public/app", headers=pusher.basic()).status == 201


def test_blob_in_the_trash_is_not_mounted(sources):
    member = sources("member")
    member.delete(f"public/app/manifests/{IMAGE.digest}", 202)
    BlobLease.objects.filter(repository__name="public").delete()
    member.post(f"web/new/blobs/uploads/?mount={sha256(LAYER)}&from=public/app", 202)


def test_blob_with_missing_bytes_is_not_mounted(sources, storage_folder):
    member = sources("member")
    (storage_folder / Blob.objects.get(digest=sha256(LAYER)).storage_key).unlink()
    location = member.post(f"web/new/blobs/uploads/?mount={sha256(LAYER)}&from=public/app", 202).headers["Location"]
    member.put(with_digest(location, sha256(LAYER)), 201, body=LAYER, headers=OCTETS)
    assert member.get(f"web/new/blobs/{sha256(LAYER)}", 200).body == LAYER
    assert member.get(f"public/app/blobs/{sha256(LAYER)}", 200).body == LAYER


# ── Refusals at the start ────────────────────────────────────────────────────────────────────────────────────────────
def test_upload_into_a_new_image_of_a_full_repository_is_refused_at_the_start(member, staged):
    member.push("web/app", "1.0")
    Project.objects.filter(name="demo").update(image_limit=1)
    for path, body in (("web/other/blobs/uploads/", b""), (f"web/other/blobs/uploads/?digest={sha256(DATA)}", DATA)):
        refused = member.request("POST", path, 403, body=body, headers=OCTETS)
        assert refused.codes == ["DENIED"]
        assert "1 of 1 images" in refused.message
        assert refused.json()["errors"][0]["detail"]["quota"] == "images"
    assert not UploadSession.objects.filter(image_name="other").exists()
    assert not Blob.objects.filter(digest=sha256(DATA)).exists()
    assert staged() == 0
    member.start("web/app")
    member.start("public/app")
    Project.objects.filter(name="demo").update(image_limit=2)
    member.start("web/other")


def test_deleted_image_does_not_count_for_the_quota(member, world):
    member.push("web/app", "1.0")
    Project.objects.filter(name="demo").update(image_limit=1)
    trash.delete_images(world.member.actor, world.repository("web"), ["app"])
    member.start("web/other")


def test_upload_into_an_existing_image_is_allowed_above_a_lowered_quota(member):
    member.push("web/app", "1.0")
    Project.objects.filter(name="demo").update(image_limit=0)
    member.start("web/app")


def test_upload_into_an_expired_image_is_refused_at_the_start(member, staged):
    member.push("web/app", "1.0")
    StoredImage.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    for path, body in ((UPLOADS, b""), (f"{UPLOADS}?digest={sha256(DATA)}", DATA)):
        refused = member.request("POST", path, 403, body=body, headers=OCTETS)
        assert refused.codes == ["DENIED"]
        assert "expired" in refused.message
    assert staged() == 0
    StoredImage.objects.update(expires_at=timezone.now() + timedelta(days=1))
    member.start(NAME)
