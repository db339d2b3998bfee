"""The catalog, and the root ``/v2/``."""

from urllib.parse import quote

import pytest

from registry.models import Image as StoredImage
from registry.models import Repository
from tests.support.docker_client import BARE_HOST, PROJECT_HOST, DockerClient

WEB, PUBLIC, FIXED = ["web/app", "web/team/app"], ["public/app"], ["fixed/app"]
SECRET, RIVALS = ["secret/app"], ["rivals/app"]
OUTSIDE_HOST = "rival.kr-central-2.kcr.localhost:8080"
LAB_HOST = "lab.kr-central-2.kcr.localhost:8080"


@pytest.fixture
def images(docker):
    """Create one or two images in every repository."""
    for name in (*WEB, *PUBLIC, *FIXED, *SECRET, *RIVALS):
        repository, _, rest = name.partition("/")
        add(repository, rest)
    return docker


def add(repository: str, *names: str) -> None:
    """Create images of a repository as a push does."""
    found = Repository.objects.select_related("project").get(name=repository)
    StoredImage.objects.bulk_create(StoredImage(repository=found, name=name, path=f"{found}/{name}") for name in names)


def listed(client: DockerClient, query: str = "") -> list[str]:
    """Return the listed names."""
    return list(client.get(f"_catalog{query}", 200).json()["repositories"])


# ── Visibility ───────────────────────────────────────────────────────────────────────────────────────────────────────
SEEN = {
    "owner": FIXED + PUBLIC + WEB,
    "admin": FIXED + PUBLIC + WEB,
    "member": FIXED + PUBLIC + WEB,
    "reader": FIXED + PUBLIC + WEB,
    "pusher": PUBLIC + WEB,
    "viewer": PUBLIC + WEB,
    "stranger": PUBLIC,
    "outsider": PUBLIC,
    None: PUBLIC,
}


@pytest.mark.parametrize("person", SEEN)
def test_project_host_lists_its_pullable_images(images, person):
    assert listed(images(person)) == SEEN[person]


@pytest.mark.parametrize(
    ("person", "host", "expected"),
    [
        ("owner", LAB_HOST, SECRET),
        ("member", LAB_HOST, []),
        ("outsider", OUTSIDE_HOST, RIVALS),
        ("owner", OUTSIDE_HOST, []),
        (None, LAB_HOST, []),
        ("owner", "nowhere.kr-central-2.kcr.localhost:8080", []),
    ],
)
def test_each_project_host_lists_only_its_project(images, person, host, expected):
    assert listed(images(person, host)) == expected


@pytest.mark.parametrize(
    ("person", "expected"),
    [
        ("owner", [f"demo/{name}" for name in SEEN["owner"]] + ["lab/secret/app"]),
        ("viewer", [f"demo/{name}" for name in PUBLIC + WEB]),
        ("outsider", ["demo/public/app", "rival/rivals/app"]),
        (None, ["demo/public/app"]),
    ],
)
def test_the_bare_host_lists_the_images_of_all_projects(images, person, expected):
    assert listed(images(person, BARE_HOST)) == expected


def test_listed_names_can_be_requested(docker):
    member = docker("member")
    member.push("web/team/app", "1.0", shape="post")
    (name,) = listed(docker("viewer"))
    assert docker("viewer").tags(name) == ["1.0"]
    (name,) = listed(docker("viewer", BARE_HOST))
    assert docker("viewer", BARE_HOST).tags(name) == ["1.0"]


def test_without_images_the_list_is_empty(docker):
    answer = docker("member").get("_catalog", 200)
    assert answer.json() == {"repositories": []}
    assert answer.headers["Content-Type"] == "application/json"
    assert "Link" not in answer.headers


# ── Its scope ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_list_needs_the_catalog_scope(images):
    member = images("member")
    challenge = member.raw("GET", "/v2/_catalog").headers["WWW-Authenticate"]
    assert (
        challenge == f'Bearer realm="http://localhost:8080/token",service="{PROJECT_HOST}",scope="registry:catalog:*"'
    )
    for scope in ("", "repository:web/app:pull,push,delete", "registry:catalog:pull", "registry:other:*"):
        bearer = {"Authorization": f"Bearer {member.token(scope)}"}
        refused = member.raw("GET", "/v2/_catalog", headers=bearer)
        assert (refused.status, refused.codes) == (401, ["UNAUTHORIZED"])
        assert 'scope="registry:catalog:*"' in refused.headers["WWW-Authenticate"]
        assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
    bearer = {"Authorization": f"Bearer {member.token('registry:catalog:*')}"}
    assert member.raw("GET", "/v2/_catalog", headers=bearer).json()["repositories"] == SEEN["member"]
    assert member.raw("GET", "/v2/_catalog", headers=member.basic()).json()["repositories"] == SEEN["member"]


