"""Pushers, pullers, deleters, restorers, purgers, collectors and reapers at once, on the real code; some are killed.

The clock is made to run fast: leases, recovery and delays last a second or less, so that what takes weeks happens here
all the time. What must hold at every moment, and an observer looks all the while: a push inside its lease can name its
blobs, each manifest has its references, each blob its bytes. ``KCR_TEST_RACE_SECONDS`` says how long; the controls
break the rules on purpose, and must be caught.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field

import pytest

from tests.support.programs import PostgresServer, environment_for, run
from tests.support.server import SOURCE

pytestmark = [pytest.mark.real, pytest.mark.alone]

SECONDS = float(os.environ.get("KCR_TEST_RACE_SECONDS", "12"))
ROUND = 30.0
WORKERS = (
    *("pusher", "pusher", "pusher", "puller", "deleter", "restorer", "purger"),
    *("collector", "collector", "reaper", "observer"),
)

WORLD = """
    from accounts import organizations
    from accounts.actors import SYSTEM
    from accounts.models import ProjectRole
    from registry import repositories
    organization, _ = organizations.create_organization("acme")
    project, _ = organizations.create_project(organization, "demo")
    for name in ("one", "two"):
        repositories.create(SYSTEM, project, name)
    user, _ = organizations.add_user(organization, "pusher@acme.test")
    organizations.set_project_role(project, user, ProjectRole.MEMBER)
"""
# What every process begins with: short times, some digests, and a word for what went wrong.
COMMON = """
    import hashlib, json, logging, os, random, sys, time, traceback
    from contextlib import suppress
    from datetime import timedelta
    from pathlib import Path
    from django.db import DatabaseError, connection, transaction
    from django.utils import timezone
    from accounts.actors import SYSTEM, Actor
    from accounts.models import Project, User
    from registry import blobs, errors, garbage, images, manifests, repositories, storage_check, tags, trash, uploads
    from registry.garbage import collector, reaper
    from registry.models import *
    from registry.oci import documents, media_types
    from registry.oci.names import ImageName
    from registry.storage import blob_storage
    logging.disable(logging.CRITICAL)
    LEASE = 2.0
    blobs.LEASE = timedelta(seconds=LEASE)
    collector.OBJECT_DELAY = timedelta(0)
    collector.PAUSE = reaper.PAUSE = 0
    collector.BACKOFF = timedelta(0)
    storage_check.ORPHAN_AGE = timedelta(0)
    uploads.DONE_SESSION_LIFE = timedelta(seconds=1)
    IS_CONTROL = bool(os.environ["RACE_CONTROL"])
    rng = random.Random(os.getpid())
    user = User.objects.get(email="pusher@acme.test")
    me = Actor(user_id=user.pk, label=user.email)
    # So many that most have few references or none: what is collected is often what somebody pushes at that moment.
    CONTENTS = [f"layer {number}".encode() * 40 for number in range(48)]
    GIVEN_UP = [f"given up {number}".encode() * 40 for number in range(4)]
    CONFIGS = [json.dumps({"architecture": f"a{number}", "os": "linux"}).encode() for number in range(4)]
    counts = {"tried": 0, "done": 0, "wrong": []}
    def wrong(what):
        counts["wrong"].append(what)
    def sha256(data):
        return "sha256:" + hashlib.sha256(data).hexdigest()
    def repository():
        return Repository.objects.live().select_related("project").filter(name=rng.choice(["one", "two"])).first()
    def nap(seconds):
        time.sleep(rng.random() * seconds)
    def hurry(rows, field):
        # What would come one day comes now. Rows in use by somebody are left alone: he minds the order of locks, not we.
        with transaction.atomic():
            free = list(rows.select_for_update(skip_locked=True).order_by("pk").values_list("pk", flat=True))
            rows.model.objects.filter(pk__in=free).update(**{field: timezone.now()})
