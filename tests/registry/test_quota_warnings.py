"""Mails about quotas that are nearly full."""

from __future__ import annotations

import smtplib

import pytest
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import organizations
from accounts.actors import SYSTEM
from accounts.models import ProjectRole
from registry import members, projects, quota_warnings, tasks
from registry.models import ProjectUsage, QuotaWarning, Repository
from tests.support.factories import make_manifest, set_tag
from tests.support.threads import at_once

pytestmark = pytest.mark.django_db


def stored(project, size: int) -> None:
    """Let the last measurement of the project say this."""
    ProjectUsage.objects.update_or_create(project=project, defaults={"size": size, "measured_at": timezone.now()})


def levels() -> dict[str, int]:
    return {row.quota: row.level for row in QuotaWarning.objects.all()}


@pytest.fixture
def demo(world):
    """The project, with a quota of 1,000 bytes."""
    project = world.projects["demo"]
    projects.update(SYSTEM, project, size_limit=1_000)
    return project


def test_each_level_is_one_mail_and_comes_again_only_after_a_fall(demo, mailoutbox):
    mails = {}
    for size in (799, 800, 850, 899, 900, 999, 1_000, 1_200, 950, 999, 1_000, 700, 700, 850):
        stored(demo, size)
        mails[size] = [*mails.get(size, []), tasks.warn_of_quotas()]
        assert tasks.warn_of_quotas() == 0, size
    assert mails == {
        799: [0],
        800: [1],
        850: [0, 1],
        899: [0],
        900: [1],
        999: [0, 0],
        1_000: [1, 1],
        1_200: [0],
        950: [0],
        700: [0, 0],
    }
    assert {tuple(mail.to) for mail in mailoutbox} == {("admin@acme.test",)}
    assert levels() == {"bytes": 80}


def test_mail_names_project_numbers_and_the_next_level(demo, mailoutbox):
    stored(demo, 1_100_000)
    projects.update(SYSTEM, demo, size_limit=1_200_000)
    tasks.warn_of_quotas()
    (mail,) = mailoutbox
    assert mail.subject == "demo: the quota of stored bytes is 91 % full"
    html = mail.alternatives[0][0]
    for text in (mail.body, html):
        assert "uses 1.1 MB of its quota of 1.2 MB (stored bytes): 91 %." in text.replace("<b>demo</b>", "demo")
        assert "When it is full, pushes that need more are refused." in text
        assert "The next mail about this quota comes at 100 %." in text
        assert "http://localhost:8080/projects/demo/usage" in text
    stored(demo, 1_200_000)
    tasks.warn_of_quotas()
    assert "Pushes that need more are refused." in mailoutbox[1].body
    assert "was below 100 % and is full again" in mailoutbox[1].body


def test_jump_to_the_top_is_one_mail(demo, mailoutbox):
    stored(demo, 5_000)
    assert tasks.warn_of_quotas() == 1
    assert "500 %" in mailoutbox[0].subject


def test_mail_is_in_the_language_of_each_person(demo, world, mailoutbox):
    world.admin.user.language = "ko"
    world.admin.user.save()
    stored(demo, 900)
    tasks.warn_of_quotas()
    assert "할당량" in mailoutbox[0].subject
    assert "할당량" in mailoutbox[0].alternatives[0][0]


def test_without_admins_the_owners_are_told(demo, world, mailoutbox):
    organizations.deactivate(SYSTEM, world.admin.user)
    stored(demo, 900)
    assert tasks.warn_of_quotas() == 1
    assert mailoutbox[0].to == ["owner@acme.test"]


def test_service_accounts_and_people_who_left_get_none(demo, world, mailoutbox):
    members.set_role(SYSTEM, demo, world.member.user, ProjectRole.ADMIN)
    members.set_organization_role(SYSTEM, demo.organization, world.member.user, None)
    stored(demo, 900)
    assert tasks.warn_of_quotas() == 1
    assert mailoutbox[0].to == ["admin@acme.test"]


def test_owners_are_told_of_the_quota_of_the_organization(world, mailoutbox):
    acme = world.projects["demo"].organization
    organizations.set_size_limit(SYSTEM, acme, 1_000)
    for project in acme.projects.all():
        stored(project, 950 // acme.projects.count())
    assert tasks.warn_of_quotas() == 1
    assert mailoutbox[0].to == ["owner@acme.test"]
    assert mailoutbox[0].subject.startswith("acme: the quota of stored bytes is 9")
    assert "http://localhost:8080/organizations/acme/" in mailoutbox[0].body
    organizations.set_size_limit(SYSTEM, acme, None)
    assert tasks.warn_of_quotas() == 0
    assert levels() == {}


def test_quotas_of_numbers_name_what_is_full(world, mailoutbox):
    demo = world.projects["demo"]
    web = world.repository("web")
    count = Repository.objects.live().filter(project=demo).count()
    for number in range(4):
        manifest = make_manifest(web, f"app {number}", image=f"app{number}", tag="1")
    for number in range(3):
        set_tag(manifest, f"2.{number}")
    assert tasks.warn_of_quotas() == 0
    projects.update(SYSTEM, demo, repository_limit=count, image_limit=5, tag_limit=4, digest_limit=100)
    assert tasks.warn_of_quotas() == 3
    assert sorted(mail.subject for mail in mailoutbox) == [
        "demo/web/app3: the quota of tags is 100 % full",
        "demo/web: the quota of images is 80 % full",
        "demo: the quota of repositories is 100 % full",
    ]
    assert levels() == {"repositories": 100, "images": 80, "tags": 100}
    projects.update(SYSTEM, demo, digest_limit=1)
    assert tasks.warn_of_quotas() == 1
    assert "the quota of digests" in mailoutbox[-1].subject


def test_empty_project_with_a_limit_of_nothing_is_not_full(world):
    demo = world.projects["demo"]
    projects.update(SYSTEM, demo, size_limit=0)
    stored(demo, 0)
    assert tasks.warn_of_quotas() == 0


def test_mail_that_could_not_be_sent_is_sent_later(demo, mailoutbox, monkeypatch):
    def fail(self, messages):
        raise smtplib.SMTPServerDisconnected

    stored(demo, 900)
    with monkeypatch.context() as patch:
        patch.setattr(EmailBackend, "send_messages", fail)
        assert tasks.warn_of_quotas() == 0
    assert [tasks.warn_of_quotas(), tasks.warn_of_quotas()] == [1, 0]


def test_number_of_queries_does_not_grow_with_projects(demo, world):
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            tasks.warn_of_quotas()
        return len(captured)

    tasks.warn_of_quotas()
    few = queries()
    for number in range(5):
        more, _is_new = projects.create(SYSTEM, demo.organization, f"more{number}")
        stored(more, 900)
    assert queries() == few <= 8  # one more than the quotas


@pytest.mark.django_db(transaction=True)
def test_two_runs_at_once_send_one_mail(demo, mailoutbox):
    stored(demo, 900)
    assert sum(at_once(*[quota_warnings.warn] * 4)) == 1
    assert len(mailoutbox) == 1
