"""Tenancy: requests about invisible objects are answered as if they did not exist."""

from __future__ import annotations

import base64
import json
import re
import uuid
from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.actors import SYSTEM
from registry import repositories
from registry.models import Blob, BlobLease, Image, Manifest, ManifestBlob, Repository, Tag, UploadSession
from tests.support import images
from tests.support.docker_client import BARE_HOST, PROJECT_HOST, DockerClient
from tests.support.images import OCI_INDEX, OCTETS, descriptor, sha256
from tests.support.personas import make_key

if TYPE_CHECKING:
    from tests.support.registry_client import Answer

VOLATILE = {"X-Request-Id", "Date"}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
SECRET = images.Image(layers=[b"a layer that only demo/fixed has"])
LAYER = sha256(SECRET.layers[0])
NOWHERE = sha256(b"a layer that nobody ever pushed")

# All requests about a repository. {upload} is an upload of the member.
REQUESTS = [
    ("GET", "tags/list"),
    ("HEAD", "tags/list"),
    ("GET", "tags/list?n=1&last=0"),
    ("GET", "manifests/1.0"),
    ("HEAD", "manifests/1.0"),
    ("GET", "manifests/{manifest}"),
    ("HEAD", "manifests/{manifest}"),
    ("GET", "manifests/other"),
    ("PUT", "manifests/1.0"),
    ("PUT", "manifests/{manifest}?tag=new"),
    ("DELETE", "manifests/1.0"),
    ("DELETE", "manifests/{manifest}"),
    ("GET", "blobs/{layer}"),
    ("HEAD", "blobs/{layer}"),
    ("GET", "blobs/{nowhere}"),
    ("DELETE", "blobs/{layer}"),
    ("POST", "blobs/uploads/"),
    ("POST", "blobs/uploads/?digest={layer}"),
    ("POST", "blobs/uploads/?mount={layer}&from=web/app"),
    ("POST", "blobs/uploads/?mount={layer}&from={name}/app"),
    ("GET", "blobs/uploads/{upload}"),
    ("HEAD", "blobs/uploads/{upload}"),
    ("PATCH", "blobs/uploads/{upload}"),
    ("PUT", "blobs/uploads/{upload}?digest={layer}"),
    ("DELETE", "blobs/uploads/{upload}"),
    ("GET", "referrers/{manifest}"),
    ("HEAD", "referrers/{manifest}"),
    ("GET", "referrers/{nowhere}?artifactType=a/b"),
    ("POST", "tags/list"),
    ("GET", "nothing"),
]

ONE_OF_EACH = [
    request
    for request in REQUESTS
    if request[1] in {"tags/list", "manifests/1.0", "blobs/{layer}", "blobs/uploads/", "referrers/{manifest}"}
]


def normal(answer: Answer, name: str = "the name") -> dict[str, object]:
    """Return an answer without its varying parts and without the requested name."""

    def plain(text: str) -> str:
        return UUID.sub("UUID", text.replace(name, "NAME"))

    headers = {key: plain(value) for key, value in answer.headers.items() if key not in VOLATILE}
    body = answer.body.decode()
    if headers.get("Content-Type") == "application/json" and body:
        document = json.loads(body)
        for error in document.get("errors", []):
            error["detail"].pop("request_id")
        body = json.dumps(document)
    return {"status": answer.status, "headers": headers, "body": plain(body)}


