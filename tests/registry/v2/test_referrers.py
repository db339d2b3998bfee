"""Referrers: the list of signatures, SBOMs and attestations of a digest."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from registry.models import Manifest
from registry.oci import media_types
from tests.support.docker_client import BARE_HOST, DockerClient
from tests.support.images import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Image, descriptor, index_of, sha256
from tests.support.registry_client import Answer

NAME = "web/app"
IMAGE = Image(layers=[])
SIGNATURE, SBOM = "application/vnd.example.signature", "application/vnd.example.sbom+json"
PATH = f"{NAME}/referrers/{IMAGE.digest}"
MIB = 1024 * 1024
SUBJECT = descriptor(IMAGE.manifest, IMAGE.media_type)


@pytest.fixture
def member(docker):
    """A client that has pushed IMAGE as 1.0."""
    client = docker("member")
    client.push(NAME, "1.0", IMAGE, shape="post")
    return client


def artifact(artifact_type: str = SIGNATURE, subject: dict[str, Any] = SUBJECT, **more: Any) -> bytes:
    """Return a manifest with the subject."""
    extra = {"subject": subject} | ({"artifactType": artifact_type} if artifact_type else {}) | more
    return Image(layers=[], more=extra).manifest


def index_artifact(**more: Any) -> bytes:
    """Return an index with IMAGE as its subject."""
    return index_of(**{"subject": SUBJECT} | more)


def attach(client: DockerClient, content: bytes, media_type: str = media_types.OCI_MANIFEST, name: str = NAME) -> str:
    """Push a manifest by its digest."""
    client.push_manifest(name, sha256(content), content, media_type)
    return sha256(content)


def digests(answer: Answer) -> list[str]:
    """Return the listed digests."""
    return [entry["digest"] for entry in answer.json()["manifests"]]


# ── The list ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_referrers_are_listed_as_an_index_with_the_fields_that_clients_read(docker, member):
    content = artifact(annotations={"org.example.signed-by": "시작", "b": "c"})
    attach(member, content)
    answer = docker("viewer").get(PATH, 200)
    assert answer.headers["Content-Type"] == OCI_INDEX
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert "OCI-Filters-Applied" not in answer.headers
    assert "Link" not in answer.headers
    assert answer.json() == {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {
                "mediaType": OCI_MANIFEST,
                "digest": sha256(content),
                "size": len(content),
                "artifactType": SIGNATURE,
                "annotations": {"org.example.signed-by": "시작", "b": "c"},
            }
        ],
    }
    looked_for = docker("viewer").head(PATH, 200)
    assert looked_for.body == b""
    assert looked_for.headers["Content-Type"] == answer.headers["Content-Type"]
    assert looked_for.headers["Content-Length"] == answer.headers["Content-Length"]


TYPES = {
    "its own": (artifact(SBOM), media_types.OCI_MANIFEST, SBOM),
    "of its config": (artifact(""), media_types.OCI_MANIFEST, OCI_CONFIG),
    "of its config, its own being empty": (artifact("", artifactType=""), media_types.OCI_MANIFEST, OCI_CONFIG),
    "an index's own": (index_artifact(artifactType=SBOM), media_types.OCI_INDEX, SBOM),
    "none": (index_artifact(), media_types.OCI_INDEX, None),
}


@pytest.mark.parametrize("case", TYPES)
def test_artifact_type_of_a_referrer(member, case):
    content, media_type, expected = TYPES[case]
    attach(member, content, media_type)
    (entry,) = member.get(PATH, 200).json()["manifests"]
    assert entry.get("artifactType") == expected
    assert entry["mediaType"] == media_type


def test_referrer_without_annotations_lists_none(member):
    attach(member, artifact())
    assert not member.get(PATH, 200).json()["manifests"][0].get("annotations")


def test_index_and_its_children_are_not_referrers_of_each_other(member):
    content = index_artifact(subject=None, manifests=[SUBJECT])
    attach(member, content, media_types.OCI_INDEX)
    assert digests(member.get(f"{NAME}/referrers/{sha256(content)}", 200)) == []
    assert digests(member.get(PATH, 200)) == []


def test_a_referrer_may_have_referrers(member):
    sbom = attach(member, artifact(SBOM))
    subject = {"mediaType": media_types.OCI_MANIFEST, "digest": sbom, "size": len(artifact(SBOM))}
    signature = attach(member, artifact(subject=subject))
    assert digests(member.get(PATH, 200)) == [sbom]
    assert digests(member.get(f"{NAME}/referrers/{sbom}", 200)) == [signature]


def test_tagged_referrers_are_listed_once(member):
    content = artifact()
    for tag in ("sha256-abc.sig", "another"):
        member.push_manifest(NAME, tag, content)
    assert digests(member.get(PATH, 200)) == [sha256(content)]


def test_referrers_in_other_images_are_not_listed(member):
    member.push_manifest("web/other", "1.0", IMAGE.manifest)
    attach(member, artifact(), name="web/other")
    assert digests(member.get(PATH, 200)) == []
    assert len(digests(member.get(f"web/other/referrers/{IMAGE.digest}", 200))) == 1


@pytest.mark.parametrize("digest", [sha256(b"still to come"), "sha512:" + "a" * 128], ids=["sha256", "sha512"])
def test_referrers_are_listed_before_their_subject_is_pushed(member, digest):
    subject = {"mediaType": media_types.OCI_MANIFEST, "digest": digest, "size": 5}
    content = artifact(subject=subject)
    attach(member, content)
    assert digests(member.get(f"{NAME}/referrers/{digest}", 200)) == [sha256(content)]


# ── Filter ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_filter_is_applied_and_confirmed(member):
    signature, sbom = attach(member, artifact()), attach(member, artifact(SBOM))
    image, untyped = attach(member, artifact("")), attach(member, index_artifact(), media_types.OCI_INDEX)
    for artifact_type, expected in (
        (SIGNATURE, [signature]),
        (SBOM, [sbom]),
        (OCI_CONFIG, [image]),
        ("application/vnd.nobody.has.this", []),
        (SIGNATURE.upper(), []),
    ):
        answer = member.get(f"{PATH}?artifactType={quote(artifact_type, safe='')}", 200)
        assert digests(answer) == expected
        assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    everything = member.get(f"{PATH}?artifactType=", 200)
    assert set(digests(everything)) == {signature, sbom, image, untyped}
    assert "OCI-Filters-Applied" not in everything.headers


def test_unencoded_plus_in_the_filter_is_a_plus(docker, member):
    """Form decoding turns a plus into a space. A media type has no space, so signatures would seem to be missing."""
    sbom, blank = attach(member, artifact("application/spdx+json")), attach(member, artifact("spdx json"))
    attach(member, artifact("application/spdx-json"))
    for query in ("application/spdx+json", "application/spdx%2Bjson", "application%2Fspdx%20json"):
        answer = docker("viewer").get(f"{PATH}?artifactType={query}", 200)
        assert digests(answer) == [sbom]
        assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert digests(docker("viewer").get(f"{PATH}?artifactType=spdx%20json", 200)) == [blank]
    answers = docker("viewer", BARE_HOST).pages(f"demo/{PATH}?n=1&artifactType=application/spdx+json")
    assert [digests(answer) for answer in answers] == [[sbom]]


# ── Empty lists ──────────────────────────────────────────────────────────────────────────────────────────────────────
NOTHING = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


@pytest.mark.parametrize("query", ["", f"?artifactType={SIGNATURE}"])
def test_missing_digest_has_an_empty_list(docker, subtests, query):
    """The conformance suite requests the list before any push, and oras requests a digest of zeros."""
    for person, name in (
        ("member", "web/never-pushed"),
        ("viewer", "web/never-pushed"),
        ("member", "not-made-yet/app"),
        ("reader", "not-made-yet/app"),
        (None, "public/never-pushed"),
    ):
        with subtests.test(f"{name} for {person}"):
            answer = docker(person).get(f"{name}/referrers/sha256:{'0' * 64}{query}", 200)
            assert answer.json() == NOTHING
            assert answer.headers["Content-Type"] == OCI_INDEX
            assert ("OCI-Filters-Applied" in answer.headers) == bool(query)


def test_a_digest_without_referrers_has_an_empty_list(member):
    assert member.get(PATH, 200).json() == NOTHING
    assert member.get(f"{NAME}/referrers/{sha256(b'never pushed')}", 200).json() == NOTHING


@pytest.mark.parametrize(
    ("person", "status", "code"),
    [("stranger", 404, "NAME_UNKNOWN"), ("outsider", 404, "NAME_UNKNOWN"), (None, 401, "UNAUTHORIZED")],
)
def test_referrers_are_not_listed_without_permission(docker, member, person, status, code):
    attach(member, artifact())
    client = docker(person)
    for name in (NAME, "web/never-pushed", "not-made-yet/app"):
        assert client.get(f"{name}/referrers/{IMAGE.digest}", status).codes == [code]


MALFORMED = [
    *("nonsense", "1.0", "sha256:", "sha256:abc", IMAGE.digest.upper(), f"{IMAGE.digest}0", f"{IMAGE.digest}%0a"),
    "md5:" + "a" * 32,
]


def test_a_malformed_digest_is_refused(member, subtests):
    for digest in MALFORMED:
        with subtests.test(digest):
            assert member.get(f"{NAME}/referrers/{digest}", 400).codes == ["DIGEST_INVALID"]


# ── Deleted ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_deleted_referrers_are_not_listed_until_they_are_pushed_again(docker, member):
    signature, sbom = attach(member, artifact()), attach(member, artifact(SBOM))
    member.delete(f"{NAME}/manifests/{signature}", 202)
    assert digests(docker("viewer").get(PATH, 200)) == [sbom]
    assert digests(docker("viewer").get(f"{PATH}?artifactType={SIGNATURE}", 200)) == []
    attach(member, artifact())
    assert set(digests(docker("viewer").get(PATH, 200))) == {sbom, signature}


def test_untagged_referrers_are_deleted_with_their_subject_and_tagged_ones_stay(member):
    signature, sbom = attach(member, artifact()), artifact(SBOM)
    member.push_manifest(NAME, "sbom", sbom)
    member.delete(f"{NAME}/manifests/{IMAGE.digest}", 202)
    assert digests(member.get(PATH, 200)) == [sha256(sbom)]
    member.get(f"{NAME}/manifests/{signature}", 404)
    assert member.get(f"{NAME}/manifests/sbom", 200).body == sbom


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def add_referrers(count: int) -> list[str]:
    """Create more referrers of IMAGE, every third one an SBOM. Return their digests in order."""
    image = Manifest.objects.get(digest=IMAGE.digest).image
    rows = Manifest.objects.bulk_create(
        Manifest(
            image=image,
            digest=sha256(str(number).encode()),
            media_type=media_types.OCI_MANIFEST,
            artifact_type=SBOM if number % 3 == 0 else SIGNATURE,
            subject=IMAGE.digest,
            content=b"{}",
            size=2,
            total_size=2,
        )
        for number in range(count)
    )
    return [row.digest for row in rows]


@pytest.mark.parametrize("count", [99, 100, 101, 250])
def test_following_the_links_gives_every_referrer_once(member, count):
    expected = add_referrers(count)
    answers = member.pages(PATH)
    assert [digest for answer in answers for digest in digests(answer)] == expected
    assert len(answers) == -(-count // 100)
    for answer in answers:
        assert answer.headers["Content-Type"] == OCI_INDEX
        assert answer.json()["schemaVersion"] == 2


def test_links_keep_the_filter(docker, member):
    expected = add_referrers(10)[::3]
    client = docker("viewer", BARE_HOST)
    answers = client.pages(f"demo/{PATH}?n=1&artifactType={quote(SBOM, safe='')}")
    assert [digest for answer in answers for digest in digests(answer)] == expected
    assert all(answer.headers["OCI-Filters-Applied"] == "artifactType" for answer in answers)
    assert len(answers) == 4


def test_a_link_is_relative(member):
    add_referrers(3)
    assert member.get(f"{PATH}?n=2", 200).next_page.startswith(f"/v2/{PATH}?")


def test_invalid_last_is_refused(member, subtests):
    for last in ("nonsense", "-1", "1.0", "%2B1", "1_0", "%D9%A3", "9" * 30, "1%00", "1%0a", ""):
        with subtests.test(last):
            assert member.get(f"{PATH}?last={last}", 400).codes == ["UNSUPPORTED"]


@pytest.mark.parametrize(
    "letter", ["x", "\N{HANGUL SYLLABLE GA}", '"', "\x01"], ids=["ASCII", "Korean", "quotes", "control"]
)
def test_pages_are_smaller_than_the_limit_of_clients(member, letter):
    """Clients read at most 4 MiB of an answer, and annotations may be almost that long."""
    weight = len(json.dumps(letter, ensure_ascii=False).encode()) - 2
    expected = []
    for number in range(3):
        tree = json.loads(artifact()) | {
            "annotations": {"number": str(number), "long": letter * (3 * MIB // 2 // weight)}
        }
        expected.append(attach(member, json.dumps(tree, ensure_ascii=False).encode()))
    answers = member.pages(PATH)
    assert [digest for answer in answers for digest in digests(answer)] == expected
    assert max(len(answer.body) for answer in answers) <= 4 * MIB
