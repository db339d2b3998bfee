"""Real servers that store their blobs in SeaweedFS: two machines with one bucket, real clients, large blobs."""

import contextlib
import hashlib
import http.client
import os
import random
import secrets
import time
from pathlib import Path

import pytest

from tests.support.images import Image, layout_blobs, sha256, write_layout
from tests.support.programs import ContainersHome, PostgresServer, wait_until
from tests.support.registry_client import RegistryClient
from tests.support.s3 import CREDENTIALS
from tests.support.server import PROJECT, LiveServer

pytestmark = pytest.mark.real

MEBIBYTE = 1024 * 1024
DATA = random.Random(1).randbytes(20 * MEBIBYTE)


@pytest.fixture(scope="module")
def machines(seaweed):
    """Two servers with one database, one key and one bucket. The first sends clients to S3, the second does not."""
    with PostgresServer() as database, contextlib.ExitStack() as stack:
        shared = {"KCR_DATABASE_URL": database.url, "KCR_SECRET_KEY": secrets.token_hex(32), "KCR_WEB_WORKERS": "1"}
        prefix = f"machines/{secrets.token_hex(8)}"
        urls = [
            seaweed.url(prefix, public_endpoint=seaweed.endpoint, presign_from="1000"),
            seaweed.url(prefix, presign="off"),
        ]
        servers = [LiveServer(f"machine-{number}", shared | CREDENTIALS) for number in (1, 2)]
        for server, url in zip(servers, urls, strict=True):
            server.settings["KCR_STORAGE_URL"] = url
            stack.enter_context(server)
        servers[1].key = servers[0].people().key
        yield servers


def api(server):
    """A client of the member; a machine takes the tokens that it has issued for its own address."""
    return RegistryClient(server, server.key, image=f"{PROJECT}/web/app").authorized()


def test_an_upload_that_begins_at_one_machine_ends_at_the_other(machines):
    one, two = (api(server) for server in machines)
    data = DATA + b"one"
    answer = one.ask("PATCH", one.start(), iter([data[: 9 * MEBIBYTE]]))
    assert answer.status == http.client.ACCEPTED
    answer = two.ask("PATCH", answer.headers["Location"], iter([data[9 * MEBIBYTE :]]))
    assert answer.status == http.client.ACCEPTED
    assert answer.headers["Range"] == f"0-{len(data) - 1}"
    assert one.ask("PUT", f"{answer.headers['Location']}?digest={sha256(data)}").status == http.client.CREATED
    assert two.ask("GET", f"blobs/{sha256(data)}").body == data


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_push_that_is_cut_goes_on_at_the_other_machine(machines, is_killed):
    """The client breaks off, or the machine loses its power: then the other one waits for the lease to end."""
    data = DATA + bytes([is_killed])
    one, two = (api(server) for server in machines)
    location = one.ask("PATCH", one.start(), iter([data[: 6 * MEBIBYTE]])).headers["Location"]
    connection = machines[0].connect()
    connection.putrequest("PATCH", location)
    for name, value in {**one.headers, "Content-Length": str(len(data) - 6 * MEBIBYTE)}.items():
        if name != "Host":
            connection.putheader(name, value)
    connection.endheaders(data[6 * MEBIBYTE : 16 * MEBIBYTE])
    time.sleep(1)
    if is_killed:
        machines[0].crash()
    connection.close()
    upload = two.ask("GET", location)
    assert (upload.status, upload.headers["Range"]) == (204, f"0-{6 * MEBIBYTE - 1}")
    ranged = {"Content_Range": f"{6 * MEBIBYTE}-{len(data) - 1}", "Content_Length": str(len(data) - 6 * MEBIBYTE)}

    def goes_on():
        """False while the first machine has the lease: the answer comes before the body was read."""
        with contextlib.suppress(OSError):
            return two.ask("PATCH", location, data[6 * MEBIBYTE :], **ranged).status == http.client.ACCEPTED
        return False

    assert wait_until(goes_on, timeout=60)
    assert two.ask("PUT", f"{location}?digest={sha256(data)}").status == http.client.CREATED
    if is_killed:
        machines[0].serve()
    assert two.ask("GET", f"blobs/{sha256(data)}").body == data


def test_skopeo_pushes_to_one_machine_and_pulls_from_both(machines):
    image = Image.random("s3", layers=3, layer_size=3 * MEBIBYTE)
    with ContainersHome("s3") as home:
        layout = write_layout(home.folder / "layout", {"made": image})
        for server in machines:
            home.login("skopeo", server.host, server.key.id, server.key.secret)
        target = f"docker://{machines[0].host}/{PROJECT}/web/image:1.0"
        home.skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:made", target)
        for number, server in enumerate(machines):
            source, pulled = f"docker://{server.host}/{PROJECT}/web/image:1.0", home.folder / f"pulled-{number}"
            home.skopeo("copy", "--preserve-digests", "--src-tls-verify=false", source, f"oci:{pulled}:pulled")
            assert layout_blobs(pulled) == {part.digest: part for part in image.parts}
    answer = api(machines[0]).ask("GET", f"/v2/{PROJECT}/web/image/blobs/{image.layers[0].digest}")
    assert answer.status in {http.client.TEMPORARY_REDIRECT, http.client.UNAUTHORIZED}


def test_commands_of_the_operator(machines):
    server = machines[0]
    client = api(server)
    assert client.push_blob(DATA) == http.client.CREATED
    assert client.push_blob(b"{}") == http.client.CREATED
    assert client.push_manifest("1.0", b"{}", DATA) == http.client.CREATED
    found = server.manage("verifystorage", "--full")
    assert found.pop("blobs") >= 2
    assert set(found.values()) == {0}
    assert client.ask("GET", "/readyz").json()["storage"] == "ok"
    server.manage("collectgarbage")
    assert client.ask("HEAD", f"blobs/{sha256(DATA)}").status == http.client.OK


# ── Memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def memory(server):
    """The highest number of bytes that a process of the server ever had in memory."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    below = {server.process.pid}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    status = [Path(f"/proc/{pid}/status").read_text() for pid in below]
    return max(int(text.partition("VmHWM:")[2].split()[0]) for text in status) * 1024


def stream(mebibytes, block):
    for number in range(mebibytes):
        yield number.to_bytes(8, "big") + block[8:]


def there_and_back(server, mebibytes):
    """Push and pull a blob of so many MiB."""
    client, block, digest = api(server), secrets.token_bytes(MEBIBYTE), hashlib.sha256()
    for piece in stream(mebibytes, block):
        digest.update(piece)
    name = f"sha256:{digest.hexdigest()}"
    answer = client.ask("PATCH", client.start(), stream(mebibytes, block))
    assert answer.status == http.client.ACCEPTED, answer
    assert client.ask("PUT", f"{answer.headers['Location']}?digest={name}").status == http.client.CREATED
    pulled = hashlib.sha256()
    with client.open("GET", f"blobs/{name}") as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (http.client.OK, str(mebibytes * MEBIBYTE))
        while piece := answer.read(MEBIBYTE):
            pulled.update(piece)
    assert pulled.hexdigest() == digest.hexdigest()


@pytest.mark.alone
def test_memory_does_not_grow_with_a_large_blob(machines):
    server = machines[1]
    there_and_back(server, 30)
    before = memory(server)
    there_and_back(server, int(os.environ.get("KCR_TEST_LARGE_BYTES", 1024 * MEBIBYTE)) // MEBIBYTE)
    assert memory(server) - before < 50 * MEBIBYTE
