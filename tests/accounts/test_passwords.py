"""Console passwords: limits of attempts by network, account and browser, and of simultaneous checks."""

from __future__ import annotations

import ast
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.core import signing
from django.utils import timezone

from accounts import audit, guesses, keys, passwords
from accounts.actors import Actor
from accounts.models import AuditEvent, SignInFailure, User
from registry import settings as settings_module
from tests.support import PASSWORD
from tests.support.threads import Overtaking

NEW = "a rather long new password"
SOURCE = Path(settings_module.__file__).resolve().parents[1]


def authenticate(identifier: str, secret: str, address: str = "10.0.0.9"):
    return keys.authenticate(identifier, secret, address=address, client="test/1").key


def sign_in(email: str, password: str, address: str = "10.0.0.9", browser: str = "") -> User:
    return passwords.authenticate(email, password, address=address, browser=browser)


def outcome(*given: str, **more: str) -> str:
    try:
        sign_in(*given, **more)
    except (guesses.WrongCredentials, guesses.Slowed) as refused:
        return type(refused).__name__
    return "right"


@pytest.fixture
def with_password(world) -> User:
    user = world.member.user
    user.set_password(PASSWORD)
    user.save()
    return user


def test_the_console_password_opens_the_console(with_password):
    for email in ("member@acme.test", "Member@ACME.test"):
        assert passwords.authenticate(email, PASSWORD, address="10.0.0.9") == with_password


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("member@acme.test", PASSWORD + "x"),
        ("member@acme.test", ""),
        ("nobody@acme.test", PASSWORD),
        ("viewer@acme.test", ""),  # has no password
        ("viewer@acme.test", "!"),
        ("", ""),
        ("x" * 1_000 + "@acme.test", PASSWORD),
    ],
)
def test_wrong_password_does_not_tell_whether_the_account_exists(with_password, email, password):
    with pytest.raises(guesses.WrongCredentials, match="wrong e-mail address or password"):
        passwords.authenticate(email, password, address="10.0.0.9")


def test_password_of_an_inactive_user_is_refused(with_password):
    User.objects.filter(pk=with_password.pk).update(is_active=False)
    with pytest.raises(guesses.WrongCredentials, match="wrong e-mail address or password"):
        passwords.authenticate(with_password.email, PASSWORD, address="10.0.0.9")


def test_long_passwords_are_compared_in_full(world):
    """CVE-2024-9683: a password was cut at 72 bytes."""
    user = world.member.user
    user.set_password("p" * 100 + "a")
    user.save()
    with pytest.raises(guesses.WrongCredentials):
        passwords.authenticate(user.email, "p" * 100 + "b", address="10.0.0.9")
    assert passwords.authenticate(user.email, "p" * 100 + "a", address="10.0.0.9") == user


def test_wrong_keys_do_not_block_passwords_of_their_network(with_password):
    for number in range(12):
        with pytest.raises((guesses.WrongCredentials, guesses.TooManyFailures)):
            authenticate(f"KCRK{number}", "wrong")
    assert outcome("nobody@acme.test", "wrong") == "WrongCredentials"
    assert outcome(with_password.email, PASSWORD) == "right"


def test_wrong_passwords_block_passwords_but_no_keys_of_their_network(with_password, world):
    for number in range(10):
        assert outcome(f"nobody{number}@acme.test", "wrong") == "WrongCredentials"
    assert outcome(with_password.email, PASSWORD) == "TooManyFailures"
    assert authenticate(world.member.key.identifier, world.member.secret) == world.member.key
    assert outcome(with_password.email, PASSWORD, "10.0.0.8") == "right"


def test_wrong_passwords_at_the_registry_count_for_the_network(with_password):
    for number in range(10):
        with pytest.raises(guesses.WrongCredentials):
            authenticate(f"nobody{number}@acme.test", "wrong")
    assert outcome(with_password.email, PASSWORD) == "TooManyFailures"