def claims_of(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    found = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return {key: value for key, value in found.items() if key not in {"iat", "nbf", "exp", "jti"}}


@pytest.fixture
def secret(docker) -> str:
    """demo/fixed has an image app:1.0; demo/ghost does not exist. The id of an upload of the member's into fixed."""
    docker("member").push("fixed/app", "1.0", SECRET)
    return docker("member").start("fixed/app").headers["Location"].rpartition("/")[2]


def paths(name: str, upload: str, requests: list[tuple[str, str]]):
    for method, path in requests:
        yield (
            method,
            f"/v2/{name}/app/"
            + path.format(name=name, manifest=SECRET.digest, layer=LAYER, nowhere=NOWHERE, upload=upload),
        )


def body_of(method: str, path: str) -> tuple[bytes, dict[str, str]]:
    if method == "PUT" and "/manifests/" in path:
        return SECRET.manifest, {"Content-Type": SECRET.media_type}
    return (SECRET.layers[0], {"Content-Type": OCTETS}) if method in {"PUT", "PATCH"} else (b"", {})


def ask(
    client: DockerClient,
    name: str,
    upload: str,
    credentials: dict[str, str],
    requests: list[tuple[str, str]] = REQUESTS,
) -> list[dict[str, object]]:
    """Return the answers to all of these requests about ``name``."""
    found = []
    for method, path in paths(name, upload, requests):
        body, headers = body_of(method, path)
        answer = client.raw(method, path, body=body, headers=headers | credentials)
        found.append({"request": f"{method} {path.replace(name, 'NAME')}", **normal(answer, name)})
    return found


def without_right(world, name: str) -> object:
    """A client without permission on demo/fixed, for one of several reasons."""
    if name == "anonymous":
        return None
    if name == "owner with a key for lab":
        return make_key(world.owner.user, "lab", project=world.projects["lab"])
    return world.people[name]


WITHOUT_RIGHT = ["anonymous", "stranger", "outsider", "pusher", "owner with a key for lab"]


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *((name, "token") for name in WITHOUT_RIGHT),
        ("stranger", "token for everything"),
        ("stranger", "key"),
        ("owner with a key for lab", "key"),
    ],
)
def test_private_repository_answers_as_a_missing_one(world, secret, name, way):
    client = DockerClient(without_right(world, name))
    answers = {}
    for repository in ("fixed", "ghost"):
        credentials = client.basic()
        if way != "key":
            actions = "*" if way == "token for everything" else "pull,push,delete"
            scope = f"repository:{repository}/app:{actions} repository:web/app:pull"
            credentials = {"Authorization": f"Bearer {client.token(scope)}"}
        answers[repository] = ask(client, repository, secret, credentials)
    for there, nowhere in zip(answers["fixed"], answers["ghost"], strict=True):
        assert there == nowhere
        assert there["status"] in {401, 404, 405}


@pytest.mark.parametrize("name", ["anonymous", "stranger", "outsider"])
def test_invisible_project_answers_as_a_missing_one(world, docker, name):
    """Requested by name on the bare host, and at the host of the project."""
    owner = docker("owner", BARE_HOST)
    owner.push("lab/secret/app", "1.0", SECRET)
    upload = owner.start("lab/secret/app").headers["Location"].rpartition("/")[2]
    persona = without_right(world, name)
    for hosts, names in (
        ((BARE_HOST, BARE_HOST), ("lab/secret", "nil/secret")),
        ((PROJECT_HOST.replace("demo", "lab"), PROJECT_HOST.replace("demo", "nil")), ("secret", "secret")),
    ):
        found = []
        for host, wire_name in zip(hosts, names, strict=True):
            client = DockerClient(persona, host)
            token = client.token(f"repository:{wire_name}/app:pull,push,delete registry:catalog:*")
            answers = ask(client, wire_name, upload, {"Authorization": f"Bearer {token}"}, ONE_OF_EACH)
            answers.append(normal(client.get("_catalog"), wire_name))
            found.append(json.dumps(answers).replace(host, "HOST"))
        assert found[0] == found[1]


@pytest.mark.parametrize("name", WITHOUT_RIGHT)
@pytest.mark.parametrize("actions", ["pull", "pull,push", "delete", "*", "nonsense", ""])
def test_token_service_answers_alike_for_private_and_missing_repositories(world, secret, name, actions):
    client = DockerClient(without_right(world, name))
    there, nowhere = (client.token_answer(f"repository:{one}/app:{actions}") for one in ("fixed", "ghost"))
    assert there.status == nowhere.status == 200
    assert there.json().keys() == nowhere.json().keys()
    assert claims_of(there.json()["token"]) == claims_of(nowhere.json()["token"])
    assert claims_of(there.json()["token"])["access"] == []


