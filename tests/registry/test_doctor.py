"""The connection doctor behind a real nginx, and beside services that are down."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import subprocess
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from aiosmtpd.controller import Controller
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from registry.doctor import address, passes, proxies, runs, services
from registry.doctor.results import Result, State, ok
from registry.doctor.visit import Probe, Visit
from registry.models import DoctorRun
from registry.v2 import diagnostics
from tests.support.nginx import behind_nginx
from tests.support.programs import PostgresServer, RedisServer, free_port, wait_until
from tests.support.s3 import CREDENTIALS, SeaweedFS
from tests.support.server import SOURCE, LiveServer
from tests.support.threads import Overtaking
from tests.support.tls import TlsServer, make_certificate

WILDCARD = "*.kr-central-2.kcr.localhost"
ADDRESS = [probe.name for probe in address.PROBES]
SIZE, VERSION = "client_max_body_size 0;", "proxy_http_version 1.1;"
LONGER = "3"  # seconds that the proxy must wait

real = [pytest.mark.real, pytest.mark.sqlite_only]


def doctor(server, *arguments, status=None, **environment):
    """Run the command. Return the results by probe."""
    done = subprocess.run(
        server.command("doctor", "--json", "--wait", LONGER, *arguments),
        env=server.environment | environment,
        cwd=SOURCE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    assert done.returncode == (1 if answer["failure"] else 0)
    assert status is None or done.returncode == status
    assert "Traceback" not in done.stderr
    return {result["probe"]: result for result in answer["results"]}


def states(results, *wanted):
    return {name: result["state"] for name, result in results.items() if result["state"] in wanted}


# ── The proxy ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"), WILDCARD, days=90)


@pytest.fixture(scope="module")
def proxied(certificate):
    """A server behind the documented nginx, with TLS."""
    server = TlsServer("doctor")
    server.certificate = certificate
    with behind_nginx(server, certificate) as running:
        yield running


@contextlib.contextmanager
def spoiled(server, *changes):
    """Restart nginx with these lines of its configuration changed."""
    server.proxy.stop()
    server.proxy.changes = list(changes)
    server.proxy.start()
    try:
        yield
    finally:
        server.proxy.stop()
        server.proxy.changes = []
        server.proxy.start()


def probe(server, certificate, *arguments):
    return doctor(server, *ADDRESS, *arguments, SSL_CERT_FILE=str(certificate))


#: (lines of nginx, the probe that fails, a text of nginx's line)
FAULTS = [
    ("client_max_body_size 0;", "client_max_body_size 1m;", "body-size", "client_max_body_size 0"),
    ("proxy_request_buffering off;", "", "request-buffering", "proxy_request_buffering off"),
    ("proxy_buffering off;", "proxy_buffering on;", "response-buffering", "proxy_buffering off"),
    ("proxy_set_header X-Forwarded-Proto $scheme;", "", "scheme", "X-Forwarded-Proto $scheme"),
    ("X-Forwarded-Proto $scheme;", "X-Forwarded-Proto http;", "scheme", "X-Forwarded-Proto $scheme"),
    ("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;", "", "client", "X-Forwarded-For"),
    ("Host $http_host;", "Host $proxy_host;", "host", "proxy_set_header Host $http_host"),
    ("Host $http_host;", "Host $host;", "host", "proxy_set_header Host $http_host"),
    ("proxy_read_timeout 900s;", "proxy_read_timeout 2s;", "idle", "proxy_read_timeout 900s"),
    (SIZE, f"{SIZE} gzip on; gzip_proxied any; gzip_types *;", "compression", "gzip off"),
    (
        SIZE,
        SIZE + " proxy_hide_header WWW-Authenticate; add_header WWW-Authenticate"
        """ 'Bearer realm="http://inner/token",service="inner"' always;""",
        "realm",
        "WWW-Authenticate",
    ),
    (
        SIZE,
        SIZE + " proxy_hide_header Location; add_header Location http://inner:8080/v2/x;",
        "location",
        "proxy_redirect off",
    ),
    (VERSION, f"{VERSION} proxy_set_header Range '';", "ranges", "proxy_set_header Range"),
    (VERSION, f"{VERSION} proxy_set_header Authorization '';", "installation", "Authorization"),
]


class TestProxy:
    pytestmark = real

    def test_the_documented_nginx_has_no_fault(self, proxied, certificate):
        results = probe(proxied, certificate)
        assert states(results, "warning", "failure", "skipped") == {}
        assert list(results) == ADDRESS

    @pytest.mark.parametrize(
        ("right", "wrong", "named", "line"), FAULTS, ids=[f"{fault[2]}-{number}" for number, fault in enumerate(FAULTS)]
    )
    def test_each_wrong_line_is_named_and_nothing_else(self, proxied, certificate, right, wrong, named, line):
        with spoiled(proxied, (re.escape(right), wrong)):
            results = probe(proxied, certificate)
        assert states(results, "warning", "failure") == {named: "failure"}
        assert line in results[named]["lines"]["nginx"]
        assert set(results[named]["lines"]) == {"nginx", "Traefik", "Caddy", "load balancer"}
        assert results[named]["change"]

    def test_a_proxy_that_does_not_reach_kcr_is_told_from_one_that_is_down(self, proxied, certificate):
        with spoiled(proxied, (r"server 127\.0\.0\.1:\d+ max_fails=0;", f"server 127.0.0.1:{free_port()};")):
            results = probe(proxied, certificate)
        assert states(results, "warning", "failure") == {"reach": "failure"}
        assert "502" in results["reach"]["seen"]
        assert "proxy_pass" in results["reach"]["lines"]["nginx"]
        proxied.proxy.stop()
        try:
            results = probe(proxied, certificate)
        finally:
            proxied.proxy.start()
        assert states(results, "warning", "failure") == {"reach": "failure"}
        assert "KCR_PUBLIC_URL" in results["reach"]["change"]

    def test_a_proxy_that_is_not_trusted_is_named_with_its_setting(self, proxied, certificate):
        assert proxied.stop() == 0
        proxied.settings["KCR_TRUSTED_PROXIES"] = "192.0.2.1"
        proxied.serve()
        try:
            results = probe(proxied, certificate)
        finally:
            assert proxied.stop() == 0
            proxied.settings["KCR_TRUSTED_PROXIES"] = "127.0.0.1"
            proxied.serve()
        assert states(results, "warning", "failure") == {"client": "failure"}
        assert "127.0.0.1" in results["client"]["change"]
        assert "KCR_TRUSTED_PROXIES" in results["client"]["change"]

    def test_a_certificate_that_is_not_trusted_or_ends_soon_is_named(self, proxied, certificate, tmp_path):
        results = doctor(proxied, "certificate", "project-hosts")
        assert states(results, "failure") == {"certificate": "failure"}
        assert "ssl_certificate" in results["certificate"]["lines"]["nginx"]
        soon = make_certificate(tmp_path, days=5)
        with spoiled(
            proxied,
            (re.escape(str(certificate)), str(soon)),
            (re.escape(str(certificate.with_suffix(".key"))), str(soon.with_suffix(".key"))),
        ):
            results = doctor(proxied, "certificate", "project-hosts", SSL_CERT_FILE=str(soon))
        assert states(results, "ok", "failure") == {}
        assert "ends in 4 days" in results["certificate"]["seen"]
        assert "*.kr-central-2.kcr.localhost" in results["project-hosts"]["change"]

    def test_another_secret_key_is_a_fault_of_the_installation(self, proxied, certificate):
        results = doctor(
            proxied, *ADDRESS, KCR_SECRET_KEY="0123456789abcdefghijklmnopqrstuvwxyz", SSL_CERT_FILE=str(certificate)
        )
        assert states(results, "warning", "failure") == {"installation": "failure"}
        assert "KCR_SECRET_KEY" in results["installation"]["change"]

    def test_strangers_cannot_use_the_diagnostic_address(self, proxied):
        for method, what in (("GET", "request"), ("GET", "late?n=900"), ("GET", "slow"), ("PATCH", "body")):
            client = proxied.client()
            for login in ({}, {"Authorization": f"{passes.SCHEME} wrong"}, {"Authorization": "Basic YTpi"}):
                status, headers, _ = client.ask(method, f"/v2/_diagnostics/{what}", **login)
                assert (status, "WWW-Authenticate" in headers) == (401, True)


# ── Services ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class Login:
    """An SMTP server that refuses every login."""

    def __call__(self, server, session, envelope, mechanism, data):
        from aiosmtpd.smtp import AuthResult

        return AuthResult(success=False, handled=False)


@contextlib.contextmanager
def mail_server(**options):
    class Handler:
        mails = []  # noqa: RUF012  one class for each server

        async def handle_DATA(self, server, session, envelope):  # noqa: N802
            self.mails.append(envelope)
            return "250 OK"

    logging.getLogger("mail.log").setLevel(logging.WARNING)
    controller = Controller(Handler(), hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    yield controller
    controller.stop()


class TestServices:
    pytestmark = real

    def test_services_that_are_there_and_then_down(self):
        """PostgreSQL, Redis and S3 with a worker; then each of them is away."""
        with PostgresServer() as postgres, RedisServer() as redis, SeaweedFS() as s3:
            settings = {
                "KCR_DATABASE_URL": postgres.url,
                "KCR_REDIS_URL": redis.url,
                "KCR_STORAGE_URL": s3.url("doctor", presign="on"),
                "KCR_MAIL_URL": f"smtp+plain://127.0.0.1:{free_port()}",
                **CREDENTIALS,
            }
            with LiveServer("services", settings) as server:
                words = ["-m", "celery", "--app=registry", "worker", "--pool=threads", "--queues=celery,scans"]
                worker = subprocess.Popen(
                    [server.command()[0], *words],
                    env=server.environment,
                    cwd=SOURCE,
                    stderr=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
                names = [each.name for each in services.PROBES]
                started = ["worker", "scanner"]
                try:
                    assert wait_until(lambda: len(states(doctor(server, *started), "ok")) == 2, timeout=120)
                    results = doctor(server, *names, "scanner")
                finally:
                    worker.terminate()
                    worker.wait()
                found = states(results, "ok")
                assert {"database", "migrations", "pool", "redis", "worker", "scanner", "storage"} <= set(found), (
                    results
                )
                assert {"presigned", "storage-clock"} <= set(found), results
                assert "Connection refused" in results["mail"]["seen"]
                assert "KCR_MAIL_URL" in results["mail"]["change"]
                assert s3.keys("doctor") == []

                results = doctor(server, "worker", "scanner")
                assert states(results, "failure", "warning") == {"worker": "failure", "scanner": "warning"}
                redis.stop()
                s3.stop()
                results = doctor(server, *names)
                assert states(results, "failure") == dict.fromkeys(["redis", "worker", "storage", "mail"], "failure")
                assert "KCR_REDIS_URL" in results["redis"]["change"]
                assert "KCR_STORAGE_URL" in results["storage"]["change"]
                postgres.stop()
                results = doctor(server, *names)
                assert results["database"]["state"] == "failure"
                assert "KCR_DATABASE_URL" in results["database"]["change"]
                assert {results[name]["state"] for name in ("migrations", "pool", "worker", "waiting-work")} == {
                    "skipped"
                }
                server.crash()

    def test_a_mail_is_sent_on_demand_and_a_refused_login_is_named(self):
        with mail_server() as open_server, LiveServer("mails") as server:
            server.settings["KCR_MAIL_URL"] = f"smtp+plain://127.0.0.1:{open_server.port}"
            assert states(doctor(server, "mail"), "ok") == {"mail": "ok"}
            assert open_server.handler.mails == []
            assert states(doctor(server, "mail", "--send-mail", "you@acme.test"), "ok") == {"mail": "ok"}
            assert [mail.rcpt_tos for mail in open_server.handler.mails] == [["you@acme.test"]]
            with mail_server(authenticator=Login(), auth_require_tls=False) as closed:
                password = "a-password-of-the-mail-server"
                server.settings["KCR_MAIL_URL"] = f"smtp+plain://kcr:{password}@127.0.0.1:{closed.port}"
                results = doctor(server, "mail")
            assert results["mail"]["state"] == "failure"
            assert "user and password" in results["mail"]["change"]
            assert password not in json.dumps(results)

    def test_missing_migrations_are_named(self):
        server = LiveServer("unmigrated")
        with contextlib.ExitStack() as ends:
            ends.callback(server.close)
            server.data.mkdir(mode=0o700)
            results = doctor(server, "migrations", "database", "worker")
        assert "manage.py migrate" in results["migrations"]["change"]
        assert results["worker"]["state"] == "skipped"


# ── The frame ────────────────────────────────────────────────────────────────────────────────────────────────────────
def result_of(call, **options):
    made = Probe("one", "One", "Group", call, **options)
    return next(runs.run(Visit(wait=0), [made], lambda result: None))


def test_a_probe_that_crashes_is_a_failure_without_secrets(settings, caplog):
    settings.EMAIL_HOST_PASSWORD = "hidden-password"

    def crash(visit):
        raise ValueError("no hidden-password\nhere")

    result = result_of(crash)
    assert (result.state, str(result.seen)) == (State.FAILURE, "the probe itself failed: ValueError: no *** here")


def test_a_probe_that_hangs_is_a_failure():
    never = threading.Event()
    result = result_of(lambda visit: never.wait(20), seconds=0.2)
    never.set()
    assert result.state == State.FAILURE
    assert "no result within" in str(result.seen)


def test_results_that_come_at_once_are_all_stored(monkeypatch):
    overtaking, stored = Overtaking(), []

    def note(run_id, results, *, is_done=False):
        names = {result.probe for result in results}
        overtaking.pause()
        stored.append((names, is_done))
        if len(names) == 2:
            overtaking.go_on.set()

    def end(visit):
        raise ok("it works")

    both = {"one", "two"}
    monkeypatch.setattr(runs, "probes", lambda: [Probe(name, name, "Group", end) for name in sorted(both)])
    monkeypatch.setattr(runs, "note", note)
    monkeypatch.setattr(runs, "threading", SimpleNamespace(Lock=lambda: overtaking))
    run = threading.Thread(target=runs._run_and_store, args=(1,))  # it closes the connection of its thread
    run.start()
    run.join()
    assert stored[1:] == [(both, False), (both, True)]


def test_probes_of_a_visit_ask_once_what_is_seen(monkeypatch):
    overtaking, visit, asked = Overtaking(), Visit(), []

    def ask():
        asked.append("request")
        overtaking.pause()
        return {}

    visit._lock = overtaking
    monkeypatch.setattr(visit, "_ask_what_is_seen", ask)
    overtaking.run(lambda: visit.seen, lambda: visit.seen)
    assert asked == ["request"]


@pytest.mark.parametrize(("method", "what"), [("GET", "late?n=0"), ("GET", "slow"), ("PATCH", "body")])
def test_diagnostic_request_that_holds_a_thread_takes_a_place(docker, monkeypatch, method, what):
    client, statuses = docker(None), []

    def ask(method, what):
        headers = {"Authorization": passes.issue()}
        return client.raw(method, f"/v2/_diagnostics/{what}", body=b"x" if method == "PATCH" else b"", headers=headers)

    def meanwhile(seconds=0):
        if not statuses:
            statuses.append(None)
            statuses.append(ask("GET", "late?n=0").status)
        return 1.0

    monkeypatch.setattr(diagnostics, "_places", threading.BoundedSemaphore(1))
    monkeypatch.setattr(diagnostics, "time", SimpleNamespace(sleep=meanwhile, monotonic=meanwhile, time=time.time))
    assert (ask(method, what).status, statuses) == (200, [None, 429])
    assert ask("GET", "late?n=0").status == 200


def test_result_survives_the_database_and_every_fault_has_its_lines():
    result = Result("one", State.OK, ok("%(what)s works", what="it").seen)
    assert Result.read(json.loads(json.dumps(result.written()))) == result
    for lines in proxies.LINES.values():
        assert list(lines) == ["nginx", "Traefik", "Caddy", "load balancer"]


def test_a_pass_ends_and_is_of_this_installation(monkeypatch, settings):
    header = passes.issue()
    assert passes.is_valid(header)
    assert not passes.is_valid(header[:-1])
    assert not passes.is_valid(header.replace(passes.SCHEME, "bearer"))
    now = passes.time.time()
    monkeypatch.setattr(passes.time, "time", lambda: now + passes.LIFETIME + 1)
    assert not passes.is_valid(header)
    monkeypatch.undo()
    settings.SECRET_KEY = "another key " * 5
    assert not passes.is_valid(header)


def test_an_unknown_probe_is_refused(db):
    with pytest.raises(CommandError, match="there is no probe nothing"):
        call_command("doctor", "nothing")


def test_old_runs_are_forgotten_and_one_runs_at_a_time(db):
    for number in range(runs.KEPT + 3):
        runs.open_run(f"person {number}")
    assert DoctorRun.objects.count() == runs.KEPT
    assert runs.last().requested_by == f"person {runs.KEPT + 2}"
    assert runs.start("someone else") is False
    DoctorRun.objects.update(started_at=timezone.now() - DoctorRun.LONGEST - timedelta(seconds=1))
    assert not runs.under_way().exists()
