"""Tags: lists, several tags in one push, protection from overwriting, and quotas."""

import json
from urllib.parse import quote

import pytest

from accounts.models import Project
from registry import trash
from registry.models import Deletion, Event, Manifest, Tag
from registry.models import Image as StoredImage
from registry.oci import media_types
from tests.support.docker_client import BARE_HOST, DockerClient
from tests.support.images import Image, index_of, sha256
from tests.support.registry_client import Answer

NAME = "web/app"
LIST = f"{NAME}/tags/list"
IMAGE = Image(layers=[])
NEWER = Image(layers=[], more={"annotations": {"version": "newer"}})


@pytest.fixture
def member(docker):
    """A client that has pushed IMAGE as 1.0."""
    client = docker("member")
    client.push(NAME, "1.0", IMAGE, shape="post")
    return client


def tag(*names: str) -> None:
    """Create more tags of the only manifest."""
    manifest = Manifest.objects.get()
    Tag.objects.bulk_create(Tag(image=manifest.image, name=name, manifest=manifest) for name in names)


def pages(client: DockerClient, path: str) -> list[list[str]]:
    """Return every page of a list of tags by following its links."""
    return [answer.json()["tags"] for answer in client.pages(path)]


# ── Lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_tags_are_listed_in_byte_order(docker, member):
    names = ["Z", "A", "_", "a", "z", "B1", "b1", "1", "10", "2", "v1", "v1.0", "v1-0", "v1_0", "v10", "a-", "a.", "aA"]
    tag(*names)
    answer = docker("viewer").get(LIST, 200)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"name": NAME, "tags": sorted(["1.0", *names], key=str.encode)}
    assert "Link" not in answer.headers


def test_list_has_the_requested_name(docker, member):
    assert docker("member").get(LIST, 200).json()["name"] == NAME
    assert docker("member", BARE_HOST).get(f"demo/{LIST}", 200).json() == {"name": f"demo/{NAME}", "tags": ["1.0"]}


def test_a_list_without_tags_is_an_empty_list(docker, member):
    docker("member").push_manifest("web/untagged", IMAGE.digest, IMAGE.manifest)
    assert member.get("web/untagged/tags/list", 200).json() == {"name": "web/untagged", "tags": []}
    member.delete(f"{NAME}/manifests/1.0", 202)
    assert member.get(LIST, 200).json() == {"name": NAME, "tags": []}
    assert member.get(f"{LIST}?n=5", 200).json() == {"name": NAME, "tags": []}


def test_moved_tags_are_listed_once_and_deleted_ones_not(member):
    member.push_manifest(NAME, "latest", IMAGE.manifest)
    for image in (NEWER, IMAGE, NEWER):
        member.push_manifest(NAME, "latest", image.manifest)
    assert member.tags(NAME) == ["1.0", "latest"]
    member.delete(f"{NAME}/manifests/latest", 202)
    assert member.tags(NAME) == ["1.0"]


def test_list_can_be_requested_by_head(member):
    answer = member.head(LIST, 200)
    assert answer.body == b""
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("person", "status", "code"),
    [("reader", 404, "NAME_UNKNOWN"), ("stranger", 404, "NAME_UNKNOWN"), (None, 401, "UNAUTHORIZED")],
)
@pytest.mark.parametrize("name", ["web/never-pushed", "nowhere/app"])
def test_tags_of_an_unknown_image_are_name_unknown(docker, name, person, status, code):
    assert docker(person).get(f"{name}/tags/list", status).codes == [code]


def test_anonymous_client_lists_public_tags(docker):
    docker("member").push("public/app", "1.0", IMAGE, shape="post")
    assert docker(None).tags("public/app") == ["1.0"]


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────
MANY = sorted([*(f"v{number}" for number in range(24)), "1.0"], key=str.encode)


@pytest.fixture
def many(member):
    """A client that has pushed MANY tags."""
    tag(*(name for name in MANY if name != "1.0"))
    return member


@pytest.mark.parametrize("size", [1, 7, 24, 25, 26])
def test_following_the_links_gives_every_tag_once(many, size):
    found = pages(many, f"{LIST}?n={size}")
    assert [name for page in found for name in page] == MANY
    assert all(len(page) == size for page in found[:-1])
    assert 0 < len(found[-1]) <= size


@pytest.mark.parametrize("host", [None, BARE_HOST])
def test_a_link_is_relative_and_leads_on_at_the_same_host(docker, many, host):
    client, name = (docker("viewer", host), f"demo/{NAME}") if host else (docker("viewer"), NAME)
    link = client.get(f"{name}/tags/list?n=3", 200).next_page
    assert link.startswith(f"/v2/{name}/tags/list?")
    assert client.get(link, 200).json()["tags"] == MANY[3:6]


