"""Rules of tags: which rule applies, what each door refuses, and what the rules would have refused lately."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.actors import SYSTEM
from accounts.models import Project
from registry import cleanup, errors, manifests, projects, repositories, tag_rules, trash, undo
from registry.cleanup import policies
from registry.models import CleanupLine, Deletion, Event, PurgedTag, Tag
from registry.oci.names import ImageName
from registry.tag_rules import LAST, Mode, What
from tests.support.images import Image
from tests.support.personas import make_key

pytestmark = pytest.mark.django_db
NAME = ImageName("demo", "web", "app")
A, B = Image(layers=[b"A"]), Image(layers=[b"B"])


def rule(*patterns: str, mode: str = "movable", **more: object) -> dict[str, object]:
    return {"patterns": list(patterns), "mode": mode, **more}


@pytest.fixture
def make_rules(web):
    """Replace the rules of demo/web."""

    def make(*rules: dict[str, object]) -> None:
        repositories.update(SYSTEM, web, tag_rules=list(rules))

    return make


@pytest.fixture
def member(docker):
    """The member's client, who has pushed A as v1 and latest, and B as b."""
    client = docker("member")
    client.push("web/app", "v1", A)
    client.push_manifest("web/app", "latest", A.manifest)
    client.push("web/app", "b", B)
    return client


def meaning() -> dict[str, str]:
    known = {A.digest: "A", B.digest: "B"}
    found = Tag.objects.live().filter(image__path=str(NAME), image__deletion=None).select_related("manifest")
    return {tag.name: known[tag.manifest.digest] for tag in found}


def delete(web, *references: str) -> Deletion:
    return trash.delete_references(SYSTEM, web, NAME, references)


# ── Which rule applies ───────────────────────────────────────────────────────────────────────────────────────────────
def test_first_rule_that_matches_applies(world, web):
    project = world.projects["demo"]
    stored = [rule("rc-*", mode="immutable"), rule("*", mode="immutable", locked=False), rule("x*", locked=True)]
    projects.update(SYSTEM, project, tag_rules=stored)
    repositories.update(SYSTEM, web, tag_rules=[rule("dev-*", "tmp"), rule("v*", "x*", mode="write-once")])
    web.project = project
    rules = tag_rules.effective(web)
    found = {tag: tag_rules.find(rules, tag) for tag in ("xray", "dev-1", "tmp", "tmp2", "v1", "V1", "rc-1")}
    assert {tag: (each.of, each.number) for tag, each in found.items()} == {
        "xray": ("demo", 3),  # locked
        "dev-1": ("demo/web", 1),
        "tmp": ("demo/web", 1),
        "v1": ("demo/web", 2),
        "rc-1": ("demo", 1),
        "tmp2": ("demo", 2),
        "V1": ("demo", 2),
    }


@pytest.mark.parametrize(("is_on", "mode"), [(True, Mode.MOVABLE), (False, Mode.IMMUTABLE)])
def test_tag_overwrite_is_the_last_rule(world, web, is_on, mode):
    repositories.update(SYSTEM, web, tag_overwrite=is_on, tag_rules=[rule("v*", mode="write-once")])
    last = tag_rules.find(tag_rules.effective(web), "anything")
    assert (last.number, last.mode, last.of) == (LAST, mode, "demo/web")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (rule(), "rule 2 has 1 to 20 patterns"),
        (rule("v*", ""), "rule 2 has 1 to 20 patterns"),
        (rule("a b"), "rule 2 has 1 to 20 patterns"),
        (rule("app:v*"), "rule 2 has 1 to 20 patterns"),
        (rule("x" * 129), "rule 2 has 1 to 20 patterns"),
        (rule(*(f"v{number}" for number in range(21))), "rule 2 has 1 to 20 patterns"),
        (rule("v*", mode="frozen"), "the mode of rule 2 is one of movable, immutable, write-once"),
        (rule("v*", pushers=["mina"]), "rule 2 names at most 20 e-mail addresses"),
        (rule("v*", pushers=["a@b, c@d"]), "rule 2 names at most 20 e-mail addresses"),
        (rule("v*", pushers=[f"{number}@acme.test" for number in range(21)]), "rule 2 names at most 20"),
    ],
)
def test_bad_rule_is_refused_with_its_number(web, wanted, words):
    with pytest.raises(errors.RequestInvalid, match=words):
        repositories.update(SYSTEM, web, tag_rules=[rule("*"), wanted])
    web.refresh_from_db()
    assert web.tag_rules == []


