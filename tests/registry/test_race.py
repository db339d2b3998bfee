"""Pushers, deleters, restorers, purgers, collectors and reapers at once, on the real code, with processes that are killed.

The clock is made to run fast: leases, recovery and delays last a fraction of a second, so that what takes weeks happens
here all the time. What must hold: a push that was answered inside its lease can be named in a manifest, and at every
quiet moment each reference has its bytes. ``KCR_TEST_RACE_SECONDS`` says how long; the controls break the rules on
purpose, and must be caught.
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

import pytest

from tests.programs import PostgresServer, environment_for, run
from tests.server import SOURCE

pytestmark = pytest.mark.real

SECONDS = float(os.environ.get("KCR_TEST_RACE_SECONDS", "12"))
WORKERS = ("pusher", "pusher", "pusher", "deleter", "restorer", "purger", "collector", "collector", "reaper")

WORLD = """
    from accounts import organizations
    from accounts.actors import SYSTEM
    from registry import repositories
    organization, _ = organizations.create_organization("acme")
    project, _ = organizations.create_project(organization, "demo")
    for name in ("one", "two"):
        repositories.create(SYSTEM, project, name)
    organizations.add_user(organization, "pusher@acme.test")
"""
# What every process begins with: short times, a few digests, and a word for what went wrong.
COMMON = """
    import json, os, random, sys, time, hashlib, logging
    from datetime import timedelta
    from django.db import IntegrityError, OperationalError, transaction
    from django.utils import timezone
    from accounts.actors import SYSTEM, Actor
    from accounts.models import Project, User
    from registry import blobs, errors, garbage, images, manifests, recovery, repositories, uploads
    from registry.models import *
    from registry.oci import media_types
    from registry.oci.names import ImageName
    from registry.storage import blob_storage
    logging.disable(logging.CRITICAL)
    blobs.LEASE = timedelta(seconds=2)
    garbage.OBJECT_DELAY = timedelta(seconds=0)
    garbage.PAUSE = 0
    garbage.BACKOFF = timedelta(seconds=0)
    uploads.DONE_SESSION_LIFE = timedelta(seconds=1)
    CONTROL = os.environ.get("RACE_CONTROL", "")
    rng = random.Random(os.getpid())
    user = User.objects.get(email="pusher@acme.test")
    me = Actor(user_id=user.pk, label=user.email)
    CONTENTS = [f"layer {number}".encode() * 40 for number in range(6)]
    counts = {"done": 0, "refused": 0, "wrong": []}
    end = time.monotonic() + float(os.environ["RACE_SECONDS"])
    def sha256(data):
        return "sha256:" + hashlib.sha256(data).hexdigest()
    def repository():
        return Repository.objects.live().select_related("project").filter(name=rng.choice(["one", "two"])).first()