LASTS = {
    "1.0": MANY[1:],
    "v0": MANY[MANY.index("v0") + 1 :],
    "v23": MANY[MANY.index("v23") + 1 :],
    "v9": [],
    "v1x": [name for name in MANY if name > "v1x"],
    "0": MANY,
    "": MANY,
    "zzz": [],
    "V5": MANY[1:],
    "!": MANY,
    "\N{HANGUL SYLLABLE GA}": [],
    "v1/../v2": [name for name in MANY if name > "v1/../v2"],
    "%": MANY,
    "v_": [],
    "v'; DROP TABLE tags --": [name for name in MANY if name > "v'"],
}


def test_page_starts_after_last_even_if_it_does_not_exist(many, subtests):
    for last, expected in LASTS.items():
        with subtests.test(last):
            assert many.get(f"{LIST}?last={quote(last)}", 200).json()["tags"] == expected
            answer = many.get(f"{LIST}?n=2&last={quote(last)}", 200)
            assert answer.json()["tags"] == expected[:2]
            assert ("Link" in answer.headers) == (len(expected) > 2)


def test_page_of_size_zero_is_empty_without_a_link(many):
    answer = many.get(f"{LIST}?n=0", 200)
    assert answer.json() == {"name": NAME, "tags": []}
    assert "Link" not in answer.headers


WRONG_NUMBERS = [
    *(
        "-1",
        "%2B5",
        "1_0",
        "1e3",
        "0x10",
        "1.0",
        "1,000",
        "ten",
        "%201",
        "1%20",
        "1%0a",
        "1%00",
        "",
        "%D9%A3",
        "%EF%BC%95",
    ),
    *("%C2%BD", "%C2%B2", str(10**9), str(10**10), "9" * 5_000, "null", "true", "NaN", "Infinity"),
]


@pytest.mark.parametrize(
    "path", [LIST, "_catalog", f"{NAME}/referrers/{IMAGE.digest}"], ids=["tags", "catalog", "referrers"]
)
def test_invalid_page_size_is_refused(many, subtests, path):
    for number in WRONG_NUMBERS:
        with subtests.test(number[:40]):
            assert many.get(f"{path}?n={number}", 400).codes == ["UNSUPPORTED"]


@pytest.mark.parametrize("last", ["a%00b", "x" * 5_000])
def test_invalid_last_is_refused(many, last):
    assert many.get(f"{LIST}?last={last}", 400).codes == ["UNSUPPORTED"]


@pytest.mark.parametrize("query", ["", "?n=1001", "?n=999999999"])
def test_no_page_has_more_than_a_thousand_tags(member, query):
    names = [f"v{number:04}" for number in range(1_004)]
    tag(*names)
    answer = member.get(f"{LIST}{query}", 200)
    assert answer.json()["tags"] == ["1.0", *names[:999]]
    rest = member.get(answer.next_page, 200)
    assert rest.json()["tags"] == names[999:]
    assert "Link" not in rest.headers


def test_concurrent_changes_do_not_disturb_the_pages(many):
    """Every tag that existed all the time is listed once."""
    found, path, number = [], f"{LIST}?n=4", 0
    while path:
        answer = many.get(path, 200)
        found += answer.json()["tags"]
        tag(f"0-before-{number}", f"v0-within-{number}", f"z-behind-{number}")
        Tag.objects.filter(name=found[-1]).delete()
        path, number = answer.next_page, number + 1
        assert number < 100
    assert [name for name in found if name in MANY] == MANY
    assert len(found) == len(set(found))


# ── Several tags in one push ─────────────────────────────────────────────────────────────────────────────────────────
def push_with_tags(
    client: DockerClient, reference: str, *names: str, expect: int = 201, image: Image = IMAGE
) -> Answer:
    """PUT a manifest with ?tag=."""
    query = "&".join(f"tag={quote(name)}" for name in names)
    path = f"{NAME}/manifests/{reference}?{query}"
    return client.put(path, expect, body=image.manifest, headers={"Content-Type": media_types.OCI_MANIFEST})


def accepted(answer: Answer) -> list[str]:
    """Return the tags that an answer confirms."""
    return [name.strip() for name in answer.headers["OCI-Tag"].split(",")]


@pytest.mark.parametrize("count", [1, 16])
def test_one_push_sets_several_tags(docker, member, count):
    names = [f"v{number}" for number in range(count)]
    answer = push_with_tags(member, IMAGE.digest, *names)
    assert accepted(answer) == names
    assert answer.headers["Docker-Content-Digest"] == IMAGE.digest
    assert member.tags(NAME) == sorted(["1.0", *names])
    for name in names:
        assert docker("viewer").get(f"{NAME}/manifests/{name}", 200).body == IMAGE.manifest