"""
# What must hold at any moment. The rows are read in one snapshot; verify() minds by itself that others go on.
FINDINGS = """
    def findings():
        found = [f"{each.kind} {each.digest or each.key}" for each in storage_check.verify(full=True) if isinstance(each, storage_check.Problem)]
        with connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ" if connection.vendor == "postgresql" else "BEGIN")
            try:
                return found + rows()
            finally:
                cursor.execute("ROLLBACK")
    def rows():
        held, children = {}, {}
        for manifest, digest in ManifestBlob.objects.values_list("manifest", "blob__digest"):
            held.setdefault(manifest, set()).add(digest)
        for manifest, digest in ManifestChild.objects.values_list("parent", "child__digest"):
            children.setdefault(manifest, set()).add(digest)
        found = []
        for manifest in Manifest.objects.all():
            document = documents.parse(bytes(manifest.content), manifest.media_type)
            if {part.digest for part in document.blobs} != held.get(manifest.pk, set()):
                found.append(f"{manifest.digest} has lost a reference")
            if {part.digest for part in document.children} != children.get(manifest.pk, set()):
                found.append(f"{manifest.digest} has lost a child")
        found += [f"a live tag of a deleted manifest: {tag}" for tag in Tag.objects.live().exclude(manifest__deletion=None)]
        found += [f"live in a deleted image: {each}" for each in Manifest.objects.live().exclude(image__deletion=None)]
        found += [f"live in a deleted repository: {each}" for each in Image.objects.live().exclude(repository__deletion=None)]
        broken = ManifestChild.objects.filter(parent__deletion=None).exclude(child__deletion=None)
        found += [f"a live index without its child: {each}" for each in broken]
        lost = Blob.objects.filter(references=None, leases=None, reviews=None)
        return found + [f"forgotten by everybody: {blob}" for blob in lost]
"""
DEEDS = {
    "pusher": """
        def have(home, name, data):
            # The answers that clients build upon: HEAD says that it is there, a mount, or an upload.
            kind = rng.random()
            if kind < 0.5:
                try:
                    return blobs.find_for_push(me, name, sha256(data))
                except errors.BlobUnknown:
                    pass
            elif kind < 0.6:
                other = ImageName("demo", "two" if home.name == "one" else "one", "a")
                if blobs.mount(me, home, other, sha256(data)):
                    return
            uploads.push(me, home, name.image, sha256(data), uploads.Piece(iter([data])))
        def put(home, name, reference, document):
            content = json.dumps(document).encode()
            manifests.push(me, home, name, reference, content, content_type=document["mediaType"])
            return {"mediaType": document["mediaType"], "digest": sha256(content), "size": len(content)}
        def deed():
            home = repository()
            if home is None:
                repositories.create(SYSTEM, Project.objects.get(), rng.choice(["one", "two"]))
                return 0
            name = ImageName("demo", home.name, rng.choice(["a", "b"]))
            config, *layers = parts = [rng.choice(CONFIGS), *rng.sample(CONTENTS, 2)]
            began = time.monotonic()
            for part in parts:
                have(home, name, part)
            if rng.random() < 0.4:  # what came so far is nobody's when the lease ends, or somebody deletes it before
                have(home, name, rng.choice(GIVEN_UP))
                return 0
            nap(0.02)
            document = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST,
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(config), "size": len(config)},
                "layers": [{"mediaType": "application/x", "digest": sha256(layer), "size": len(layer)} for layer in layers]}
            try:
                pushed = put(home, name, rng.choice(["t1", "t2", "t3"]), document)
            except errors.ManifestBlobUnknown as error:
                # A HEAD promises half of a lease. Only its end, or that of the repository, may have taken them.
                if time.monotonic() - began < LEASE / 2 and Repository.objects.live().filter(pk=home.pk).exists():
                    wrong(f"a push inside its lease was told that its blobs are unknown: {error.detail}")
                return 0
            more = rng.random()
            if more < 0.2:
                index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [pushed]}
                put(home, name, rng.choice(["i1", "i2"]), index)
            elif more < 0.3:
                referrer = document | {"subject": pushed, "artifactType": "application/x"}
                put(home, name, sha256(json.dumps(referrer).encode()), referrer)
            return 1
    """,
    "puller": """
        def deed():
            tag = Tag.objects.live().select_related("image").order_by("?").first()
            if tag is None:
                nap(0.1)
                return 0
            name = ImageName(*tag.image.path.split("/", 2))
            found = manifests.find(me, name, tag.name)
            for part in documents.parse(found.content, found.media_type).blobs:
                # It may be deleted and recovered between two looks, but hardly between all of these.
                problems = [pulled(name, found, part.digest) for _ in range(3)]
                if all(problems):
                    wrong(f"a layer of a live manifest: {problems[-1]}")
            nap(0.1)
            return 1
        def pulled(name, found, digest):
            try:
                with blobs.open_bytes(blobs.find(me, name, digest)) as file:
                    return "" if sha256(file.read()) == digest else f"other bytes than those of {digest}"
            except errors.RegistryError as error:
                is_live = Manifest.objects.live().filter(image=found.image_id, digest=found.digest).exists()
                return str(error) if is_live else ""
    """,
    "deleter": """
        def deed():
            nap(0.1)
            home = repository()
            image = home and Image.objects.live().filter(repository=home).order_by("?").first()
            if image is None:
                return 0
            kind = rng.random()
            if kind < 0.05:
                repositories.delete(me, home)
            elif kind < 0.1:
                blobs.drop(home, sha256(rng.choice(GIVEN_UP)))
            elif kind < 0.2 or Manifest.objects.live().filter(image=image).count() > 8:  # or blobs would never be free
                images.delete(me, home, [image.name])
            else:
                things, word = (Manifest, "digest") if kind < 0.8 else (Tag, "name")
                chosen = things.objects.live().filter(image=image).order_by("?").values_list(word, flat=True)
                wanted = list(chosen[: rng.randint(1, 4)])
                if not wanted:
                    return 0
                manifests.delete_many(me, home, ImageName("demo", home.name, image.name), wanted)
            return 1
    """,
    "restorer": """
        def deed():
            nap(0.5)
            ids = list(Deletion.objects.order_by("?").values_list("pk", flat=True)[: rng.randint(1, 2)])
            return len(trash.restore(me, ids, replace_tags=rng.random() < 0.3).deletions)
    """,
    "purger": """
        def deed():
            nap(0.05)
            hurry(Deletion.objects.filter(at__lt=timezone.now() - timedelta(seconds=1)), "purge_after")
            uploads.sweep()
            return trash.purge(limit=20)
    """,
    "collector": """
        def deed():
            nap(0.05)
            hurry(BlobReview.objects.all(), "review_after")
            judged = [collector.collect(project, timezone.now()) for project in (Project.objects.get().pk, None)]
            return sum(each["collected"] for each in judged if each)
    """,
    "reaper": """
        def deed():
            nap(0.05)
            hurry(ObjectTrash.objects.all(), "delete_after")
            return garbage.reap(limit=200)
    """,
    "observer": """
        storage_check.ORPHAN_AGE = timedelta(hours=1)  # what is on its way has no row for a moment
        def deed():
            for each in findings():
                wrong(each)
            nap(0.4)
            return 1
    """,
}
# A worker says that it is ready, waits for the others, and goes on until its time is over or somebody has found something.
LOOP = """
    print("ready", flush=True)
    sys.stdin.readline()
    end, found = time.monotonic() + float(os.environ["RACE_SECONDS"]), Path(os.environ["RACE_FOUND"])
    while time.monotonic() < end and not found.exists():
        try:
            counts["tried"] += 1
            counts["done"] += deed()
        except errors.RegistryError:
            pass
        except Exception as error:
            # A database that defends itself against a control is not the damage that must be found.
            if not (IS_CONTROL and isinstance(error, DatabaseError)):
                wrong(traceback.format_exc()[-2500:])
        if counts["wrong"]:
            found.touch()
    print(json.dumps(counts))
