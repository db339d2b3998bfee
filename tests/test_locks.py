"""Locks of rows: what one transaction changes decides what another one, which began meanwhile, may do.

Each test makes a change, lets a second thread act before the change is committed, and commits when the thread waits for
a lock. Without the lock, the thread acts on the rows as they were. docs/design/locks.md lists the locks.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts import federation, issuers, keys, organizations, trust_rules
from accounts.actors import SYSTEM
from accounts.models import (
    Issuer,
    IssuerKind,
    Organization,
    OrganizationMembership,
    OrganizationRole,
    ProjectMembership,
    ProjectRole,
    RepositoryRole,
    User,
)
from registry import images, manifests, members, projects, repositories, service_accounts, trash, undo, uploads
from registry.cleanup import policies, runs
from registry.models import (
    Blob,
    CleanupRun,
    Deletion,
    Event,
    Image,
    Manifest,
    ObjectTrash,
    Repository,
    Tag,
    UploadSession,
)
from registry.oci.names import ImageName
from registry.trash import purging
from scanning import acceptances, findings
from scanning.models import Acceptance, Finding, Report, Scan, Subscription
from scanning.notifications import subscriptions
from scanning.trivy.report import Result
from tests.support.factories import VERSION, found, make_index, make_manifest, open_scan, scanned, subscribe
from tests.support.images import Image as Built
from tests.support.images import sha256
from tests.support.issuers import Issuer as Program
from tests.support.personas import make_key
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db(transaction=True)

APP = ImageName("demo", "web", "app")
GITHUB = {"repository": "acme/web", "ref": "refs/heads/main"}


def meanwhile(change: Callable[[], Any], act: Callable[[], Any], then: Callable[[], Any] = lambda: None) -> Any:
    """Return what ``act`` returns, or the name of its error, when it begins before ``change`` is committed.

    ``then``: what the transaction of ``change`` does while ``act`` waits.
    """
    said: list[Any] = []
    ended = threading.Event()

    def run() -> None:
        try:
            said.append(act())
        except Exception as error:  # each test says which one it expects
            said.append(type(error).__name__)
        finally:
            connection.close()
            ended.set()

    thread = threading.Thread(target=run)
    with transaction.atomic():
        change()
        thread.start()
        assert wait_until(lambda: ended.is_set() or _is_one_waiting(), timeout=60)
        then()
    thread.join()
    return said[0]


def _is_one_waiting() -> bool:
    if connection.vendor != "postgresql":
        return ended_soon()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def ended_soon() -> bool:
    """Give the thread time to come to its turn of writing: SQLite does not tell who waits for it."""
    time.sleep(0.3)
    return True


@pytest.fixture
def acme(world):
    return Organization.objects.get(name="acme")


@pytest.fixture
def user(world):
    return world.member.user


@pytest.fixture
def account(world, project):
    return service_accounts.create(SYSTEM, project, "ci")


@pytest.fixture
def issuer(acme):
    return Issuer.objects.create(
        organization=acme, kind=IssuerKind.GITHUB, url="https://issuer.test", audience="kcr", is_uploaded=True
    )


@pytest.fixture
def rule(account, issuer):
    return service_accounts.add_trust_rule(SYSTEM, account, issuer, "main", GITHUB)


@pytest.fixture
def app(docker, world):
    """The image demo/web/app with the tag v1."""
    docker("member").push("web/app", "v1", Built())
    return Image.objects.get(path="demo/web/app")


def deletion_of(app):
    return trash.delete_images(SYSTEM, app.repository, ["app"])[0]


def deleted_tag(app):
    return trash.delete_references(SYSTEM, app.repository, APP, ["v1"])


def deleted_digest(app):
    return trash.delete_references(SYSTEM, app.repository, APP, [Manifest.objects.get().digest])


# ── Users and organizations ──────────────────────────────────────────────────────────────────────────────────────────
def test_size_limit_of_an_organization_is_changed_once(acme):
    limit = lambda: organizations.set_size_limit(SYSTEM, acme, 5)  # noqa: E731
    assert meanwhile(limit, limit) is False


def test_open_invitations_are_counted(acme, monkeypatch):
    monkeypatch.setattr(organizations, "INVITATIONS_OPEN", 1)
    invite = lambda name: organizations.invite(SYSTEM, acme, f"{name}@new.test", OrganizationRole.MEMBER)  # noqa: E731
    assert meanwhile(lambda: invite("one"), lambda: invite("two")) == "Refusal"


def test_withdrawn_invitation_is_not_accepted(acme):
    made = organizations.invite(SYSTEM, acme, "new@new.test", OrganizationRole.MEMBER)
    new = User.objects.create(email="new@new.test")
    said = meanwhile(lambda: organizations.withdraw(SYSTEM, made), lambda: organizations.accept(SYSTEM, made, new))
    assert said == "Refusal"
    assert not OrganizationMembership.objects.filter(user=new).exists()


def test_second_invitation_does_not_replace_the_password_of_the_first(acme):
    other = Organization.objects.get(name="other")
    made = [organizations.invite(SYSTEM, each, "new@new.test", OrganizationRole.MEMBER) for each in (acme, other)]
    User.objects.create(email="new@new.test")
    join = lambda number: organizations.join(  # noqa: E731
        SYSTEM, made[number], name="New", password=f"a long password {number}"
    )
    assert meanwhile(lambda: join(0), lambda: join(1)) == "Refusal"
    assert User.objects.get(email="new@new.test").check_password("a long password 0")


def test_member_who_leaves_gets_no_role(acme, project, world):
    stranger = world.stranger.user
    said = meanwhile(
        lambda: members.set_organization_role(SYSTEM, acme, stranger, None),
        lambda: members.set_role(SYSTEM, project, stranger, ProjectRole.READER),
    )
    assert said == "Denied"
    assert not ProjectMembership.objects.filter(user=stranger).exists()


def test_role_that_is_just_given_ends_with_the_membership(acme, project, world):
    stranger = world.stranger.user
    meanwhile(
        lambda: members.set_role(SYSTEM, project, stranger, ProjectRole.READER),
        lambda: members.set_organization_role(SYSTEM, acme, stranger, None),
    )
    assert not ProjectMembership.objects.filter(user=stranger).exists()


@pytest.mark.parametrize("order", [("web", "fixed"), ("fixed", "web")], ids="-".join)
def test_roles_of_two_users_on_the_same_repositories_end_at_once(project, world, order):
    """No row of a repository is locked: each of the two transactions would wait for the other one in one of the orders."""
    one, two = world.viewer.user, world.stranger.user
    first, second = (world.repository(name) for name in order)
    for user in (one, two):
        for repository in (first, second):
            repositories.set_role(SYSTEM, repository, user, RepositoryRole.VIEWER)
    said = meanwhile(
        lambda: repositories.set_role(SYSTEM, first, one, None),
        lambda: members.set_role(SYSTEM, project, two, ProjectRole.READER).detail["after"],
        lambda: repositories.set_role(SYSTEM, second, one, None),
    )
    assert said == ProjectRole.READER
    assert {repositories.role_of(each, user) for each in (first, second) for user in (one, two)} == {None}


def test_deleted_service_account_gets_no_role(project, account):
    said = meanwhile(
        lambda: service_accounts.delete(SYSTEM, account),
        lambda: members.set_role(SYSTEM, project, account, ProjectRole.READER),
    )
    assert said == "Denied"


def test_two_owners_do_not_leave_together(acme, world):
    second, _ = organizations.add_user(acme, "second@acme.test", role=OrganizationRole.OWNER)
    step_down = lambda user: members.set_organization_role(SYSTEM, acme, user, OrganizationRole.MEMBER)  # noqa: E731
    assert meanwhile(lambda: step_down(second), lambda: step_down(world.owner.user)) == "Refusal"


def test_two_service_accounts_of_one_name_are_one(project, acme):
    for owner in (project, acme):
        create = lambda owner=owner: service_accounts.create(SYSTEM, owner, "builder")  # noqa: E731
        assert meanwhile(create, create) == "Refusal"


def test_service_account_is_deleted_once(account):
    delete = lambda: service_accounts.delete(SYSTEM, account)  # noqa: E731
    assert meanwhile(delete, delete) == "Refusal"


def test_service_account_is_restored_once(account, world):
    actor = world.owner.actor
    service_accounts.delete(actor, account)
    restore = lambda: service_accounts.restore(actor, account)  # noqa: E731
    assert meanwhile(restore, restore) == "Refusal"


# ── Access keys and keyless CI ───────────────────────────────────────────────────────────────────────────────────────
def test_last_place_for_a_key_is_given_once(user):
    for number in range(keys.KEYS_PER_USER - 2):
        make_key(user, str(number))
    assert meanwhile(lambda: make_key(user, "one"), lambda: make_key(user, "two")) == "Refusal"


def test_restored_key_takes_no_place_that_is_given(user, world):
    for number in range(keys.KEYS_PER_USER - 1):
        persona = make_key(user, str(number))
    keys.revoke(persona.key, by=world.member.actor)
    said = meanwhile(lambda: make_key(user, "one"), lambda: keys.restore(persona.key, by=world.member.actor))
    assert said == "Refusal"


def test_revoked_key_is_not_rotated(world):
    key = world.member.key
    said = meanwhile(lambda: keys.revoke(key), lambda: keys.rotate(key, former_ends_in=timedelta(hours=1)))
    assert said == "Refusal"


def test_former_secret_of_a_rotation_is_ended(world):
    key = world.member.key
    assert meanwhile(lambda: keys.rotate(key, former_ends_in=timedelta(hours=1)), lambda: keys.end_former(key)) is True


def test_issuer_is_added_once(acme):
    create = lambda: issuers.create(SYSTEM, acme, IssuerKind.GITHUB, "https://a.test", keys=Program().jwks)  # noqa: E731
    assert meanwhile(create, create) == "Refusal"


def test_deleted_issuer_takes_no_keys(issuer):
    said = meanwhile(
        lambda: issuers.delete(SYSTEM, issuer), lambda: issuers.upload_keys(SYSTEM, issuer, Program().jwks)
    )
    assert said == "Refusal"


def test_deleted_issuer_gets_no_rule(account, issuer):
    said = meanwhile(
        lambda: issuers.delete(SYSTEM, issuer), lambda: trust_rules.create(SYSTEM, account, issuer, "main", GITHUB)
    )
    assert said == "Refusal"


def test_deleted_account_gets_no_rule(account, issuer):
    said = meanwhile(
        lambda: service_accounts.delete(SYSTEM, account),
        lambda: trust_rules.create(SYSTEM, account, issuer, "main", GITHUB),
    )
    assert said == "Refusal"


def test_trust_rule_is_deleted_once(rule):
    delete = lambda: trust_rules.delete(SYSTEM, rule)  # noqa: E731
    assert meanwhile(delete, delete) is False


def test_deleted_trust_rule_starts_no_session(rule):
    start = lambda: federation._start(  # noqa: E731
        federation.Attempt("token"), rule, Program().claims(**GITHUB), "secret", is_exchanged=True
    )
    assert meanwhile(lambda: trust_rules.delete(SYSTEM, rule), start) == "Rejected"
    assert not federation.of_account(rule.account).exists()


# ── Projects, repositories, images ───────────────────────────────────────────────────────────────────────────────────
def test_settings_of_a_project_are_changed_once(project):
    change = lambda: projects.update(SYSTEM, project, image_limit=7)  # noqa: E731
    assert meanwhile(change, change) is None


def test_repository_of_a_name_is_created_once(project):
    create = lambda: repositories.create(SYSTEM, project, "new")[1]  # noqa: E731
    assert meanwhile(create, create) is False


def test_deleted_repository_is_not_changed(web):
    said = meanwhile(
        lambda: trash.delete_repository(SYSTEM, web), lambda: repositories.update(SYSTEM, web, description="late")
    )
    assert said == "NameUnknown"


def test_deleted_repository_gets_no_cleanup_policy(web):
    said = meanwhile(
        lambda: trash.delete_repository(SYSTEM, web), lambda: policies.set_policy(SYSTEM, web, keep_last=5)
    )
    assert said == "NameUnknown"


def test_deleted_image_is_not_changed(app):
    said = meanwhile(lambda: deletion_of(app), lambda: images.update(SYSTEM, app, description="late"))
    assert said == "NameUnknown"


def test_tag_of_a_deleted_image_is_not_moved(app):
    digest = Manifest.objects.get().digest
    said = meanwhile(lambda: deletion_of(app), lambda: manifests.point_tag(SYSTEM, app.repository, APP, "v2", digest))
    assert said == "NameUnknown"


def test_push_into_an_image_that_is_just_deleted_makes_a_new_one(app, docker):
    member = docker("member")
    built = Built()
    for part in built.parts[:-1]:
        member.push_blob("web/app", part)
    meanwhile(lambda: deletion_of(app), lambda: member.push_manifest("web/app", "v2", built.manifest).status)
    assert Tag.objects.live().filter(name="v2", image__deletion=None).count() == 1


def empty_image_and_uploaded_blobs(app, docker, settings):
    """Empty the image so long ago that the sweep deletes it. Return a client, and an image whose blobs it has pushed."""
    member, built = docker("member"), Built()
    for part in built.parts[:-1]:
        member.push_blob("web/app", part)
    deleted_digest(app)
    Deletion.objects.update(purge_after=timezone.now())
    trash.purge()
    Image.objects.update(emptied_at=timezone.now() - timedelta(days=settings.RECOVERY_DAYS + 1))
    return member, built


def test_push_into_an_image_that_is_just_swept_makes_a_new_one(app, docker, settings):
    member, built = empty_image_and_uploaded_blobs(app, docker, settings)
    status = meanwhile(trash.sweep_images, lambda: member.push_manifest("web/app", "v2", built.manifest).status)
    assert status == 201
    assert Tag.objects.live().filter(name="v2", image__deletion=None).count() == 1


def test_image_that_is_just_pushed_into_is_not_swept(app, docker, settings):
    member, built = empty_image_and_uploaded_blobs(app, docker, settings)
    swept = meanwhile(lambda: member.push_manifest("web/app", "v2", built.manifest), trash.sweep_images)
    assert swept == 0
    assert Tag.objects.live().filter(name="v2", image__deletion=None).count() == 1


def test_upload_is_counted_under_the_row_of_its_user(web, world, monkeypatch):
    monkeypatch.setattr(uploads, "OPEN_SESSIONS", 1)
    start = lambda name: uploads.start(world.member.actor, web, name).pk and None  # noqa: E731
    assert meanwhile(lambda: start("one"), lambda: start("two")) is not None
    assert UploadSession.objects.count() == 1


@pytest.fixture
def upload(web, world):
    session = uploads.start(world.member.actor, web, "app")
    return UploadSession.objects.get(pk=session.pk)


def test_upload_that_is_cancelled_makes_no_blob_visible(upload, web):
    finish = lambda: uploads._make_visible(upload, web, sha256(b"1"), 1, upload.storage_key).pk  # noqa: E731
    assert meanwhile(lambda: uploads.discard(upload), finish) == "BlobUploadUnknown"
    assert not Blob.objects.exists()


def test_upload_that_has_just_finished_keeps_its_bytes(upload, web):
    meanwhile(
        lambda: uploads._make_visible(upload, web, sha256(b"1"), 1, upload.storage_key),
        lambda: uploads.discard(upload),
    )
    assert Blob.objects.get().storage_key == upload.storage_key
    assert not ObjectTrash.objects.exists()


# ── Deletion, recovery, purge ────────────────────────────────────────────────────────────────────────────────────────
def test_image_is_deleted_once(app):
    assert meanwhile(lambda: deletion_of(app), lambda: deletion_of(app)) == "ManifestUnknown"


def test_tag_that_is_just_pushed_is_deleted_with_its_image(app, docker):
    member = docker("member")
    manifest = bytes(Manifest.objects.get().content)
    meanwhile(lambda: member.push_manifest("web/app", "v2", manifest), lambda: deletion_of(app))
    assert not Tag.objects.live().exists()


def test_tag_that_is_just_pushed_is_deleted_with_its_repository(app, docker):
    member = docker("member")
    manifest = bytes(Manifest.objects.get().content)
    meanwhile(
        lambda: member.push_manifest("web/app", "v2", manifest), lambda: trash.delete_repository(SYSTEM, app.repository)
    )
    assert not Tag.objects.live().exists()


def test_repository_is_deleted_once(web):
    delete = lambda: trash.delete_repository(SYSTEM, web)  # noqa: E731
    assert meanwhile(delete, delete) == "NameUnknown"


def test_tag_that_is_just_pushed_is_deleted_with_its_digest(app, docker):
    member = docker("member")
    manifest = bytes(Manifest.objects.get().content)
    meanwhile(lambda: member.push_manifest("web/app", "v2", manifest), lambda: deleted_digest(app))
    assert not Tag.objects.live().exists()


def test_deletion_is_restored_once(app):
    made = deleted_tag(app)
    restore = lambda: trash.restore(SYSTEM, [made.pk]).tags  # noqa: E731
    assert meanwhile(restore, restore) == "RecoveryGone"


def test_deletion_that_is_purged_is_not_restored(app):
    made = deleted_digest(app)
    said = meanwhile(lambda: trash.purge_now(SYSTEM, made), lambda: trash.restore(SYSTEM, [made.pk]).tags)
    assert said == "RecoveryGone"


def test_deletion_that_is_restored_is_not_purged(app):
    made = deleted_digest(app)
    meanwhile(lambda: trash.restore(SYSTEM, [made.pk]), lambda: purging._purge(made.pk))
    assert Manifest.objects.live().count() == 1
    assert Tag.objects.live().count() == 1


def test_deletion_that_is_held_is_not_purged(app):
    made = deleted_digest(app)
    said = meanwhile(lambda: trash.hold(SYSTEM, made, on=True), lambda: trash.purge_now(SYSTEM, made))
    assert said == "Denied"


def test_deletion_that_is_purged_is_not_held(app):
    made = deleted_digest(app)
    said = meanwhile(lambda: trash.purge_now(SYSTEM, made), lambda: trash.hold(SYSTEM, made, on=True))
    assert said == "RecoveryGone"


def test_part_that_is_held_keeps_the_whole(app):
    part = deleted_tag(app)
    whole = deletion_of(app)
    said = meanwhile(lambda: trash.hold(SYSTEM, part, on=True), lambda: trash.purge_now(SYSTEM, whole))
    assert said == "Denied"


def test_image_is_restored_beside_no_new_one(app, docker):
    member, built = docker("member"), Built()
    made = deletion_of(app)
    for part in built.parts[:-1]:
        member.push_blob("web/app", part)
    said = meanwhile(
        lambda: member.push_manifest("web/app", "v2", built.manifest),
        lambda: trash.restore(SYSTEM, [made.pk]).tags,
    )
    assert said == "NameTaken"


def test_repository_is_restored_beside_no_new_one(web, project):
    made = trash.delete_repository(SYSTEM, web)
    said = meanwhile(lambda: repositories.create(SYSTEM, project, "web"), lambda: trash.restore(SYSTEM, [made.pk]).tags)
    assert said == "NameTaken"


def test_image_is_not_restored_into_a_deleted_repository(app):
    made = deletion_of(app)
    said = meanwhile(
        lambda: trash.delete_repository(SYSTEM, app.repository), lambda: trash.restore(SYSTEM, [made.pk]).tags
    )
    assert said == "NameUnknown"


def test_tag_is_not_restored_into_a_deleted_repository(app):
    made = deleted_tag(app)
    said = meanwhile(
        lambda: trash.delete_repository(SYSTEM, app.repository), lambda: trash.restore(SYSTEM, [made.pk]).tags
    )
    assert said == "NameUnknown"


def test_tag_is_not_restored_into_a_deleted_image(app):
    made = deleted_tag(app)
    said = meanwhile(lambda: deletion_of(app), lambda: trash.restore(SYSTEM, [made.pk]).tags)
    assert said == "NameUnknown"


def test_empty_image_takes_no_place_that_is_given(app, docker):
    made = deleted_digest(app)
    projects.update(SYSTEM, app.repository.project, image_limit=1)
    member, built = docker("member"), Built()
    for part in built.parts[:-1]:
        member.push_blob("web/other", part)
    said = meanwhile(
        lambda: member.push_manifest("web/other", "v1", built.manifest),
        lambda: trash.restore(SYSTEM, [made.pk]).tags,
    )
    assert said == "Denied"


# ── Cleanup and scans ────────────────────────────────────────────────────────────────────────────────────────────────
def test_policy_has_one_run(app):
    policy = policies.set_policy(SYSTEM, app.repository, keep_last=1)
    said = meanwhile(lambda: runs._open(policy.pk), lambda: runs._open(policy.pk).pk)
    assert said == CleanupRun.objects.get().pk


def test_run_that_is_dismissed_is_not_approved(app, user):
    policy = policies.set_policy(SYSTEM, app.repository, keep_last=1)
    run = runs._open(policy.pk)
    CleanupRun.objects.update(state=CleanupRun.State.AWAITING_APPROVAL)
    assert meanwhile(lambda: runs.dismiss(SYSTEM, run.pk), lambda: runs.approve(SYSTEM, run.pk)) is False


def test_two_scans_of_a_digest_begin_a_finding_once(web):
    manifest, openssl = make_manifest(web, "a", tag="v1"), found("CVE-2026-1")
    for some in ((openssl,), ()):  # the finding has ended, and its rows are there
        scanned(manifest, *some, packages=[openssl.package])
    result = Result((openssl,), "debian 12.5", is_end_of_life=False, is_covered=True)
    store = lambda: findings.store(  # noqa: E731
        open_scan(manifest, state=Scan.State.DONE), result, VERSION, timezone.now()
    )
    assert meanwhile(store, store) == (0, 0)
    assert Finding.objects.current().count() == 1


def test_vulnerability_is_accepted_once(web):
    scanned(make_manifest(web, "a", tag="v1"), found("CVE-2026-1"))
    accept = lambda: acceptances.accept(SYSTEM, web, "CVE-2026-1", reason="none").pk  # noqa: E731
    first: list[int] = []
    assert meanwhile(lambda: first.append(accept()), accept) == first[0]


def test_index_has_the_counts_of_platforms_that_are_counted_at_once(web):
    one, other = (make_manifest(web, name) for name in ("a", "b"))
    index = make_index(one, other)
    for manifest in (one, other):
        scanned(manifest, found(f"CVE-2026-{manifest.pk}"))
        Acceptance.objects.create(project=web.project, vulnerability=f"CVE-2026-{manifest.pk}", reason="none")
    first, second = (Report.objects.filter(pk=manifest.pk) for manifest in (one, other))
    meanwhile(lambda: findings.recount(first), lambda: findings.recount(second))
    assert Report.objects.get(pk=index.pk).high == 0


def test_notification_is_created_once(project):
    target = {"recipients": "mina@acme.test"}
    create = lambda: subscriptions.create(SYSTEM, project, None, "mail", target) and None  # noqa: E731
    assert meanwhile(create, create) == "Refusal"


def test_deleted_notification_is_not_changed(project):
    made = subscribe(project)
    said = meanwhile(
        lambda: subscriptions.delete(SYSTEM, made), lambda: subscriptions.set_active(SYSTEM, made, is_active=False)
    )
    assert said == "Refusal"
    assert Subscription.objects.get().is_active


def test_roles_on_a_repository_are_given_once(web, world):
    viewer = world.viewer.user
    give = lambda: repositories.set_role(SYSTEM, web, viewer, RepositoryRole.MEMBER)  # noqa: E731
    assert meanwhile(give, give) is None
    assert Repository.objects.get(pk=web.pk)


# ── Undo ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def of_a_project(app, actor, number):
    projects.update(actor, app.repository.project, description=str(number))


def of_a_repository(app, actor, number):
    repositories.update(actor, app.repository, description=str(number))


def of_an_image(app, actor, number):
    images.update(actor, app, description=str(number))


def of_a_cleanup_policy(app, actor, number):
    policies.set_policy(actor, app.repository, keep_last=number)


@pytest.mark.parametrize("change", [of_a_project, of_a_repository, of_an_image, of_a_cleanup_policy])
def test_setting_that_another_user_changes_meanwhile_is_not_undone(app, world, change):
    change(app, SYSTEM, 1)
    change(app, world.admin.actor, 2)
    theirs = Event.objects.filter(user=world.admin.user)
    assert meanwhile(lambda: change(app, SYSTEM, 3), lambda: len(undo.undo(world.owner.actor, theirs).done)) == 0
    events = Event.objects.count()
    change(app, SYSTEM, 3)
    assert Event.objects.count() == events, "the setting is the one of the other user"