def test_right_console_password_at_the_registry_is_not_counted_as_a_guess(with_password):
    """A CI job uses the password all night. Users can still sign in from its network."""
    for _ in range(12):
        with pytest.raises(guesses.WrongCredentials, match="console password is not accepted"):
            authenticate(with_password.email, PASSWORD)
    assert not SignInFailure.objects.exists()


def test_passwords_are_hashed_with_argon2(with_password):
    assert with_password.password.startswith("argon2$argon2id$")


# ── Networks ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("address", "network", "block"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("", "unknown", "unknown"),
        ("unix:/run/kcr", "unix:/run/kcr", "unix:/run/kcr"),
    ],
)
def test_addresses_are_counted_by_network(db, address, network, block):
    attempt = guesses.begin("stranger@acme.test", address)
    assert (attempt.address, attempt.block) == (network, block)


def test_a_network_of_one_customer_is_one_address(with_password):
    said = [outcome(f"nobody{n}@acme.test", "wrong", f"2001:db8:1:1::{n:x}") for n in range(12)]
    assert said == ["WrongCredentials"] * 10 + ["TooManyFailures"] * 2
    assert outcome(with_password.email, PASSWORD, "2001:db8:1:1:ffff::1") == "TooManyFailures"
    assert outcome(with_password.email, PASSWORD, "2001:db8:1:2::1") == "right"


def test_keys_are_counted_by_network_too(world):
    for number in range(10):
        with pytest.raises(guesses.WrongCredentials):
            authenticate(f"KCRK{number}", "wrong", f"2001:db8:1:1::{number:x}")
    for address in ("2001:db8:1:1:ffff::1", "2001:db8:1:1::1"):
        with pytest.raises(guesses.TooManyFailures):
            authenticate("KCRKX", "wrong", address)
        assert authenticate(world.member.key.identifier, world.member.secret, address) == world.member.key
    with pytest.raises(guesses.WrongCredentials):
        authenticate("KCRKX", "wrong", "2001:db8:1:2::1")


def test_a_block_of_many_networks_has_a_limit_of_its_own(with_password, world):
    for number in range(guesses.ALLOWED_IN_BLOCK):
        guesses.begin(f"nobody{number}", f"2001:db8:1:{number:x}::1")
        guesses.begin(f"KCRK{number}", f"2001:db8:1:{number:x}::1", of_key=True)
    assert outcome(with_password.email, PASSWORD, "2001:db8:1:ffff::1") == "TooManyFailures"
    with pytest.raises(guesses.TooManyFailures):
        authenticate("KCRKX", "wrong", "2001:db8:1:fffe::1")
    assert outcome(with_password.email, PASSWORD, "2001:db8:2::1") == "right"


# ── Accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def guess_from_everywhere(email: str, times: int = 12) -> list[str]:
    return [outcome(email, "wrong", f"10.1.0.{number}") for number in range(times)]


def test_attacked_account_accepts_known_browsers_only(with_password, world):
    known = passwords.remember(with_password, "")
    email = with_password.email
    assert guess_from_everywhere(email) == ["WrongCredentials"] * 10 + ["TooManyForAccount"] * 2
    assert outcome(email, PASSWORD, "10.2.0.1") == "TooManyForAccount"
    assert outcome(email.upper(), PASSWORD, "10.2.0.2") == "TooManyForAccount"
    for browser in ("x", known[:-1], passwords.remember(world.admin.user, ""), signing.dumps([], salt="x")):
        assert outcome(email, PASSWORD, "10.2.0.3", browser) == "TooManyForAccount"
    assert outcome(email, PASSWORD, "10.2.0.3", known) == "right"
    assert outcome(email, PASSWORD, "10.1.0.1", known) == "right"


def test_an_unknown_account_is_slowed_in_the_same_way(world):
    assert guess_from_everywhere("nobody@acme.test") == ["WrongCredentials"] * 10 + ["TooManyForAccount"] * 2


