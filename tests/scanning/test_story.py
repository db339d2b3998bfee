"""The whole process with real programs: push by skopeo, scan, console, mail, and the scan of the next day."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from registry.management.commands.quickstart import ORGANIZATION
from tests.registry.test_quickstart import Quickstart
from tests.support import PASSWORD, scan_images, vulnerability_db
from tests.support.images import write_layout
from tests.support.programs import ContainersHome, environment_for, require, require_trivy, run
from tests.support.scan_images import DEBIAN_FINDINGS, JAR_FINDINGS, NPM_FINDINGS, PYTHON_FINDINGS
from tests.support.visitor import Visitor
from tests.support.vulnerability_db import FACTS, TOMORROW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.network import MailServer

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

ALL = DEBIAN_FINDINGS | PYTHON_FINDINGS | NPM_FINDINGS | JAR_FINDINGS
OWNER = "mina@acme.test"


@pytest.fixture
def running(mail_server, settings) -> Iterator[Quickstart]:
    """A running quickstart with a mail server."""
    require_trivy()
    variables = {
        "KCR_MAIL_URL": f"smtp+plain://127.0.0.1:{settings.EMAIL_PORT}",
        "KCR_TRIVY_DB_REPOSITORY": "",
        "KCR_ADMIN_EMAIL": OWNER,
        "KCR_ADMIN_PASSWORD": PASSWORD,
    }
    server = Quickstart("story", variables)
    server.settings["KCR_TRIVY_DB_REPOSITORY"] = f"{server.host}/demo/mirror/trivy-db:2"
    with server:
        server.manage("createrepository", "demo/web")
        server.manage("createrepository", "demo/mirror")
        yield server


def texts(mail_server: MailServer) -> list[str]:
    """Return subject and text of each mail."""
    return [f"{mail['Subject']}\n{mail_server.part(number, 'plain')}" for number, mail in enumerate(mail_server.mails)]


def eventually(look: Callable[[], object]) -> object:
    """Return the first true result of ``look`` within two minutes."""
    end = time.monotonic() + 120
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.5)
    return found


def copy(server: Quickstart, layout: Path, name: str) -> None:
    """Copy an image from a layout to the server by skopeo."""
    credentials = f"--dest-creds={server.key.id}:{server.key.secret}"
    line = ["skopeo", "--insecure-policy", "copy", "--all", "--dest-tls-verify=false", credentials]
    tag = name.rpartition(":")[2]
    environment = environment_for(server.folder, TMPDIR=str(server.folder))
    run([require(line[0]), *line[1:], f"oci:{layout}:{tag}", f"docker://{server.host}/{name}"], environment=environment)


def test_pull_policy_refuses_a_disguised_image_to_podman(running, tmp_path):
    running.key = running.access_key(OWNER)
    running.manage("adduser", "vic@acme.test", "--organization", ORGANIZATION)
    running.manage("grant", "demo/web", "vic@acme.test", "viewer")
    viewer = running.access_key("vic@acme.test")
    today = vulnerability_db.write(tmp_path / "today", FACTS)
    copy(running, write_layout(tmp_path / "mirror", {"2": vulnerability_db.artifact(today)}), "demo/mirror/trivy-db:2")
    running.work("scans", "refresh_database_and_start_scans")
    disguises = scan_images.disguises()
    client = running.client(running.key)
    with ContainersHome("gate") as home:
        home.login("podman", running.host, viewer.id, viewer.secret)
        for number, name in enumerate(("artifact type", "bytes", "attestation")):
            client.push("demo/web/app", disguises[name], str(number))
            reference = f"{running.host}/demo/web/app:{number}"
            home.podman("pull", "--tls-verify=false", reference)  # podman runs it in spite of its manifest
            home.podman("image", "rm", "--force", reference)
        running.work("scans", "refuse_high")
        assert eventually(lambda: running.work("scans", "count_critical") == 3)
        for number in range(3):
            refused = home.podman("pull", "--tls-verify=false", f"{running.host}/demo/web/app:{number}", succeeds=False)
            assert "severity critical" in refused.text + str(refused)


def test_push_is_scanned_mailed_and_rescanned_the_next_day(running, mail_server, tmp_path):
    running.key = running.access_key(OWNER)
    running.work("scans", "subscribe", OWNER)
    browser = Visitor(running, OWNER)
    image = scan_images.all_in_one()
    page = f"/projects/demo/repositories/web/app/-/manifests/{image.manifest.digest}/vulnerabilities"
    today = vulnerability_db.write(tmp_path / "today", FACTS)
    layout = write_layout(tmp_path / "mirror", {"2": vulnerability_db.artifact(today)})
    copy(running, layout, "demo/mirror/trivy-db:2")
    running.work("scans", "refresh_database_and_start_scans")
    layout = write_layout(tmp_path / "image", {"1.0": image})
    copy(running, layout, "demo/web/app:1.0")

    # The console shows exactly the findings of the image.
    names = {finding.vulnerability for finding in ALL}
    assert eventually(lambda: names <= set(re.findall(r"CVE-\d+-\d+", browser.see(page))))
    shown = browser.see(page)
    assert set(re.findall(r"CVE-\d+-\d+", shown)) == names
    for finding in ALL:
        assert finding.package in shown
        assert finding.fixed in shown

    # One mail reports the findings.
    assert eventually(lambda: mail_server.mails)
    (mail,) = texts(mail_server)
    named = [finding for finding in ALL if finding.vulnerability in mail]
    assert {finding.vulnerability for finding in ALL if finding.severity in {"CRITICAL", "HIGH"}} <= {
        finding.vulnerability for finding in named
    }
    assert len(named) < len(ALL), "a mail has 15 rows"
    assert f"{len(ALL) - 15} more" in mail
    assert "demo/web/app" in mail

    # The next day one more vulnerability is known. The mail reports only this one.
    tomorrow = vulnerability_db.write(tmp_path / "tomorrow", [*FACTS, TOMORROW])
    layout = write_layout(tmp_path / "mirror-tomorrow", {"2": vulnerability_db.artifact(tomorrow)})
    copy(running, layout, "demo/mirror/trivy-db:2")
    assert running.work("scans", "refresh_database")
    assert running.work("scans", "request_daily") == 1
    assert eventually(lambda: len(mail_server.mails) == 2)
    _, news = texts(mail_server)
    assert "CVE-2025-15467" in news
    assert not [name for name in names if name in news]
    assert "CVE-2025-15467" in browser.see(page)
