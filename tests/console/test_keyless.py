"""Pages of keyless CI: issuers, trust rules, sessions and snippets."""

from __future__ import annotations

import pytest

from accounts import federation, issuers
from accounts.actors import SYSTEM
from accounts.limits import Limits
from accounts.models import FederatedSession, Issuer, IssuerKind, Organization, ProjectRole, TrustRule
from registry import service_accounts
from tests.support.issuers import Issuer as Program
from tests.support.issuers import SigningKey
from tests.support.pages import Page, see

HERE = "/projects/demo/service-accounts/ci"
ISSUERS = "/organizations/acme/issuers"


@pytest.fixture
def ci(world, project):
    return service_accounts.create(SYSTEM, project, "ci", role=ProjectRole.MEMBER)


@pytest.fixture
def program():
    return Program("https://ci.test")


@pytest.fixture
def issuer(world, program):
    acme = Organization.objects.get(name="acme")
    return issuers.create(SYSTEM, acme, IssuerKind.GITHUB, program.url, keys=program.jwks)


@pytest.fixture
def rule(ci, issuer):
    return service_accounts.add_trust_rule(SYSTEM, ci, issuer, "main", {"repository": "acme/web"})


def test_owner_adds_an_issuer_with_keys_replaces_them_and_deletes_it(console, world, program):
    browser = console("owner")
    form = see(browser, f"{ISSUERS}/new").form("url", "keys")
    answer = form.submit(browser, kind="kubernetes", url=program.url, audience="kcr", keys=program.jwks)
    assert answer.url == ISSUERS
    issuer = Issuer.objects.get()
    assert (issuer.kind, issuer.audience, issuer.is_uploaded) == ("kubernetes", "kcr", True)
    program.keys = [SigningKey("newer", "ES256")]
    refused = see(browser, f"{ISSUERS}/{issuer.pk}/keys").form("keys").submit(browser, keys="none")
    assert "these are no keys" in refused.content.decode().lower()
    see(browser, f"{ISSUERS}/{issuer.pk}/keys").form("keys").submit(browser, keys=program.jwks)
    issuer.refresh_from_db()
    assert [key["kid"] for key in issuer.keys] == ["newer"]
    see(browser, ISSUERS).form("issuer").submit(browser, act="delete")
    assert Issuer.objects.get().deleted_at


def test_admin_adds_a_rule_deletes_it_and_takes_that_back(console, ci, issuer, program):
    browser = console("admin")
    form = see(browser, f"{HERE}/trust-rules/new/{issuer.pk}").form("name", "claim_repository")
    answer = form.submit(
        browser, name="main", claim_repository="acme/web", claim_ref="refs/heads/main", repositories="web", delete=[]
    )
    assert answer.url == f"{HERE}/trust-rules"
    rule = TrustRule.objects.get()
    assert rule.claims == {
        "repository": "acme/web",
        "ref": "refs/heads/main",
        "events": "push workflow_dispatch schedule release",
    }
    assert (rule.actions, rule.repositories, rule.lifetime) == ("pull push", "demo/web", 3600)
    see(browser, f"{HERE}/trust-rules").form("rule").submit(browser, act="delete")
    rule.refresh_from_db()
    assert rule.deleted_at
    see(browser, f"{HERE}/trust-rules").form("rule").submit(browser, act="restore")
    rule.refresh_from_db()
    assert rule.deleted_at is None


def test_bad_rule_is_refused_on_its_page(console, ci, issuer):
    browser = console("admin")
    form = see(browser, f"{HERE}/trust-rules/new/{issuer.pk}").form("name", "claim_repository")
    answer = form.submit(browser, name="all", claim_repository="acme/*")
    assert "cannot be a pattern" in answer.content.decode()
    assert not TrustRule.objects.exists()


def test_pasted_token_is_compared_with_the_rules(console, ci, rule, program):
    browser = console("admin")
    form = see(browser, f"{HERE}/trust-rules").form("token")
    good = form.submit(browser, token=program.token(program.github()), act="try")
    assert "accepts it" in good.content.decode()
    bad = form.submit(browser, token=program.token(program.github(repository="evil/web")), act="try")
    assert "repository is evil/web, but the rule wants acme/web" in bad.content.decode()
    assert not FederatedSession.objects.exists()


def test_session_is_listed_with_its_origin_and_ended(console, ci, rule, program):
    federation.exchange(federation.Attempt(program.token(program.github()), address="10.0.0.1"))
    browser = console("admin")
    page = see(browser, f"{HERE}/trust-rules")
    assert "Acme/web" in page.text
    assert 'href="https://ci.test/Acme/web/actions/runs/8675309"' in browser.get(f"{HERE}/trust-rules").content.decode()
    page.form("session").submit(browser, act="end")
    assert FederatedSession.objects.get().key.state == "revoked"
    see(browser, f"{HERE}/trust-rules").form("rule").submit(browser, act="unpin")
    assert TrustRule.objects.get().pinned == {}


def test_limits_of_a_rule_are_in_the_language_of_the_page(console, ci, issuer):
    only = Limits(["pull", "delete"], "web")
    service_accounts.add_trust_rule(SYSTEM, ci, issuer, "main", {"repository": "acme/web"}, only=only)
    for language, words in (("en", "may only pull, delete"), ("ko", "pull, 삭제만 가능")):
        page = see(console("admin", HTTP_ACCEPT_LANGUAGE=language), f"{HERE}/trust-rules")
        assert words in page.text


def test_snippets_name_registry_and_account(console, ci):
    page = see(console("admin"), f"{HERE}/ci")
    for text in ("aud: http://localhost:8080", "--username demo/ci", "localhost:8080/demo/REPOSITORY/IMAGE"):
        assert text in page.text


def test_pages_of_an_account_of_the_organization(console, world, issuer):
    service_accounts.create(SYSTEM, Organization.objects.get(name="acme"), "mirror")
    browser = console("owner")
    there = "/organizations/acme/service-accounts/mirror"
    form = see(browser, f"{there}/trust-rules/new/{issuer.pk}").form("name", "claim_repository")
    assert form.submit(browser, name="main", claim_repository="acme/web").url == f"{there}/trust-rules"
    assert "acme/mirror" in see(browser, f"{there}/ci").text
    assert isinstance(see(browser, there), Page)
