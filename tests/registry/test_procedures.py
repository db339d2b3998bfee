"""Procedures of docs/operate on several machines, carried out as they are written: PostgreSQL, S3, Redis, two web servers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import threading
from collections import Counter
from pathlib import Path
from typing import Self

import pytest

from tests.support import PASSWORD
from tests.support.documents import blocks, carry_out, here, section
from tests.support.images import sha256
from tests.support.programs import Daemon, PostgresServer, RedisServer, require_postgres, wait_until
from tests.support.s3 import CREDENTIALS
from tests.support.server import SOURCE, LiveServer
from tests.support.visitor import Visitor

pytestmark = [pytest.mark.real, pytest.mark.alone, pytest.mark.sqlite_only]

OWNER = "you@example.com"
WAIT_SECONDS = 120


class Web(LiveServer):
    """A web server at an address of its own, which clients of this test know; ``port`` is that of KCR_PUBLIC_URL."""

    def __init__(self, name: str, command: str, settings: dict[str, str]) -> None:
        super().__init__(name, settings)
        self.line = command

    def start(self) -> None:
        self.serve()

    def serve(self) -> None:
        self.launch(["sh", "-ec", f"exec {self.line}"], self.environment, cwd=SOURCE)
        if not self.await_ready(self.is_ready):
            pytest.fail(f"{self.line}:\n{self.said()}")

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.own_port, timeout=timeout)

    def set(self, **settings: str) -> None:
        """Restart with other settings, as an operator does."""
        self.end()
        self.settings |= settings
        self.serve()


class Service(Daemon):
    """A process in the background, with a data directory of its own."""

    def __init__(self, name: str, command: str, web: Web) -> None:
        super().__init__(name)
        self.line, self.web = command, web

    def start(self) -> None:
        environment = self.web.environment | {"KCR_DATA_DIR": str(self.folder / "data")}
        self.launch(["sh", "-ec", f"exec {self.line}"], environment, cwd=SOURCE)


@pytest.fixture(scope="module")
def webs(seaweed):
    """The installation of docs/operate/install.md, "More machines", with its first owner, a project and a member."""
    variables, made, services = blocks("install.md", "More machines")
    first_owner = "".join(blocks("install.md", "The first owner"))
    serve, *others = here(services).splitlines()
    with contextlib.ExitStack() as opened:
        database, redis = opened.enter_context(PostgresServer()), opened.enter_context(RedisServer())
        shared = {
            "KCR_DATABASE_URL": database.url,
            "KCR_REDIS_URL": redis.url,
            "KCR_STORAGE_URL": seaweed.url("machines").replace("s3://blobs/", "s3://machines/"),
            "KCR_SECRET_KEY": secrets.token_hex(32),
            "KCR_TRUSTED_PROXIES": "127.0.0.1",
            "KCR_WEB_WORKERS": "1",
            **CREDENTIALS,
        }
        told = set(re.findall(r"(\w+)=", re.sub(r"'[^']*'", "", variables)))
        assert told == shared.keys() - {"KCR_WEB_WORKERS"} | {"KCR_DATA_DIR", "KCR_LISTEN", "KCR_PUBLIC_URL"}
        first, second = (Web(f"web-{number}", serve, dict(shared)) for number in (1, 2))
        second.port = first.port
        assert json.loads(carry_out(here(made), first).output.splitlines()[-1]) == {
            "bucket": "machines",
            "created": True,
        }
        for each in (first, second):
            opened.enter_context(each)
        for number, line in enumerate(others):
            opened.enter_context(Service(f"service-{number}", line, first))
        carry_out(here(first_owner), first, text_input=f"{PASSWORD}\n")
        second.key = first.people().key
        yield first, second


def pulls(web: Web, data: bytes, tag: str) -> bool:
    """Whether the member signs in and pulls the image."""
    api = web.api()
    return (api.ask("GET", f"manifests/{tag}").status, api.ask("GET", f"blobs/{sha256(data)}").body) == (200, data)


def push(web: Web, tag: str) -> bytes:
    """Push an image of new bytes, which are returned."""
    data = os.urandom(2_000)
    api = web.api()
    assert api.push_blob(data) == 201
    assert api.push_manifest(tag, data) == 201
    return data


def test_several_machines_are_one_installation(webs):
    first, second = webs
    assert pulls(second, push(first, "several"), "several")
    assert "Connection doctor" in Visitor(second, OWNER).see("/doctor")
    # The scheduler asks for it, a worker does it.
    assert wait_until(lambda: second.work("tasks", "count_measured_projects") == 1, timeout=WAIT_SECONDS)
    assert wait_until(lambda: first.manage("doctor", "--json", "scanner")["ok"] == 1, timeout=WAIT_SECONDS)
    probes = ("database", "migrations", "pool", "redis", "worker", "storage")
    said = second.manage("doctor", "--json", *probes)
    assert said["ok"] == len(probes), said


class Client:
    """Signs in and pulls from all web servers, one after the other, until the block ends. ``answers``: by status."""

    def __init__(self, webs: tuple[Web, ...], tag: str) -> None:
        self.webs, self.tag, self.over, self.answers = webs, tag, threading.Event(), Counter[object]()

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.over.set()
        self.thread.join()

    def run(self) -> None:
        while not self.over.is_set():
            for web in self.webs:
                try:
                    self.answers[web.api().ask("GET", f"manifests/{self.tag}").status] += 1
                except (OSError, http.client.HTTPException):  # it is restarted: a proxy would ask the other one
                    continue
                except AssertionError as refused:
                    self.answers[str(refused)] += 1


def test_secret_key_is_rotated_while_clients_pull(webs):
    """docs/operate/keys.md, "Rotating `KCR_SECRET_KEY` without a leak". No process meets what it cannot read."""
    first, second = webs
    data, former, new = push(first, "rotated"), first.settings["KCR_SECRET_KEY"], secrets.token_hex(32)
    with Client(webs, "rotated") as client:
        for web in webs:
            web.set(KCR_SECRET_KEY_FALLBACKS=new)
        first.set(KCR_SECRET_KEY=new, KCR_SECRET_KEY_FALLBACKS=former)
        later = first.access_key("member@acme.test", "--name", "made beside a former process")
        assert first.manage("rotatesigningkey") == {"rotated": True}
        old, second.key = second.key, later
        assert pulls(second, data, "rotated")
        second.key = old
        second.set(KCR_SECRET_KEY=new, KCR_SECRET_KEY_FALLBACKS=former)
        first.manage("rotatesigningkey")
    assert set(client.answers) == {200}, client.answers
    for web in webs:
        web.set(KCR_SECRET_KEY_FALLBACKS="")
        web.key = old
        with pytest.raises(AssertionError, match="401"):
            web.api()
        web.key = later
        assert pulls(web, data, "rotated")


def test_leaked_secret_key_opens_nothing_afterwards(webs):
    """docs/operate/keys.md, "After a leak of `KCR_SECRET_KEY`"."""
    first, second = webs
    data, stolen = push(first, "leaked"), first.api()
    new = secrets.token_hex(32)
    for web in webs:
        web.set(KCR_SECRET_KEY=new, KCR_SECRET_KEY_FALLBACKS="")
    first.manage("rotatesigningkey", "--forget-others")
    with pytest.raises(AssertionError, match="401"):
        first.api()
    assert wait_until(lambda: stolen.ask("GET", "manifests/leaked").status == 401, timeout=WAIT_SECONDS)
    first.key = second.key = first.access_key("member@acme.test", "--name", "after the leak")
    assert pulls(second, data, "leaked")
    Visitor(second, OWNER)


# ── From one machine to several ──────────────────────────────────────────────────────────────────────────────────────
def test_one_machine_moves_to_s3_and_postgresql(seaweed):
    """docs/operate/storage.md, "Move blobs", then docs/operate/upgrade.md, "Move to PostgreSQL"."""
    step = re.search(r"^1\. `manage.py (copystorage .*?)`", section("storage.md", "Move blobs"), re.MULTILINE)[1]
    create = re.search(r"`(createuser .*?)`,\s+`(createdb .*?)`", section("upgrade.md", "Move to PostgreSQL"))
    move = blocks("upgrade.md", "Move to PostgreSQL")[0]
    with PostgresServer() as postgres, LiveServer("moving", {"KCR_WEB_WORKERS": "1", **CREDENTIALS}) as server:
        server.people()
        kept = push(server, "kept")
        url = seaweed.url("moved")
        changed = {"/srv/kcr": str(server.data), "s3://blobs?region=eu-central-1": url}
        copy = here(f".venv/bin/python manage.py {step}", changed)
        assert json.loads(carry_out(copy, server).output)["copied"] == 1
        late = push(server, "late")
        server.end()
        assert json.loads(carry_out(copy, server).output)["copied"] == 1
        assert "Nothing was left to copy" in carry_out(copy, server).errors

        programs = f"{Path(require_postgres('createuser')).parent}:{server.environment['PATH']}"
        reach = {"PATH": programs, "PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "PGUSER": "kcr"}
        for command in create.groups():
            text = here(re.sub(r"\bkcr\b", "moved", command))
            carry_out(f"setsid --wait {text}", server, text_input="secret\nsecret\n", **reach)
        target = f"postgres://moved:secret@127.0.0.1:{postgres.port}/moved"
        changed = {"postgres://kcr:PASSWORD@db.example.com/kcr": target, "/srv/kcr": str(server.data)}
        carry_out(here(move, changed), server)
        settings = server.settings | {"KCR_DATABASE_URL": target, "KCR_STORAGE_URL": url}
        settings["KCR_SECRET_KEY"] = (server.data / "secret_key").read_text()
        with Web("other-machine", here(".venv/bin/python manage.py serve"), settings) as other:
            other.key = server.key
            for tag, data in {"kept": kept, "late": late}.items():
                assert pulls(other, data, tag)
            counts = {"blobs": 2, "missing": 0, "short": 0, "damaged": 0, "orphan": 0}
            assert other.manage("verifystorage", "--full") == counts