def test_token_for_the_catalog_pulls_no_image(images):
    member = images("member")
    bearer = {"Authorization": f"Bearer {member.token('registry:catalog:*')}"}
    assert member.raw("GET", "/v2/web/app/tags/list", headers=bearer).status == 401


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────
MANY = ["a", "a-b", "a.b", "a/b", "a0", "a_b", "ab", "b", "z", "0", "a/b/c", "a--b", "a__b"]


@pytest.fixture
def many(docker):
    """Create images in web and public whose names differ in their separators."""
    add("web", *MANY)
    add("public", *MANY)
    return docker


@pytest.mark.parametrize("size", [1, 3, 25, 26, 27])
@pytest.mark.parametrize(("host", "prefix"), [(PROJECT_HOST, ""), (BARE_HOST, "demo/")], ids=["project", "bare"])
def test_following_the_links_gives_every_image_once_in_byte_order(many, host, prefix, size):
    names = [f"{prefix}{repository}/{name}" for repository in ("public", "web") for name in MANY]
    client, path, found = many("viewer", host), f"_catalog?n={size}", []
    while path:
        answer = client.get(path, 200)
        page = answer.json()["repositories"]
        assert 0 < len(page) <= size
        found += page
        path = answer.next_page
        assert path.startswith("/v2/_catalog?") or not path
        assert len(found) <= len(names)
    assert found == sorted(names, key=str.encode)


def test_page_of_size_zero_is_empty_without_a_link(many):
    answer = many("member").get("_catalog?n=0", 200)
    assert answer.json() == {"repositories": []}
    assert "Link" not in answer.headers


def test_page_starts_after_last_even_if_it_does_not_exist(many, subtests):
    everything = listed(many("member"))
    for last in ("web/a", "public/zz", "q", "", "web/zz", "WEB", "zzz", "\N{HANGUL SYLLABLE GA}", "web/a/../b"):
        with subtests.test(last):
            expected = [name for name in everything if name.encode() > last.encode()]
            assert listed(many("member"), f"?last={quote(last)}") == expected


@pytest.mark.parametrize("last", ["a%00b", "x" * 5_000])
def test_invalid_last_is_refused(many, last):
    assert many("member").get(f"_catalog?last={last}", 400).codes == ["UNSUPPORTED"]


@pytest.mark.parametrize(
    ("query", "size"), [("", 100), ("?n=1000", 1_000), ("?n=1001", 1_000), ("?n=999999999", 1_000)]
)
def test_no_page_is_longer_than_its_limit(docker, query, size):
    names = [f"i{number:04}" for number in range(1_001)]
    add("web", *names)
    answer = docker("member").get(f"_catalog{query}", 200)
    assert answer.json()["repositories"] == [f"web/{name}" for name in names[:size]]
    assert docker("member").get(answer.next_page, 200).json()["repositories"][0] == f"web/{names[size]}"


# ── The root ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("path", ["/v2/", "/v2"])
@pytest.mark.parametrize("host", [PROJECT_HOST, BARE_HOST])
def test_root_challenges_every_request_without_a_token(docker, host, path):
    """This holds with public images too: crane reads 200 as "no login is needed" and stays anonymous."""
    answer = docker(None, host).raw("GET", path)
    assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])
    challenge = f'Bearer realm="http://localhost:8080/token",service="{host}"'
    assert answer.headers["WWW-Authenticate"] == challenge


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
@pytest.mark.parametrize("person", ["member", "stranger", "outsider", None])
def test_root_accepts_every_token(docker, person, path):
    client = docker(person)
    answer = client.get(path, 200)
    assert answer.json() == {}
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Length"] == "2"
    assert client.head(path, 200).body == b""


@pytest.mark.parametrize("credentials", ["Bearer nonsense", "Bearer ", "Bearer a.b.c", "bearer é"])
def test_invalid_token_is_reported_as_invalid(docker, credentials):
    answer = docker(None).raw("GET", "/v2/", headers={"Authorization": credentials})
    assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