def test_list_has_a_limit(web):
    repositories.update(SYSTEM, web, tag_rules=[rule("v*")] * tag_rules.MAX_RULES)
    with pytest.raises(errors.RequestInvalid, match="at most 50 rules"):
        repositories.update(SYSTEM, web, tag_rules=[rule("v*")] * (tag_rules.MAX_RULES + 1))


# ── Pushes and moves ─────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("mode", ["immutable", "write-once"])
def test_tag_is_moved_through_no_door(member, docker, world, web, make_rules, mode):
    before = timezone.now()
    member.push_manifest("web/app", "moved", A.manifest)
    docker("owner").push_manifest("web/app", "moved", B.manifest)
    make_rules(rule("v*", "moved", mode=mode))
    events = Event.objects.count()
    words = r"rule 1 of demo/web: v\*, moved"
    for person in ("member", "admin", "owner"):
        refused = docker(person).push_manifest("web/app", "v1", B.manifest, expect=403)
        assert refused.codes == ["DENIED"]
        assert "demo/web/app:v1 points to " in refused.message
        assert "rule 1 of demo/web: v*, moved" in refused.message
    several = f"web/app/manifests/{B.digest}?tag=new&tag=v1"
    member.put(several, 403, body=B.manifest, headers={"Content-Type": B.media_type})
    with pytest.raises(errors.Denied, match=words):
        manifests.point_tag(world.owner.actor, web, NAME, "v1", B.digest, seen=A.digest)
    undone = undo.undo(world.admin.actor, undo.acts(web.project, before, user_id=world.owner.user.pk))
    assert [step.tag for step in undone.skipped if "rule 1 of demo/web" in step.problem] == ["moved"]
    assert meaning() == {"v1": "A", "latest": "A", "b": "B", "moved": "B"}
    assert Event.objects.count() == events
    member.push_manifest("web/app", "v1", A.manifest)  # the same digest again
    member.push_manifest("web/app", "latest", B.manifest)
    assert meaning()["latest"] == "B"


@pytest.mark.parametrize(("mode", "is_free"), [("movable", True), ("immutable", True), ("write-once", False)])
@pytest.mark.parametrize("what", ["tag", "digest", "image", "repository", "purged tag", "purged image"])
def test_name_of_a_deleted_tag(member, docker, world, web, make_rules, mode, is_free, what):
    make_rules(rule("v*", mode=mode))
    if "image" in what:
        (deletion,) = trash.delete_images(SYSTEM, web, ["app"])
    elif what == "repository":
        deletion = trash.delete_repository(SYSTEM, web)
        made, _ = repositories.create(SYSTEM, web.project, "web")
        repositories.update(SYSTEM, made, tag_rules=[rule("v*", mode=mode)])
    else:
        deletion = delete(web, "v1" if what == "tag" else A.digest)
    if "purged" in what:
        trash.purge_now(SYSTEM, deletion)
        trash.purge()
        assert not Tag.objects.filter(name="v1").exists()
    client = docker("owner")
    for part in B.parts[:-1]:
        client.push_blob("web/app", part)
    answer = client.push_manifest("web/app", "v1", B.manifest, expect=201 if is_free else 403)
    if not is_free:
        assert f"pointed to {A.digest[:19]} before, and never points to another digest (rule 1 of" in answer.message
        client.push("web/app", "v1", A)
        assert meaning()["v1"] == "A"


def test_deletion_of_a_write_once_tag_is_restored(member, world, web, make_rules):
    make_rules(rule("v*", mode="write-once"))
    for act in (lambda: delete(web, "v1"), lambda: delete(web, A.digest), lambda: trash.delete_repository(SYSTEM, web)):
        trash.restore(SYSTEM, [act().pk])
    assert meaning() == {"v1": "A", "latest": "A", "b": "B"}


@pytest.mark.parametrize("is_purged", [False, True])
@pytest.mark.parametrize("what", ["tag", "image", "repository"])
def test_recovery_brings_back_no_former_digest_of_a_write_once_name(
    member, docker, world, web, make_rules, what, is_purged
):
    """v1 names A, then B while no rule forbids it. Only B may come back, and nothing if B is purged."""
    project = web.project

    def deleted() -> Deletion:
        if what == "tag":
            return delete(web, "v1")
        if what == "image":
            return trash.delete_images(SYSTEM, repositories.find("demo/web"), ["app"])[0]
        return trash.delete_repository(SYSTEM, repositories.find("demo/web"))

    first = deleted()
    if what == "repository":
        repositories.create(SYSTEM, project, "web")
    docker("owner").push("web/app", "v1", B)
    second = deleted()
    projects.update(SYSTEM, project, tag_rules=[rule("v*", mode="write-once")])
    if is_purged:
        trash.purge_now(SYSTEM, second)
    with pytest.raises(errors.Denied, match=r"pointed to .*rule 1 of demo: v"):
        trash.restore(SYSTEM, [first.pk])
    if not is_purged:
        trash.restore(SYSTEM, [second.pk])
        assert meaning()["v1"] == "B"