def test_guesses_at_the_registry_count_for_the_account(with_password):
    """docker login with an e-mail address checks the password, to answer that a key is needed."""
    for number in range(10):
        with pytest.raises(guesses.WrongCredentials, match="unknown access key"):
            authenticate(with_password.email, "wrong", f"10.1.0.{number}")
    for secret in (PASSWORD, "wrong"):
        with pytest.raises(guesses.TooManyFailures):
            authenticate(with_password.email, secret, "10.3.0.1")
    assert outcome(with_password.email, PASSWORD, "10.2.0.1") == "TooManyForAccount"


def test_known_browser_has_ten_guesses_and_does_not_block_other_browsers(with_password):
    one, other = passwords.remember(with_password, ""), passwords.remember(with_password, "")
    said = [outcome(with_password.email, "wrong", "10.0.0.9", one) for _ in range(12)]
    assert said == ["WrongCredentials"] * 10 + ["TooManyFailures"] * 2
    assert outcome(with_password.email, PASSWORD, "10.0.0.9", one) == "TooManyFailures"
    assert outcome(with_password.email, PASSWORD, "10.0.0.9", other) == "right"
    assert outcome(with_password.email, PASSWORD, "10.0.0.9") == "right"


def test_password_change_makes_browsers_unknown(with_password):
    known = passwords.remember(with_password, "")
    passwords.set_new(with_password, NEW)
    guess_from_everywhere(with_password.email)
    assert outcome(with_password.email, NEW, "10.2.0.1", known) == "TooManyForAccount"
    assert outcome(with_password.email, NEW, "10.2.0.1", passwords.remember(with_password, known)) == "right"


def test_browser_remembers_its_last_users(with_password, world):
    people = [world.people[name].user for name in ("admin", "owner", "reader", "viewer", "pusher")]
    browser = passwords.remember(with_password, "")
    for person in people[:4]:
        browser = passwords.remember(person, browser)
    guess_from_everywhere(with_password.email)
    assert outcome(with_password.email, PASSWORD, "10.2.0.1", browser) == "right"
    assert outcome(with_password.email, PASSWORD, "10.2.0.1", passwords.remember(people[4], browser)) != "right"
    assert len(browser) < 1_000


def test_browsers_stay_known_after_a_new_installation_secret(with_password, settings):
    known = passwords.remember(with_password, "")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = (
        "another secret key of 40 characters, 9876",
        [settings.SECRET_KEY],
    )
    guess_from_everywhere(with_password.email)
    assert outcome(with_password.email, PASSWORD, "10.2.0.1", known) == "right"


# ── Networks from which an account signs in ──────────────────────────────────────────────────────────────────────────
def sign_in_from(user: User, address: str, days: int = 1) -> None:
    audit.record(Actor(user_id=user.pk, label=user.email, address=address), audit.Action.SIGN_IN, person=user)
    signed_in = AuditEvent.objects.filter(person=user, address=address)
    signed_in.update(at=timezone.now() - timedelta(days=days))


def fail_from(address: str, times: int = 10) -> None:
    for number in range(times):
        guesses.begin(f"nobody{number}@acme.test", address)


def test_account_may_sign_in_from_a_network_of_a_recent_sign_in(with_password):
    """Other users behind the address typed ten wrong passwords."""
    sign_in_from(with_password, "10.0.0.9")
    sign_in_from(with_password, "2001:db8:1:1::7")
    for address, expected in (
        ("10.0.0.9", "right"),
        ("2001:db8:1:1::8", "right"),
        ("10.0.0.8", "TooManyFailures"),
        ("2001:db8:1:2::7", "TooManyFailures"),
    ):
        fail_from(address)
        assert outcome(with_password.email, PASSWORD, address) == expected


