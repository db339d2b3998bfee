"""OpenTelemetry: spans arrive at a receiver of OTLP, are joined across processes, and cost nothing when off."""

from __future__ import annotations

import http.server
import importlib.util
import json
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from registry import env, tracing
from tests.support.images import image_of, sha256
from tests.support.programs import require_trivy, unavailable, wait_until
from tests.support.s3 import CREDENTIALS, SeaweedFS
from tests.support.server import SOURCE, LiveServer
from tests.support.threads import Overtaking

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
STRANGER = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"


class Collector:
    """A receiver of OTLP over HTTP. ``spans``: name, trace, id, parent and attributes of each span."""

    def __init__(self) -> None:
        self.spans: list[dict] = []
        self.resources: set[str] = set()

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for of_resource in request.resource_spans:
            self.resources |= {
                each.value.string_value for each in of_resource.resource.attributes if each.key == "service.name"
            }
            for scope in of_resource.scope_spans:
                for span in scope.spans:
                    attributes = {
                        each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value")
                        for each in span.attributes
                    }
                    self.spans.append(
                        {
                            "name": span.name,
                            "trace": span.trace_id.hex(),
                            "id": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(),
                            "attributes": attributes,
                        }
                    )

    def named(self, name: str, trace: str = "") -> list[dict]:
        return [span for span in list(self.spans) if span["name"] == name and trace in ("", span["trace"])]


@pytest.fixture(scope="module")
def collector():
    if importlib.util.find_spec("opentelemetry.exporter") is None:
        unavailable("this test needs the packages of OpenTelemetry (requirements.txt)")
    found = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            found.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found.endpoint = f"http://127.0.0.1:{server.server_port}"
        yield found
        server.shutdown()


@pytest.fixture(scope="module")
def server(collector):
    with SeaweedFS() as s3:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "KCR_STORAGE_URL": s3.url("traces"),
            "KCR_TRUSTED_PROXIES": "127.0.0.1",
            **CREDENTIALS,
        }
        with LiveServer("traces", settings) as running:
            yield running.people()


@contextmanager
def worker(server):
    command = [sys.executable, "-m", "celery", "--app=registry", "worker", "--concurrency=1", "--queues=celery,scans"]
    with (server.folder / "worker.log").open("w") as log:
        process = subprocess.Popen(command, env=server.environment, cwd=SOURCE, stderr=log, stdout=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def await_span(collector, name, trace=""):
    assert wait_until(lambda: collector.named(name, trace), timeout=60), sorted(
        {span["name"] for span in collector.spans}
    )
    return collector.named(name, trace)[0]


def test_a_pull_is_one_trace_with_its_statements_and_calls_of_s3(collector, server):
    """The trace of the client is continued: the server's peer is a trusted proxy. Logs have its id."""
    api, data = server.api(), b"bytes of a layer"
    assert api.ask("PUT", f"{api.start()}?digest={sha256(data)}", data)[0] == 201
    status, headers, _ = api.ask("GET", f"blobs/{sha256(data)}", traceparent=TRACEPARENT)
    assert status == 200
    request = await_span(collector, "GET v2:blob", TRACE)
    assert request["parent"] == PARENT
    assert request["attributes"]["http.response.status_code"] == 200
    assert request["attributes"]["http.route"] == "v2:blob"
    assert request["attributes"]["kcr.request_id"] == headers["X-Request-Id"]
    assert collector.resources == {"kcr"}
    statements = [
        span for span in collector.spans if span["parent"] == request["id"] and span["name"] == "sqlite SELECT"
    ]
    assert statements
    assert all(span["trace"] == TRACE for span in statements)
    assert await_span(collector, "S3 PutObject")["attributes"]["http.response.status_code"] == 200
    (line,) = [json.loads(each) for each in server.log.read_text().splitlines() if headers["X-Request-Id"] in each]
    assert (line["trace_id"], line["span_id"]) == (TRACE, request["id"])
    told = json.dumps([[span["name"], span["attributes"]] for span in collector.spans])
    for secret in ("demo", "web/app", "member@acme.test", sha256(data), server.key.id):
        assert secret not in told


def test_a_task_continues_the_trace_of_its_request(collector, server):
    """A push of an image queues a scan; the worker runs it, without a vulnerability database."""
    require_trivy()
    with worker(server):
        api, image = server.api(), image_of("traced")
        for blob in image.parts[:-1]:
            assert api.push_blob(blob) == 201
        trace = "2" * 32
        parent = f"00-{trace}-{PARENT}-01"
        answer = api.ask("PUT", "manifests/1", image.manifest, Content_Type=image.media_type, traceparent=parent)
        assert answer.status == 201
        pushed = await_span(collector, "PUT v2:manifest", trace)
        queued = await_span(collector, "enqueue scanning.tasks.scan", trace)
        run = await_span(collector, "run scanning.tasks.scan", trace)
        await_span(collector, "trivy", trace)
    assert (queued["parent"], run["parent"]) == (pushed["id"], queued["id"])
    assert collector.named("trivy", trace)[0]["parent"] == run["id"]
    assert run["attributes"]["kcr.waited_seconds"] >= 0
    assert [span for span in collector.spans if span["parent"] == run["id"] and span["name"].startswith("sqlite ")]


@pytest.fixture
def restarted(server):
    """Return a function that restarts the server with further settings; the next test gets it as it was."""
    before = server.settings
    yield server.restart
    server.settings = before
    server.restart()


def test_strangers_cannot_choose_a_trace(collector, server, restarted):
    restarted(KCR_TRUSTED_PROXIES="192.0.2.1")
    assert server.client().ask("GET", "/v2/", traceparent=STRANGER)[0] == 401
    await_span(collector, "GET v2:root")
    assert not [span for span in collector.spans if span["trace"] == "1" * 32]


def test_a_collector_that_is_away_harms_no_request(server, restarted):
    restarted(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert server.client().ask("GET", "/v2/")[0] == 401


def test_nothing_is_imported_or_installed_when_tracing_is_off(tmp_path):
    code = (
        "import django; django.setup(); import sys, registry.wsgi, registry.celery; from django.conf import settings;"
        " from celery import signals; from django.db.backends.signals import connection_created as made;"
        " watched = [each for each in (signals.task_prerun, signals.before_task_publish, made)"
        " if 'registry.tracing' in str(each.receivers)];"
        " print([name for name in sys.modules if name.startswith('opentelemetry')], len(watched),"
        " [name for name in settings.MIDDLEWARE if 'tracing' in name])"
    )
    environment = LiveServer("off").environment | {"KCR_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=SOURCE, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[] 0 []"


@pytest.mark.parametrize(
    ("variables", "is_on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_variables_of_opentelemetry_turn_tracing_on_and_off(monkeypatch, variables, is_on):
    for name in (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_SDK_DISABLED",
        "OTEL_TRACES_EXPORTER",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert env.tracing() is is_on


def test_threads_that_come_at_once_share_one_exporter(monkeypatch):
    overtaking, made = Overtaking(), []

    def make():
        mine = object()
        made.append(mine)
        overtaking.pause()
        return mine

    monkeypatch.setattr(tracing, "_made", make)
    monkeypatch.setattr(tracing, "_of_process", (0, None))
    monkeypatch.setattr(tracing, "_lock", overtaking)
    one, other = overtaking.run(tracing._provider, tracing._provider)
    assert made == [one] == [other]