"""
# The rules, broken: what other registries do, or did. The windows in which it can be seen are as wide as on a slow machine.
CONTROLS = {
    "reused keys": """
        # Bytes live under their digest, and are deleted once the row is gone: a push that finds no row writes what is being deleted.
        def take(gone, now):
            keys = [blob.storage_key for blob in gone]
            pks = [blob.pk for blob in gone]
            BlobReview.objects.filter(blob__in=pks).delete()
            BlobLease.objects.filter(blob__in=pks).delete()
            Blob.objects.filter(pk__in=pks).delete()
            transaction.on_commit(lambda: (time.sleep(rng.uniform(0.1, 1)), [blob_storage().delete(key) for key in keys]))
        collector._take = take
        KEYS = {}
        def finish(session, claimed, piece, original=uploads._finish):
            KEYS[session.pk] = str(claimed).replace(":", "-")
            return original(session, claimed, piece)
        uploads._finish = finish
        def key_of(session):
            return f"blobs/xx/{KEYS.get(session.pk, session.pk)}"
        UploadSession.storage_key = property(key_of)
    """,
    "look before the lock": """
        # References and leases are looked up before the blobs are locked: what comes in between is not seen, and goes too.
        def collect(project_id, until):
            wanted = list(BlobReview.objects.values_list("blob", flat=True))
            referenced = set(ManifestBlob.objects.filter(blob__in=wanted).values_list("blob", flat=True))
            leased = set(BlobLease.objects.filter(blob__in=wanted, expires_at__gt=timezone.now()).values_list("blob", flat=True))
            time.sleep(rng.uniform(0.2, 2))
            gone = list(Blob.objects.filter(pk__in=set(wanted) - referenced - leased))
            for blob in gone:
                with suppress(DatabaseError), transaction.atomic():  # one that defends itself does not save the others
                    ManifestBlob.objects.filter(blob=blob).delete()
                    collector._take([blob], timezone.now())
            return {"collected": len(gone)}
        collector.collect = collect
    """,
}


@dataclass
class Race:
    """A database and a storage of its own, and processes that work on it. ``done``: how often each of them acted."""

    environment: dict[str, str]
    done: dict[str, int] = field(default_factory=dict)

    @classmethod
    def begin(cls, folder, **settings: str) -> Race:
        """An empty installation with what everybody races for."""
        paths = {"KCR_DATA_DIR": str(folder / "data"), "RACE_FOUND": str(folder / "found"), "RACE_CONTROL": ""}
        race = cls(environment_for(folder, PYTHONWARNINGS="ignore", **paths, **settings))
        run(race.command("migrate"), environment=race.environment, directory=SOURCE)
        race.python(WORLD)
        return race

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(SOURCE / "manage.py"), *arguments]

    def python(self, *parts: str) -> str:
        """Run code to its end; what it printed."""
        command = self.command("shell", "-v", "0", "-c", "\n".join(map(textwrap.dedent, parts)))
        return run(command, environment=self.environment, directory=SOURCE).output

    def start(self, worker: str, seconds: float, control: str) -> subprocess.Popen[str]:
        """One worker, which waits for the word to begin."""
        parts = (COMMON, FINDINGS, CONTROLS.get(control, ""), DEEDS[worker], LOOP)
        command = self.command("shell", "-v", "0", "-c", "\n".join(map(textwrap.dedent, parts)))
        environment = self.environment | {"RACE_SECONDS": str(seconds), "RACE_CONTROL": control}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, cwd=SOURCE, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def round(self, seconds: float, control: str = "", *, kill: bool = True) -> list[str]:
        """All workers at once, some of them killed on the way. What went wrong: seen on the way, or in the end."""
        working = [(name, self.start(name, seconds, control)) for name in WORKERS]
        victims = random.sample([process for _, process in working], 2 if kill else 0)
        try:
            for name, process in working:
                assert process.stdout.readline() == "ready\n", f"{name}: {process.stderr.read()[-2000:]}"
            for _, process in working:
                process.stdin.write("go\n")
                process.stdin.flush()
            for victim in victims:
                time.sleep(random.uniform(0, seconds / 2))
                victim.send_signal(signal.SIGKILL)
            wrong = [
                said for name, process in working for said in self.said(name, process, seconds, process in victims)
            ]
        finally:
            for _, process in working:
                process.kill()
        found = self.python(COMMON, FINDINGS, "print(json.dumps(findings()))")
        return wrong + json.loads(found.strip().splitlines()[-1])

    def said(self, name: str, process: subprocess.Popen[str], seconds: float, was_killed: bool) -> list[str]:
        """What a worker that has ended found wrong."""
        output, errors = process.communicate(timeout=seconds + 120)
        if was_killed:
            return []
        assert process.returncode == 0, f"{name}: {errors[-2000:]}"
        told = json.loads(output.strip().splitlines()[-1])
        self.done[name] = self.done.get(name, 0) + told["done"]
        return [f"{name}: {each}" for each in told["wrong"]]


@pytest.fixture(params=["sqlite", "postgresql"])
def race(request, tmp_path):
    """A race on either database."""
    if request.param == "sqlite":
        yield Race.begin(tmp_path)
        return
    with PostgresServer() as server:
        yield Race.begin(tmp_path, KCR_DATABASE_URL=server.url)


@pytest.mark.timeout(300 + 3 * SECONDS)
def test_nothing_is_lost_in_a_race(race):
    """As long as it was asked for, and until enough has happened: a loaded machine needs more rounds for that."""
    left = SECONDS
    while left > 0 or min(race.done.get(who, 0) for who in ("pusher", "collector")) <= 20:
        assert race.round(min(ROUND, SECONDS / 2)) == []
        left -= ROUND
    print(race.done)


# What a control must be caught at: damage, and not that it fails.
DAMAGE = ("missing sha256:", "has lost a reference", "a layer of a live manifest", "a push inside its lease")


@pytest.mark.parametrize("control", CONTROLS)
def test_a_race_that_breaks_the_rules_is_lost(race, control):
    """The harness bites: with these rules broken it finds damage within half a minute of racing."""
    found = race.round(30.0, control, kill=False)
    others = [each for each in found if not any(damage in each for damage in DAMAGE)]
    assert len(others) < len(found), "it was not caught"
    assert [each for each in others if "orphan blobs/xx/" not in each] == []  # a reused key is nobody's now and then
