"""Blobs: pulls, ranges, conditions, visibility, deletion and lost bytes."""

import email
import hashlib
from datetime import timedelta

import pytest
from django.utils import timezone

from registry.models import Blob, BlobLease, ObjectTrash
from tests.support.docker_client import BARE_HOST, DockerClient
from tests.support.images import OCTETS, Image, sha256
from tests.support.personas import make_key
from tests.support.registry_client import Answer

NAME = "web/app"
DATA = b"0123456789"
PATH = f"{NAME}/blobs/{sha256(DATA)}"
NOTHING = f"{NAME}/blobs/{sha256(b'')}"
NEVER_PUSHED = sha256(b"never pushed")
IMAGE = Image(config=DATA, layers=[])


@pytest.fixture
def member(docker):
    """A client that has pushed DATA and no manifest."""
    client = docker("member")
    client.push_blob(NAME, DATA, "post")
    return client


@pytest.fixture
def stored(storage_folder):
    """Return the file of a blob."""
    return lambda data: storage_folder / Blob.objects.get(digest=sha256(data)).storage_key


# ── Pulls ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_blob_is_pulled_with_the_headers_that_clients_read(member):
    whole, looked_for = member.get(PATH, 200), member.head(PATH, 200)
    assert whole.body == DATA
    assert looked_for.body == b""
    for answer in (whole, looked_for):
        assert answer.headers["Content-Length"] == "10"
        assert answer.headers["Docker-Content-Digest"] == sha256(DATA)
        assert answer.headers["Content-Type"] == OCTETS
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["ETag"] == f'"{sha256(DATA)}"'
        assert answer.headers["Content-Disposition"] == "attachment"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        assert "Content-Range" not in answer.headers


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"x" * (1024 * 1024), b"<html>" * 500_000], ids=lambda data: str(len(data))
)
def test_blobs_of_every_size_are_pulled(docker, data):
    docker("member").push_blob(NAME, data)
    answer = docker("member").get(f"{NAME}/blobs/{sha256(data)}", 200)
    assert answer.body == data
    assert answer.headers["Content-Length"] == str(len(data))
    assert answer.headers["Content-Type"] == OCTETS


def test_missing_blob_is_blob_unknown(member):
    assert member.get(f"{NAME}/blobs/{NEVER_PUSHED}", 404).codes == ["BLOB_UNKNOWN"]
    assert member.head(f"{NAME}/blobs/{NEVER_PUSHED}", 404).body == b""
    sha512 = hashlib.sha512(DATA).hexdigest()
    assert member.get(f"{NAME}/blobs/sha512:{sha512}", 404).codes == ["BLOB_UNKNOWN"]


# ── Ranges ───────────────────────────────────────────────────────────────────────────────────────────────────────────
RANGES = {
    "bytes=0-0": ("bytes 0-0/10", b"0"),
    "bytes=2-5": ("bytes 2-5/10", b"2345"),
    "bytes=0-9": ("bytes 0-9/10", DATA),
    "bytes=5-": ("bytes 5-9/10", b"56789"),
    "bytes=0-": ("bytes 0-9/10", DATA),
    "bytes=9-": ("bytes 9-9/10", b"9"),
    "bytes=-3": ("bytes 7-9/10", b"789"),
    "bytes=-1": ("bytes 9-9/10", b"9"),
    "bytes=-10": ("bytes 0-9/10", DATA),
    "bytes=-100": ("bytes 0-9/10", DATA),
    "bytes=8-100": ("bytes 8-9/10", b"89"),
    "bytes=0-999999999999999999": ("bytes 0-9/10", DATA),
    "bytes=0-1,500-600": ("bytes 0-1/10", b"01"),
}


def test_one_range_is_answered_exactly(member, subtests):
    for asked, (content_range, body) in RANGES.items():
        with subtests.test(asked):
            answer = member.get(PATH, 206, headers={"Range": asked})
            assert answer.headers["Content-Range"] == content_range
            assert answer.headers["Content-Length"] == str(len(body))
            assert answer.headers["Content-Type"] == OCTETS
            assert answer.headers["Docker-Content-Digest"] == sha256(DATA)
            assert answer.headers["ETag"] == f'"{sha256(DATA)}"'
            assert answer.body == body


RANGES_OF_NOTHING = {
    DATA: [
        "bytes=10-",
        "bytes=10-20",
        "bytes=500-0",
        "bytes=-0",
        "bytes=500-600,700-800",
        "bytes=9999999999999999999-",
    ],
    b"": ["bytes=0-", "bytes=0-0", "bytes=-5"],
}