def test_the_same_tag_twice_is_one_tag(member):
    assert accepted(push_with_tags(member, IMAGE.digest, "a", "b", "a")) == ["a", "b"]
    assert member.tags(NAME) == ["1.0", "a", "b"]


def test_more_than_sixteen_tags_are_too_many(member):
    assert push_with_tags(member, NEWER.digest, *(f"v{n}" for n in range(17)), expect=414, image=NEWER).codes
    assert member.tags(NAME) == ["1.0"]
    member.get(f"{NAME}/manifests/{NEWER.digest}", 404)


def test_one_invalid_tag_refuses_the_push(member, subtests):
    for wrong in ("", ".x", "-x", "a" * 129, "a b", "a/b", "a:b", "a,b", "a\n", "a\0", "\N{HANGUL SYLLABLE GA}"):
        with subtests.test(ascii(wrong[:9])):
            refused = push_with_tags(member, NEWER.digest, "good", wrong, expect=400, image=NEWER)
            assert refused.codes == ["MANIFEST_INVALID"]
    assert member.tags(NAME) == ["1.0"]
    member.get(f"{NAME}/manifests/{NEWER.digest}", 404)


def test_several_tags_may_move_at_once(member):
    push_with_tags(member, IMAGE.digest, "a", "b")
    push_with_tags(member, NEWER.digest, "b", "c", image=NEWER)
    meanings = {name: member.get(f"{NAME}/manifests/{name}", 200).body for name in ("a", "b", "c", "1.0")}
    assert meanings == {"a": IMAGE.manifest, "b": NEWER.manifest, "c": NEWER.manifest, "1.0": IMAGE.manifest}


# ── Protection from overwriting ──────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def fixed(docker):
    """A client that has pushed IMAGE as 1.0 and latest to a repository without tag overwrite."""
    client = docker("member")
    client.push("fixed/app", "1.0", IMAGE, shape="post")
    client.push_manifest("fixed/app", "latest", IMAGE.manifest)
    return client


def test_no_role_overwrites_a_tag_without_tag_overwrite(docker, fixed, subtests):
    before = Event.objects.count()
    for person in ("member", "admin", "owner"):
        for name in ("1.0", "latest"):
            with subtests.test(f"{name} by {person}"):
                refused = docker(person).push_manifest("fixed/app", name, NEWER.manifest, expect=403)
                assert refused.codes == ["DENIED"]
                assert f"app:{name}" in refused.message
                assert "overwritten" in refused.message
                assert fixed.get(f"fixed/app/manifests/{name}", 200).body == IMAGE.manifest
    fixed.get(f"fixed/app/manifests/{NEWER.digest}", 404)
    assert Event.objects.count() == before


def test_repeated_push_of_a_tag_succeeds_without_a_change(fixed):
    events, tags = Event.objects.count(), Tag.objects.count()
    assert fixed.push_manifest("fixed/app", "1.0", IMAGE.manifest).headers["Docker-Content-Digest"] == IMAGE.digest
    assert (Event.objects.count(), Tag.objects.count()) == (events + 1, tags)


def test_new_tags_and_digests_are_accepted_without_tag_overwrite(fixed):
    fixed.push_manifest("fixed/app", "2.0", NEWER.manifest)
    third = Image(layers=[], more={"annotations": {"version": "third"}})
    fixed.push_manifest("fixed/app", third.digest, third.manifest)
    assert fixed.tags("fixed/app") == ["1.0", "2.0", "latest"]


@pytest.mark.parametrize("names", [["new", "1.0"], ["1.0", "new"], ["latest"]])
def test_one_protected_tag_refuses_the_whole_push(fixed, names):
    query = "&".join(f"tag={name}" for name in names)
    path = f"fixed/app/manifests/{NEWER.digest}?{query}"
    refused = fixed.put(path, 403, body=NEWER.manifest, headers={"Content-Type": media_types.OCI_MANIFEST})
    assert refused.codes == ["DENIED"]
    assert fixed.tags("fixed/app") == ["1.0", "latest"]
    fixed.get(f"fixed/app/manifests/{NEWER.digest}", 404)


def test_deleted_tag_can_be_pushed_again_without_tag_overwrite(fixed):
    fixed.delete("fixed/app/manifests/1.0", 202)
    fixed.push_manifest("fixed/app", "1.0", NEWER.manifest)
    assert fixed.get("fixed/app/manifests/1.0", 200).body == NEWER.manifest