"""
DEEDS = {
    "pusher": """
        def deed():
            home = repository()
            if home is None:
                try:
                    repositories.create(SYSTEM, Project.objects.get(), rng.choice(["one", "two"]))
                except errors.RegistryError:
                    pass
                return
            name = ImageName("demo", home.name, rng.choice(["a", "b"]))
            began = time.monotonic()
            parts = rng.sample(CONTENTS, 2)
            for part in parts:
                seen = blobs.nameable(home, [sha256(part)]).first() if rng.random() < 0.5 else None
                if seen is not None:
                    with transaction.atomic():
                        held = blobs.nameable(home, [sha256(part)]).held().first()
                        if held is not None:
                            blobs.lease(home, held)
                            continue
                uploads.push(me, home, name.image, sha256(part), uploads.Piece(iter([part])))
            time.sleep(rng.random() * 0.01)
            document = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST,
                "config": {"mediaType": "application/x", "digest": sha256(parts[0]), "size": len(parts[0])},
                "layers": [{"mediaType": "application/x", "digest": sha256(parts[1]), "size": len(parts[1])}]}
            try:
                manifests.push(me, home, name, rng.choice(["t1", "t2", "t3"]), json.dumps(document).encode(), content_type=media_types.OCI_MANIFEST)
            except errors.ManifestBlobUnknown:
                # Only the end of the lease, or of the repository, may have taken them.
                if time.monotonic() - began < 1.5 and Repository.objects.live().filter(pk=home.pk).exists():
                    counts["wrong"].append("a push inside its lease was told that its blobs are unknown")
    """,
    "deleter": """
        def deed():
            home = repository()
            if home is None:
                return
            kind = rng.random()
            if kind < 0.05:
                repositories.delete(me, home)
                return
            image = Image.objects.live().filter(repository=home).order_by("?").first()
            if image is None:
                return
            name = ImageName("demo", home.name, image.name)
            if kind < 0.2:
                images.delete(me, home, [image.name])
                return
            manifest = Manifest.objects.live().filter(image=image).order_by("?").first()
            tag = Tag.objects.live().filter(image=image).order_by("?").first()
            wanted = [manifest.digest] if manifest and kind < 0.7 else [tag.name] if tag else []
            if wanted:
                manifests.delete_many(me, home, name, wanted)
            time.sleep(rng.random() * 0.02)
    """,
    "restorer": """
        def deed():
            ids = list(Deletion.objects.order_by("?").values_list("pk", flat=True)[:2])
            if ids:
                recovery.restore(me, ids, replace_tags=rng.random() < 0.3)
            time.sleep(rng.random() * 0.02)
    """,
    "purger": """
        def deed():
            Deletion.objects.filter(at__lt=timezone.now() - timedelta(seconds=1)).update(purge_after=timezone.now())
            UploadSession.objects.filter(expires_at__lt=timezone.now()).count()
            uploads.sweep()
            recovery.purge(limit=5)
            time.sleep(0.01)
    """,
    "collector": """
        def deed():
            BlobReview.objects.update(review_after=timezone.now())
            for project in (Project.objects.get().pk, None):
                garbage.collect(project, timezone.now())
            time.sleep(rng.random() * 0.01)
    """,
    "reaper": """
        def deed():
            ObjectTrash.objects.update(delete_after=timezone.now())
            garbage.reap(limit=200)
            time.sleep(0.01)
    """,
}
LOOP = """
    while time.monotonic() < end:
        try:
            deed()
            counts["done"] += 1
        except (errors.RegistryError, IntegrityError, FileNotFoundError) as error:
            counts["refused"] += 1
        except OperationalError as error:
            counts["wrong"].append(f"{type(error).__name__}: {error}")
        except Exception as error:
            import traceback
            counts["wrong"].append(traceback.format_exc()[-1500:])
        if len(counts["wrong"]) > 5:
            break
    print(json.dumps(counts))
"""
# The rules, broken: what other registries do, or did.
CONTROLS = {
    "reused keys": """
        # Bytes live under their digest, and are deleted at once: a push that finds the row gone writes what is being deleted.
        def take(gone, now):
            keys = [blob.storage_key for blob in gone]
            pks = [blob.pk for blob in gone]
            BlobReview.objects.filter(pk__in=pks).delete()
            BlobLease.objects.filter(blob__in=pks).delete()
            Blob.objects.filter(pk__in=pks).delete()
            transaction.on_commit(lambda: (time.sleep(0.01), [blob_storage().delete(key) for key in keys]))
        garbage._take = take
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
        # References are looked up before the blobs are locked: what is pushed in between is not seen, and its rows go too.
        def collect(project_id, until):
            wanted = list(BlobReview.objects.values_list("pk", flat=True)[:50])
            referenced = set(ManifestBlob.objects.filter(blob__in=wanted).values_list("blob", flat=True))
            leased = set(BlobLease.objects.filter(blob__in=wanted, expires_at__gt=timezone.now()).values_list("blob", flat=True))
            time.sleep(0.01)
            with transaction.atomic():
                gone = list(Blob.objects.filter(pk__in=set(wanted) - referenced - leased))
                ManifestBlob.objects.filter(blob__in=gone).delete()
                garbage._take(gone, timezone.now())
        garbage.collect = collect
    """,
}
CHECK = """
    from registry import garbage
    from registry.models import *
    from registry.oci import documents
    wrong = [f"{each.kind} {each.digest}" for each in garbage.verify(full=True) if isinstance(each, garbage.Problem)]
    for manifest in Manifest.objects.all():
        named = {part.digest for part in documents.parse(bytes(manifest.content), manifest.media_type).blobs}
        if named != set(manifest.blob_references.values_list("blob__digest", flat=True)):
            wrong.append(f"{manifest.digest} has lost a reference")
    wrong += [f"a live tag of a deleted manifest: {tag}" for tag in Tag.objects.live().exclude(manifest__deletion=None)]
    wrong += [f"live in a deleted image: {each}" for each in Manifest.objects.live().exclude(image__deletion=None)]
    wrong += [f"a deleted repository with a live image: {each}" for each in Image.objects.live().exclude(repository__deletion=None)]
    lost = Blob.objects.filter(references=None, leases=None, review=None)
    wrong += [f"forgotten by everybody: {blob}" for blob in lost]
    import json
    print(json.dumps({"wrong": wrong, "manifests": Manifest.objects.count(), "blobs": Blob.objects.count()}))
