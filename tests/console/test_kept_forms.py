"""Forms that are sent after the session ended, or were open during a sign-in, come back as they were typed."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest
from django import forms
from django.utils import timezone

import console.forms
from accounts.models import AccessKey, ConsoleSession, Invitation
from console.views.shared import kept_forms
from registry.models import Event, Repository, Tag
from scanning.models import Acceptance, Subscription
from scanning.notifications.channels import CHANNELS
from tests.support import PASSWORD
from tests.support.pages import Page, see

ORIGIN = {"origin": "http://localhost:8080"}
DEMO = "/projects/demo/"
WEB = f"{DEMO}repositories/web/"
APP = f"{WEB}app/-/"
SEEN = "Nothing has been changed: you signed in since the form was opened. Send it again."
FORMS: dict[str, dict[str, str]] = {
    "/profile/keys/new": {"name": "laptop <b>", "expires": "30"},
    "/organizations/acme/invite": {"email": "new@acme.test"},
    "/organizations/acme/projects/new": {"name": "new-one"},
    f"{DEMO}settings": {"display_name": "Demo of all"},
    f"{DEMO}members/add": {"email": "stranger@acme.test", "role": "reader"},
    f"{DEMO}repositories/new": {"name": "tools", "description": "한글 & more"},
    f"{DEMO}notifications/new?channel=mail": {"recipients": "a@acme.test\nb@acme.test", "min_severity": "5"},
    f"{WEB}-/settings": {"description": "Pages of the shop"},
    f"{WEB}-/permissions/add": {"email": "stranger@acme.test"},
    f"{WEB}-/cleanup": {"keep_last": "7"},
    f"{APP}settings": {"description": "The app"},
    f"{APP}tags/add": {"tag": "typed-by-hand", "digest": "1.0"},
    f"{APP}manifests/1.0/vulnerabilities/accept?vulnerability=CVE-2026-2&package=curl": {"reason": "not reached"},
}


@pytest.fixture
def owner(world):
    """The owner of the organization, who may send every form; PASSWORD is theirs."""
    user = world.owner.user
    user.set_password(PASSWORD)
    user.save()
    return user


def rows() -> list[int]:
    models = (AccessKey, Acceptance, Event, Invitation, Repository, Subscription, Tag)
    return [model.objects.count() for model in models]


def sign_in(browser, owner, page: Page):
    return page.form("email", "password").submit(browser, email=owner.email, password=PASSWORD)


@pytest.mark.parametrize("path", FORMS)
def test_a_form_comes_back_after_the_sign_in_and_is_sent_by_hand(console, owner, scanned, path):
    browser, fields = console("owner"), FORMS[path]
    form = see(browser, path).form(*fields)
    ConsoleSession.objects.all().delete()
    before = rows()
    asked = form.submit(browser, **fields)
    assert asked.status_code == 302
    page = Page(browser.get(asked.url).content.decode(), asked.url)
    assert "What you typed is kept for ten minutes." in page.text
    back = sign_in(browser, owner, page)
    shown = Page(browser.get(back.url).content.decode(), back.url)
    again = shown.form(*fields)
    assert SEEN in shown.text
    assert {name: again.shown[name] for name in fields} == fields
    assert rows() == before, "nothing was carried out"
    later = see(browser, path)
    assert SEEN not in later.text, "it comes back once"
    sent = again.submit(browser, **({"act": "save"} if "cleanup" in path else {}))
    assert sent.status_code == 302 or "kcrs_" in sent.content.decode()
    assert rows() != before


def test_a_form_that_was_open_during_a_sign_in_elsewhere_comes_back(console, owner):
    browser = console(None, enforce_csrf_checks=True)
    signed = see(browser, "/sign-in")
    sign_in(browser, owner, signed)
    form = see(browser, f"{DEMO}repositories/new").form("name")
    browser.post("/sign-out", see(browser, "/").form("csrfmiddlewaretoken").shown)
    sign_in(browser, owner, see(browser, "/sign-in"))
    with_origin = {"path": form.action, "data": form.filled(name="tools"), "headers": ORIGIN}
    answer = browser.post(**with_origin)
    assert (answer.status_code, answer.url) == (302, f"{DEMO}repositories/new")
    shown = see(browser, answer.url)
    assert SEEN in shown.text
    assert not Repository.objects.filter(name="tools").exists()
    shown.form("name").submit(browser)
    assert Repository.objects.filter(name="tools").exists()
    for headers in ({}, {"origin": "https://evil.test"}, {"origin": "null"}):
        assert browser.post(**with_origin | {"headers": headers}).status_code == 403


def test_a_second_tab_that_signs_in_leads_on(console, owner):
    browser = console(None, enforce_csrf_checks=True)
    first, second = see(browser, "/sign-in?next=/profile"), see(browser, "/sign-in?next=/profile/keys")
    assert sign_in(browser, owner, first).url == "/profile"
    sent = second.form("email", "password").filled(email=owner.email, password=PASSWORD)
    assert browser.post("/sign-in", sent, headers=ORIGIN).url == "/profile/keys"
    assert browser.post("/sign-in", sent | {"next": "//evil.test"}, headers=ORIGIN).url == "/"


# ── What is not kept ─────────────────────────────────────────────────────────────────────────────────────────────────
def kept(browser) -> str:
    return browser.cookies[kept_forms.COOKIE].value


def test_secrets_are_not_kept(console, owner):
    browser = console(None)
    secret = "https://hooks.example.com/T0/secret"
    browser.post(f"{DEMO}notifications/new?channel=webhook", {"url": secret, "min_severity": "5"})
    _path, fields = kept_forms.signing.loads(kept(browser), salt=kept_forms.SALT)
    assert fields == "min_severity=5"
    answer = browser.post("/profile/password", {"old_password": PASSWORD, "new_password1": "x", "new_password2": "x"})
    assert "kept" not in answer.url
    _path, fields = kept_forms.signing.loads(kept(browser), salt=kept_forms.SALT)
    assert fields == ""


def test_every_field_with_a_secret_is_named():
    """Each password field of a form, and each target of a channel but the addresses of people and the choice of events."""
    modules = [
        importlib.import_module(f"console.forms.{each.name}") for each in pkgutil.iter_modules(console.forms.__path__)
    ]
    classes = [cls for module in modules for _, cls in inspect.getmembers(module, inspect.isclass)]
    fields = {
        name: field
        for cls in classes
        if issubclass(cls, forms.BaseForm)
        for name, field in getattr(cls, "base_fields", {}).items()
    }
    secret = {name for name, field in fields.items() if isinstance(field.widget, forms.PasswordInput)}
    assert {"password", "old_password", "new_password1"} <= secret
    targets = {name for channel in CHANNELS.values() for name in channel.fields(None)} - {
        "recipients",
        "types",
        "repositories",
    }
    assert secret | targets <= set(kept_forms.NEVER_KEPT)


@pytest.mark.parametrize("change", ["elsewhere", "forged", "old"])
def test_a_form_is_kept_for_its_address_for_ten_minutes_and_signed(console, owner, monkeypatch, change):
    browser, path = console(None), f"{DEMO}repositories/new"
    browser.post(path, {"name": "tools"})
    cookie = browser.cookies[kept_forms.COOKIE]
    assert (cookie["path"], cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (path, True, "Lax", 600)
    if change == "forged":
        browser.cookies[kept_forms.COOKIE] = f"x{cookie.value}"
    elif change == "old":
        now = timezone.now().timestamp()
        monkeypatch.setattr(kept_forms.signing.time, "time", lambda: now + 601)
    elif change == "elsewhere":
        path = f"{path}?other=1"
    browser.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    page = see(browser, path)
    assert SEEN not in page.text
    assert page.form("name").shown["name"] == ""


def test_a_form_that_does_not_fit_in_a_cookie_is_not_kept(console, owner):
    browser = console(None)
    text = "".join(chr(0xAC00 + number * 7919 % 11_000) for number in range(4_000))
    answer = browser.post(f"{DEMO}settings", {"description": text})
    assert answer.url == f"/sign-in?next={DEMO}settings"
    assert len(kept(browser)) < kept_forms.MAX_COOKIE
