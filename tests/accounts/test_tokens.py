"""Tokens and signing keys. Permissions of tokens and forged tokens: tests/registry/v2/test_token.py."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from django.db import OperationalError
from django.utils import timezone
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jwt.utils import base64url_encode

from accounts import keys, tokens
from accounts.actors import ANONYMOUS, SYSTEM, Actor
from accounts.models import AccessKey, RefreshToken, SigningKey
from accounts.tokens import Grant
from tests.support.personas import make_key
from tests.support.programs import wait_until

SERVICE = "registry.example.com"
GRANTS = [
    Grant("repository", "web/app", frozenset({"pull", "push"}), 7),
    Grant("repository", "web/other", frozenset({"delete"}), 7),
    Grant("repository", "later/app", frozenset({"pull"}), None),
    Grant("registry", "catalog", frozenset({"*"})),
]


@pytest.fixture
def signing(db) -> None:
    """One signing key exists."""
    SigningKey.objects.all().delete()
    tokens.forget_keys()
    tokens.rotate_signing_key()


def new_process() -> None:
    """Clear the cached keys, as in a new process."""
    tokens.forget_keys()


# ── Claims ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_token_carries_the_issued_claims(signing):
    actor = Actor(
        user_id=3,
        key_id=4,
        key_expires_at=5.5,
        label="mina@acme.test",
        actions=frozenset({"pull", "push"}),
        project_id=6,
        repositories="demo/web demo/team-*",
        networks="192.0.2.0/24",
        counts_pulls=False,
        is_system=False,
    )
    token = tokens.verify(tokens.issue(actor, SERVICE, GRANTS), SERVICE, address="192.0.2.1", client="docker/27")
    assert token.grants == tuple(GRANTS)
    assert token.actor == Actor(
        user_id=3,
        key_id=4,
        key_expires_at=5.5,
        label="mina@acme.test",
        actions=frozenset({"pull", "push"}),
        project_id=6,
        repositories="demo/web demo/team-*",
        networks="192.0.2.0/24",
        counts_pulls=False,
        address="192.0.2.1",
        client="docker/27",
        scope={7: frozenset({"pull", "push", "delete"})},
    )


def test_a_token_of_an_anonymous_client_is_anonymous(signing):
    token = tokens.verify(tokens.issue(ANONYMOUS, SERVICE, []), SERVICE)
    assert token.actor.is_anonymous
    assert token.actor.scope == {}


def test_no_token_is_issued_for_the_system(signing):
    with pytest.raises(AssertionError):
        tokens.issue(SYSTEM, SERVICE, [])


def test_token_allows_exactly_the_named_scopes(signing):
    token = tokens.verify(tokens.issue(ANONYMOUS, SERVICE, GRANTS), SERVICE)
    assert token.allows("repository", "web/app", "pull")
    assert token.allows("registry", "catalog", "*")
    for type_, name, action in (
        ("repository", "web/app", "delete"),
        ("repository", "web", "pull"),
        ("repository", "web/app/more", "pull"),
        ("repository", "WEB/app", "pull"),
        ("registry", "web/app", "pull"),
        ("registry", "catalog", "pull"),
        ("repository", "web/app", ""),
    ):
        assert not token.allows(type_, name, action)


def test_token_expires_after_fifteen_minutes(signing, monkeypatch):
    text = tokens.issue(ANONYMOUS, SERVICE, [])
    now = time.time()
    assert tokens.verify(text, SERVICE)
    monkeypatch.setattr(tokens.time, "time", lambda: now + tokens.LIFETIME.total_seconds() + 1)
    with pytest.raises(tokens.InvalidToken, match=r"not any more|expired"):
        tokens.verify(text, SERVICE)
    assert tokens.LIFETIME.total_seconds() == 15 * 60


def test_cached_token_is_refused_by_another_service(signing):
    text = tokens.issue(ANONYMOUS, SERVICE, [])
    assert tokens.verify(text, SERVICE)
    for service in ("another.example.com", "", SERVICE + ":443", SERVICE.upper()):
        with pytest.raises(tokens.InvalidToken):
            tokens.verify(text, service)


@hypothesis_settings(max_examples=150, deadline=None, database=None)
@given(data=st.data())
def test_changed_letter_of_a_token_is_refused(signing, data):
    text = tokens.issue(ANONYMOUS, SERVICE, GRANTS)
    place = data.draw(st.integers(0, len(text) - 2))  # the last letter holds bits that are not used
    letter = data.draw(st.sampled_from("ABCxyz019-_.= ~"))
    if text[place] != letter:
        with pytest.raises(tokens.InvalidToken):
            tokens.verify(text[:place] + letter + text[place + 1 :], SERVICE)


@hypothesis_settings(max_examples=150, deadline=None, database=None)
@example(text="M0")  # the number 3 in base 64
@example(text="e30")  # {}
@example(text="W10")  # []
@given(text=st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_random_text_is_not_accepted_as_a_token(signing, text):
    for candidate in (text, f"{text}.{text}", f"{text}.{text}.{text}"):
        with pytest.raises(tokens.InvalidToken):
            tokens.verify(candidate, SERVICE)


# ── Signing keys ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_first_token_creates_the_first_key(db):
    SigningKey.objects.all().delete()
    new_process()
    text = tokens.issue(ANONYMOUS, SERVICE, [])
    assert SigningKey.objects.count() == 1
    new_process()
    assert tokens.verify(text, SERVICE)
    tokens.issue(ANONYMOUS, SERVICE, [])
    assert SigningKey.objects.count() == 1


def test_the_private_half_is_encrypted_at_rest(signing):
    row = SigningKey.objects.get()
    assert "ENCRYPTED PRIVATE KEY" in row.private_key
    with pytest.raises(TypeError, match="encrypted"):
        serialization.load_pem_private_key(row.private_key.encode(), None)
    with pytest.raises(ValueError, match=r"(?i)password|decrypt"):
        serialization.load_pem_private_key(row.private_key.encode(), b"guess")
    assert "PRIVATE" not in row.public_key


def test_rotation_signs_with_a_new_key_and_honours_the_old_one(signing):
    before = tokens.issue(ANONYMOUS, SERVICE, [])
    assert tokens.rotate_signing_key()
    after = tokens.issue(ANONYMOUS, SERVICE, [])
    kids = [jwt.get_unverified_header(text)["kid"] for text in (before, after)]
    assert len(set(kids)) == 2
    assert kids == list(SigningKey.objects.order_by("pk").values_list("identifier", flat=True))
    new_process()
    for text in (before, after):
        assert tokens.verify(text, SERVICE)


def test_process_reads_a_key_created_by_another_process(signing):
    """A process that has read only the old key gets a token of the new key."""
    tokens.issue(ANONYMOUS, SERVICE, [])
    known = tokens._keys
    tokens._keys = type(known)()  # the other process
    try:
        tokens.rotate_signing_key()
        text = tokens.issue(ANONYMOUS, SERVICE, [])
    finally:
        tokens._keys = known
    assert tokens.verify(text, SERVICE)


def test_invented_identifiers_of_keys_cost_few_queries(signing, django_assert_num_queries):
    """Five are looked up at once, and further ones once a second."""
    header, _, rest = tokens.issue(ANONYMOUS, SERVICE, []).partition(".")
    invented = [
        base64url_encode(json.dumps({"alg": "EdDSA", "typ": "JWT", "kid": f"{number}"}).encode()).decode()
        for number in range(50)
    ]
    with django_assert_num_queries(tokens._keys.LOOK_UPS):
        for head in invented:
            with pytest.raises(tokens.InvalidToken):
                tokens.verify(f"{head}.{rest}", SERVICE)
    assert tokens.verify(f"{header}.{rest}", SERVICE)


def test_busy_process_signs_with_the_new_key_after_the_reload_interval(signing):
    old = jwt.get_unverified_header(tokens.issue(ANONYMOUS, SERVICE, []))["kid"]
    new = tokens._new_signing_key().identifier  # by another process
    tokens._keys._loaded_at -= tokens._keys.RELOAD_SECONDS + 1
    tokens.verify(tokens.issue(ANONYMOUS, SERVICE, []), SERVICE)
    assert jwt.get_unverified_header(tokens.issue(ANONYMOUS, SERVICE, []))["kid"] == new != old


def test_a_leaked_key_is_withdrawn_and_the_new_one_signs(signing):
    before = [tokens.issue(ANONYMOUS, SERVICE, [])]
    tokens.rotate_signing_key()
    before.append(tokens.issue(ANONYMOUS, SERVICE, []))
    assert all(tokens.verify(text, SERVICE) for text in before)
    assert tokens.replace_signing_keys() == 2
    for text in before:
        with pytest.raises(tokens.InvalidToken):
            tokens.verify(text, SERVICE)
    assert tokens.verify(tokens.issue(ANONYMOUS, SERVICE, []), SERVICE)
    assert SigningKey.objects.count() == 1


def test_other_process_refuses_cached_tokens_of_a_withdrawn_key_within_seconds(signing):
    text = tokens.issue(ANONYMOUS, SERVICE, [])
    assert tokens.verify(text, SERVICE)
    new = tokens._new_signing_key()  # as replace_signing_keys does it in another process
    SigningKey.objects.exclude(pk=new.pk).delete()
    assert tokens._keys.RELOAD_SECONDS <= 10
    tokens._keys._loaded_at -= tokens._keys.RELOAD_SECONDS + 1
    with pytest.raises(tokens.InvalidToken):
        tokens.verify(text, SERVICE)


def test_requests_do_not_wait_in_turn_for_a_database_that_does_not_answer(monkeypatch):
    """The first reads the keys, and the others, which wait for it, fail with it."""
    ring, asked, goes_on, waiting = tokens._KeyRing(), [], threading.Event(), []

    def is_away(*fields):
        asked.append(fields)
        goes_on.wait(30)
        raise OperationalError

    def refreshes(_):
        waiting.append(1)
        with pytest.raises(OperationalError):
            ring.refresh()

    monkeypatch.setattr(SigningKey.objects, "order_by", is_away)
    with ThreadPoolExecutor(5) as threads:
        ended = threads.map(refreshes, range(5))
        assert wait_until(lambda: len(waiting) == 5, timeout=30)
        time.sleep(0.2)  # the last one begins to wait
        goes_on.set()
        list(ended)
    assert len(asked) == 1


def test_keys_older_than_any_token_are_deleted(signing):
    ancient = SigningKey.objects.get()
    SigningKey.objects.update(created_at=timezone.now() - 3 * tokens.SIGNING_KEY_LIFETIME)
    text = tokens.issue(ANONYMOUS, SERVICE, [])
    tokens.rotate_signing_key()
    assert tokens.verify(text, SERVICE), "it was in use a moment ago, however old"
    tokens.rotate_signing_key()
    assert not SigningKey.objects.filter(pk=ancient.pk).exists()


def test_rotation_happens_at_most_once_a_month(signing):
    assert not tokens.rotate_signing_key(only_if_due=True)
    SigningKey.objects.update(created_at=timezone.now() - tokens.SIGNING_KEY_LIFETIME - timedelta(minutes=1))
    assert tokens.rotate_signing_key(only_if_due=True)
    assert not tokens.rotate_signing_key(only_if_due=True)
    assert SigningKey.objects.count() == 2


def test_token_of_a_deleted_key_is_refused(signing):
    text = tokens.issue(ANONYMOUS, SERVICE, [])
    SigningKey.objects.all().delete()
    new_process()
    with pytest.raises(tokens.InvalidToken):
        tokens.verify(text, SERVICE)


def test_a_new_installation_secret_reads_keys_of_the_old_one(signing, settings):
    text = tokens.issue(ANONYMOUS, SERVICE, [])
    old = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "a new secret of this installation", [old]
    new_process()
    assert tokens.verify(tokens.issue(ANONYMOUS, SERVICE, []), SERVICE)
    settings.SECRET_KEY_FALLBACKS = []
    new_process()
    assert tokens.verify(text, SERVICE)  # checking needs no private key
    with pytest.raises(RuntimeError, match="KCR_SECRET_KEY_FALLBACKS"):
        tokens.issue(ANONYMOUS, SERVICE, [])
    tokens.rotate_signing_key()
    assert tokens.verify(tokens.issue(ANONYMOUS, SERVICE, []), SERVICE)


def test_tokens_are_signed_with_eddsa(signing):
    header = jwt.get_unverified_header(tokens.issue(ANONYMOUS, SERVICE, []))
    assert header == {"alg": "EdDSA", "typ": "JWT", "kid": SigningKey.objects.get().identifier}
    assert json.loads(json.dumps(header)) == header


# ── Refresh tokens ───────────────────────────────────────────────────────────────────────────────────────────────────
def login(key: AccessKey) -> keys.Login:
    return keys.Login(key, key.secret_hash)


def redeem(token: str, service: str = SERVICE):
    return tokens.redeem_refresh(token, service, address="10.0.0.9", client="test/1")


def test_refresh_token_returns_its_access_key(world):
    token = tokens.issue_refresh(login(world.member.key), SERVICE)
    assert token.startswith("kcrr_")
    assert redeem(token) == world.member.key
    assert redeem(token) == world.member.key
    row = RefreshToken.objects.get()
    assert token[5:] not in str(vars(row))
    assert row.expires_at - row.created_at == pytest.approx(tokens.REFRESH_LIFETIME, abs=timedelta(seconds=10))


def test_a_refresh_token_survives_a_new_installation_secret(world, settings):
    token = tokens.issue_refresh(login(world.member.key), SERVICE)
    old = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "a new secret of this installation", [old]
    assert redeem(token) == world.member.key
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(tokens.InvalidToken):
        redeem(token)


def test_revoking_a_key_ends_only_its_refresh_tokens(world):
    other = make_key(world.member.user, "other")
    mine, others = (
        tokens.issue_refresh(login(world.member.key), SERVICE),
        tokens.issue_refresh(login(other.key), SERVICE),
    )
    keys.revoke(world.member.key)
    with pytest.raises(tokens.InvalidToken):
        redeem(mine)
    assert redeem(others) == other.key


@pytest.mark.parametrize("token", ["", "kcrr_", "\0", "\udc80", "x" * 100_000, "kcrs_" + "a" * 60])
def test_malformed_refresh_tokens_are_refused(world, token):
    tokens.issue_refresh(login(world.member.key), SERVICE)
    with pytest.raises(tokens.InvalidToken):
        redeem(token)


def test_expired_refresh_tokens_are_deleted(world):
    old, new = (
        tokens.issue_refresh(login(world.member.key), SERVICE),
        tokens.issue_refresh(login(world.member.key), SERVICE),
    )
    RefreshToken.objects.filter(token_hash=keys.hash_secret(old)).update(expires_at=timezone.now())
    assert tokens.forget_expired() == 1
    with pytest.raises(tokens.InvalidToken):
        redeem(old)
    assert redeem(new) == world.member.key


def test_only_the_latest_refresh_tokens_of_a_key_are_kept(world):
    key = world.member.key
    other = tokens.issue_refresh(login(key), "another.test")
    of_others = tokens.issue_refresh(login(world.viewer.key), SERVICE)
    services = [f"host-{number}.test" for number in range(tokens.REFRESH_TOKENS)]
    made = [tokens.issue_refresh(login(key), service) for service in services]
    assert RefreshToken.objects.filter(key=key).count() == tokens.REFRESH_TOKENS
    for token, service in ((made[0], services[0]), (made[-1], services[-1])):
        assert tokens.redeem_refresh(token, service, address="", client="") == key
    assert tokens.redeem_refresh(of_others, SERVICE, address="", client="") == world.viewer.key
    with pytest.raises(tokens.InvalidToken):
        tokens.redeem_refresh(other, "another.test", address="", client="")
