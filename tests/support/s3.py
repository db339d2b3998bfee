"""S3 on this machine: SeaweedFS or OpenStack Swift, and a proxy in front of it that fails when it is told to."""

import contextlib
import functools
import http.client
import json
import os
import re
import shutil
import socketserver
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config

from registry import env
from registry.storage import blob_storage
from tests.support.programs import Daemon, environment_for, free_port, require, run

BUCKET = "blobs"
ACCESS_KEY, SECRET_KEY = "kcr:tests", "secret-of-the-tests"  # Swift wants ACCOUNT:USER
CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


def require_weed() -> str:
    """The path of SeaweedFS, which may be installed beside this Python."""
    return shutil.which("weed", path=sysconfig.get_path("scripts")) or require("weed")


class S3Server(Daemon):
    """A server of S3 with one empty bucket."""

    def __init__(self) -> None:
        super().__init__(type(self).__name__.lower())
        self.port = free_port()

    def serve(self) -> None:
        """Start it on its existing data."""
        raise NotImplementedError

    def await_bucket(self) -> None:
        """Return when the bucket is there."""
        if not self.await_ready(self._has_bucket):
            pytest.fail(f"{self.name} is not ready:\n{self.said()}")

    @property
    def endpoint(self) -> str:
        """Where S3 answers."""
        return f"http://127.0.0.1:{self.port}"

    @functools.cached_property
    def client(self) -> Any:
        """A client of boto3 for the tests."""
        config = Config(signature_version="s3v4", retries={"total_max_attempts": 1})
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", config=config, **keys)

    def url(self, prefix: str, endpoint: str = "", **parameters: str) -> str:
        """A value of KCR_STORAGE_URL."""
        more = "".join(f"&{name}={value}" for name, value in parameters.items())
        return f"s3://{BUCKET}/{prefix}?region=us-east-1&endpoint={endpoint or self.endpoint}{more}"

    def close(self) -> None:
        """Stop it and close the connections of the tests."""
        self.client.close()
        super().close()

    def _has_bucket(self) -> bool:
        try:
            with contextlib.suppress(self.client.exceptions.BucketAlreadyOwnedByYou):
                self.client.create_bucket(Bucket=BUCKET)
            self.client.put_object(Bucket=BUCKET, Key="ready", Body=b"x")
            self.client.delete_object(Bucket=BUCKET, Key="ready")
        except Exception:  # it is not up yet
            time.sleep(0.2)
            return False
        return True

    def keys(self, prefix: str) -> list[str]:
        """The keys of all objects below a prefix, without it."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        return [entry["Key"].removeprefix(f"{prefix}/") for page in pages for entry in page.get("Contents", ())]

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def empty(self, prefix: str) -> None:
        """Delete all objects below a prefix."""
        for key in self.keys(prefix):
            self.client.delete_object(Bucket=BUCKET, Key=f"{prefix}/{key}")

    def multiparts(self, prefix: str) -> list[str]:
        """The keys of all multipart uploads below a prefix, without it."""
        answer = self.client.list_multipart_uploads(Bucket=BUCKET, Prefix=f"{prefix}/")
        return [entry["Key"].removeprefix(f"{prefix}/") for entry in answer.get("Uploads", ())]


class SeaweedFS(S3Server):
    """The store of docker-compose.yml."""

    @property
    def data(self) -> Path:
        """The folder of its volumes."""
        return self.folder / "data"

    def start(self) -> None:
        """Start it; returns when the bucket is there."""
        configuration = self.folder / "s3.json"
        self.data.mkdir()
        self.ports = [
            f"-{part}.port{kind}={free_port()}" for part in ("master", "volume", "filer") for kind in ("", ".grpc")
        ]
        self.ports.append(f"-s3.port.grpc={free_port()}")
        credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        identity = {"name": "kcr", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
        configuration.write_text(json.dumps({"identities": [identity]}))
        self.serve()

    def serve(self) -> None:
        """Start it on its existing data."""
        configuration = self.folder / "s3.json"
        arguments = [
            *("server", f"-dir={self.data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *self.ports),
            *("-filer", "-s3", f"-s3.port={self.port}", f"-s3.config={configuration}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=1000", "-master.volumeSizeLimitMB=256"),
            *("-volume.preStopSeconds=0", "-volume.minFreeSpace=0"),
        ]
        self.launch([require_weed(), "-logtostderr=true", *arguments], environment_for(self.folder), cwd=self.folder)
        self.await_bucket()


class Swift(S3Server):
    """OpenStack Swift with one copy of each object: a second implementation of S3 (its filter s3api)."""

    PIPELINE = "catch_errors gatekeeper memcache listing_formats bulk s3api tempauth slo dlo proxy-server"

    def start(self) -> None:
        """Start it; returns when the bucket is there."""
        (self.folder / "devices" / "disk").mkdir(parents=True)
        limits = "[swift-constraints]\nmax_file_size = 5368709122\n"
        (self.folder / "swift.conf").write_text(f"[swift-hash]\nswift_hash_path_suffix = tests\n{limits}")
        for kind in ("account", "container", "object"):
            port = free_port()
            ring = [require("swift-ring-builder"), str(self.folder / f"{kind}.builder")]
            place = ("--region=1", "--zone=1", "--ip=127.0.0.1", f"--port={port}", "--device=disk", "--weight=1")
            for step in (("create", "4", "1", "0"), ("add", *place), ("rebalance",)):
                run([*ring, *step], environment=environment_for(self.folder), succeeds=None)
            rest = f"devices = {self.folder}/devices\nmount_check = false\nfallocate_reserve = 0"
            self._write(kind, port, rest, f"{kind}-server", f"[app:{kind}-server]\nuse = egg:swift#{kind}")
        filters = "".join(
            f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in self.PIPELINE.split() if name != "proxy-server"
        )
        user = f"user_{ACCESS_KEY.replace(':', '_')} = {SECRET_KEY} .admin\n"
        app = "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\nallow_account_management = true\n"
        filters = filters.replace("#tempauth\n", f"#tempauth\n{user}")
        filters = filters.replace("#memcache\n", "#memcache\nmemcache_servers = 127.0.0.1:1\n")  # none
        self._write("proxy", self.port, "", self.PIPELINE, app + filters)
        self.serve()

    def _write(self, kind: str, port: int, rest: str, pipeline: str, sections: str) -> None:
        head = f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nswift_dir = {self.folder}\nworkers = 0\n{rest}\n"
        text = f"{head}[pipeline:main]\npipeline = {pipeline}\n{sections}\n"
        (self.folder / f"{kind}-server.conf").write_text(text)

    def serve(self) -> None:
        """Start it on its existing data."""
        kinds = ("account", "container", "object", "proxy")
        commands = [
            f"{require(f'swift-{kind}-server')} {self.folder}/{kind}-server.conf -v & all+=($!)" for kind in kinds
        ]
        # Each of them leaves the process group.
        script = "\n".join(("trap 'kill ${all[@]}' TERM", *commands, "wait ${all[@]}", "wait ${all[@]}"))
        self.launch(["bash", "-c", script], environment_for(self.folder), cwd=self.folder)
        self.await_bucket()


# ── Faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def operation(method: str, target: str) -> str:
    """The name of a request of S3."""
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    is_object = "/" in parts.path.strip("/")
    if method == "POST":
        return "CompleteMultipartUpload" if "uploadId" in query else "CreateMultipartUpload"
    if method == "PUT":
        return "UploadPart" if "partNumber" in query else "PutObject"
    if method == "DELETE":
        return "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
    if method == "GET" and not is_object:
        return "ListMultipartUploads" if "uploads" in query else "ListObjectsV2"
    return {"GET": "GetObject", "HEAD": "HeadObject" if is_object else "HeadBucket"}[method]


@dataclass
class Fault:
    """What happens to requests of one operation: ``how`` (see FAULTS), to ``times`` of them after ``after`` others."""

    operation: str
    how: str
    times: int = 10**6
    after: int = 0
    key: str = ""  # a regular expression
    happened: int = field(default=0, init=False)

    def strikes(self, operation: str, target: str) -> bool:
        """Whether it happens to this request."""
        if operation != self.operation or not re.search(self.key, target) or self.happened >= self.times:
            return False
        if self.after:
            self.after -= 1
            return False
        self.happened += 1
        return True


def _error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()


REFUSALS = {
    "500": (500, "InternalError"),
    "full": (507, "InsufficientStorage"),
    "slow-down": (503, "SlowDown"),
    "no-upload": (404, "NoSuchUpload"),
}
#: "lost": the request is done and the answer is lost; "reset": the request does not arrive; "200": an error with 200;
#: "cut": the body of the answer breaks off; "hang": no answer comes for HANGS seconds.
FAULTS = (*REFUSALS, "lost", "reset", "200", "cut", "hang")
HANGS = 3


class FaultyProxy:
    """An HTTP proxy in front of S3. ``faults`` happen to requests, ``seen`` has the names of all of them.

    ``held`` is called with the name of each request: "before" it reaches S3, and "after" S3 has answered. If it returns
    True, the connection is closed instead.
    """

    def __init__(self, port: int) -> None:
        self.behind, self.faults, self.seen = port, list[Fault](), list[str]()
        self.held: Callable[[str, str], bool] = lambda moment, operation: False
        proxy = self

        class Handler(_Handler):
            script = proxy

        class Threads(socketserver.ThreadingTCPServer):
            daemon_threads, allow_reuse_address = True, True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients break off."""

        self._server = Threads(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """These faults happen in the block."""
        self.faults = list(faults)
        try:
            yield
        finally:
            self.faults = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: FaultyProxy

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = operation(self.command, self.path)
        self.script.seen.append(name)
        if self.script.held("before", name):
            self.close_connection = True
            return
        how = next((fault.how for fault in self.script.faults if fault.strikes(name, self.path)), "")
        if how == "hang":
            time.sleep(HANGS)
        if how in {"reset", "hang"}:
            self.close_connection = True
        elif how in REFUSALS:
            status, code = REFUSALS[how]
            self._send(status, _error(code))
        elif how == "200":
            self._send(200, _error("InternalError"))
        else:
            self._forward(name, body, how)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    def _forward(self, name: str, body: bytes, how: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.script.behind, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for header, value in self.headers.items():
                if header.lower() != "expect":
                    connection.putheader(header, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
        if self.script.held("after", name) or how == "lost":
            self.close_connection = True
            return
        self.send_response(answer.status)
        for header, value in answer.getheaders():
            if header.lower() not in {"transfer-encoding", "connection", "date", "server"}:
                self.send_header(header, value)
        if answer.getheader("Content-Length") is None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if how == "cut" else content)
        self.close_connection = how == "cut"

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Nothing."""


# ── Fixtures ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedFS]:
    """A SeaweedFS for all tests of this process."""
    with SeaweedFS() as running:
        yield running


@pytest.fixture(scope="session")
def swift() -> Iterator[Swift]:
    """A Swift for all tests of this process."""
    with Swift() as running:
        yield running


@dataclass
class Bucket:
    """What one test stores in S3: everything below ``prefix``, through a proxy with faults."""

    server: S3Server
    proxy: FaultyProxy
    prefix: str

    @property
    def keys(self) -> list[str]:
        """The keys of all objects."""
        return self.server.keys(self.prefix)

    @property
    def multiparts(self) -> list[str]:
        """The keys of all multipart uploads."""
        return self.server.multiparts(self.prefix)

    def url(self, endpoint: str = "", **parameters: str) -> str:
        """The KCR_STORAGE_URL of the test. ``endpoint``: another one than the proxy's."""
        return self.server.url(self.prefix, endpoint or self.proxy.endpoint, **parameters)

    def use(self, settings: Any, endpoint: str = "", **parameters: str) -> None:
        """Let this process store its blobs there."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KCR_STORAGE_URL", self.url(endpoint, **parameters))
            settings.STORAGES = settings.STORAGES | {"blobs": env.storage("KCR_STORAGE_URL", Path("unused"))}


@pytest.fixture
def bucket(request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """This process stores its blobs in S3: in SeaweedFS, or in what KCR_TEST_S3 names: swift."""
    server: S3Server = request.getfixturevalue(os.environ.get("KCR_TEST_S3", "seaweed"))
    for variable, value in CREDENTIALS.items():
        monkeypatch.setenv(variable, value)
    with FaultyProxy(server.port) as proxy:
        made = Bucket(server, proxy, f"tests/{uuid4()}")
        made.use(settings)
        yield made
        close_connections()


def close_connections() -> None:
    """Close the connections of boto3, which would stay open until the process ends."""
    storage: Any = blob_storage()
    if "connection" in vars(storage):
        storage.client.close()
    if "_head_client" in vars(storage):
        storage._head_client.close()
