"""Signing in and out, passwords by mail, sessions, profile."""

from __future__ import annotations

import re
import smtplib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.tokens import default_token_generator
from django.core import mail
from django.db import OperationalError
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.http import urlsafe_base64_encode

from accounts import mails, passwords, tasks
from accounts.models import AccessKey, ConsoleSession, SignInFailure, User
from console.views.accounts.password import LINKS_ALLOWED
from tests.support import PASSWORD
from tests.support.pages import see
from tests.support.personas import make_key

if TYPE_CHECKING:
    from django.test import Client

NEW = "a rather long new password"


@pytest.fixture
def member(world) -> User:
    """Mina, a member with a password."""
    user = world.member.user
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Run tasks when they are queued."""
    monkeypatch.setattr(tasks.send_password_link, "delay", tasks.send_password_link)


def sign_in(client: Client, email: str, password: str, **more: str):
    return client.post("/sign-in", {"email": email, "password": password, **more})


def test_right_password_opens_the_console(console, member):
    browser = console(None)
    answer = sign_in(browser, "MEMBER@acme.test", PASSWORD, next="/projects/demo/usage")
    assert (answer.status_code, answer.url) == (302, "/projects/demo/usage")
    assert browser.get("/projects/demo/usage").status_code == 200
    session = ConsoleSession.objects.get(user=member)
    assert session.address == "127.0.0.1"


@pytest.mark.parametrize(
    "wanted", ["https://evil.test/", "//evil.test", "javascript:alert(1)", "/\\evil.test", "", "foo", "console:home"]
)
def test_sign_in_never_redirects_to_another_host(console, member, wanted):
    browser = console(None)
    assert sign_in(browser, member.email, PASSWORD, next=wanted).url == "/"
    assert browser.get("/sign-in", {"next": wanted}).url == "/"


@pytest.mark.parametrize(("email", "password"), [("member@acme.test", "wrong"), ("nobody@acme.test", PASSWORD)])
def test_wrong_credentials_get_one_message_and_keep_the_typed_address(console, member, email, password):
    answer = sign_in(console(None), email, password)
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "Wrong e-mail address or password." in page
    assert email in page
    assert password not in page or password == PASSWORD
    assert PASSWORD not in page


def test_repeated_guesses_are_refused(console, member):
    browser = console(None)
    for _ in range(10):
        sign_in(browser, member.email, "wrong")
    answer = sign_in(browser, member.email, PASSWORD)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 301
    assert "Try again in" in answer.content.decode()
    assert SignInFailure.objects.count() == 10


def test_inactive_user_cannot_sign_in_and_loses_the_session(console, member):
    browser = console(None)
    sign_in(browser, member.email, PASSWORD)
    User.objects.filter(pk=member.pk).update(is_active=False)
    assert browser.get("/profile").status_code == 302
    assert "Wrong" in sign_in(console(None), member.email, PASSWORD).content.decode()


def test_signing_out_needs_a_post(console, member):
    browser = console("member")
    browser.get("/sign-out")
    assert browser.get("/profile").status_code == 200
    browser.post("/sign-out")
    assert browser.get("/profile").status_code == 302


# ── New passwords ────────────────────────────────────────────────────────────────────────────────────────────────────
def link_in_the_mail() -> str:
    (letter,) = mail.outbox
    found = re.search(r"http://localhost:8080(/password/new/\S+)", letter.body)
    assert found
    assert found[1] in letter.alternatives[0][0]
    return found[1]


def test_password_link_sets_a_new_password_once(console, member):
    browser = console(None)
    answer = browser.post("/password/forgotten", {"email": "Member@acme.test"})
    assert "on its way" in answer.content.decode()
    link = link_in_the_mail()
    page = browser.get(link, follow=True)
    assert (page.status_code, page.redirect_chain) == (200, [("/password/new", 302)])
    assert member.email in page.content.decode()
    weak = browser.post("/password/new", {"new_password1": "password", "new_password2": "password"})
    assert "too common" in weak.content.decode()
    assert browser.post("/password/new", {"new_password1": NEW, "new_password2": NEW}).url == "/"
    assert browser.get("/password/new").status_code == 410
    assert browser.get("/profile").status_code == 200
    assert console(None).get(link).status_code == 410
    assert sign_in(console(None), member.email, NEW).status_code == 302


def test_password_page_does_not_reveal_accounts(console, member):
    answers = [
        re.sub(
            r"[\w-]+@acme.test|value=\"\w{60,}\"",
            "",
            console(None).post("/password/forgotten", {"email": email}).content.decode(),
        )
        for email in ("member@acme.test", "nobody-here@acme.test")
    ]
    assert answers[0] == answers[1]
    assert len(mail.outbox) == 1


def test_password_link_expires_after_a_day_and_is_sent_once_a_minute(console, member, settings):
    console(None).post("/password/forgotten", {"email": member.email})
    console(None).post("/password/forgotten", {"email": member.email})
    link = link_in_the_mail()
    settings.PASSWORD_RESET_TIMEOUT = -1
    assert console(None).get(link).status_code == 410


@pytest.mark.parametrize("uid", ["MQ", "x", "-", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5"])
def test_forged_password_links_are_refused(console, world, uid):
    assert console(None).get(f"/password/new/{uid}/abc-def").status_code == 410


def test_changing_the_password_ends_other_sessions(console, member):
    here, there = console(None), console(None)
    for browser in (here, there):
        sign_in(browser, member.email, PASSWORD)
    wrong = here.post("/profile/password", {"old_password": "x", "new_password1": NEW, "new_password2": NEW})
    assert "not your current password" in wrong.content.decode()
    here.post("/profile/password", {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW})
    assert here.get("/profile").status_code == 200
    assert there.get("/profile").status_code == 302


# ── Sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_sessions_are_listed_and_ended(console, member):
    here, there, third = console(None), console(None), console(None)
    for number, browser in enumerate((here, there, third)):
        browser.post(
            "/sign-in", {"email": member.email, "password": PASSWORD}, headers={"User-Agent": f"browser {number}"}
        )
    page = here.get("/profile/sessions").content.decode()
    assert all(f"browser {number}" in page for number in range(3))
    assert not any(session.session_key in page for session in ConsoleSession.objects.all())
    (name,) = re.findall(r"browser 1.*?name=\"session\" value=\"(\w+)\"", page, re.DOTALL)
    here.post("/profile/sessions", {"session": name})
    assert [browser.get("/profile").status_code for browser in (here, there, third)] == [200, 302, 200]
    here.post("/profile/sessions", {"session": "others"})
    assert [browser.get("/profile").status_code for browser in (here, there, third)] == [200, 302, 302]


def test_users_cannot_end_sessions_of_others(console, member, world):
    sign_in(console(None), member.email, PASSWORD)
    other = console("admin")
    for session in ConsoleSession.objects.filter(user=member):
        from accounts.sessions import public_id

        other.post("/profile/sessions", {"session": public_id(session.pk)})
        other.post("/profile/sessions", {"session": session.pk})
    assert ConsoleSession.objects.filter(user=member).count() == 1


def test_last_use_of_a_session_is_written_at_intervals(console, member):
    browser = console(None)
    sign_in(browser, member.email, PASSWORD)
    long_ago = timezone.now() - timedelta(hours=1)
    ConsoleSession.objects.update(seen_at=long_ago)
    browser.get("/profile")
    seen_at = ConsoleSession.objects.get(user=member).seen_at
    assert seen_at > long_ago
    browser.get("/profile")
    assert ConsoleSession.objects.get(user=member).seen_at == seen_at


# ── Profile ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_profile_saves_name_language_time_zone_and_theme(console, world):
    browser = console("member")
    browser.post("/profile", {"name": "Mina", "language": "ko", "time_zone": "Asia/Seoul"})
    page = browser.get("/profile")
    assert page.headers["Content-Language"] == "ko"
    assert '<html lang="ko"' in page.content.decode()
    browser.post("/appearance", {"theme": "dark"})
    assert 'data-theme="dark"' in browser.get("/profile").content.decode()
    browser.post("/appearance", {"theme": "pink", "language": "xx"})
    user = User.objects.get(pk=world.member.user.pk)
    assert (user.theme, user.language, user.time_zone, user.name) == ("dark", "ko", "Asia/Seoul", "Mina")


def test_times_use_the_zone_of_the_profile_or_of_the_browser(console, world):
    browser = console("member")
    assert "Times are in the time zone UTC." in see(browser, "/profile").text
    browser.cookies["kcr_zone"] = "Asia/Seoul"
    assert "Times are in the time zone Asia/Seoul." in see(browser, "/profile").text
    see(browser, "/profile").form("time_zone").submit(browser, time_zone="new york")
    assert "Times are in the time zone America/New_York." in see(browser, "/profile").text
    user = User.objects.get(pk=world.member.user.pk)
    assert (user.time_zone, user.browser_time_zone) == ("America/New_York", "Asia/Seoul")


@pytest.mark.parametrize("forged", ["../../etc/passwd", "Mars/Olympus", "\u00e9", "x" * 4000, ""])
def test_a_forged_zone_of_a_browser_is_ignored(console, world, forged):
    browser = console("member")
    browser.cookies["kcr_zone"] = forged
    assert "Times are in the time zone UTC." in see(browser, "/profile").text
    assert User.objects.get(pk=world.member.user.pk).browser_time_zone == ""


@pytest.mark.parametrize(
    ("typed", "zone"), [("Seoul", "Asia/Seoul"), ("asia/seoul", "Asia/Seoul"), ("utc", "UTC"), ("", "")]
)
def test_a_time_zone_is_found_by_its_place(console, world, typed, zone):
    browser = console("member")
    assert see(browser, "/profile").form("time_zone").submit(browser, time_zone=typed).status_code == 302
    assert User.objects.get(pk=world.member.user.pk).time_zone == zone


def test_an_unknown_time_zone_is_refused_with_an_example(console, world):
    browser = console("member")
    answer = see(browser, "/profile").form("time_zone").submit(browser, time_zone="Atlantis")
    assert "There is no time zone “Atlantis”. Type a name such as Asia/Seoul" in answer.content.decode()


def test_a_mail_about_a_key_names_the_time_zone(console, world):
    browser = console("member")
    browser.cookies["kcr_zone"] = "Asia/Seoul"
    browser.get("/profile")
    AccessKey.objects.filter(user=world.member.user).update(expires_at=timezone.now() + timedelta(days=3))
    assert tasks.warn_of_expiry() == 1
    assert "KST. After that" in mail.outbox[0].body


def test_sign_in_page_uses_the_language_of_the_browser(console, db):
    browser = console(None)
    assert browser.get("/sign-in", headers={"Accept-Language": "ko"}).headers["Content-Language"] == "ko"
    browser.post("/language", {"language": "ko"})
    assert browser.get("/sign-in").headers["Content-Language"] == "ko"
    browser.post("/language", {"language": "../x"})
    assert browser.get("/sign-in").headers["Content-Language"] == "ko"


def test_requests_for_password_links_are_limited(console, world, monkeypatch):
    queued = []
    monkeypatch.setattr(tasks.send_password_link, "delay", lambda *given: queued.append(given))
    browser = console(None)
    for _ in range(15):
        page = browser.post("/password/forgotten", {"email": "nobody@acme.test"})
    assert len(queued) == LINKS_ALLOWED
    assert "Too many links requested" in page.content.decode()
    assert (page.status_code, page.headers["Retry-After"]) == (429, "300")
    browser.post("/password/forgotten", {"email": "nobody@acme.test"}, REMOTE_ADDR="10.9.9.9")
    assert len(queued) == LINKS_ALLOWED + 1


def test_requests_for_password_links_are_counted_by_network(console, world, monkeypatch):
    queued = []
    monkeypatch.setattr(tasks.send_password_link, "delay", lambda *given: queued.append(given))
    for number in range(15):
        address = f"2001:db8:1:1::{number:x}"
        console(None).post("/password/forgotten", {"email": "nobody@acme.test"}, REMOTE_ADDR=address)
    assert len(queued) == LINKS_ALLOWED


def test_simultaneous_password_checks_are_limited(console, member, monkeypatch):
    """Each check takes 100 MB for a moment, so further attempts are asked to try again."""
    monkeypatch.setattr(passwords, "_places", passwords.Places(1, 1))
    monkeypatch.setattr(passwords, "PATIENCE", 0.01)
    signed_in = console("member")
    link = (
        f"/password/new/{urlsafe_base64_encode(str(member.pk).encode())}/{default_token_generator.make_token(member)}"
    )
    new = {"new_password1": NEW, "new_password2": NEW}
    reader = console(None)
    reader.get(link)
    with passwords._places.take("somebody else", is_stranger=False):
        for answer in (
            sign_in(console(None), member.email, PASSWORD),
            signed_in.post("/profile/password", {"old_password": PASSWORD, **new}),
            reader.post("/password/new", new),
        ):
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
            assert "Many people are signing in at the moment" in answer.content.decode()
            assert "wrong passwords" not in answer.content.decode()
    assert reader.post("/password/new", new).status_code == 302
    assert sign_in(console(None), member.email, NEW).status_code == 302


def test_browser_with_an_earlier_sign_in_is_not_blocked(console, member):
    owner, thief = console(None), console(None)
    sign_in(owner, member.email, PASSWORD)
    owner.post("/sign-out")
    cookie = owner.cookies["kcr_browser"]
    assert (cookie["httponly"], cookie["samesite"], bool(cookie["max-age"])) == (True, "Lax", True)
    for number in range(11):
        answer = thief.post("/sign-in", {"email": member.email, "password": "x"}, REMOTE_ADDR=f"10.0.0.{number}")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 301
    assert "Too many wrong passwords for this account" in answer.content.decode()
    right = thief.post("/sign-in", {"email": member.email, "password": PASSWORD}, REMOTE_ADDR="10.0.0.99")
    assert right.status_code == 429
    assert sign_in(owner, member.email, PASSWORD).status_code == 302


def test_password_link_works_for_an_attacked_account(console, member):
    for number in range(11):
        console(None).post("/sign-in", {"email": member.email, "password": "x"}, REMOTE_ADDR=f"10.0.0.{number}")
    browser = console(None)
    browser.post("/password/forgotten", {"email": member.email})
    browser.get(link_in_the_mail())
    assert browser.post("/password/new", {"new_password1": NEW, "new_password2": NEW}).status_code == 302
    assert browser.get("/profile").status_code == 200
    browser.post("/sign-out")
    assert sign_in(browser, member.email, NEW).status_code == 302


def test_guesses_of_the_current_password_are_limited(console, member):
    browser = console(None)
    sign_in(browser, member.email, PASSWORD)
    form = {"old_password": "x", "new_password1": NEW, "new_password2": NEW}
    statuses = [browser.post("/profile/password", form).status_code for _ in range(12)]
    assert statuses == [200] * 10 + [429] * 2
    answer = browser.post("/profile/password", form | {"old_password": PASSWORD})
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 301
    member.refresh_from_db()
    assert member.check_password(PASSWORD)


def test_a_browser_stays_known_when_it_changes_the_password(console, member):
    browser = console(None)
    sign_in(browser, member.email, PASSWORD)
    browser.post("/profile/password", {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW})
    browser.post("/sign-out")
    for number in range(11):
        console(None).post("/sign-in", {"email": member.email, "password": "x"}, REMOTE_ADDR=f"10.0.0.{number}")
    assert sign_in(browser, member.email, NEW).status_code == 302


# ── Mails about keys ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_expiry_of_a_key_is_announced_seven_days_and_one_day_before(world):
    key = make_key(world.member.user, "ci", expires_at=timezone.now() + timedelta(days=8)).key

    def in_days(days: float) -> int:
        AccessKey.objects.filter(pk=key.pk).update(expires_at=timezone.now() + timedelta(days=days))
        return tasks.warn_of_expiry()

    assert [in_days(days) for days in (8, 6.9, 5, 0.9, 0.5, -1)] == [0, 1, 0, 1, 0, 0]
    assert [letter.to for letter in mail.outbox] == [[world.member.user.email]] * 2
    assert key.identifier in mail.outbox[0].body
    assert "http://localhost:8080/profile/keys/new" in mail.outbox[0].alternatives[0][0]


def test_failed_expiry_mail_does_not_stop_the_others(world, monkeypatch):
    """One address is refused, and one name would break the header."""
    soon = timezone.now() + timedelta(days=3)
    refused = make_key(world.member.user, "ci", expires_at=soon).key
    make_key(world.admin.user, "two\nlines", expires_at=soon)
    send = mails.send_expiry_warning

    def refusing(key, person):
        if key == refused:
            raise smtplib.SMTPRecipientsRefused({key.user.email: (550, b"nobody")})
        send(key, person)

    monkeypatch.setattr(mails, "send_expiry_warning", refusing)
    assert tasks.warn_of_expiry() == 1
    assert [letter.to for letter in mail.outbox] == [[world.admin.user.email]]
    monkeypatch.undo()
    assert tasks.warn_of_expiry() == 1, "it is tried again"
    assert mail.outbox[1].to == [world.member.user.email]
    assert tasks.warn_of_expiry() == 0


@pytest.mark.parametrize("is_signed_in", [False, True])
def test_unwritable_session_is_answered_with_503_and_retry_after(console, member, monkeypatch, is_signed_in):
    """This happens on a full disk. Pages are still shown."""
    browser = console("member" if is_signed_in else None, raise_request_exception=False)
    ConsoleSession.objects.update(seen_at=timezone.now() - timedelta(hours=1))

    def fails(*arguments, **options):
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(ConsoleSession, "save", fails)
    monkeypatch.setattr(QuerySet, "update", fails)
    if is_signed_in:
        assert browser.get("/profile").status_code == 200
        answer = browser.post("/profile/sessions", {"session": "none"})  # says that none has been ended
    else:
        answer = browser.post("/sign-in", {"email": member.email, "password": PASSWORD})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