"""


class Race:
    """A database and a storage of its own, and processes that work on it."""

    def __init__(self, folder, **settings: str) -> None:
        self.environment = environment_for(
            folder, KCR_DATA_DIR=str(folder / "data"), PYTHONWARNINGS="ignore", **settings
        )
        run(self.command("migrate"), environment=self.environment, directory=SOURCE)
        self.python(WORLD)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(SOURCE / "manage.py"), *arguments]

    def python(self, code: str) -> str:
        """Run code to its end; what it printed."""
        command = self.command("shell", "-v", "0", "-c", textwrap.dedent(code))
        return run(command, environment=self.environment, directory=SOURCE).output

    def start(self, worker: str, seconds: float, control: str = "") -> subprocess.Popen[str]:
        """One worker, for so long."""
        parts = (COMMON, CONTROLS.get(control, ""), DEEDS[worker], LOOP)
        code = "\n".join(textwrap.dedent(part) for part in parts)
        environment = self.environment | {"RACE_SECONDS": str(seconds)}
        command = self.command("shell", "-v", "0", "-c", code)
        return subprocess.Popen(
            command, env=environment, cwd=SOURCE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def round(self, seconds: float, control: str = "", *, kill: bool = True) -> list[str]:
        """All workers at once; one of them is killed on the way. What went wrong."""
        working = [(name, self.start(name, seconds, control)) for name in WORKERS]
        victim = random.choice(working)[1] if kill else None
        if victim is not None:
            time.sleep(2 + seconds / 2)
            victim.send_signal(signal.SIGKILL)
        wrong: list[str] = []
        for name, process in working:
            output, errors = process.communicate(timeout=seconds + 120)
            if process is victim:
                continue
            assert process.returncode == 0, f"{name}: {errors[-2000:]}"
            said = json.loads(output.strip().splitlines()[-1])
            self.done[name] = self.done.get(name, 0) + said["done"]
            wrong += [f"{name}: {each}" for each in said["wrong"]]
        return wrong + json.loads(self.python(CHECK).strip().splitlines()[-1])["wrong"]

    done: dict[str, int]


@pytest.fixture(params=["sqlite", "postgresql"])
def race(request, tmp_path):
    """A race on either database."""
    if request.param == "sqlite":
        made = Race(tmp_path)
        made.done = {}
        yield made
        return
    with PostgresServer() as server:
        made = Race(tmp_path, KCR_DATABASE_URL=server.url)
        made.done = {}
        yield made


def test_nothing_is_lost_in_a_race(race):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        assert race.round(min(10.0, SECONDS / 2)) == []
    print(race.done)
    assert race.done.get("pusher", 0) > 20
    assert race.done.get("collector", 0) > 20


@pytest.mark.parametrize("control", CONTROLS)
def test_a_race_that_breaks_the_rules_is_lost(tmp_path, control):
    """The harness bites: with these rules broken it finds something within half a minute."""
    with PostgresServer() as server:
        race = Race(tmp_path, KCR_DATABASE_URL=server.url)
        race.done = {}
        end, wrong = time.monotonic() + 30, []
        while time.monotonic() < end and not wrong:
            wrong = race.round(5.0, control, kill=False)
        assert wrong != []
