"""Access keys: creation, authentication, limits, last use and revocation."""

from __future__ import annotations

import logging
import re
import zlib
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import guesses, keys, tokens
from accounts.errors import Refusal
from accounts.models import AccessKey, AuditEvent, FormerSecret, Project, RefreshToken, SignInFailure, User
from tests.support.docker_client import BARE_HOST, DockerClient
from tests.support.personas import make_key
from tests.support.threads import Overtaking


def authenticate(identifier: str, secret: str, address: str = "10.0.0.9") -> AccessKey:
    return keys.authenticate(identifier, secret, address=address, client="test/1").key


# ── Creation ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_key_has_a_recognisable_name_and_secret(world):
    new = keys.create(world.stranger.user, "laptop")
    assert new.key.identifier.startswith("KCRK")
    assert len(new.key.identifier) == 20
    body, checksum = re.fullmatch(r"kcrs_([a-z2-7]{52})([0-9a-f]{8})", new.secret, re.ASCII).groups()
    assert int(checksum, 16) == zlib.crc32(body.encode())
    assert (new.key.state, new.key.only_actions, new.key.project, new.key.expires_at) == ("alive", None, None, None)
    assert str(new.key) == f"laptop ({new.key.identifier})"


def test_no_two_keys_are_alike(world):
    made = [keys.create(world.stranger.user, "one") for _ in range(5)]
    assert len({new.secret for new in made} | {new.key.identifier for new in made}) == 10


def test_the_secret_is_stored_hashed_only(world):
    new = keys.create(world.stranger.user, "laptop")
    row = AccessKey.objects.filter(pk=new.key.pk).values().get()
    body = new.secret.removeprefix(keys.SECRET_PREFIX)
    assert all(body not in str(value) and body[:20] not in str(value) for value in row.values())
    assert len(row["secret_hash"]) == 64
    assert row["secret_hash"] == keys.hash_secret(new.secret)
    assert row["secret_hash"] != keys.hash_secret(new.secret, "another installation's secret, 32 or more")