def test_only_the_named_people_push(member, docker, world, web, make_rules):
    make_rules(rule("v*", pushers=["pusher@acme.test", "admins"]), rule("r*", pushers=["Owner@acme.test"]))
    for name, tag, status in (
        *(("pusher", "v2", 201), ("admin", "v3", 201), ("owner", "v4", 201), ("member", "v5", 403)),
        *(("owner", "r1", 201), ("admin", "r2", 403), ("member", "v1", 403)),
    ):
        answer = docker(name).push_manifest("web/app", tag, B.manifest, expect=status)
        if status == 403:
            assert "may be pushed by" in answer.message
    assert "pusher@acme.test, admins of the project alone" in answer.message
    member.push_manifest("web/app", "v2", B.manifest)  # changes nothing
    with pytest.raises(errors.Denied, match="may be pushed by"):
        manifests.point_tag(world.member.actor, web, NAME, "v9", B.digest)
    deletion = trash.delete_references(world.member.actor, web, NAME, ["v2"])
    with pytest.raises(errors.Denied, match="may be pushed by"):
        trash.restore(world.member.actor, [deletion.pk])
    trash.restore(world.pusher.actor, [deletion.pk])
    assert meaning()["v2"] == "B"


def test_admin_pushes_with_a_key_that_may_only_push(member, docker, world, make_rules):
    make_rules(rule("v*", pushers=["admins"]))
    world.people["limited"] = make_key(world.admin.user, "ci", actions=["pull", "push"])
    docker("limited").push_manifest("web/app", "v2", B.manifest)
    assert meaning()["v2"] == "B"


def test_write_once_costs_one_query_and_other_modes_none(member, docker, make_rules):
    def queries(tag: str) -> int:
        with CaptureQueriesContext(connection) as found:
            member.push_manifest("web/app", tag, A.manifest)
        return len(found)

    queries("first")
    without = queries("second")
    again = queries("second")
    make_rules(rule("w*", mode="write-once"), rule("i*", mode="immutable", keep=True))
    assert (queries("i1"), queries("w1")) == (without, without + 1)
    assert (queries("i1"), queries("w1")) == (again, again)


# ── Deletions ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_kept_tag_is_deleted_through_no_door(member, docker, world, web, make_rules):
    make_rules(rule("v*", keep=True))
    refused = docker("owner").delete("web/app/manifests/v1", 403)
    assert refused.codes == ["DENIED"]
    assert "a tag cannot be deleted: app:v1. A rule keeps it (rule 1 of demo/web: v*)" in refused.message
    docker("owner").delete(f"web/app/manifests/{A.digest}", 403)
    for act in (
        lambda: delete(web, "b", "v1"),
        lambda: trash.delete_images(SYSTEM, web, ["app"]),
        lambda: trash.delete_repository(SYSTEM, web),
    ):
        with pytest.raises(errors.Denied, match=r"app:v1\. A rule keeps it"):
            act()
    undone = undo.undo(
        world.admin.actor, undo.acts(web.project, timezone.now() - timedelta(hours=1), user_id=world.member.user.pk)
    )
    assert [step.tag for step in undone.done if step.tag] == []
    assert meaning() == {"v1": "A", "latest": "A", "b": "B"}
    member.push_manifest("web/app", "v1", B.manifest)  # keep does not forbid moves
    docker("owner").delete("web/app/manifests/latest", 202)


def test_refusal_names_the_first_kept_tags(member, web, make_rules):
    for number in range(2, 8):
        member.push_manifest("web/app", f"v{number}", A.manifest)
    make_rules(rule("v*", keep=True))
    with pytest.raises(errors.Denied, match=r"7 tags cannot be deleted: app:v1, app:v2, app:v3, app:v4, app:v5, …\."):
        delete(web, A.digest)


