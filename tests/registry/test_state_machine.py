"""Random sequences of pushes, deletions, recoveries, holds, nights and hours, compared with a model.

The model has no rows, keys, reviews or trash. It predicts what may be pulled, pushed and recovered. In addition,
after every step: acknowledged content has all its bytes, deleted content is gone, each row has its bytes, and
each file has an owner. In the end everything is deleted, and no file may remain.

``KCR_TEST_MACHINES=500`` tries so many random runs instead of the fixed ones, and shrinks a failing one.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.db import transaction
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from accounts.actors import SYSTEM
from registry import blobs, errors, garbage, manifests, repositories, trash, uploads
from registry.garbage import collector, reaper
from registry.models import Blob, BlobLease, BlobReview, Collection, Deletion, ObjectTrash, Repository, UploadSession
from registry.oci.names import ImageName
from registry.storage import blob_storage
from tests.support import later
from tests.support.images import Image as Pushed
from tests.support.images import sha256

if TYPE_CHECKING:
    from pathlib import Path

RUNS = int(os.environ.get("KCR_TEST_MACHINES", "0"))
LEASE, UPLOAD, RECOVERY, POSTPONED = 24, 24, 24 * settings.RECOVERY_DAYS, 24  # hours
HOURS = (1, 7, 13, 25, 24 * 8)

REPOSITORIES = ("demo/web", "demo/public", "rival/rivals")
IMAGES = ("app", "lib/one")
TAGS = ("1", "latest")
DATA = tuple(f"the bytes of blob {number}".encode() * (number + 1) for number in range(3))

image_names, tag_names = st.sampled_from(IMAGES), st.sampled_from(TAGS)
JOBS = ("purge", "collect", "reap", "sweep")
origins = st.sampled_from(REPOSITORIES)
FORMS = ("tag", "digest", "manifest only")  # the last brings no blobs
data = st.sampled_from(DATA)
some_data = st.lists(data, min_size=1, max_size=3, unique=True)
numbers = st.integers(0, 30)  # of an existing one


# ── The model ────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(eq=False)
class Home:
    """A repository. Another one may be created under its name after its deletion."""

    name: str
    row: Repository
    act: Act | None = None
    leases: dict[bytes, int] = field(default_factory=dict)
    images: list[Picture] = field(default_factory=list)

    def image(self, name: str) -> Picture | None:
        return next((image for image in self.images if image.name == name and image.act is None), None)

    def shows(self, blob: bytes) -> bool:
        return any(
            blob in content.data for image in self.images for content in image.contents.values() if not content.act
        )

    def is_leased(self, blob: bytes, now: int) -> bool:
        return self.leases.get(blob, now) > now

    def may_name(self, blob: bytes, now: int) -> bool:
        return self.shows(blob) or self.is_leased(blob, now)


@dataclass(eq=False)
class Picture:
    """An image with its digests and tags."""

    name: str
    home: Home
    act: Act | None = None
    contents: dict[str, Content] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> ImageName:
        project, _, repository = self.home.name.partition("/")
        return ImageName(project, repository, self.name)


@dataclass(eq=False)
class Content:
    """A manifest and the blobs that it names."""

    manifest: bytes
    data: tuple[bytes, ...]
    act: Act | None = None


@dataclass(eq=False)
class Act:
    """A deletion: its deadline and its contents."""

    kind: str
    row: Deletion
    home: Home
    picture: Picture | None
    until: int
    named: tuple[str, ...] = ()
    is_held: bool = False
    tags: list[tuple[Picture, str, str]] = field(default_factory=list)

    def contents(self) -> list[tuple[str, Content]]:
        found = self.home.images if self.picture is None else [self.picture]
        return [each for image in found for each in image.contents.items() if each[1].act is self]


@dataclass(eq=False)
class Upload:
    """An upload with half of its bytes."""

    key: str
    home: Home
    data: bytes
    until: int


# ── The machine ──────────────────────────────────────────────────────────────────────────────────────────────────────
class Machine(RuleBasedStateMachine):
    """Apply each step to the registry and to the model, and compare them."""

    def __init__(self, world, folder: Path) -> None:
        super().__init__()
        self.world, self.folder, self.now = world, folder, 0
        self.homes: list[Home] = []
        self.acts: list[Act] = []
        self.uploads: list[Upload] = []
        self.gone: list[int] = []
        self.outer = sys.exception()
        shutil.rmtree(folder, ignore_errors=True)
        self.transaction = transaction.atomic()
        self.transaction.__enter__()

    @initialize()
    def begin(self) -> None:
        for name in REPOSITORIES:
            self.homes.append(Home(name, repositories.find(name)))
        for number, tag in enumerate(TAGS):
            self.push_image(number=0, image="app", tag=tag, parts=[*DATA[number : number + 2]], form="tag")

    def teardown(self) -> None:
        try:
            if sys.exception() is self.outer:  # otherwise the first failure would be hidden
                self.everything_ends()
        finally:
            transaction.set_rollback(True)
            self.transaction.__exit__(None, None, None)

    def actor(self, home: Home):
        return self.world.owner.actor if home.name.startswith("demo/") else self.world.outsider.actor

    def live(self, name: str) -> Home | None:
        return next((home for home in self.homes if home.name == name and home.act is None), None)

    def live_homes(self) -> list[Home]:
        return [home for home in self.homes if home.act is None]

    def home(self, number: int) -> Home:
        return self.live_homes()[number % len(self.live_homes())]

    def pictures(self) -> list[Picture]:
        """The live images."""
        return [image for home in self.live_homes() for image in home.images if not image.act]

    # ── Rules ────────────────────────────────────────────────────────────────────────────────────────────────────
    # A few rules with many forms, so that each rule is chosen equally often.
    @precondition(live_homes)
    @rule(
        what=st.sampled_from(("push", "look for", "drop", "mount", "pull")), number=numbers, origin=origins, blob=data
    )
    def one_blob(self, what: str, number: int, origin: str, blob: bytes) -> None:
        home = self.home(number)
        if what == "push":
            self.bring(home, "app", blob)
        elif what == "look for":
            self.look_for_a_blob(home, blob)
        elif what == "drop":
            self.drop_a_blob(home, blob)
        elif what == "mount":
            self.mount(origin, home, blob)
        else:
            self.pull_a_blob(home, blob)

    @precondition(live_homes)
    @rule(number=numbers, blob=data, form=st.sampled_from(("begin", "finish", "cancel", "finish with another digest")))
    def upload(self, number: int, blob: bytes, form: str) -> None:
        if form == "begin" or not self.uploads:
            self.begin_upload(self.home(number), blob)
        else:
            self.end_upload(self.uploads.pop(number % len(self.uploads)), form)

    @precondition(pictures)
    @rule(
        what=st.sampled_from(("tags and digests", "tags and digests", "image", "repository")),
        number=numbers,
        of_tags=st.sets(tag_names),
        of_digests=st.sets(numbers, max_size=2),
    )
    def delete(self, what: str, number: int, of_tags: set[str], of_digests: set[int]) -> None:
        picture = self.pictures()[number % len(self.pictures())]
        if what == "image":
            self.delete_image(picture)
        elif what == "repository":
            self.delete_repository(picture.home)
        else:
            self.delete_tags_and_digests(picture, of_tags, of_digests)

    @precondition(lambda self: self.acts)
    @rule(number=numbers, replace_tags=st.booleans())
    def recover(self, number: int, replace_tags: bool) -> None:
        self.restore(self.choose(number), replace_tags=replace_tags)
        if self.gone:
            with pytest.raises(errors.RecoveryGone):
                trash.restore(SYSTEM, [self.gone[number % len(self.gone)]])

    @precondition(lambda self: self.acts)
    @rule(number=numbers, form=st.sampled_from(("hold", "hold no longer", "purge", "purge")))
    def decide(self, number: int, form: str) -> None:
        """Hold, release or purge a deletion."""
        act = self.choose(number)
        if form == "purge":
            self.purge_now(act)
        else:
            self.hold(act, on=form == "hold")

    @precondition(lambda self: len(self.live_homes()) < len(REPOSITORIES))
    @rule()
    def make_again(self) -> None:
        self.make_repository(next(name for name in REPOSITORIES if self.live(name) is None))

    @rule(hours=st.sampled_from(HOURS), jobs=st.lists(st.sampled_from(JOBS), max_size=4, unique=True))
    def time_passes(self, hours: int, jobs: list[str]) -> None:
        """Advance the clock, then run the background tasks in some order."""
        later.hours_pass(hours)
        self.now += hours
        for job in jobs:
            getattr(self, job)()
        self.pull_what_is_not_there(REPOSITORIES[hours % len(REPOSITORIES)], IMAGES[0], TAGS[0], hours)

    # ── Pushes ───────────────────────────────────────────────────────────────────────────────────────────────────
    def bring(self, home: Home, image: str, blob: bytes) -> None:
        made = uploads.push(self.actor(home), home.row, image, sha256(blob), uploads.Piece([blob]))
        assert made.digest == sha256(blob)
        home.leases[blob] = self.now + LEASE

    def begin_upload(self, home: Home, blob: bytes) -> None:
        session = uploads.start(self.actor(home), home.row, "app")
        uploads.append(session, uploads.Piece([blob[: len(blob) // 2]]))
        self.uploads.append(Upload(str(session.pk), home, blob, self.now + UPLOAD))

    def end_upload(self, upload: Upload, form: str) -> None:
        actor, row = self.actor(upload.home), upload.home.row
        claimed = sha256(upload.data if form == "finish" else b"something else")

        def finish() -> Blob:
            rest = uploads.Piece([upload.data[len(upload.data) // 2 :]])
            return uploads.finish(actor, row, "app", upload.key, claimed, rest)

        if upload.until <= self.now:
            with pytest.raises(errors.BlobUploadUnknown):
                finish()
        elif form == "cancel":
            uploads.discard(uploads.find(actor, row, "app", upload.key))
        elif form == "finish":
            assert finish() == finish()  # the answer was lost
            upload.home.leases[upload.data] = self.now + LEASE
        else:
            with pytest.raises(errors.DigestInvalid):
                finish()

    @precondition(live_homes)
    @rule(number=numbers, image=image_names, tag=tag_names, parts=some_data, form=st.sampled_from(FORMS))
    def push_image(self, number: int, image: str, tag: str, parts: list[bytes], form: str) -> None:
        home = self.home(number)
        pushed = Pushed(config=parts[0], layers=parts[1:])
        picture = home.image(image) or Picture(image, home)
        known = picture.contents.get(pushed.digest)
        reference = pushed.digest if form == "digest" else tag
        for part in parts if form != "manifest only" else ():
            if not home.may_name(part, self.now):
                self.bring(home, image, part)

        def push() -> None:
            content, kind = pushed.manifest, pushed.media_type
            manifests.push(self.actor(home), home.row, picture.path, reference, content, content_type=kind)

        if not (known and not known.act) and not all(home.may_name(part, self.now) for part in parts):
            with pytest.raises(errors.ManifestBlobUnknown):
                push()
            return
        push()
        if picture not in home.images:
            home.images.append(picture)
        picture.contents[pushed.digest] = Content(pushed.manifest, tuple(parts))
        if form != "digest":
            picture.tags[tag] = pushed.digest

    def look_for_a_blob(self, home: Home, blob: bytes) -> None:
        """HEAD by a pusher."""
        where = Picture("app", home).path
        if not home.may_name(blob, self.now):
            with pytest.raises(errors.BlobUnknown):
                blobs.permitted_blob_to_push(self.actor(home), where, sha256(blob))
            return
        blobs.permitted_blob_to_push(self.actor(home), where, sha256(blob))
        if home.leases.get(blob, self.now) - self.now <= LEASE / 2:
            home.leases[blob] = self.now + LEASE

    def mount(self, origin: str, here: Home, blob: bytes) -> None:
        there = self.live(origin)
        actor = self.actor(here)
        project, _, repository = origin.partition("/")
        mounted = blobs.mount(actor, here.row, ImageName(project, repository, "app"), sha256(blob))
        may_pull = there is not None and (self.actor(there) == actor or origin == "demo/public")
        may_push = there is not None and self.actor(there) == actor
        if may_pull and (there.shows(blob) or (may_push and there.is_leased(blob, self.now))):
            assert mounted is not None
            here.leases[blob] = self.now + LEASE
        else:
            assert mounted is None

    def drop_a_blob(self, home: Home, blob: bytes) -> None:
        if home.shows(blob):
            with pytest.raises(errors.Unsupported):
                blobs.drop(home.row, sha256(blob))
        elif home.is_leased(blob, self.now):
            blobs.drop(home.row, sha256(blob))
            del home.leases[blob]
        else:
            with pytest.raises(errors.BlobUnknown):
                blobs.drop(home.row, sha256(blob))

    # ── Deletions ────────────────────────────────────────────────────────────────────────────────────────────────
    def delete_tags_and_digests(self, picture: Picture, of_tags: set[str], of_digests: set[int]) -> None:
        live = [digest for digest, content in picture.contents.items() if not content.act]
        digests = sorted({live[each % len(live)] for each in of_digests}) if live else []
        wanted = [*digests, *sorted(of_tags & picture.tags.keys())]
        if not wanted:
            return
        row = trash.delete_references(self.actor(picture.home), picture.home.row, picture.path, wanted)
        act = self.note("manifest" if digests else "tag", row, picture.home, picture, tuple(wanted))
        for digest in digests:
            picture.contents[digest].act = act
        for tag, digest in list(picture.tags.items()):
            if digest in digests or tag in of_tags:
                act.tags.append((picture, tag, picture.tags.pop(tag)))

    def delete_image(self, picture: Picture) -> None:
        [row] = trash.delete_images(self.actor(picture.home), picture.home.row, [picture.name])
        self.take(self.note("image", row, picture.home, picture), [picture])

    def delete_repository(self, home: Home) -> None:
        act = self.note("repository", trash.delete_repository(self.actor(home), home.row), home, None)
        self.take(act, [image for image in home.images if not image.act])
        home.act = act
        for upload in self.uploads:
            if upload.home is home:
                upload.until = min(upload.until, self.now)

    def make_repository(self, name: str) -> None:
        project, _, repository = name.partition("/")
        is_public = name == "demo/public"
        row, _ = repositories.create(SYSTEM, self.world.projects[project], repository, is_public=is_public)
        self.homes.append(Home(name, row))

    def note(self, kind: str, row: Deletion, home: Home, picture: Picture | None, named: tuple[str, ...] = ()) -> Act:
        self.acts.append(Act(kind, row, home, picture, self.now + RECOVERY, named))
        return self.acts[-1]

    def take(self, act: Act, pictures: list[Picture]) -> None:
        for picture in pictures:
            picture.act = act
            act.tags += [(picture, tag, digest) for tag, digest in picture.tags.items()]
            picture.tags.clear()
            for content in picture.contents.values():
                content.act = content.act or act

    # ── Recovery ─────────────────────────────────────────────────────────────────────────────────────────────────
    def choose(self, number: int) -> Act:
        return self.acts[number % len(self.acts)]

    def restore(self, act: Act, *, replace_tags: bool) -> None:
        refusal = self.refusal(act, replace_tags=replace_tags)
        if refusal is not None:
            with pytest.raises(refusal):
                trash.restore(self.actor(act.home), [act.row.pk], replace_tags=replace_tags)
            return
        result = trash.restore(self.actor(act.home), [act.row.pk], replace_tags=replace_tags)
        for _, content in act.contents():
            content.act = None
        if act.kind == "repository":
            act.home.act = None
        for image in act.home.images:
            if image.act is act:
                image.act = None
        recovered, left = 0, []
        for picture, tag, digest in act.tags:
            if picture.tags.get(tag, digest) != digest and not replace_tags:
                left.append(tag)
            else:
                recovered += picture.tags.get(tag) != digest
                picture.tags[tag] = digest
        assert (result.tags, sorted(each.tag for each in result.skipped)) == (recovered, sorted(left))
        if not (act.kind == "tag" and left and not recovered):
            self.forget(act)

    def refusal(self, act: Act, *, replace_tags: bool) -> type[errors.RegistryError] | None:
        """Return the error that recovering it now must raise."""
        is_late = act.until <= self.now and not act.is_held
        if act.kind == "repository":
            return errors.RecoveryGone if is_late else errors.NameTaken if self.live(act.home.name) else None
        assert act.picture is not None
        if act.home.act is not None:
            return errors.NameUnknown
        if act.kind == "image":
            return errors.RecoveryGone if is_late else errors.NameTaken if act.home.image(act.picture.name) else None
        if act.picture.act is not None:
            return errors.NameUnknown
        if is_late:
            return errors.RecoveryGone
        if any(picture.contents[digest].act not in {None, act} for picture, _, digest in act.tags):
            return errors.ManifestUnknown
        is_back = any(name in act.picture.contents and not act.picture.contents[name].act for name in act.named)
        return None if act.contents() or act.tags or is_back else errors.RecoveryGone

    def hold(self, act: Act, *, on: bool) -> None:
        trash.hold(self.actor(act.home), act.row, on=on)
        act.is_held = on

    def purge_now(self, act: Act) -> None:
        if act.is_held or self.has_held_parts(act):
            with pytest.raises(errors.Denied):
                trash.purge_now(self.actor(act.home), act.row)
        else:
            trash.purge_now(self.actor(act.home), act.row)
            self.end(act)

    def parts(self, act: Act) -> list[Act]:
        """Return earlier deletions of parts of the contents of this one."""
        if act.kind == "image":
            return [each for each in self.acts if each is not act and each.picture is act.picture]
        if act.kind == "repository":
            return [each for each in self.acts if each is not act and each.home is act.home]
        return []

    def has_held_parts(self, act: Act) -> bool:
        return any(each.is_held for each in self.parts(act))

    def end(self, act: Act) -> None:
        """Purge the contents of the deletion."""
        parts, taken = self.parts(act), {digest for digest, _ in act.contents()}
        if act.kind == "repository":
            self.homes.remove(act.home)
        elif act.kind == "image":
            act.home.images.remove(act.picture)
        else:
            for digest in taken:
                del act.picture.contents[digest]
            for each in self.acts:
                each.tags = [tag for tag in each.tags if tag[0] is not act.picture or tag[2] not in taken]
        for each in (act, *parts):
            self.forget(each)

    def forget(self, act: Act) -> None:
        self.acts.remove(act)
        self.gone.append(act.row.pk)

    # ── The clock ────────────────────────────────────────────────────────────────────────────────────────────────
    def purge(self) -> None:
        ended = trash.purge()
        count = 0
        for act in [act for act in self.acts if act.until <= self.now and not act.is_held]:
            if act in self.acts and self.has_held_parts(act):
                act.until = self.now + POSTPONED
            elif act in self.acts:  # and not part of one that has just ended
                self.end(act)
                count += 1
        assert ended == count

    def collect(self) -> None:
        for pk in garbage.request_all():
            assert garbage.run(pk).state == Collection.State.DONE

    def reap(self) -> None:
        garbage.reap()

    def sweep(self) -> None:
        uploads.sweep()

    # ── Invariants ───────────────────────────────────────────────────────────────────────────────────────────────
    @invariant()
    def what_was_acknowledged_is_pulled(self) -> None:
        for picture in self.pictures():
            for digest, content in picture.contents.items():
                if content.act is None:
                    assert (
                        manifests.permitted_manifest(self.actor(picture.home), picture.path, digest).content
                        == content.manifest
                    )
            for tag, digest in picture.tags.items():
                assert manifests.permitted_manifest(self.actor(picture.home), picture.path, tag).digest == digest

    @invariant()
    def blobs_are_seen_through_images_and_leases_only(self) -> None:
        for home in self.homes:
            if home.act is None:
                seen = blobs.nameable(home.row, map(sha256, DATA)).values_list("digest", flat=True)
                assert set(seen) == {sha256(blob) for blob in DATA if home.may_name(blob, self.now)}

    def pull_what_is_not_there(self, name: str, image: str, tag: str, number: int) -> None:
        home = self.live(name)
        if home is None:
            nowhere = next((home for home in self.homes if home.name == name), None)
            if nowhere:
                with pytest.raises(errors.NameUnknown):
                    manifests.permitted_manifest(self.actor(nowhere), Picture(image, nowhere).path, tag)
            return
        picture = home.image(image) or Picture(image, home)
        deleted = [digest for each in self.acts if each.home is home for digest, _ in each.contents()]
        for reference in (tag, deleted[number % len(deleted)] if deleted else sha256(b"never")):
            content = picture.contents.get(reference)
            if reference not in picture.tags and (content is None or content.act):
                with pytest.raises(errors.ManifestUnknown):
                    manifests.permitted_manifest(self.actor(home), picture.path, reference)

    def pull_a_blob(self, home: Home, blob: bytes) -> None:
        where = Picture("app", home).path
        if home.may_name(blob, self.now):
            with blobs.open_bytes(blobs.permitted_blob(self.actor(home), where, sha256(blob))) as file:
                assert file.read() == blob
        else:
            with pytest.raises(errors.BlobUnknown):
                blobs.permitted_blob(self.actor(home), where, sha256(blob))

    @invariant()
    def what_can_come_back_has_its_bytes_and_no_row_is_without(self) -> None:
        rows = dict(Blob.objects.values_list("digest", "storage_key"))
        for digest, key in rows.items():
            with blob_storage().open(key) as file:
                assert sha256(file.read()) == digest
        needed = {
            sha256(blob)
            for home in self.homes
            for image in home.images
            for content in image.contents.values()
            for blob in content.data
        }
        assert needed <= rows.keys()

    @invariant()
    def no_file_is_without_an_owner(self) -> None:
        keys = set(Blob.objects.values_list("storage_key", flat=True))
        keys |= set(ObjectTrash.objects.values_list("pk", flat=True))
        keys |= {session.storage_key for session in UploadSession.objects.all()}
        assert {str(path.relative_to(self.folder)) for path in (self.folder / "blobs").glob("*/*")} <= keys
        staged = {path.name for path in (self.folder / "staging").glob("*")}
        assert staged <= {key.rpartition("/")[2] for key in keys}

    def everything_ends(self) -> None:
        """Delete everything, and check that all bytes are freed."""
        for picture in self.pictures():
            trash.delete_images(self.actor(picture.home), picture.home.row, [picture.name])
        for act in self.acts:
            trash.hold(SYSTEM, act.row, on=False)
        for _ in range(3):
            later.hours_pass(RECOVERY + 1)
            trash.purge()
            uploads.sweep()
            self.collect()
        later.hours_pass(RECOVERY)
        garbage.reap()
        for model in (Deletion, Blob, BlobLease, BlobReview, ObjectTrash, UploadSession):
            assert not model.objects.exists(), f"{model.__name__}: {list(model.objects.all())}"
        assert [path for path in self.folder.rglob("*") if path.is_file()] == []


@pytest.fixture
def machine(world, storage_folder, monkeypatch):
    """``machine()`` returns a new machine."""
    monkeypatch.setattr(collector, "PAUSE", 0)
    monkeypatch.setattr(reaper, "PAUSE", 0)
    return lambda: Machine(world, storage_folder)


def test_any_sequence_of_operations_matches_the_model(machine):
    quick = hypothesis_settings(
        max_examples=RUNS or 24,
        stateful_step_count=60 if RUNS else 40,
        derandomize=not RUNS,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        # Shrinking a failed run takes minutes, and the explain phase makes each step several times slower.
        phases=[Phase.generate, Phase.shrink] if RUNS else [Phase.generate],
    )
    run_state_machine_as_test(machine, settings=quick)


# ── Regression runs ──────────────────────────────────────────────────────────────────────────────────────────────────
@contextmanager
def playing(machine):
    """Start a machine. At the end delete everything and roll back the database."""
    played = machine()
    try:
        played.begin()
        yield played
        look(played)
    finally:
        played.teardown()


def look(played: Machine) -> None:
    """Check the invariants."""
    played.what_was_acknowledged_is_pulled()
    played.blobs_are_seen_through_images_and_leases_only()
    played.what_can_come_back_has_its_bytes_and_no_row_is_without()
    played.no_file_is_without_an_owner()


def test_held_digest_keeps_its_repository_and_both_are_recovered(machine):
    with playing(machine) as run:
        run.delete(what="tags and digests", number=0, of_tags=set(), of_digests={0})
        run.decide(number=0, form="hold")
        run.delete(what="repository", number=0, of_tags=set(), of_digests=set())
        for _ in range(2):
            run.time_passes(hours=24 * 8, jobs=list(JOBS))
            look(run)
        assert [act.kind for act in run.acts] == ["manifest", "repository"]
        run.decide(number=1, form="hold")
        run.recover(number=1, replace_tags=False)
        run.recover(number=0, replace_tags=False)
        assert run.acts == []


def test_blob_found_by_head_outlives_its_image_by_a_day(machine):
    with playing(machine) as run:
        run.time_passes(hours=13, jobs=[])
        run.one_blob(what="look for", number=0, origin=REPOSITORIES[0], blob=DATA[0])
        run.delete(what="image", number=0, of_tags=set(), of_digests=set())
        run.decide(number=0, form="purge")
        run.time_passes(hours=13, jobs=["purge", "collect"])
        look(run)
        run.push_image(number=0, image="app", tag="1", parts=[DATA[0]], form="manifest only")
        assert run.pictures()


def test_push_of_a_deleted_digest_recovers_its_tags(machine):
    with playing(machine) as run:
        run.delete(what="tags and digests", number=0, of_tags=set(), of_digests={0})
        run.push_image(number=0, image="app", tag="latest", parts=[*DATA[:2]], form="tag")
        run.recover(number=0, replace_tags=True)
        run.time_passes(hours=25, jobs=["collect", "reap"])
        assert set(run.pictures()[0].tags) == set(TAGS)


def test_new_repository_under_a_reused_name_shows_nothing_of_the_former_one(machine):
    with playing(machine) as run:
        run.delete(what="repository", number=0, of_tags=set(), of_digests=set())
        run.make_again()
        look(run)
        run.push_image(number=2, image="app", tag="1", parts=[DATA[0]], form="manifest only")
        assert run.pictures() == []  # it named a blob of the former repository
        run.recover(number=0, replace_tags=False)  # refused: the name is taken
        run.push_image(number=2, image="app", tag="1", parts=[DATA[0]], form="tag")
        run.delete(what="repository", number=0, of_tags=set(), of_digests=set())
        run.recover(number=0, replace_tags=False)
        assert run.pictures()[0].tags.keys() == set(TAGS)


def test_two_images_with_one_digest_are_recovered_with_their_repository(machine):
    with playing(machine) as run:
        run.delete(what="tags and digests", number=0, of_tags={"1"}, of_digests=set())
        run.push_image(number=0, image="lib/one", tag="1", parts=[*DATA[:2]], form="tag")
        run.delete(what="repository", number=0, of_tags=set(), of_digests=set())
        run.recover(number=1, replace_tags=False)
        run.recover(number=0, replace_tags=False)
        assert [set(picture.tags) for picture in run.pictures()] == [set(TAGS), {"1"}]