@pytest.mark.parametrize("data", RANGES_OF_NOTHING)
def test_range_beyond_the_blob_is_416(member, subtests, data):
    member.push_blob(NAME, data, "post")
    for asked in RANGES_OF_NOTHING[data]:
        with subtests.test(asked):
            answer = member.get(f"{NAME}/blobs/{sha256(data)}", 416, headers={"Range": asked})
            assert answer.headers["Content-Range"] == f"bytes */{len(data)}"


NO_RANGES = [
    "",
    "bytes",
    "bytes=",
    "bytes=-",
    "bytes=abc",
    "bytes=a-b",
    "bytes=0x1-0x2",
    "bytes=1_0-2_0",
    "bytes=+1-2",
    "bytes=\N{ARABIC-INDIC DIGIT ONE}-\N{ARABIC-INDIC DIGIT TWO}",
    "bytes=0-1\n",
    "bytes=0-1-2",
    "items=0-1",
    "0-1",
    "bytes 0-1/10",
    f"bytes=0-{'9' * 5000}",
    f"bytes=-{'9' * 5000}",
    f"bytes={'0-0,' * 100_000}0-0",
]


def test_invalid_range_is_answered_with_the_whole_blob(member, subtests):
    for asked in NO_RANGES:
        with subtests.test(ascii(asked[:40])):
            answer = member.get(PATH, 200, headers={"Range": asked})
            assert answer.body == DATA
            assert answer.headers["Content-Length"] == "10"
            assert "Content-Range" not in answer.headers


def parts_of(answer: Answer) -> list[tuple[str, bytes]]:
    """Return Content-Range and bytes of each part of a multipart/byteranges answer."""
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + answer.body)
    assert parts.get_content_type() == "multipart/byteranges"
    return [(str(part["Content-Range"]), bytes(part.get_payload(decode=True))) for part in parts.get_payload()]


SEVERAL_RANGES = {
    "bytes=0-1,4-5": [("bytes 0-1/10", b"01"), ("bytes 4-5/10", b"45")],
    "bytes=0-0, 2-2 ,-1": [("bytes 0-0/10", b"0"), ("bytes 2-2/10", b"2"), ("bytes 9-9/10", b"9")],
    "bytes=8-,0-1": [("bytes 8-9/10", b"89"), ("bytes 0-1/10", b"01")],
    "bytes=0-1,7-20,500-600": [("bytes 0-1/10", b"01"), ("bytes 7-9/10", b"789")],
}


def test_several_ranges_get_all_parts_or_the_whole_blob(member, subtests):
    """podman (zstd:chunked) takes the answer for all requested ranges: the first range alone would break it."""
    for asked, expected in SEVERAL_RANGES.items():
        with subtests.test(asked):
            answer = member.get(PATH, headers={"Range": asked})
            assert answer.status in (200, 206)
            assert answer.headers["Content-Length"] == str(len(answer.body))
            assert "Content-Range" not in answer.headers
            if answer.status == 206:
                assert parts_of(answer) == expected
            else:
                assert answer.body == DATA


def test_overlapping_ranges_get_no_more_than_the_whole_blob(member):
    answer = member.get(PATH, 200, headers={"Range": "bytes=" + ",".join(["0-9"] * 500)})
    assert answer.body == DATA


def test_head_ignores_range(member, subtests):
    """RFC 9110, section 14.2: Range applies to GET only."""
    for asked in ("bytes=2-5", "bytes=10-", "bytes=0-1,4-5"):
        with subtests.test(asked):
            answer = member.head(PATH, 200, headers={"Range": asked})
            assert answer.headers["Content-Length"] == "10"
            assert "Content-Range" not in answer.headers


# ── Conditions ───────────────────────────────────────────────────────────────────────────────────────────────────────
ETAG = f'"{sha256(DATA)}"'


def test_matching_if_none_match_is_304(member, subtests):
    for condition in (ETAG, f"W/{ETAG}", f'"another", {ETAG}', "*"):
        for method in ("GET", "HEAD"):
            with subtests.test(f"{method} {condition}"):
                answer = member.request(method, PATH, 304, headers={"If-None-Match": condition})
                assert answer.body == b""
                assert answer.headers["ETag"] == ETAG
                assert answer.headers["Content-Length"] == str(len(DATA)), "of what is not sent: RFC 9110, 8.6"


def test_if_none_match_takes_precedence_over_range(member):
    member.get(PATH, 304, headers={"If-None-Match": ETAG, "Range": "bytes=0-1"})


def test_other_if_none_match_gets_the_blob(member, subtests):
    for condition in ('"another"', sha256(DATA), "", '""', f'"{NEVER_PUSHED}"'):
        with subtests.test(condition):
            assert member.get(PATH, 200, headers={"If-None-Match": condition}).body == DATA