def test_cleanup_keeps_what_a_rule_keeps(member, world, web, make_rules):
    make_rules(rule("v*", keep=True))
    Tag.objects.update(pushed_at=timezone.now() - timedelta(days=90))
    policy = policies.set_policy(SYSTEM, web, tag_days=30, most_percent=100)
    assert {each.verdict.tag for each in policies.preview(web, policy, timezone.now())} == {"latest", "b"}
    assert {each.deletion.tag for each in policies.replay(web, policy)} <= {"latest", "b"}
    run = cleanup.run(policy.pk)
    line = CleanupLine.objects.get(run=run, tag="v1")
    assert (line.outcome, line.reason) == ("kept", "tag-rule")
    assert line.facts == {"number": 1, "of": "demo/web", "pattern": "v*"}
    assert meaning() == {"v1": "A"}


@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
def test_attached_tags_are_exempt(member, docker, world, web, make_rules, suffix):
    make_rules(rule("*", mode="write-once", keep=True, pushers=["owner@acme.test"]))
    signature = A.digest.replace(":", "-") + suffix
    for number in range(2):
        member.push("web/app", signature, Image(layers=[b"signature %d" % number]))
    member.delete(f"web/app/manifests/{signature}", 202)
    member.push("web/app", signature, Image(layers=[b"another signature"]))
    make_rules(rule("*", mode="write-once"))
    delete(web, A.digest)
    assert not Tag.objects.live().filter(name=signature).exists()


def test_tag_that_names_its_own_digest_is_not_attached(member, make_rules):
    make_rules(rule("sha256-*", mode="immutable"))
    name = A.digest.replace(":", "-")
    member.push_manifest("web/app", name, A.manifest)
    refused = member.push_manifest("web/app", name, B.manifest, expect=403)
    assert "may not be moved" in refused.message


# ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_change_of_rules_is_undone(world, web):
    project = world.projects["demo"]
    change = repositories.update(world.member.actor, web, tag_rules=[rule("v*", mode="immutable")])
    of_project = projects.update(world.admin.actor, project, tag_rules=[rule("v*", locked=True)])
    assert change.detail["before"] == {"tag_rules": []}
    assert change.detail["after"]["tag_rules"][0]["mode"] == "immutable"
    undo.undo(world.owner.actor, Event.objects.filter(pk__in=[change.pk, of_project.pk]))
    web.refresh_from_db()
    assert (web.tag_rules, Project.objects.get(pk=project.pk).tag_rules) == ([], [])


def test_concurrent_change_of_rules_is_refused(world, web):
    repositories.update(world.owner.actor, web, tag_rules=[rule("v*")], seen={"tag_rules": []})
    with pytest.raises(errors.Changed, match=r"owner@acme\.test changed demo/web meanwhile"):
        repositories.update(world.member.actor, web, tag_rules=[rule("r*")], seen={"tag_rules": []})


# ── The last 90 days ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_replay_lists_what_the_rules_would_have_refused(docker, world, web):
    member, owner = docker("member"), docker("owner")
    member.push("web/app", "v1", A)
    member.push("web/app", "old", A)
    owner.push("web/app", "v1", B)
    owner.push_manifest("web/app", "old", B.manifest)
    Tag.objects.filter(name="old").update(started_at=timezone.now() - timedelta(days=91))
    owner.delete("web/app/manifests/v1", 202)
    member.push_manifest("web/app", "v1", A.manifest)
    member.push("web/app", A.digest.replace(":", "-") + ".sig", B)

    def replayed(**more: object) -> list[tuple[str, What, str]]:
        web.tag_rules = [rule("*", **more)]
        return [(each.tag, each.what, each.actor) for each in tag_rules.replay([web])]

    move = ("v1", What.MOVE, "owner@acme.test")
    assert replayed() == []
    assert replayed(mode="immutable") == [move]
    assert replayed(mode="write-once") == [("v1", What.PUSH, "member@acme.test"), move]
    assert replayed(keep=True) == [("v1", What.DELETE, "owner@acme.test")]
    assert replayed(pushers=["admins"]) == [("v1", What.PUSH, "member@acme.test")] * 2
    assert replayed(pushers=["member@acme.test"]) == [move]
    web.refresh_from_db()
    assert web.tag_rules == []


def test_numbers_of_tags_by_rule(member, web):
    member.push("web/app", A.digest.replace(":", "-") + ".sig", B)
    web.tag_rules = [rule("v*", mode="immutable")]
    found = {each.number: count for each, count in tag_rules.numbers([web]).items()}
    assert found == {1: 1, LAST: 2}


def test_purge_remembers_write_once_tags_alone(member, world, web, make_rules):
    make_rules(rule("v*", mode="write-once"))
    trash.purge_now(SYSTEM, delete(web, A.digest))
    trash.purge()
    kept = PurgedTag.objects.values_list("path", "name", "digest")
    assert list(kept) == [("demo/web/app", "v1", A.digest)]
