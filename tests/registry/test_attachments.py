"""Attached tags and referrers: found in one query, not counted as releases, deleted with their digest."""

import hashlib
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.actors import SYSTEM
from accounts.models import Project
from registry import attachments, cleanup, quotas, trash
from registry.attachments import Attachment, Kind
from registry.cleanup import policies
from registry.models import Image as StoredImage
from registry.models import Manifest, Tag
from registry.oci import names
from tests.support.images import OCI_INDEX, Artifact, Blob, Image, index_of, sha256

pytestmark = pytest.mark.django_db
RELEASE, OTHER = Image(layers=[b"release"]), Image(layers=[b"other"])
SIGNATURE = Image(config=b'{"architecture": "", "os": ""}', layers=[b"signature"])
MORE = Image(config=b'{"architecture": "", "os": ""}', layers=[b"signature", b"another"])


def tag_of(image: Image, suffix: str = ".sig") -> str:
    return image.digest.replace(":", "-") + suffix


def referrer(artifact_type: str, text: bytes = b"text", subject: Image = RELEASE) -> Artifact:
    return Artifact(artifact_type, Blob("text/plain", text), subject.manifest)


def fallback(*referrers: Artifact) -> Blob:
    return index_of(*(each.manifest.descriptor(artifactType=each.artifact_type) for each in referrers))


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
def test_subject_is_read_from_the_name_of_a_tag(tag, subject):
    assert names.tag_subject(tag) == subject


# ── Overwriting, quotas and deletion ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom", ".src"])
def test_attached_tags_are_overwritten_in_a_repository_without_tag_overwrite(docker, suffix):
    member = docker("member")
    member.push("fixed/app", "v1", RELEASE)
    for image in (SIGNATURE, MORE):
        member.push("fixed/app", tag_of(RELEASE, suffix), image)
    assert Tag.objects.live().get(name=tag_of(RELEASE, suffix)).manifest.digest == MORE.digest


def test_tag_with_an_attached_name_but_no_subject_is_not_overwritten(docker):
    member = docker("member")
    member.push("fixed/app", "v1", RELEASE)
    member.push("fixed/app", tag_of(OTHER), SIGNATURE)
    for part in MORE.parts[:-1]:
        member.push_blob("fixed/app", part)
    assert member.push_manifest("fixed/app", tag_of(OTHER), MORE.manifest, expect=403).codes == ["DENIED"]
    member.push("fixed/app", tag_of(RELEASE, ""), RELEASE)  # names itself, so it is a release
    for part in OTHER.parts[:-1]:
        member.push_blob("fixed/app", part)
    member.push_manifest("fixed/app", tag_of(RELEASE, ""), OTHER.manifest, expect=403)
    member.push_manifest("fixed/app", "v1", OTHER.manifest, expect=403)


def test_the_quota_of_tags_counts_releases(docker, world):
    Project.objects.update(tag_limit=2)
    member = docker("member")
    releases = [Image(layers=[b"%d" % number]) for number in range(3)]
    for number, release in enumerate(releases[:2]):
        member.push("web/app", f"v{number}", release)
        for suffix in (".sig", ".att", ".sbom", ""):
            member.push("web/app", tag_of(release, suffix), SIGNATURE)
    for part in releases[2].parts[:-1]:
        member.push_blob("web/app", part)
    refused = member.push_manifest("web/app", "v2", releases[2].manifest, expect=403)
    assert "is full: 2 of 2 tags" in refused.message
    member.delete("web/app/manifests/v0", 202)
    member.push("web/app", "v2", releases[2])


def test_attached_tags_of_a_digest_are_limited(docker, app):
    member = docker("member")
    for number in range(quotas.ATTACHED_LIMIT):
        member.push("web/app", tag_of(RELEASE, f".{number}"), SIGNATURE)
    refused = member.push_manifest("web/app", tag_of(RELEASE, ".more"), SIGNATURE.manifest, expect=403)
    assert refused.codes == ["DENIED"]
    member.push("web/app", tag_of(RELEASE, ".0"), MORE)