@pytest.mark.parametrize("name", ["anonymous", "stranger", "outsider", "viewer"])
@pytest.mark.parametrize(
    "path",
    [
        "/v2/{}/app/tags/list",
        "/v2/{}/app/manifests/1.0",
        f"/token?service={PROJECT_HOST}&scope=repository:{{}}/app:pull",
    ],
)
def test_private_and_missing_repositories_cost_the_same_queries(world, secret, name, path):
    """Otherwise the response time would reveal existence (docs/design/security.md 2). Compared in queries, not milliseconds."""
    client = DockerClient(without_right(world, name))
    token = client.token("repository:fixed/app:pull repository:ghost/app:pull")
    for credentials in (client.basic(), {"Authorization": f"Bearer {token}"}):
        asked = []
        for repository in ("fixed", "ghost"):
            with CaptureQueriesContext(connection) as queries:
                client.raw("GET", path.format(repository), headers=credentials)
            asked.append([without_values(query["sql"]) for query in queries])
        assert asked[0] == asked[1]


def without_values(sql: str) -> str:
    """Return the query without its texts, numbers and times."""
    return re.sub(r"'[^']*'|\b\d[\d:. -]*", "?", sql)


# ── A digest gives no access ─────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", ["owner", "member", "reader", "pusher", "viewer"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_blob_of_another_repository_answers_as_a_missing_one(docker, secret, name, method):
    docker("member").push("web/app", "1.0")
    client = docker(name)
    for credentials in (client.basic(), bearer(client, "repository:web/app:pull,push,delete")):
        elsewhere, nowhere = (
            client.raw(method, f"/v2/web/app/blobs/{digest}", headers=credentials) for digest in (LAYER, NOWHERE)
        )
        assert elsewhere.status == 404
        assert normal(elsewhere, LAYER) == normal(nowhere, NOWHERE)


@pytest.mark.parametrize("name", ["owner", "member", "pusher"])
def test_manifest_cannot_name_a_blob_of_another_repository(docker, secret, name):
    client = docker(name)
    client.push("web/app", "1.0")
    before = counts()
    config = client.push_blob("web/app", SECRET.config)
    document = SECRET.manifest
    answer = client.push_manifest("web/app", "stolen", document, expect=400)
    assert answer.codes == ["MANIFEST_BLOB_UNKNOWN"]
    assert answer.json()["errors"][0]["detail"]["digest"] == LAYER
    unknown = images.Image(layers=[b"a layer that nobody ever pushed"])
    nowhere = client.push_manifest("web/app", "stolen", unknown.manifest, expect=400)
    assert normal(answer, LAYER) == normal(nowhere, NOWHERE)
    assert config == sha256(SECRET.config)
    assert counts() == before | {"leases of web": before["leases of web"]}
    client.get("web/app/manifests/stolen", 404)
    client.get(f"web/app/blobs/{LAYER}", 404)


def counts() -> dict[str, int]:
    return {
        "links": ManifestBlob.objects.count(),
        "manifests": Manifest.objects.count(),
        "images": Image.objects.count(),
        "tags": Tag.objects.count(),
        "leases of web": BlobLease.objects.filter(repository__name="web", blob__digest=LAYER).count(),
    }


def bearer(client: DockerClient, scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {client.token(scope)}"}


def test_manifest_is_visible_in_its_image_only(docker):
    """Blobs belong to a repository; manifests and tags belong to an image."""
    image = docker("member").push("web/one", "1.0")
    docker("member").push("web/two", "2.0", images.Image(layers=[b"another"]))
    docker("viewer").get(f"web/one/manifests/{image.digest}", 200)
    docker("viewer").get(f"web/two/manifests/{image.digest}", 404)
    docker("viewer").get("web/two/manifests/1.0", 404)
    docker("viewer").get(f"web/two/blobs/{sha256(image.layers[0])}", 200)


def test_index_cannot_name_a_manifest_of_another_image(docker):
    image = docker("member").push("fixed/app", "1.0", SECRET)
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(image.manifest, image.media_type)],
    }
    answer = docker("pusher").push_manifest(
        "web/app", "all", json.dumps(index).encode(), index["mediaType"], expect=400
    )
    assert answer.codes == ["MANIFEST_BLOB_UNKNOWN"]


# ── Mounts ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def sources(world, docker) -> None:
    """LAYER is in demo/fixed (private, for the project) and lab/secret (for the owner); web is empty."""
    docker("member").push("fixed/app", "1.0", SECRET)
    docker("owner", BARE_HOST).push("lab/secret/app", "1.0", SECRET)
    docker("member").push("web/app", "1.0")