def test_matching_if_range_gets_the_range(member):
    answer = member.get(PATH, 206, headers={"Range": "bytes=5-", "If-Range": ETAG})
    assert answer.body == b"56789"


def test_other_if_range_gets_the_whole_blob(member, subtests):
    for condition in ('"another"', f"W/{ETAG}", sha256(DATA), "Wed, 21 Oct 2015 07:28:00 GMT", f'"{NEVER_PUSHED}"'):
        with subtests.test(condition):
            answer = member.get(PATH, 200, headers={"Range": "bytes=5-", "If-Range": condition})
            assert answer.body == DATA
            assert "Content-Range" not in answer.headers


def test_other_if_range_ignores_an_unsatisfiable_range(member):
    assert member.get(PATH, 200, headers={"Range": "bytes=500-", "If-Range": '"another"'}).body == DATA


# ── Visibility ───────────────────────────────────────────────────────────────────────────────────────────────────────
HIDDEN = (404, "BLOB_UNKNOWN")
NOWHERE = (404, "NAME_UNKNOWN")
NOBODY = (401, "UNAUTHORIZED")
SEEN = (200, "")


def sees(client: DockerClient, path: str) -> tuple[int, str]:
    """Return status and error code of a pull. HEAD must agree."""
    answer = client.get(path)
    assert client.head(path).status == answer.status
    return answer.status, "" if answer.status == 200 else answer.codes[0]


@pytest.mark.parametrize(
    ("person", "without_image", "with_image", "deleted", "deleted_and_no_lease"),
    [
        ("owner", SEEN, SEEN, SEEN, HIDDEN),
        ("admin", SEEN, SEEN, SEEN, HIDDEN),
        ("member", SEEN, SEEN, SEEN, HIDDEN),
        ("pusher", SEEN, SEEN, SEEN, HIDDEN),
        ("reader", HIDDEN, SEEN, HIDDEN, HIDDEN),
        ("viewer", HIDDEN, SEEN, HIDDEN, HIDDEN),
        ("stranger", NOWHERE, NOWHERE, NOWHERE, NOWHERE),
        ("outsider", NOWHERE, NOWHERE, NOWHERE, NOWHERE),
        (None, NOBODY, NOBODY, NOBODY, NOBODY),
    ],
)
def test_blob_is_visible_through_an_image_and_before_to_its_pushers(
    docker, member, person, without_image, with_image, deleted, deleted_and_no_lease
):
    client = docker(person)
    assert sees(client, PATH) == without_image
    member.push_manifest(NAME, "1.0", IMAGE.manifest)
    assert sees(client, PATH) == with_image
    member.delete(f"{NAME}/manifests/{IMAGE.digest}", 202)
    assert sees(client, PATH) == deleted
    BlobLease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert sees(client, PATH) == deleted_and_no_lease


def test_pull_only_key_sees_only_blobs_that_images_name(member, world):
    puller = DockerClient(make_key(world.member.user, "pull only", actions=["pull"]))
    assert sees(puller, PATH) == HIDDEN
    member.push_manifest(NAME, "1.0", IMAGE.manifest)
    assert sees(puller, PATH) == SEEN


def test_blob_is_visible_in_its_repository_only(docker, member):
    member.push_manifest(NAME, "1.0", IMAGE.manifest)
    assert sees(docker("viewer"), f"web/other/image/blobs/{sha256(DATA)}") == SEEN
    assert sees(member, f"public/app/blobs/{sha256(DATA)}") == HIDDEN
    assert sees(member, f"fixed/app/blobs/{sha256(DATA)}") == HIDDEN
    owner = docker("owner", BARE_HOST)
    assert sees(owner, f"lab/secret/app/blobs/{sha256(DATA)}") == HIDDEN
    assert sees(owner, f"demo/{PATH}") == SEEN


def test_anonymous_client_pulls_public_blobs(docker):
    docker("member").push("public/app", "1.0", IMAGE, shape="post")
    assert docker(None).get(f"public/app/blobs/{sha256(DATA)}", 200).body == DATA
    assert docker("stranger").get(f"public/app/blobs/{sha256(DATA)}", 200).body == DATA


def test_head_by_a_pusher_keeps_the_blob_for_a_manifest(docker, member):
    """A blob answered with 200 can be named in a manifest for hours, even if its collection was due."""
    pusher = docker("pusher")
    bearer = {"Authorization": f"Bearer {pusher.token('repository:web/app:pull,push')}"}
    soon = timezone.now() + timedelta(minutes=1)
    BlobLease.objects.update(expires_at=soon)
    docker("member").head(PATH, 200)
    assert BlobLease.objects.get().expires_at == soon, "a pull writes nothing"
    pusher.head(PATH, 200, headers=bearer)
    assert BlobLease.objects.get().expires_at > soon + timedelta(hours=12)