def test_a_user_has_ten_living_keys_at_most(world):
    user = world.stranger.user
    made = [keys.create(user, f"key {number}").key for number in range(keys.KEYS_PER_USER - 1)]
    assert keys.KEYS_PER_USER == 10
    with pytest.raises(Refusal, match="has 10 access keys already"):
        keys.create(user, "one too many")
    keys.create(world.viewer.user, "of somebody else")
    keys.revoke(made[0])
    keys.create(user, "in place of a revoked one")
    AccessKey.objects.filter(pk=made[1].pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    keys.create(user, "in place of an expired one")
    with pytest.raises(Refusal, match="has 10 access keys already"):
        keys.create(user, "one too many again")


@pytest.mark.parametrize("name", ["", " ", "\t\n", "x" * 65])
def test_a_key_needs_a_name(world, name):
    with pytest.raises(Refusal, match="a name of at most 64"):
        keys.create(world.stranger.user, name)


def test_new_key_cannot_expire_in_the_past(world):
    for moment in (timezone.now(), timezone.now() - timedelta(days=1)):
        with pytest.raises(Refusal, match="has passed"):
            keys.create(world.stranger.user, "late", expires_at=moment)


def test_key_identifiers_are_unique(world):
    first = world.stranger.key
    with pytest.raises(IntegrityError), transaction.atomic():
        AccessKey.objects.create(user=world.viewer.user, identifier=first.identifier, secret_hash="0" * 64)


# ── Authentication ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_authenticating_a_key_costs_one_query(world, django_assert_num_queries):
    with django_assert_num_queries(1):
        key = authenticate(world.member.key.identifier, world.member.secret)
        actor = keys.actor(key, address="10.0.0.9", client="test/1")
    assert (actor.user_id, actor.key_id, actor.label) == (world.member.user.pk, key.pk, "member@acme.test")
    assert (actor.address, actor.client, actor.is_anonymous, actor.is_system) == ("10.0.0.9", "test/1", False, False)


def test_an_actor_carries_the_limits_of_the_key(world):
    soon = timezone.now() + timedelta(days=3)
    persona = make_key(world.owner.user, "ci", project=world.projects["lab"], actions=["pull"], expires_at=soon)
    actor = persona.actor
    assert (actor.project_id, actor.actions) == (world.projects["lab"].pk, {"pull"})
    assert actor.key_expires_at == soon.timestamp()


ENDS = {
    "revoked": keys.revoke,
    "expired": lambda key: AccessKey.objects.filter(pk=key.pk).update(expires_at=timezone.now()),
    "inactive": lambda key: User.objects.filter(pk=key.user_id).update(is_active=False),
}


@pytest.mark.parametrize("state", ENDS)
def test_holder_of_an_ended_key_is_told_why_it_ended(world, state):
    key, secret = world.member.key, world.member.secret
    assert AccessKey.objects.alive().filter(pk=key.pk).exists()
    ENDS[state](key)
    assert AccessKey.objects.get(pk=key.pk).state == state
    assert not AccessKey.objects.alive().filter(pk=key.pk).exists()
    with pytest.raises(guesses.WrongCredentials) as right:
        authenticate(key.identifier, secret)
    with pytest.raises(guesses.WrongCredentials) as wrong:
        authenticate(key.identifier, secret + "x")
    assert str(right.value) != str(wrong.value)
    assert key.identifier not in str(wrong.value)


def test_use_of_an_ended_key_does_not_lock_out_its_address(world):
    """A CI job with a revoked key retries all night. Others at its address must not be blocked."""
    keys.revoke(world.member.key)
    for _ in range(12):
        with pytest.raises(guesses.WrongCredentials):
            authenticate(world.member.key.identifier, world.member.secret)
    assert authenticate(world.viewer.key.identifier, world.viewer.secret)


def test_a_key_with_time_left_is_alive(world):
    persona = make_key(world.viewer.user, "short", expires_at=timezone.now() + timedelta(minutes=1))
    assert persona.key.state == "alive"
    assert AccessKey.objects.alive().filter(pk=persona.key.pk).exists()
    assert authenticate(persona.key.identifier, persona.secret).pk == persona.key.pk


def test_revoking_twice_keeps_the_first_moment(world):
    keys.revoke(world.member.key)
    first = AccessKey.objects.get(pk=world.member.key.pk).revoked_at
    keys.revoke(world.member.key)
    assert AccessKey.objects.get(pk=world.member.key.pk).revoked_at == first


def test_revoking_one_key_leaves_the_others(world):
    other = make_key(world.member.user, "other")
    keys.revoke(world.member.key)
    assert authenticate(other.key.identifier, other.secret).pk == other.key.pk


# ── Limits in the registry API ───────────────────────────────────────────────────────────────────────────────────────
def test_pull_only_key_pulls_and_its_push_is_refused_with_the_reason(world, docker):
    image = docker("owner").push("web/app", "1.0")
    client = DockerClient(make_key(world.owner.user, "ci", actions=["pull"]))
    assert client.pull("web/app", "1.0")[0] == image.manifest
    for answer in (
        client.post("web/app/blobs/uploads/", 403),
        client.push_manifest("web/app", "2.0", image.manifest, expect=403),
        client.delete("web/app/manifests/1.0", 403),
        client.raw("POST", "/v2/web/app/blobs/uploads/", headers=client.basic()),
    ):
        assert answer.status == 403
        assert answer.codes == ["DENIED"]
        assert "this access key may only pull" in answer.message
    client.post("missing/app/blobs/uploads/", 404)


def test_pull_only_key_reveals_no_repository_that_its_holder_may_not_see(world):
    client = DockerClient(make_key(world.stranger.user, "ci", actions=["pull"]))
    client.get("web/app/tags/list", 404)
    client.post("web/app/blobs/uploads/", 404)
    denied = client.post("public/app/blobs/uploads/", 403)
    assert "only pull" not in denied.message  # its holder could not push with another key either


def test_key_limited_to_a_project_gives_no_role_in_another_project(world, docker):
    docker("owner", BARE_HOST).push("lab/secret/app", "1.0")
    docker("owner", BARE_HOST).push("demo/web/app", "1.0")
    docker("owner", BARE_HOST).push("demo/public/app", "1.0")
    client = DockerClient(make_key(world.owner.user, "lab", project=world.projects["lab"]), BARE_HOST)
    client.push("lab/secret/app", "2.0")
    for method, path in (("GET", "tags/list"), ("POST", "blobs/uploads/"), ("DELETE", "manifests/1.0")):
        assert client.request(method, f"demo/web/app/{path}", 404).codes == ["NAME_UNKNOWN"]
    client.get("demo/public/app/tags/list", 200)  # the role of everyone
    client.post("demo/public/app/blobs/uploads/", 403)
    assert client.get("_catalog", 200).json()["repositories"] == ["demo/public/app", "lab/secret/app"]


def test_key_of_a_deleted_project_is_refused(world):
    lab = world.projects["lab"]
    persona = make_key(world.owner.user, "lab", project=lab)
    world.repository("secret").delete()
    Project.objects.filter(pk=lab.pk).delete()
    with pytest.raises(guesses.WrongCredentials):
        authenticate(persona.key.identifier, persona.secret)


@pytest.mark.parametrize(("days", "warned"), [(None, False), (8, False), (6, True)])
def test_a_key_that_expires_soon_warns_its_holder(world, docker, days, warned):
    docker("member").push("web/app", "1.0")
    end = timezone.now() + timedelta(days=days) if days else None
    client = DockerClient(make_key(world.member.user, "short", expires_at=end))
    for answer in (
        client.get("web/app/manifests/1.0", 200),
        client.raw("GET", "/v2/", headers=client.basic()),
        client.get("web/app/manifests/none", 404),
    ):
        warning = answer.headers.get("Warning", "")
        assert bool(warning) == warned
        if end and warned:
            assert warning.startswith('299 - "')
            assert str(end.date()) in warning


# ── The installation's secret changes ────────────────────────────────────────────────────────────────────────────────
def test_keys_survive_a_new_installation_secret_while_the_old_one_is_a_fallback(world, settings):
    old, new = settings.SECRET_KEY, "a new secret of this installation"
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = new, ["one that nobody used", old]
    assert authenticate(world.member.key.identifier, world.member.secret)
    later = make_key(world.member.user, "later")
    settings.SECRET_KEY_FALLBACKS = []
    assert authenticate(later.key.identifier, later.secret)
    with pytest.raises(guesses.WrongCredentials):
        authenticate(world.member.key.identifier, world.member.secret)


# ── Rotation ─────────────────────────────────────────────────────────────────────────────────────────────────────────
DAY = timedelta(days=1)


def test_both_secrets_work_until_the_former_one_ends(world):
    key, former = world.member.key, world.member.secret
    newer = keys.rotate(key, former_ends_in=DAY).secret
    for secret in (former, newer):
        with CaptureQueriesContext(connection) as queries:
            assert authenticate(key.identifier, secret) == key
        assert len(queries) == 1
    FormerSecret.objects.update(ends_at=timezone.now())
    assert authenticate(key.identifier, newer) == key
    with pytest.raises(guesses.WrongCredentials, match=r"this secret of access key .* has ended: use the newer one"):
        authenticate(key.identifier, former)
    assert SignInFailure.objects.count() == 0  # the secret was right: no guess
    with pytest.raises(guesses.WrongCredentials, match="unknown access key, or wrong secret"):
        authenticate(key.identifier, former[:-1] + "x")


def test_key_has_two_living_secrets_at_most(world):
    key, first = world.member.key, world.member.secret
    second = keys.rotate(key, former_ends_in=DAY).secret
    with pytest.raises(Refusal, match="two secrets that work"):
        keys.rotate(key, former_ends_in=DAY)
    assert keys.end_former(key)
    assert not keys.end_former(key)
    third = keys.rotate(key, former_ends_in=timedelta(0)).secret
    for ended in (first, second):
        with pytest.raises(guesses.WrongCredentials):
            authenticate(key.identifier, ended)
    assert authenticate(key.identifier, third) == key


@pytest.mark.parametrize("time", [timedelta(seconds=-1), timedelta(days=30, seconds=1)])
def test_former_secret_works_for_thirty_days_at_most(world, time):
    with pytest.raises(Refusal, match="30 days at most"):
        keys.rotate(world.member.key, former_ends_in=time)


@pytest.mark.parametrize("change", [{"revoked_at": timezone.now()}, {"expires_at": timezone.now()}])
def test_key_that_has_ended_gets_no_new_secret(world, change):
    AccessKey.objects.filter(pk=world.member.key.pk).update(**change)
    with pytest.raises(Refusal, match="has ended"):
        keys.rotate(world.member.key, former_ends_in=DAY)


def test_revoked_key_refuses_both_secrets(world):
    newer = keys.rotate(world.member.key, former_ends_in=DAY).secret
    keys.revoke(world.member.key)
    for secret in (world.member.secret, newer):
        with pytest.raises(guesses.WrongCredentials, match="was revoked"):
            authenticate(world.member.key.identifier, secret)


def test_last_use_is_kept_for_each_secret(world):
    key, former = world.member.key, world.member.secret
    authenticate(key.identifier, former, "192.0.2.1")  # noted before the rotation, written after it
    newer = keys.rotate(key, former_ends_in=DAY).secret
    keys.last_used.flush()
    key.refresh_from_db()
    assert (key.former.last_used_address, key.last_used_at) == ("192.0.2.1", None)
    authenticate(key.identifier, newer, "192.0.2.2")
    keys.last_used.flush()
    key = AccessKey.objects.get(pk=key.pk)
    assert (key.former.last_used_address, key.last_used_address) == ("192.0.2.1", "192.0.2.2")
    keys.last_used.clear()
    authenticate(key.identifier, former, "192.0.2.3")
    keys.last_used.flush()
    key = AccessKey.objects.get(pk=key.pk)
    assert (key.former.last_used_address, key.last_used_address) == ("192.0.2.3", "192.0.2.2")
    assert key.former.last_used_client == "test/1"


def test_refresh_tokens_end_with_the_secret_that_they_were_got_with(world):
    def login(secret):
        return keys.authenticate(world.member.key.identifier, secret, address="10.0.0.9", client="test/1")

    def is_good(token):
        try:
            tokens.redeem_refresh(token, "here", address="10.0.0.9", client="test/1")
        except tokens.InvalidToken:
            return False
        return True

    former = world.member.secret
    before = tokens.issue_refresh(login(former), "here")
    newer = keys.rotate(world.member.key, former_ends_in=DAY).secret
    after, of_newer = tokens.issue_refresh(login(former), "here"), tokens.issue_refresh(login(newer), "here")
    assert [is_good(token) for token in (before, after, of_newer)] == [True] * 3
    keys.end_former(world.member.key)
    assert [is_good(token) for token in (before, after, of_newer)] == [False, False, True]


def test_refresh_token_that_was_asked_for_before_the_rotation_belongs_to_the_former_secret(world):
    login = keys.authenticate(world.member.key.identifier, world.member.secret, address="", client="")
    keys.rotate(world.member.key, former_ends_in=timedelta(0))
    token = tokens.issue_refresh(login, "here")  # the request had been authenticated before the rotation
    with pytest.raises(tokens.InvalidToken):
        tokens.redeem_refresh(token, "here", address="", client="")


def test_refresh_token_of_the_version_before_ends_with_the_secret_of_its_time(world):
    login = keys.authenticate(world.member.key.identifier, world.member.secret, address="", client="")
    token = tokens.issue_refresh(login, "here")
    RefreshToken.objects.update(secret_hash="")
    assert tokens.redeem_refresh(token, "here", address="", client="") == world.member.key
    keys.rotate(world.member.key, former_ends_in=timedelta(0))
    with pytest.raises(tokens.InvalidToken):
        tokens.redeem_refresh(token, "here", address="", client="")


def test_rotation_is_in_the_audit_log(world):
    keys.rotate(world.member.key, former_ends_in=DAY, by=world.owner.actor)
    keys.end_former(world.member.key, by=world.owner.actor)
    events = AuditEvent.objects.filter(organization=None, person=world.member.user, action__startswith="key.")
    found = list(events.order_by("pk").values_list("action", "actor"))
    assert found[-2:] == [("key.rotate", "owner@acme.test"), ("key.end-former", "owner@acme.test")]


# ── Last used ────────────────────────────────────────────────────────────────────────────────────────────────────────
def is_write(sql: str) -> bool:
    return sql.split(None, 1)[0] in {"INSERT", "UPDATE", "DELETE"}


def test_last_used_is_kept_in_memory_until_the_flusher_writes_it(world, docker):
    docker("member").push("web/app", "1.0")
    client = DockerClient(make_key(world.viewer.user, "ci"), address="192.0.2.7")
    key = client.persona.key
    headers = client.basic() | {"User-Agent": "docker/27.0"}
    with CaptureQueriesContext(connection) as queries:
        for _ in range(3):
            assert client.raw("GET", "/v2/web/app/manifests/1.0", headers=headers).status == 200
        client.token()
    assert [query["sql"] for query in queries if is_write(query["sql"])] == []
    key.refresh_from_db()
    assert key.last_used_at is None
    before = timezone.now()
    keys.last_used.flush()
    key.refresh_from_db()
    assert before - timedelta(minutes=1) < key.last_used_at <= timezone.now()
    assert (key.last_used_address, key.last_used_client) == ("192.0.2.7", "")
    with CaptureQueriesContext(connection) as queries:
        client.raw("GET", "/v2/", headers=headers)
        keys.last_used.flush()
    assert [query["sql"] for query in queries if is_write(query["sql"])] == []  # once a minute is enough


def test_use_that_is_noted_during_a_flush_is_not_lost(world):
    overtaking, used = Overtaking(), keys.LastUsed()

    class Notes(dict):
        def __setitem__(self, *item):
            overtaking.pause()
            super().__setitem__(*item)

    used._lock, used._notes = overtaking, Notes()
    login = keys.Login(world.member.key, world.member.key.secret_hash)
    _, written = overtaking.run(lambda: used.note(login, "192.0.2.1", "test/1"), used.flush)
    assert written + used.flush() == 1


def test_last_used_has_client_and_address(world):
    client = DockerClient(world.viewer, address="192.0.2.7")
    client.raw("GET", "/v2/", headers=client.basic() | {"User-Agent": "docker/" + "9" * 300})
    keys.last_used.flush()
    key = AccessKey.objects.get(pk=world.viewer.key.pk)
    assert key.last_used_address == "192.0.2.7"
    assert key.last_used_client.startswith("docker/99")
    assert len(key.last_used_client) == 200


def test_wrong_secret_does_not_count_as_a_use(world):
    with pytest.raises(guesses.WrongCredentials):
        authenticate(world.viewer.key.identifier, "wrong")
    keys.last_used.flush()
    assert AccessKey.objects.get(pk=world.viewer.key.pk).last_used_at is None


def test_older_last_used_time_of_another_process_changes_nothing(world):
    later = timezone.now() + timedelta(minutes=5)
    AccessKey.objects.filter(pk=world.viewer.key.pk).update(last_used_at=later, last_used_address="192.0.2.1")
    authenticate(world.viewer.key.identifier, world.viewer.secret)
    keys.last_used.flush()
    key = AccessKey.objects.get(pk=world.viewer.key.pk)
    assert (key.last_used_at, key.last_used_address) == (later, "192.0.2.1")


def test_flush_ignores_deleted_keys(world, caplog):
    authenticate(world.viewer.key.identifier, world.viewer.secret)
    authenticate(world.member.key.identifier, world.member.secret)
    world.viewer.key.delete()
    with caplog.at_level(logging.ERROR):
        keys.last_used.flush()
    assert AccessKey.objects.get(pk=world.member.key.pk).last_used_at
    assert caplog.records == []


# ── Guessing ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_unknown_and_known_keys_are_refused_in_the_same_words(world):
    said = set()
    for identifier in (world.member.key.identifier, "KCRKAAAAAAAAAAAAAAAA", "", "x" * 1_000, "' OR 1=1 --"):
        with pytest.raises(guesses.WrongCredentials) as refused:
            authenticate(identifier, "wrong", address=f"10.0.1.{len(said)}")
        said.add(str(refused.value))
    assert len(said) == 1


def test_failure_is_stored_without_the_typed_text(world):
    """Some users type their password into the name field."""
    with pytest.raises(guesses.WrongCredentials):
        authenticate("my very own password", "wrong")
    failure = SignInFailure.objects.get()
    assert "password" not in str(vars(failure))
    assert (len(failure.account), failure.address) == (64, "10.0.0.9")


def test_old_failures_are_deleted(world):
    for address in ("10.0.0.1", "10.0.0.2"):
        with pytest.raises(guesses.WrongCredentials):
            authenticate("KCRKX", "wrong", address=address)
    SignInFailure.objects.filter(address="10.0.0.1").update(at=timezone.now() - timedelta(minutes=6))
    assert guesses.forget() == 1
    assert SignInFailure.objects.get().address == "10.0.0.2"


def test_block_ends_when_the_tenth_latest_failure_expires(world):
    now = timezone.now()
    for minutes in range(10):
        SignInFailure.objects.create(
            account="x" * 64,
            address="10.0.0.9",
            block="10.0.0.9",
            of_key=True,
            at=now - timedelta(seconds=20 * minutes),
        )
    with pytest.raises(guesses.TooManyFailures) as refused:
        authenticate(world.member.key.identifier, "wrong")
    assert 90 < refused.value.seconds <= 121  # 300 - 9 * 20


def test_right_secret_is_accepted_despite_failures_of_its_network_and_account(world):
    """A CI job retries a deleted key. Other clients behind its address must not be blocked."""
    stale = (*[("KCRKAAAAAAAAAAAAAAAA", "stale")] * 8, *[(world.member.key.identifier, "stale")] * 12)
    said = []
    for identifier, secret in stale:
        with pytest.raises((guesses.WrongCredentials, guesses.TooManyFailures)) as refused:
            authenticate(identifier, secret)
        said.append(type(refused.value).__name__)
    assert said == ["WrongCredentials"] * 10 + ["TooManyFailures"] * 10
    for persona in (world.member, world.viewer, world.outsider):
        assert authenticate(persona.key.identifier, persona.secret) == persona.key
    assert SignInFailure.objects.count() == 10


def test_a_right_secret_costs_one_query_in_a_network_with_many_failures(world, django_assert_num_queries):
    for number in range(10):
        guesses.begin(f"KCRK{number}", "10.0.0.9", of_key=True)
    with django_assert_num_queries(1):
        authenticate(world.member.key.identifier, world.member.secret)


@pytest.mark.parametrize("identifier", ["", "KCRKAAAAAAAAAAAAAAAA", "member@acme.test"])
def test_empty_secret_is_not_counted_as_a_guess(world, identifier):
    """This is a script whose variable is empty."""
    for _ in range(12):
        with pytest.raises(guesses.WrongCredentials, match="the secret is empty"):
            authenticate(identifier, "")
    assert not SignInFailure.objects.exists()