# persona that mounts into demo/web, scope of the token besides pull,push there, query
REFUSED_MOUNTS = {
    "no right on the source": ("pusher", "demo/fixed/app:pull", f"mount={LAYER}&from=demo/fixed/app"),
    "no right on the source's project": ("member", "lab/secret/app:pull", f"mount={LAYER}&from=lab/secret/app"),
    "a token that was not made for the source": ("member", "", f"mount={LAYER}&from=demo/fixed/app"),
    "a token that may only push to the source": ("member", "demo/fixed/app:push", f"mount={LAYER}&from=demo/fixed/app"),
    "a token for another image": ("member", "demo/fixed/other:pull", f"mount={LAYER}&from=demo/fixed/app"),
    "no such source": ("member", "demo/ghost/app:pull", f"mount={LAYER}&from=demo/ghost/app"),
    "a source that is no name": ("member", "", f"mount={LAYER}&from=../../etc"),
    "no source": ("owner", "demo/fixed/app:pull", f"mount={LAYER}"),
    "an empty source": ("owner", "demo/fixed/app:pull", f"mount={LAYER}&from="),
    "a digest that nobody has": ("member", "demo/fixed/app:pull", f"mount={NOWHERE}&from=demo/fixed/app"),
    "a digest that is none": ("member", "demo/fixed/app:pull", "mount=latest&from=demo/fixed/app"),
    "a digest of an unknown algorithm": ("member", "demo/fixed/app:pull", "mount=md5:00&from=demo/fixed/app"),
    "the source's manifest, not its blob": (
        "member",
        "demo/fixed/app:pull",
        f"mount={SECRET.digest}&from=demo/fixed/app",
    ),
}


@pytest.mark.parametrize("cause", REFUSED_MOUNTS)
def test_refused_mount_is_an_ordinary_upload(docker, sources, cause):
    """The answer is 202 with a new session for every cause (docs/design/security.md 4)."""
    name, source, query = REFUSED_MOUNTS[cause]
    client = docker(name, BARE_HOST)
    scope = "repository:demo/web/app:pull,push" + (f" repository:{source}" if source else "")
    headers = bearer(client, scope)
    answer = client.raw("POST", f"/v2/demo/web/app/blobs/uploads/?{query}", headers=headers)
    plain = client.raw("POST", "/v2/demo/web/app/blobs/uploads/", headers=headers)
    assert answer.status == 202
    assert normal(answer) == normal(plain)
    assert not BlobLease.objects.filter(repository__name="web", blob__digest=LAYER).exists()
    client.get(f"demo/web/app/blobs/{LAYER}", 404)


def test_mount_from_a_pullable_repository_adds_the_blob(docker, sources):
    for name, source in (("member", "demo/fixed/app"), ("owner", "lab/secret/app")):
        client = docker(name, BARE_HOST)
        answer = client.post(f"demo/web/{name}/blobs/uploads/?mount={LAYER}&from={source}", 201)
        assert answer.headers["Location"] == f"/v2/demo/web/{name}/blobs/{LAYER}"
        assert answer.headers["Docker-Content-Digest"] == LAYER
        assert client.get(f"demo/web/{name}/blobs/{LAYER}", 200).body == SECRET.layers[0]


def test_key_limited_to_a_project_cannot_mount_from_another(world, sources):
    client = DockerClient(make_key(world.owner.user, "demo", project=world.projects["demo"]), BARE_HOST)
    query = f"mount={LAYER}&from=lab/secret/app"
    for headers in (client.basic(), bearer(client, "repository:demo/web/app:pull,push repository:lab/secret/app:pull")):
        assert client.raw("POST", f"/v2/demo/web/app/blobs/uploads/?{query}", headers=headers).status == 202
    assert client.post(f"demo/web/app/blobs/uploads/?mount={LAYER}&from=demo/fixed/app").status == 201


def test_a_mount_from_a_public_repository_needs_no_role_there(world, docker):
    docker("member").push("public/app", "1.0", SECRET)
    docker("pusher").post(f"web/app/blobs/uploads/?mount={LAYER}&from=public/app", 201)