def test_account_is_blocked_in_a_network_without_a_recent_sign_in(with_password, world):
    sign_in_from(with_password, "10.0.0.9", days=31)
    sign_in_from(world.admin.user, "10.0.0.9")
    audit.record_failed_sign_in(with_password.email, address="10.0.0.9", client="")
    fail_from("10.0.0.9")
    assert outcome(with_password.email, PASSWORD) == "TooManyFailures"


def test_refusal_does_not_tell_which_accounts_sign_in_from_the_network(with_password):
    sign_in_from(with_password, "10.0.0.9")
    fail_from("10.0.0.9")
    said = {outcome(email, "wrong") for email in (with_password.email, "nobody@acme.test") for _ in range(12)}
    assert said == {"TooManyFailures"}


def test_account_has_ten_guesses_in_a_network_of_a_recent_sign_in(with_password):
    sign_in_from(with_password, "10.0.0.9")
    fail_from("10.0.0.9")
    for _ in range(10):
        outcome(with_password.email, "wrong")
    assert outcome(with_password.email, PASSWORD) == "TooManyFailures"


def test_network_limit_applies_to_accounts_with_a_recent_sign_in(with_password):
    sign_in_from(with_password, "10.0.0.9")
    for number in range(guesses.ALLOWED_AT_HOME - 1):
        guesses.begin(f"nobody{number}@acme.test", "10.0.0.9", is_at_home=True)
    assert outcome(with_password.email, PASSWORD) == "right"
    guesses.begin("another@acme.test", "10.0.0.9", is_at_home=True)
    assert outcome(with_password.email, PASSWORD) == "TooManyFailures"


def test_wrong_current_passwords_in_the_profile_are_counted(with_password):
    for _ in range(10):
        with pytest.raises(guesses.WrongCredentials):
            passwords.change(with_password, "wrong", NEW)
    with pytest.raises(guesses.TooManyFailures):
        passwords.change(with_password, PASSWORD, NEW)
    with_password.refresh_from_db()
    assert with_password.check_password(PASSWORD)
    assert outcome(with_password.email, PASSWORD) == "right", "only that form waits"


def test_a_right_password_leaves_no_failure(with_password):
    sign_in(with_password.email, PASSWORD)
    passwords.change(with_password, PASSWORD, NEW)
    assert not SignInFailure.objects.exists()


# ── Simultaneous attempts ────────────────────────────────────────────────────────────────────────────────────────────
def test_burst_of_attempts_checks_no_more_passwords_than_the_limit(with_password, monkeypatch):
    """Each attempt begins while all earlier ones are still being checked."""
    looked_at, said = [], []

    def look(email: str, *given: object, **more: object) -> bool:
        looked_at.append(email)
        if len(said) < 30:
            said.append(outcome(f"nobody{len(said)}@acme.test", "wrong"))
        return False

    monkeypatch.setattr(passwords, "_is_right", look)
    assert outcome(with_password.email, "wrong") == "WrongCredentials"
    assert len(looked_at) == guesses.ALLOWED
    assert "TooManyFailures" in said
    assert SignInFailure.objects.count() == guesses.ALLOWED, "what was not looked at is not counted"


def test_simultaneous_attempts_do_not_exceed_the_limit(with_password, monkeypatch):
    """Ten other attempts have counted and not yet written when this one counts."""
    count = guesses._count

    def count_after_others(account: str, address: str | None, of_key: bool) -> SignInFailure:
        for number in range(guesses.ALLOWED):
            count(f"other{number}", address, of_key)
        return count(account, address, of_key)

    monkeypatch.setattr(guesses, "_count", count_after_others)
    assert outcome(with_password.email, PASSWORD) == "TooManyFailures"
    assert SignInFailure.objects.count() == guesses.ALLOWED


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(passwords, "PATIENCE", 0.01)
    places = passwords.Places(passwords.PLACES, passwords.PLACES_FOR_STRANGERS)
    monkeypatch.setattr(passwords, "_places", places)