# ── Quotas ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def limit(**limits: int) -> None:
    """Lower the quotas of project demo."""
    Project.objects.filter(name="demo").update(**limits)


def test_full_image_refuses_new_tags_only(docker, member):
    member.push_manifest(NAME, "2.0", IMAGE.manifest)
    limit(tag_limit=2)
    refused = member.push_manifest(NAME, "3.0", NEWER.manifest, expect=403)
    assert refused.codes == ["DENIED"]
    assert "2 of 2 tags" in refused.message
    detail = refused.json()["errors"][0]["detail"]
    assert (detail["quota"], detail["used"], detail["limit"]) == ("tags", 2, 2)
    member.get(f"{NAME}/manifests/{NEWER.digest}", 404)
    member.push_manifest(NAME, "2.0", NEWER.manifest)  # moves
    member.push_manifest(NAME, "2.0", NEWER.manifest)  # stays
    member.push_manifest(NAME, NEWER.digest, NEWER.manifest)  # has no tag
    member.push_manifest("web/other", "1.0", IMAGE.manifest)  # another image
    assert member.tags(NAME) == ["1.0", "2.0"]
    member.delete(f"{NAME}/manifests/1.0", 202)
    member.push_manifest(NAME, "3.0", NEWER.manifest)
    assert docker("viewer").tags(NAME) == ["2.0", "3.0"]


def test_several_tags_are_accepted_together_or_not_at_all(member):
    limit(tag_limit=3)
    assert push_with_tags(member, NEWER.digest, "1.0", "a", "b", "c", expect=403, image=NEWER).codes == ["DENIED"]
    assert member.tags(NAME) == ["1.0"]
    assert member.get(f"{NAME}/manifests/1.0", 200).body == IMAGE.manifest
    push_with_tags(member, NEWER.digest, "1.0", "a", "b", image=NEWER)
    assert member.tags(NAME) == ["1.0", "a", "b"]


def test_full_repository_refuses_new_images_only(docker, member):
    limit(image_limit=1)
    refused = member.push_manifest("web/other", "1.0", IMAGE.manifest, expect=403)
    assert refused.codes == ["DENIED"]
    assert "1 of 1 images" in refused.message
    assert refused.json()["errors"][0]["detail"]["quota"] == "images"
    assert StoredImage.objects.count() == 1
    member.push_manifest(NAME, "2.0", NEWER.manifest)
    docker("member").push("public/app", "1.0", IMAGE, shape="post")
    limit(image_limit=2)
    member.push_manifest("web/other", "1.0", IMAGE.manifest)


def test_lowered_quota_deletes_nothing(member):
    limit(tag_limit=0, image_limit=0)
    assert member.pull(NAME, "1.0")[0] == IMAGE.manifest
    member.push_manifest(NAME, "1.0", NEWER.manifest)
    assert member.push_manifest(NAME, "2.0", NEWER.manifest, expect=403).codes == ["DENIED"]


def test_quota_of_digests_includes_digests_in_recovery(member, world):
    limit(digest_limit=2)
    member.push_manifest(NAME, NEWER.digest, NEWER.manifest)
    other = json.dumps(json.loads(NEWER.manifest) | {"annotations": {"a": "b"}}).encode()
    for reference in ("2.0", sha256(other)):  # with a tag or without
        refused = member.push_manifest(NAME, reference, other, expect=403)
        assert refused.codes == ["DENIED"]
        assert refused.json()["errors"][0]["detail"]["quota"] == "digests"
        assert "2 of 2 digests, those in Recovery included" in refused.message
    member.push_manifest(NAME, "2.0", NEWER.manifest)  # exists already
    member.delete(f"{NAME}/manifests/{NEWER.digest}", 202)
    member.push_manifest(NAME, "2.0", other, expect=403)  # the deleted digest still counts
    member.push_manifest(NAME, "2.0", NEWER.manifest)  # is revived
    member.delete(f"{NAME}/manifests/{NEWER.digest}", 202)
    trash.purge_now(world.member.actor, Deletion.objects.latest("pk"))
    member.push_manifest(NAME, "2.0", other)
    assert Manifest.objects.filter(image__path=f"demo/{NAME}").count() == 2


def test_index_and_its_children_count_as_one_tag(member):
    limit(tag_limit=1)
    member.delete(f"{NAME}/manifests/1.0", 202)
    content = index_of(IMAGE.manifest.descriptor())
    member.push_manifest(NAME, "all", content, media_types.OCI_INDEX)
    assert member.head(f"{NAME}/manifests/all", 200).headers["Docker-Content-Digest"] == sha256(content)
