"""Files that a browser saves."""

from __future__ import annotations

import csv
import io

import pytest

from accounts import audit as accounts_audit
from accounts.actors import Actor
from registry import audit
from registry.models import Event
from tests.support.factories import found, make_manifest, make_report

FORMULA = "=cmd|' /C calc'!A0"
CVE = "CVE-2026-1"


@pytest.fixture
def filled(world):
    """An event, a change of the organization and a finding, each with a text that is a formula."""
    image = make_manifest(world.repository("web"), "app", image="app", tag="1.0")
    make_report(image, [found(CVE, FORMULA, "@SUM(1)", path="-2")])
    actor = Actor(label=FORMULA, client="\t=1")
    audit.record(actor, Event.Action.PROJECT_UPDATE, world.projects["demo"])
    accounts_audit.record(actor, accounts_audit.Action.KEY_CREATE, person=world.owner.user)


@pytest.mark.parametrize(
    "path",
    [
        "/projects/demo/audit-log.csv",
        "/organizations/acme/audit-log.csv",
        "/projects/demo/repositories/web/app/-/manifests/1.0/vulnerabilities.csv",
        f"/cves/{CVE}.csv",
    ],
)
def test_spreadsheet_reads_no_cell_as_a_formula(console, filled, path):
    answer = console("owner").get(path)
    text = b"".join(answer.streaming_content).decode("utf-8-sig")
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    assert f"'{FORMULA}" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
