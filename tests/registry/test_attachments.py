"""Signatures and the like: found in one query, no releases, and gone with the digest that they are attached to."""

import hashlib
import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from registry import attachments
from registry.attachments import Attachment, Kind
from registry.models import Image as StoredImage
from registry.models import Tag
from registry.oci import names
from tests.support.images import OCI_INDEX, Artifact, Blob, Image, sha256

pytestmark = pytest.mark.django_db
RELEASE, OTHER = Image(layers=[b"release"]), Image(layers=[b"other"])
SIGNATURE = Image(config=b'{"architecture": "", "os": ""}', layers=[b"signature"])
MORE = Image(config=b'{"architecture": "", "os": ""}', layers=[b"signature", b"another"])


def tag_of(image: Image, suffix: str = ".sig") -> str:
    return image.digest.replace(":", "-") + suffix


def referrer(artifact_type: str, text: bytes = b"text", subject: Image = RELEASE) -> Artifact:
    return Artifact(artifact_type, Blob("text/plain", text), subject.manifest)


def fallback(*referrers: Artifact) -> Blob:
    entries = [each.manifest.descriptor(artifactType=each.artifact_type) for each in referrers]
    return Blob(OCI_INDEX, json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode())


@pytest.fixture
def app(docker) -> StoredImage:
    """web/app:v1 is RELEASE."""
    docker("member").push("web/app", "v1", RELEASE)
    return StoredImage.objects.get(path="demo/web/app")


# ── Names ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("tag", "subject"),
    [
        (f"sha256-{'a' * 64}", f"sha256:{'a' * 64}"),
        (f"sha256-{'a' * 64}.sig", f"sha256:{'a' * 64}"),
        (f"sha256-{'0' * 64}.src", f"sha256:{'0' * 64}"),
        (f"sha512-{'b' * 64}", f"sha512:{'b' * 64}"),
        *(
            (tag, "")
            for tag in (f"sha256-{'a' * 63}.sig", f"sha256-{'a' * 65}", f"sha256-{'A' * 64}", "sha256-abc", "v1")
        ),
    ],
)
def test_the_name_of_a_tag_says_what_it_is_about(tag, subject):
    assert names.tag_subject(tag) == subject


# ── What is attached ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_tags_and_referrers_are_found_by_kind(docker, app):
    member = docker("member")
    attestation = Image(config=b'{"os": ""}', layers=[b"attestation"])
    sbom = referrer("application/spdx+json")
    signatures = [referrer("application/vnd.cncf.notary.signature", text) for text in (b"1", b"2")]
    member.push("web/app", tag_of(RELEASE), SIGNATURE)
    member.push("web/app", tag_of(RELEASE, ".att"), attestation)
    for each in (sbom, *signatures):
        member.push("web/app", each.digest, each)
    index = fallback(sbom)
    member.push_manifest("web/app", tag_of(RELEASE, ""), index, OCI_INDEX)
    member.push("web/app", "v2", OTHER)

    with CaptureQueriesContext(connection) as queries:
        found = attachments.attached(app, [RELEASE.digest, OTHER.digest])
    assert len(queries) == 1
    newest = max(each.digest for each in signatures)
    assert found == {
        RELEASE.digest: [
            Attachment(Kind.SIGNATURE, "application/vnd.cncf.notary.signature", "", newest, 2),
            Attachment(Kind.SIGNATURE, "", tag_of(RELEASE), SIGNATURE.digest),
            Attachment(Kind.ATTESTATION, "", tag_of(RELEASE, ".att"), attestation.digest),
            Attachment(Kind.SBOM, "application/spdx+json", "", sbom.digest),
            Attachment(Kind.REFERRERS, "", tag_of(RELEASE, ""), index.digest),
        ]
    }


@pytest.mark.parametrize(
    ("artifact_type", "kind"),
    [
        ("application/vnd.dev.cosign.artifact.sig.v1+json", Kind.SIGNATURE),
        ("application/vnd.dev.sigstore.bundle.v0.3+json", Kind.SIGNATURE),
        ("application/vnd.in-toto+json", Kind.ATTESTATION),
        ("application/vnd.cyclonedx+json", Kind.SBOM),
        ("application/vnd.example.readme", Kind.OTHER),
    ],
)
def test_the_artifact_type_says_the_kind(docker, app, artifact_type, kind):
    docker("member").push("web/app", "any", referrer(artifact_type))
    (found,) = attachments.attached(app, [RELEASE.digest])[RELEASE.digest]
    assert (found.kind, found.artifact_type) == (kind, artifact_type)


def test_a_tag_is_attached_while_its_subject_is_there(docker, app):
    member = docker("member")
    member.push("web/app", tag_of(OTHER), SIGNATURE)  # its subject comes later, as when all tags are copied by name
    rows = Tag.objects.live().filter(image=app)
    assert [tag.name for tag in rows.attached()] == []
    member.push("web/app", "other", OTHER)
    assert [tag.name for tag in rows.attached()] == [tag_of(OTHER)]
    assert {tag.name for tag in rows.unattached()} == {"v1", "other"}
    docker("member").push("web/elsewhere", tag_of(OTHER), SIGNATURE)
    assert Tag.objects.attached().count() == 1


def test_a_tag_that_names_its_own_subject_is_a_release(docker, app):
    docker("member").push("web/app", tag_of(RELEASE, ""), RELEASE)
    assert set(Tag.objects.unattached().values_list("name", flat=True)) == {"v1", tag_of(RELEASE, "")}
    assert attachments.attached(app, [RELEASE.digest]) == {}


def test_a_subject_in_sha512_is_found_by_the_part_that_its_tag_has(docker, app):
    long = f"sha512:{hashlib.sha512(OTHER.manifest).hexdigest()}"
    member = docker("member")
    member.push("web/app", "other", OTHER)
    member.push_manifest("web/app", long, OTHER.manifest)
    tag = f"sha512-{long[7:71]}"
    member.push("web/app", tag, SIGNATURE)
    assert [each.name for each in Tag.objects.attached()] == [tag]
    (found,) = attachments.attached(app, [long])[long]
    assert (found.tag, found.digest) == (tag, SIGNATURE.digest)


def test_the_query_of_a_page_uses_indexes(docker, app):
    docker("member").push("web/app", tag_of(RELEASE), SIGNATURE)
    with CaptureQueriesContext(connection) as queries:
        attachments.attached(app, [RELEASE.digest, sha256(b"none")])
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {queries[0]['sql']}")
            steps = [row[-1] for row in cursor.fetchall()]
            assert any("attached_tags" in step for step in steps), steps
            assert any("referrers" in step for step in steps), steps