def test_policy_deletes_attached_tags_only_with_their_digest(docker, world, app):
    member = docker("member")
    member.push("web/app", "v2", OTHER)
    for image in (RELEASE, OTHER):
        member.push("web/app", tag_of(image), SIGNATURE)
    old = timezone.now() - timedelta(days=90)
    Tag.objects.exclude(name="v2").update(pushed_at=old)
    policy = policies.set_policy(SYSTEM, world.repository("web"), keep_last=1, untagged_days=30, most_percent=100)
    cleanup.run(policy.pk)
    assert set(Tag.objects.live().values_list("name", flat=True)) == {"v2", tag_of(RELEASE), tag_of(OTHER)}
    Manifest.objects.update(pushed_at=old, last_pushed_at=old)
    Tag.objects.exclude(name="v2").update(started_at=old)
    Tag.objects.filter(name="v1").update(ended_at=old)
    replayed = [(each.deletion.tag, each.deletion.digest) for each in policies.replay(world.repository("web"), policy)]
    assert ("", RELEASE.digest) in replayed
    assert {tag for tag, _ in replayed} == {""}
    cleanup.run(policy.pk)
    assert set(Tag.objects.live().values_list("name", flat=True)) == {"v2", tag_of(OTHER)}


def test_attached_tags_are_deleted_and_recovered_with_their_digest(docker, world, app):
    member = docker("member")
    member.push("web/app", tag_of(RELEASE), SIGNATURE)
    signed_signature = Image(config=b'{"os": ""}', layers=[b"of the signature"])
    member.push("web/app", tag_of(SIGNATURE), signed_signature)
    sbom = referrer("application/spdx+json")
    member.push("web/app", sbom.digest, sbom)
    member.push_manifest("web/app", tag_of(RELEASE, ""), fallback(sbom), OCI_INDEX)
    everything = set(Tag.objects.values_list("name", "manifest__digest"))
    foreseen = trash.consequences(app, [RELEASE.digest])
    assert set(foreseen.tags) == {name for name, _ in everything}

    member.delete(f"web/app/manifests/{RELEASE.digest}", 202)
    assert not Tag.objects.live().exists()
    assert not Manifest.objects.live().exists()
    (deletion,) = trash.listed(world.projects["demo"])
    trash.restore(world.owner.actor, [deletion.pk])
    assert set(Tag.objects.live().values_list("name", "manifest__digest")) == everything
    assert Manifest.objects.live().count() == 5


def test_manifest_with_another_subject_or_release_tag_stays(docker, app):
    member = docker("member")
    member.push("web/app", "v2", OTHER)
    member.push("web/app", tag_of(RELEASE), SIGNATURE)
    member.push("web/app", tag_of(OTHER), SIGNATURE)  # attached to both
    member.push("web/app", tag_of(RELEASE, ".sbom"), MORE)
    member.push("web/app", "sbom", MORE)  # is a release too
    member.delete(f"web/app/manifests/{RELEASE.digest}", 202)
    assert set(Tag.objects.live().values_list("name", flat=True)) == {"v2", tag_of(OTHER), "sbom"}
    digests = set(Manifest.objects.live().values_list("digest", flat=True))
    assert digests == {OTHER.digest, SIGNATURE.digest, MORE.digest}


# ── Finding attachments ──────────────────────────────────────────────────────────────────────────────────────────────
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
def test_kind_is_derived_from_the_artifact_type(docker, app, artifact_type, kind):
    docker("member").push("web/app", "any", referrer(artifact_type))
    (found,) = attachments.attached(app, [RELEASE.digest])[RELEASE.digest]
    assert (found.kind, found.artifact_type) == (kind, artifact_type)


def test_tag_is_attached_while_its_subject_exists(docker, app):
    member = docker("member")
    member.push("web/app", tag_of(OTHER), SIGNATURE)  # the subject is pushed later, as when tags are copied by name
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
