"""The vulnerability database: loading, fetching, validation, and no reader of a partial one."""

from __future__ import annotations

import errno
import gzip
import io
import json
import struct
import tarfile
from datetime import timedelta
from unittest.mock import Mock

import pytest
from celery.signals import worker_ready
from django.core.management import CommandError, call_command
from django.utils import timezone

from scanning import receivers, scans, tasks
from scanning.models import DatabaseRefresh, Scan
from scanning.models.scans import Problem
from scanning.trivy import database, program
from tests.support import scan_images, vulnerability_db
from tests.support.scan_images import DEBIAN_FINDINGS
from tests.support.server import LiveServer
from tests.support.vulnerability_db import FACTS, TOMORROW

from .conftest import TODAY, found_in, report_of

pytestmark = [pytest.mark.real, pytest.mark.django_db]


def archive_of(scanner, **files: bytes) -> io.BytesIO:
    """Return an archive of exactly these files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "."))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    made.seek(0)
    return made


@pytest.fixture
def written(tmp_path):
    """Write a valid database. Return its folder."""
    return vulnerability_db.write(tmp_path / "good", FACTS, updated_at=TODAY)


def test_a_database_is_loaded_from_a_file(scanner, written, tmp_path, capsys):
    file = tmp_path / "db.tar.gz"
    file.write_bytes(vulnerability_db.archive(written))
    call_command("loadvulnerabilitydb", str(file))
    assert json.loads(capsys.readouterr().out) == {"updated_at": TODAY.isoformat(), "requested": 0}
    assert database.current().updated_at == TODAY
    refresh = DatabaseRefresh.objects.get()
    assert (refresh.source, refresh.updated_at, refresh.problem) == ("db.tar.gz", TODAY, "")


def test_waiting_scans_start_with_a_database(scanner, docker, django_capture_on_commit_callbacks, written, tmp_path):
    with django_capture_on_commit_callbacks(execute=True):
        digest = docker("member").push("web/app", "1.0", scan_images.debian()).digest
    scanner.work()
    assert report_of(digest).problem == Problem.DATABASE_MISSING
    file = tmp_path / "db.tar.gz"
    file.write_bytes(vulnerability_db.archive(written))
    call_command("loadvulnerabilitydb", str(file))
    scanner.work()
    assert found_in(digest) == DEBIAN_FINDINGS


def promising(file: bytes) -> bytes:
    """Return the same database with a first bucket page that claims more entries than fit."""
    page_size, root = struct.unpack_from("<I", file, 24)[0], struct.unpack_from("<Q", file, 32)[0]
    at = root * page_size + 10
    return file[:at] + b"\xff\xff" + file[at + 2 :]


@pytest.mark.parametrize(
    "damage",
    ["no archive", "empty", "one file", "other version", "truncated", "panic", "no date", "knows nothing", "promises"],
)
def test_invalid_database_changes_nothing(scanner, written, damage):
    before = scanner.load()
    nothing = vulnerability_db.write(scanner.folder / "nothing", [], updated_at=TODAY) / "trivy.db"
    database_file, metadata = (written / "trivy.db").read_bytes(), (written / "metadata.json").read_bytes()
    said = json.loads(metadata)
    offered = {
        "no archive": lambda: io.BytesIO(b"this is not an archive"),
        "empty": lambda: archive_of(scanner),
        "one file": lambda: archive_of(scanner, trivy__db=database_file),
        "other version": lambda: archive_of(
            scanner, trivy__db=database_file, metadata__json=json.dumps(said | {"Version": 3}).encode()
        ),
        "truncated": lambda: archive_of(
            scanner, trivy__db=database_file[: len(database_file) // 2], metadata__json=metadata
        ),
        "panic": lambda: archive_of(scanner, trivy__db=b"\0" * 20_000, metadata__json=metadata),
        "promises": lambda: archive_of(scanner, trivy__db=promising(database_file), metadata__json=metadata),
        "knows nothing": lambda: archive_of(scanner, trivy__db=nothing.read_bytes(), metadata__json=metadata),
        "no date": lambda: archive_of(
            scanner, trivy__db=database_file, metadata__json=json.dumps(said | {"UpdatedAt": 7}).encode()
        ),
    }[damage]()
    with pytest.raises(database.Refused):
        database.install(offered, "bad.tar.gz")
    assert database.current() == before
    assert DatabaseRefresh.objects.count() == 1


def test_command_refuses_with_the_reason(scanner, tmp_path):
    file = tmp_path / "bad.tar.gz"
    file.write_bytes(gzip.compress(b"nothing"))
    with pytest.raises(CommandError, match=r"bad.tar.gz: the archive"):
        call_command("loadvulnerabilitydb", str(file))
    with pytest.raises(CommandError, match=r"missing.tar.gz"):
        call_command("loadvulnerabilitydb", str(tmp_path / "missing.tar.gz"))


def test_unexpected_members_of_an_archive_are_ignored(scanner, written, tmp_path):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        link = tarfile.TarInfo("trivy.db")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        escaping = tarfile.TarInfo("../metadata.json")
        archive.addfile(escaping)
    made.seek(0)
    with pytest.raises(database.Refused, match=r"no trivy.db"):
        database.install(made, "bad.tar.gz")
    assert not list(tmp_path.glob("**/passwd"))


def test_running_scan_keeps_its_database(scanner):
    first = scanner.load()
    place = database.current().folder
    scanner.load(days=1)
    assert place == first.folder
    assert (place / "db" / "trivy.db").exists()
    scanner.load(days=2)
    scanner.load(days=3)
    assert not place.exists()
    assert len([path for path in place.parent.iterdir() if not path.is_symlink()]) == database.KEPT


def test_newest_database_is_kept_despite_touched_folders(scanner):
    """Trivy touches the folders that it reads. This must not make an older database newer."""
    older = [scanner.load(days=days).folder for days in range(2)]
    newest = scanner.load(days=5)
    for folder in older:
        if folder.exists():
            (folder / "touched").mkdir()
    assert scanner.load(days=1).folder == database.current().folder
    assert scanner.load(days=6).folder == database.current().folder
    assert newest.folder != database.current().folder


def test_age_of_the_database_is_computed(scanner):
    assert database.current() is None
    assert scanner.load(days=-100).is_stale
    fresh = (timezone.now() - TODAY).days
    assert not scanner.load(days=fresh).is_stale


# ── Fetching ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_database_is_fetched_from_a_repository_of_this_registry(scanner, docker, settings, written):
    docker("member").push("web/trivy-db", "2", vulnerability_db.artifact(written))
    for name in ("localhost:8080/demo/web/trivy-db:2", "demo.kr-central-2.kcr.localhost:8080/web/trivy-db"):
        settings.TRIVY_DB_REPOSITORY = name
        fetched = database.refresh()
        assert (fetched and fetched.updated_at) in {TODAY, None}
    assert database.current().updated_at == TODAY
    assert [refresh.problem for refresh in DatabaseRefresh.objects.all()] == ["", ""]


@pytest.mark.parametrize("form", ["{name}@{digest}", "{name}:2@{digest}"])
def test_digest_pins_the_fetched_database(scanner, docker, settings, written, tmp_path, form):
    good = docker("member").push("web/trivy-db", "2", vulnerability_db.artifact(written)).digest
    later = vulnerability_db.write(tmp_path / "later", [TOMORROW], updated_at=TODAY + timedelta(days=1))
    docker("member").push("web/trivy-db", "2", vulnerability_db.artifact(later))
    name = "localhost:8080/demo/web/trivy-db"
    settings.TRIVY_DB_REPOSITORY = form.format(name=name, digest=good)
    assert database.refresh().updated_at == TODAY
    settings.TRIVY_DB_REPOSITORY = form.format(name=name, digest=f"sha256:{'0' * 64}")
    assert database.refresh() is None
    assert database.current().updated_at == TODAY
    settings.TRIVY_DB_REPOSITORY = f"{name}:2"
    assert database.refresh().updated_at == TODAY + timedelta(days=1)


def test_changed_bytes_of_a_stored_database_are_refused(scanner, docker, settings, written, storage_folder):
    thing = vulnerability_db.artifact(written)
    docker("member").push("web/trivy-db", "2", thing)
    for path in (storage_folder / "blobs").glob("*/*"):
        if path.read_bytes() == thing.content:
            path.write_bytes(thing.content[:-1] + b"x")
    settings.TRIVY_DB_REPOSITORY = "localhost:8080/demo/web/trivy-db:2"
    assert database.refresh() is None
    assert "damaged" in DatabaseRefresh.objects.latest("pk").problem


def test_database_pushed_twice_is_fetched_once(scanner, docker, settings, written):
    """One image has two manifests with the same layer, one of them deleted."""
    member, thing = docker("member"), vulnerability_db.artifact(written)
    member.push("web/trivy-db", "2", thing)
    again = json.loads(thing.manifest) | {"annotations": {"org.opencontainers.image.created": "today"}}
    member.push_manifest("web/trivy-db", "2", json.dumps(again).encode(), thing.manifest.media_type)
    settings.TRIVY_DB_REPOSITORY = "localhost:8080/demo/web/trivy-db:2"
    assert database.refresh().updated_at == TODAY


def test_full_disk_is_reported(scanner, docker, settings, written, monkeypatch):
    docker("member").push("web/trivy-db", "2", vulnerability_db.artifact(written))
    settings.TRIVY_DB_REPOSITORY = "localhost:8080/demo/web/trivy-db:2"

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(database.shutil, "copyfileobj", full)
    assert database.refresh() is None
    assert "No space left" in DatabaseRefresh.objects.latest("pk").problem


def test_scanner_without_a_database_asks_for_one_at_its_start(scanner, monkeypatch):
    asked = []
    monkeypatch.setattr(receivers, "queue", asked.append)

    def start(name):
        worker = Mock()
        worker.app.amqp.queues.consume_from = [name]
        worker_ready.send(sender=worker)

    start("celery")
    assert asked == []
    start("scans")
    assert asked == [tasks.refresh_database]
    scanner.load(days=0)
    start("scans")
    assert asked == [tasks.refresh_database]


def test_database_is_fetched_at_its_next_update(scanner, docker, settings, written):
    settings.TRIVY_DB_REPOSITORY = "localhost:8080/demo/web/trivy-db:2"
    docker("member").push("web/trivy-db", "2", vulnerability_db.artifact(written))
    days = (timezone.now() - TODAY).days
    current = scanner.load(days=days)
    DatabaseRefresh.objects.all().delete()
    assert database.refresh(only_if_due=True) is None
    assert not DatabaseRefresh.objects.exists()
    assert database.refresh() is None, "an older one is no news"
    assert database.current() == current


@pytest.mark.parametrize(
    "name", ["localhost:8080/demo/web/nothing:2", "localhost:8080/demo/web/app:1.0", "localhost:8080/Bad"]
)
def test_failed_fetch_is_reported(scanner, docker, settings, name):
    docker("member").push("web/app", "1.0", scan_images.debian())
    settings.TRIVY_DB_REPOSITORY = name
    before = scanner.load()
    assert database.refresh() is None
    assert database.current() == before
    refresh = DatabaseRefresh.objects.latest("pk")
    assert name.partition(":")[0] in refresh.problem or "vulnerability database" in refresh.problem
    assert refresh.updated_at == TODAY


def test_trivy_fetches_the_database_from_another_registry(scanner, settings, written, monkeypatch):
    """This registry serves as the other registry."""
    with LiveServer("mirror") as server:
        server.people().manage("createrepository", "demo/mirror", "--public")
        client = server.client(server.key)
        assert client.push("demo/mirror/trivy-db", vulnerability_db.artifact(written), "2").status == 201
        settings.TRIVY_DB_REPOSITORY = f"127.0.0.1:{server.port}/demo/mirror/trivy-db:2"
        fetched = database.refresh()
        problem = DatabaseRefresh.objects.latest("pk").problem
        assert fetched is not None, problem
        assert fetched.updated_at == TODAY
        digest = vulnerability_db.artifact(written).manifest.digest
        settings.TRIVY_DB_REPOSITORY = f"127.0.0.1:{server.port}/demo/mirror/trivy-db@{digest}"
        database.refresh()
        assert DatabaseRefresh.objects.latest("pk").problem == ""
        settings.TRIVY_DB_REPOSITORY = f"127.0.0.1:{server.port}/demo/mirror/trivy-db@sha256:{'0' * 64}"
        assert database.refresh() is None
        assert DatabaseRefresh.objects.latest("pk").problem
        settings.TRIVY_DB_REPOSITORY = f"127.0.0.1:{server.port}/demo/mirror/nothing:2"
        assert database.refresh() is None
        assert "nothing" in DatabaseRefresh.objects.latest("pk").problem


def test_missing_trivy_is_reported(scanner, settings, monkeypatch, docker, django_capture_on_commit_callbacks):
    scanner.load()
    monkeypatch.setattr(program.shutil, "which", lambda *_, **__: None)
    program.version.cache_clear()
    with django_capture_on_commit_callbacks(execute=True):
        docker("member").push("web/app", "1.0", scan_images.debian())
    (scan,) = scanner.work()
    assert scan.problem == Problem.SCANNER_MISSING
    assert scans.request_daily(timezone.now().replace(hour=23, minute=59)) == 1
    settings.TRIVY_DB_REPOSITORY = ""
    assert database.refresh() is None
    assert "not installed" in DatabaseRefresh.objects.latest("pk").problem


def test_a_round_waits_for_a_database(scanner, world):
    assert scans.request_daily(timezone.now() + timedelta(days=1)) == 0
    assert not Scan.objects.exists()
