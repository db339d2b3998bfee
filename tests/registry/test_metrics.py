"""Prometheus metrics: what a scrape says, who can ask, and that alerts and dashboard use metrics that exist."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from django.db import OperationalError
from django.utils import timezone
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from accounts.models import Project
from registry.metrics import counters, rows
from registry.models import Deletion, UploadSession
from tests.support import factories
from tests.support.programs import free_port, wait_until
from tests.support.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

SOURCE = Path(__file__).resolve().parents[2]
WORD = re.compile(r"\bkcr_[a-z_]+")


def ask(port: int, path: str = "/metrics", host: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, content


def by_name(families: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    """{(name, label value, …): value}, labels in the order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def samples(text: str) -> dict[tuple[str, ...], float]:
    return by_name(text_string_to_metric_families(text))


def read_all() -> dict[tuple[str, ...], float]:
    return by_name(rows.Installation().collect())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the server makes its temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def server(folder):
    listen = f"127.0.0.1:{free_port()}"
    with Server(settings={"KCR_METRICS_LISTEN": listen, "KCR_WEB_WORKERS": "2", "TMPDIR": str(folder)}) as started:
        yield started
    assert not list(folder.glob("kcr-metrics-*"))


@pytest.fixture(scope="module")
def port(server) -> int:
    return int(server.settings["KCR_METRICS_LISTEN"].rpartition(":")[2])


@pytest.mark.real
@pytest.mark.sqlite_only
class TestAddress:
    def test_requests_of_all_processes_are_counted_once(self, server, port):
        before = samples(ask(port)[1]).get(("kcr_http_requests_total", "GET", "v2:root", "401"), 0)
        for _ in range(50):
            assert ask(server.port, "/v2/", server.host)[0] == 401
        found = samples(ask(port)[1])
        assert found["kcr_http_requests_total", "GET", "v2:root", "401"] == before + 50
        assert found["kcr_http_request_duration_seconds_count", "GET", "v2:root"] == before + 50

    def test_names_of_clients_are_no_labels(self, server, port):
        for path in ("/v2/demo/web/private-thing/manifests/v1", "/private-thing", "/v2/private-thing/oops"):
            ask(server.port, path, server.host)
        status, text = ask(port)
        assert status == 200
        assert ("kcr_http_requests_total", "GET", "v2:manifest", "401") in samples(text)
        assert ("kcr_http_requests_total", "GET", "none", "404") in samples(text)
        assert "private-thing" not in text

    def test_metrics_and_other_pages_have_separate_addresses(self, server, port):
        assert ask(server.port, "/metrics", f"127.0.0.1:{port}")[0] == 404
        for path in ("/", "/v2/", "/sign-in", "/readyz"):
            assert ask(port, path, server.host) == (404, "")

    def test_counters_survive_the_end_of_a_process_and_its_gauges_do_not(self, server, port, folder):
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        workers = children.read_text().split()
        gauges = f"kcr-metrics-*/gauge_live*_{workers[0]}.db"
        assert wait_until(lambda: bool(list(folder.glob(gauges))), timeout=30)
        for _ in range(20):
            ask(server.port, "/v2/", server.host)
        before = samples(ask(port)[1])
        os.kill(int(workers[0]), signal.SIGKILL)
        assert wait_until(lambda: not list(folder.glob(gauges)), timeout=30)
        assert wait_until(lambda: len(children.read_text().split()) == 2, timeout=30)
        after = samples(ask(port)[1])
        key = "kcr_http_requests_total", "GET", "v2:root", "401"
        assert after[key] == before[key] >= 20

    def test_alerts_and_dashboard_use_metrics_that_exist(self, server, port):
        ask(server.port, "/v2/", server.host)
        exposed = {family.name for family in text_string_to_metric_families(ask(port)[1])}
        exposed |= {
            metric.describe()[0].name for metric in vars(counters).values() if isinstance(metric, MetricWrapperBase)
        }
        exposed |= set(EXPOSED_LATER)
        alerts = yaml.safe_load((SOURCE / "deploy" / "prometheus" / "alerts.yml").read_text())
        rules = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
        panels = json.loads((SOURCE / "deploy" / "grafana" / "kcr.json").read_text())["panels"]
        shown = [target["expr"] for panel in panels for target in panel["targets"]]
        documented = (SOURCE / "docs" / "operate" / "monitoring.md").read_text()
        for text in (*rules, *shown, documented):
            for word in WORD.findall(text):
                assert re.sub(r"_(bucket|count|sum|total)$", "", word) in exposed or word in PREFIXES, word
        named = set(WORD.findall(documented))
        for name in exposed:
            if name.startswith("kcr_"):
                assert name in named or f"{name}_total" in named, f"{name} is not in docs/operate/monitoring.md"


EXPOSED_LATER = ("kcr_collection_last_success_timestamp_seconds", "kcr_vulnerability_database_age_seconds")
PREFIXES = {"kcr_http_", "kcr_web_", "kcr_database_pool_"}


def test_uploads_queues_and_quotas_are_read(world):
    web, demo, now = world.repository("web"), world.projects["demo"], timezone.now()
    Project.objects.filter(pk=demo.pk).update(repository_limit=4, image_limit=8)  # it has three repositories
    manifest = factories.make_manifest(web, "one", tag="1")
    factories.make_manifest(web, "two", image="second")
    later = {
        "expires_at": now + timedelta(hours=1),
        "repository": web,
        "user": world.member.user,
        "algorithm": "sha256",
    }
    UploadSession.objects.create(offset=700, **later)
    UploadSession.objects.create(offset=300, **later)
    UploadSession.objects.create(offset=300, **{**later, "expires_at": now - timedelta(hours=1)})
    deletion = {"kind": Deletion.Kind.TAG, "project": demo, "actor": "member@acme.test"}
    Deletion.objects.create(purge_after=now - timedelta(minutes=5), **deletion)
    Deletion.objects.create(purge_after=now - timedelta(minutes=9), hold=True, **deletion)
    Deletion.objects.create(purge_after=now + timedelta(minutes=5), **deletion)
    factories.open_scan(manifest, due_at=now - timedelta(minutes=2))
    factories.scanned(manifest, factories.critical("CVE-2024-1"))

    read = read_all()

    assert read["kcr_up",] == 1
    assert (read["kcr_uploads_open",], read["kcr_uploads_open_bytes",]) == (2, 1000)
    assert (read["kcr_deletions",], read["kcr_purges_waiting",]) == (3, 1)
    assert 300 <= read["kcr_purges_oldest_seconds",] < 400
    assert read["kcr_quota_used_ratio", "demo", "repositories"] == 0.75
    assert read["kcr_quota_used_ratio", "demo", "images"] == 0.25
    assert (read["kcr_scans_waiting",], read["kcr_scans_running",]) == (1, 0)
    assert 120 <= read["kcr_scans_oldest_seconds",] < 220
    assert read["kcr_scans_last_day", "done"] == 1


def read_lost_database():
    raise OperationalError


def test_database_outage_is_reported_and_other_metrics_are_left_out(settings):
    settings.METRICS_READERS = [f"{__name__}.read_lost_database"]
    assert read_all() == {("kcr_up",): 0}
