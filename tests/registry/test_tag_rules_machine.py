"""Random changes through every door: the rules of tags hold after each of them.

``KCR_TEST_MACHINES=500`` tries so many random runs instead of the fixed ones, and shrinks a failing one.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from accounts.actors import SYSTEM
from accounts.errors import Refusal
from registry import cleanup, errors, manifests, projects, repositories, tag_rules, trash, undo, uploads
from registry.cleanup import policies
from registry.models import Deletion, Event, Repository, Tag
from registry.oci.names import ImageName
from registry.tag_rules import Mode
from tests.support.images import Image, sha256

pytestmark = pytest.mark.django_db
RUNS = int(os.environ.get("KCR_TEST_MACHINES", "0"))
NAME = ImageName("demo", "web", "app")
IMAGES = tuple(Image(layers=[b"%d" % number]) for number in range(3))
TAGS = ("a1", "a2", "b1")


def made(patterns: str, mode: Mode, *, keep: bool = False) -> dict[str, object]:
    return {"patterns": patterns.split(), "mode": mode.value, "keep": keep}


LISTS = (
    [],
    [made("*", Mode.WRITE_ONCE)],
    [made("*", Mode.WRITE_ONCE)],
    [made("*", Mode.IMMUTABLE)],
    [made("a*", Mode.WRITE_ONCE), made("b?", Mode.MOVABLE, keep=True)],
    [made("a1", Mode.MOVABLE), made("*", Mode.IMMUTABLE, keep=True)],
    [made("a2 b*", Mode.WRITE_ONCE)],
)
images, tags = st.sampled_from(IMAGES), st.sampled_from(TAGS)
rules = st.sampled_from(LISTS)
numbers = st.integers(0, 9)


class Machine(RuleBasedStateMachine):
    """Change the tags of demo/web/app, and compare what they name before and after each change.

    ``last``: what each name named last, as far as its rule has been in force since.
    """

    def __init__(self, world) -> None:
        super().__init__()
        self.world, self.actor = world, world.owner.actor
        self.named: dict[str, str] = {}
        self.last: dict[str, str] = {}
        self.outer = sys.exception()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.transaction.__exit__(None, None, None)

    @contextmanager
    def changing(self):
        """Let a refusal pass, then check the tags against the rules."""
        repository = self.repository()
        in_force = tag_rules.effective(repository) if repository else ()
        with suppress(Refusal), transaction.atomic():
            yield
        now = self.meaning()
        for name in TAGS:
            if not in_force:  # there was no repository, so no rule
                continue
            each = tag_rules.find(in_force, name)
            before, after, last = self.named.get(name), now.get(name), self.last.get(name)
            if each.mode != Mode.MOVABLE and before and after:
                assert after == before, f"{name} is {each.mode}, and was moved"
            if each.mode == Mode.WRITE_ONCE and after and last:
                assert after == last, f"{name} is {each.mode}, and named another digest before"
            if each.keep and before:
                assert after, f"{name} is kept, and was deleted"
        self.named = now
        self.last |= now

    def repository(self) -> Repository | None:
        return Repository.objects.live().named(NAME).first()

    def meaning(self) -> dict[str, str]:
        live = Tag.objects.live().filter(image__path=str(NAME), image__deletion=None, image__repository__deletion=None)
        return dict(live.values_list("name", "manifest__digest"))

    def bring(self, image: Image) -> Repository:
        """The repository, which has the blobs of the image."""
        repository = self.repository()
        if repository is None:
            raise errors.NameUnknown
        for blob in image.parts[:-1]:
            uploads.push(self.actor, repository, "app", sha256(blob), uploads.Piece([blob]))
        return repository

    @initialize(of_repository=rules, of_project=rules, overwrite=st.booleans())
    def begin(self, of_repository, of_project, overwrite: bool) -> None:
        self.set_rules(of_repository, of_project, overwrite)
        for tag in TAGS:
            self.push(IMAGES[0], [tag], by_digest=False)

    @rule(of_repository=rules, of_project=rules, overwrite=st.just(True))
    def set_rules(self, of_repository, of_project, overwrite: bool) -> None:
        projects.update(SYSTEM, self.world.projects["demo"], tag_rules=of_project)
        if repository := self.repository():
            repositories.update(SYSTEM, repository, tag_rules=of_repository, tag_overwrite=overwrite)
        self.last = dict(self.named)  # what was purged before a rule is not known

    @rule(image=images, names=st.lists(tags, min_size=1, max_size=2, unique=True), by_digest=st.booleans())
    def push(self, image: Image, names: list[str], by_digest: bool) -> None:
        with self.changing():
            repository = self.bring(image)
            reference, more = (image.digest, names) if by_digest else (names[0], names[1:])
            kind = image.media_type
            manifests.push(self.actor, repository, NAME, reference, image.manifest, content_type=kind, more_tags=more)

    @rule(image=images, tag=tags)
    def move(self, image: Image, tag: str) -> None:
        with self.changing():
            repository = self.repository()
            if repository is not None:
                seen = self.named.get(tag, "")
                manifests.point_tag(self.actor, repository, NAME, tag, image.digest, seen=seen)

    @rule(name=tags, by_digest=st.booleans())
    def delete(self, name: str, by_digest: bool) -> None:
        if name in self.named and (repository := self.repository()):
            with self.changing():
                wanted = self.named[name] if by_digest else name
                trash.delete_references(self.actor, repository, NAME, [wanted])

    @rule(what=st.sampled_from(["image", "repository"]))
    def delete_all(self, what: str) -> None:
        if repository := self.repository():
            with self.changing():
                if what == "image":
                    trash.delete_images(self.actor, repository, ["app"])
                else:
                    trash.delete_repository(self.actor, repository)

    @rule(of_repository=rules)
    def make_again(self, of_repository) -> None:
        if self.repository() is None:
            made, _ = repositories.create(self.actor, self.world.projects["demo"], "web")
            repositories.update(SYSTEM, made, tag_rules=of_repository)
            self.last = dict(self.named)

    @rule(number=numbers, replace_tags=st.booleans())
    def restore(self, number: int, replace_tags: bool) -> None:
        known = list(Deletion.objects.order_by("pk"))
        if known:
            before = self.repository()
            with self.changing():
                trash.restore(self.actor, [known[number % len(known)].pk], replace_tags=replace_tags)
            if before is None:  # other rules are in force
                self.last = dict(self.named)

    @rule(number=numbers)
    def purge(self, number: int) -> None:
        known = list(Deletion.objects.order_by("pk"))
        if known:
            is_of_repository = known[number % len(known)].kind == Deletion.Kind.REPOSITORY
            with self.changing():
                trash.purge_now(self.actor, known[number % len(known)])
                trash.purge()
            if is_of_repository:  # its own rules are gone
                self.last = dict(self.named)

    @rule(number=st.integers(1, 3))
    def undo(self, number: int) -> None:
        actions = ("tag.add", "tag.move", "tag.delete", "image.delete", "repository.delete", "tag.recover")
        newest = Event.objects.filter(action__in=actions).order_by("-pk").values_list("pk", flat=True)[:number]
        with self.changing():
            undo.undo(self.actor, Event.objects.filter(pk__in=list(newest)))

    @rule()
    def clean_up(self) -> None:
        if repository := self.repository():
            with self.changing():
                policy = policies.set_policy(SYSTEM, repository, keep_last=1, most_percent=100)
                cleanup.run(policy.pk)

    @invariant()
    def a_name_has_one_meaning(self) -> None:
        assert self.meaning() == self.named


def test_rules_hold_through_every_door(world, storage_folder):
    quick = hypothesis_settings(
        max_examples=RUNS or 30,
        stateful_step_count=60 if RUNS else 40,
        derandomize=not RUNS,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink] if RUNS else [Phase.generate],
    )
    run_state_machine_as_test(lambda: Machine(world), settings=quick)