def test_unknown_browsers_leave_a_place_to_known_browsers(with_password, world, hurried):
    known, places = passwords.remember(with_password, ""), passwords._places
    with places.take("a", is_stranger=True), places.take("b", is_stranger=True):
        assert outcome(with_password.email, PASSWORD) == "Busy"
        assert outcome(with_password.email, PASSWORD, browser=known) == "right"
        passwords.change(with_password, PASSWORD, NEW)
        passwords.set_new(with_password, PASSWORD)
    assert outcome(with_password.email, PASSWORD) == "right"
    assert not SignInFailure.objects.exists(), "what was not looked at is not counted"


def test_every_password_check_takes_a_place(with_password, hurried):
    """Each check takes 100 MB for a moment."""
    places, email = passwords._places, with_password.email
    known = passwords.remember(with_password, "")
    with places.take("a", is_stranger=False), places.take("b", is_stranger=False), places.take("c", is_stranger=False):
        assert [outcome(email, PASSWORD), outcome(email, PASSWORD, browser=known)] == ["Busy", "Busy"]
        for act in (
            lambda: passwords.change(with_password, PASSWORD, NEW),
            lambda: passwords.set_new(with_password, NEW),
        ):
            with pytest.raises(passwords.Busy) as refused:
                act()
            assert 1 <= refused.value.seconds <= 30
        with pytest.raises(guesses.WrongCredentials, match="unknown access key"):
            authenticate(email, PASSWORD)
    assert SignInFailure.objects.count() == 1
    with_password.refresh_from_db()
    assert with_password.check_password(PASSWORD)


def test_one_account_takes_one_place(with_password, hurried):
    """A signed-in person with many requests leaves the other places to others."""
    with passwords._places.take(with_password.email, is_stranger=False):
        with pytest.raises(passwords.Busy):
            passwords.change(with_password, PASSWORD, NEW)
        assert outcome("nobody@acme.test", "wrong") == "WrongCredentials"


def test_last_place_is_taken_by_one_of_two_threads(monkeypatch):
    monkeypatch.setattr(passwords, "PATIENCE", 0.01)
    overtaking, refused = Overtaking(), threading.Event()

    class Places(passwords.Places):
        def _is_free(self, account: str, is_stranger: bool) -> bool:
            is_free = super()._is_free(account, is_stranger)
            overtaking.pause()
            return is_free

    places = Places(1, 1)
    places._changed = threading.Condition(overtaking)

    def hold() -> None:
        with places.take("a", is_stranger=False):
            refused.wait(60)

    def come() -> None:
        try:
            with pytest.raises(passwords.Busy), places.take("b", is_stranger=False):
                pass
        finally:
            refused.set()

    overtaking.run(hold, come)


def test_waiting_attempt_gets_the_freed_place(with_password, monkeypatch):
    places = passwords.Places(1, 1)
    monkeypatch.setattr(passwords, "_places", places)
    order: list[str] = []

    def wait() -> None:
        with places.take("b", is_stranger=True):
            order.append("second")

    with places.take("a", is_stranger=True):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.05)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


def test_only_one_module_checks_passwords():
    """Only that module and the user manager set passwords."""
    found = set()
    for folder in ("accounts", "console", "registry", "scanning"):
        for path in (SOURCE / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                called = node.func if isinstance(node, ast.Call) else None
                name = getattr(called, "attr", getattr(called, "id", ""))
                if name in {"check_password", "acheck_password", "make_password", "set_password", "authenticate"}:
                    found.add((path.relative_to(SOURCE).as_posix(), name))
    assert found == {
        *(("accounts/passwords.py", name) for name in ("check_password", "make_password", "set_password")),
        ("accounts/models.py", "set_password"),
        ("console/views/accounts/sign_in.py", "authenticate"),  # of accounts.passwords
        ("registry/v2/authentication.py", "authenticate"),  # of accounts.keys
    }