def test_head_by_a_pusher_keeps_the_blob_of_a_deleted_image(docker, member):
    member.push_manifest(NAME, "1.0", IMAGE.manifest)
    BlobLease.objects.all().delete()
    pusher = docker("pusher")
    bearer = {"Authorization": f"Bearer {pusher.token('repository:web/app:pull,push')}"}
    pusher.head(PATH, 200, headers=bearer)
    member.delete(f"{NAME}/manifests/{IMAGE.digest}", 202)
    pusher.push_manifest("web/other", "1.0", IMAGE.manifest)


# ── Deletion ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_deleted_blob_is_gone_immediately(member):
    answer = member.delete(PATH, 202)
    assert answer.body == b""
    assert sees(member, PATH) == HIDDEN
    assert member.delete(PATH, 404).codes == ["BLOB_UNKNOWN"]
    member.push_manifest(NAME, "1.0", IMAGE.manifest, expect=400)
    member.push_blob(NAME, DATA)
    assert sees(member, PATH) == SEEN


def test_blob_of_an_image_is_not_deleted(member):
    member.push_manifest("web/other", "1.0", IMAGE.manifest)
    assert member.delete(PATH, 405).codes == ["UNSUPPORTED"]
    assert sees(member, PATH) == SEEN
    member.delete(f"web/other/manifests/{IMAGE.digest}", 202)
    member.delete(PATH, 202)
    assert sees(member, PATH) == HIDDEN


def test_deleted_blob_stays_in_other_repositories(member):
    member.push("public/app", "1.0", IMAGE, shape="post")
    member.delete(PATH, 202)
    assert sees(member, PATH) == HIDDEN
    assert member.get(f"public/app/blobs/{sha256(DATA)}", 200).body == DATA


def test_deleting_a_missing_blob_is_blob_unknown(member):
    assert member.delete(f"{NAME}/blobs/{NEVER_PUSHED}", 404).codes == ["BLOB_UNKNOWN"]
    assert member.delete(f"public/app/blobs/{sha256(DATA)}", 404).codes == ["BLOB_UNKNOWN"]


def test_only_project_members_delete_blobs(docker, member):
    for person in ("pusher", "viewer", "reader"):
        refused = docker(person).delete(PATH, 403)
        assert refused.codes == ["DENIED"]
        assert "Project Member" in refused.message
    assert sees(member, PATH) == SEEN


# ── Lost bytes ───────────────────────────────────────────────────────────────────────────────────────────────────────
DAMAGES = {
    "gone": lambda file: file.unlink(),
    "shorter": lambda file: file.write_bytes(DATA[:-1]),
    "empty": lambda file: file.write_bytes(b""),
    "longer": lambda file: file.write_bytes(DATA + b"!"),
}


@pytest.mark.parametrize(("damage", "shape"), [*((damage, "patch") for damage in DAMAGES), ("gone", "post")])
def test_damaged_blob_is_missing_until_it_is_pushed_again(docker, member, stored, shape, damage):
    member.push_manifest(NAME, "1.0", IMAGE.manifest)
    file = stored(DATA)
    DAMAGES[damage](file)
    for client in (member, docker("viewer")):
        assert sees(client, PATH) == HIDDEN
    member.push_blob(NAME, DATA, shape)
    assert stored(DATA) != file, "keys are never used again"
    assert docker("viewer").get(PATH, 200).body == DATA
    assert docker("viewer").pull(NAME, "1.0")[0] == IMAGE.manifest
    if damage != "gone":
        assert str(file).endswith(ObjectTrash.objects.get().storage_key)


def test_a_damaged_blob_is_repaired_for_every_repository_at_once(docker, member, stored):
    member.push("public/app", "1.0", IMAGE, shape="post")
    stored(DATA).unlink()
    assert sees(docker(None), f"public/app/blobs/{sha256(DATA)}") == HIDDEN
    member.push_blob(NAME, DATA)
    assert docker(None).get(f"public/app/blobs/{sha256(DATA)}", 200).body == DATA


def test_head_of_a_damaged_blob_by_a_pusher_is_404(docker, member, stored):
    stored(DATA).unlink()
    pusher = docker("pusher")
    bearer = {"Authorization": f"Bearer {pusher.token('repository:web/app:pull,push')}"}
    pusher.head(PATH, 404, headers=bearer)