def test_deleted_content_cannot_be_mounted(world, docker, sources):
    """An open lease shows the blob only to users who may push to the source."""
    repositories.set_role(SYSTEM, world.repository("fixed"), world.pusher.user, repositories.RepositoryRole.VIEWER)
    docker("pusher").post(f"web/before/blobs/uploads/?mount={LAYER}&from=fixed/app", 201)
    docker("member").delete(f"fixed/app/manifests/{SECRET.digest}", 202)
    docker("pusher").post(f"web/app/blobs/uploads/?mount={LAYER}&from=fixed/app", 202)
    docker("member").post(f"web/app/blobs/uploads/?mount={LAYER}&from=fixed/app", 201)


# ── Uploads ──────────────────────────────────────────────────────────────────────────────────────────────────────────
UPLOAD_REQUESTS = [("GET", ""), ("HEAD", ""), ("PATCH", ""), ("PUT", f"?digest={sha256(b'bytes')}"), ("DELETE", "")]


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("member", "web/other"),
        ("member", "fixed/app"),
        ("member", "public/app"),
        ("admin", "web/app"),
        ("owner", "web/app"),
        ("pusher", "web/app"),
    ],
)
def test_upload_is_known_only_to_its_owner_in_its_image(docker, name, where):
    """All of these users may push, but only the owner finds the upload, and only in its image (docs/design/security.md 7)."""
    upload = docker("member").start("web/app").headers["Docker-Upload-UUID"]
    assert uuid.UUID(upload).version == 4
    client = docker(name)
    for method, query in UPLOAD_REQUESTS:
        foreign, random = (
            client.request(
                method, f"{where}/blobs/uploads/{one}{query}", 404, body=b"bytes" if method[0] == "P" else b""
            )
            for one in (upload, uuid.uuid4())
        )
        if method != "HEAD":
            assert foreign.codes == ["BLOB_UPLOAD_UNKNOWN"]
        assert normal(foreign) == normal(random)
        session = UploadSession.objects.get(pk=upload)
        assert (session.state, session.offset) == ("open", 0)
    docker("member").get(f"web/app/blobs/uploads/{upload}", 204)


def test_finished_upload_is_unknown(docker):
    client = docker("member")
    location = client.start("web/app").headers["Location"]
    client.put(f"{location}?digest={sha256(b'bytes')}", 201, body=b"bytes")
    for method in ("GET", "HEAD", "PATCH", "DELETE"):
        client.request(method, location, 404)
    client.put(f"{location}?digest={sha256(b'other')}", 404, body=b"other")


# ── Deleted content ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_deleted_content_is_gone_for_every_reader(world, docker):
    """By tag, digest, blob and referrers. Users with push still see a layer under an open lease (docs/design/security.md 11)."""
    Repository.objects.filter(pk=world.repository("web").pk).update(is_public=True)
    subject = docker("member").push("web/app", "1.0", SECRET)
    signature = images.Image(
        layers=[b"signature"],
        more={"subject": descriptor(subject.manifest, subject.media_type), "artifactType": "test/signature"},
    )
    docker("member").push("web/app", signature.digest, signature)
    assert docker(None).get(f"web/app/referrers/{subject.digest}", 200).json()["manifests"]
    docker("member").delete(f"web/app/manifests/{subject.digest}", 202)
    for name in (None, "stranger", "viewer", "reader", "pusher", "member", "owner"):
        client = docker(name)
        client.get("web/app/manifests/1.0", 404)
        client.get(f"web/app/manifests/{subject.digest}", 404)
        client.get(f"web/app/manifests/{signature.digest}", 404)
        assert client.get(f"web/app/referrers/{subject.digest}", 200).json()["manifests"] == []
        assert client.tags("web/app") == []
        client.get(f"web/app/blobs/{LAYER}", 200 if name in {"pusher", "member", "owner"} else 404)
    BlobLease.objects.all().delete()
    for name in (None, "viewer", "pusher", "owner"):
        docker(name).get(f"web/app/blobs/{LAYER}", 404)
    assert Blob.objects.filter(digest=LAYER).exists()  # it can be recovered
