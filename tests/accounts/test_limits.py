"""Limits of access keys: what people may type, and what is refused with which words."""

from __future__ import annotations

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from accounts import audit, keys, limits
from accounts.errors import Refusal
from accounts.models import AccessKey, AuditEvent
from tests.support.docker_client import BARE_HOST, DockerClient
from tests.support.personas import make_key

HERE, ELSEWHERE = "10.0.0.0/8", "192.0.2.0/24 2001:db8::/32"  # DockerClient asks from 10.0.0.1


# ── What people may type ─────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("typed", "project", "stored"),
    [
        ("", "", ""),
        ("shop/web", "", "shop/web"),
        ("shop/web, shop/team-*\nlab/*", "", "shop/web shop/team-* lab/*"),
        ("web team-*  web", "shop", "shop/web shop/team-*"),
        ("Shop/Web", "", "shop/web"),
    ],
)
def test_repositories_are_stored_as_patterns_of_project_and_repository(typed, project, stored):
    assert limits.read_repositories(typed, project) == stored


@pytest.mark.parametrize(
    "typed", ["web", "shop/web/app", "shop/", "/web", "shop/w(b", "shop/[a-z]", "shop/" + "a" * 200]
)
def test_text_that_is_no_repository_is_refused(typed):
    with pytest.raises(Refusal, match="is no name of a repository"):
        limits.read_repositories(typed)


@pytest.mark.parametrize("typed", ["10.0.0.1/8", "10.0.0.0/33", "office", "10.0.0.0-10.0.0.9", "::g"])
def test_text_that_is_no_network_is_refused(typed):
    with pytest.raises(Refusal, match="is no network"):
        limits.read_networks(typed)


def test_a_limit_has_twenty_entries():
    assert limits.read_networks(", ".join(f"10.0.0.{number}" for number in range(20)))
    with pytest.raises(Refusal, match="at most 20"):
        limits.read_networks(", ".join(f"10.0.0.{number}" for number in range(21)))


def test_actions_are_some_of_three():
    assert limits.read_actions(["push", "pull"]) == "pull push"
    assert limits.read_actions(limits.ACTIONS) == ""
    for wrong in ([], ["manage"], ["pull", "view"]):
        with pytest.raises(Refusal, match="choose what the key may do"):
            limits.read_actions(wrong)


@pytest.mark.parametrize(
    ("networks", "address", "covered"),
    [
        ("", "", True),
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8 2001:db8::/32", "2001:db8::7", True),
        ("10.0.0.0/8", "2001:db8::7", False),
        ("10.0.0.0/8", "", False),
        ("10.0.0.0/8", "unknown", False),
    ],
)
def test_network_limit_covers_addresses(networks, address, covered):
    assert limits.covers(networks, address) == covered


def test_pattern_matches_whole_names_only():
    assert limits.reaches("demo/web", "demo/web")
    assert limits.reaches("demo/*", "demo/web.2")
    for path in ("demo/web2", "xdemo/web", "demo/webx", "lab/web"):
        assert not limits.reaches("demo/web", path)
    assert not limits.reaches("demo/a.b", "demo/axb")


# ── In the registry API ──────────────────────────────────────────────────────────────────────────────────────────────
def refusals(key: AccessKey) -> list[tuple[str, str, int]]:
    """Limit, address and count of the refusals in the log of the key's holder, oldest first."""
    found = AuditEvent.objects.filter(person=key.user, organization=None, action=audit.Action.KEY_REFUSED).order_by(
        "pk"
    )
    return [
        (event.detail["limit"], event.address, event.count) for event in found if event.detail["key"] == key.identifier
    ]


def test_key_that_may_not_delete_is_told_so(world, docker):
    image = docker("owner").push("web/app", "1.0")
    persona = make_key(world.owner.user, "ci", actions=["pull", "push"])
    client = DockerClient(persona)
    client.push("web/app", "2.0")
    assert client.pull("web/app", "1.0")[0] == image.manifest
    answer = client.delete("web/app/manifests/1.0", 403)
    assert answer.codes == ["DENIED"]
    assert "this access key may only pull, push" in answer.message
    assert answer.json()["errors"][0]["detail"]["limit"] == "actions"
    assert refusals(persona.key) == [("actions", "10.0.0.1", 1)]


def test_key_of_some_repositories_pushes_there_only(world, docker):
    docker("owner").push("fixed/app", "1.0")
    persona = make_key(world.owner.user, "ci", repositories="demo/w*, lab/secret")
    client = DockerClient(persona)
    client.push("web/app", "1.0")
    DockerClient(persona, BARE_HOST).push("lab/secret/app", "1.0")
    answer = client.get("fixed/app/manifests/1.0", 403)
    assert answer.codes == ["DENIED"]
    assert "limited to other repositories: demo/w* lab/secret" in answer.message
    client.post("fixed/app/blobs/uploads/", 403)
    client.raw("GET", "/v2/fixed/app/tags/list", headers=client.basic())
    assert refusals(persona.key) == [("repositories", "10.0.0.1", 3)]


def test_refusal_by_the_limit_of_repositories_tells_of_no_repository(world):
    """The answer is the same for a repository that is not there, or that the holder may not see."""
    client = DockerClient(make_key(world.member.user, "ci", repositories="demo/web"), BARE_HOST)
    answers = set()
    client.raw(
        "GET", "/v2/demo/fixed/app/manifests/1.0", headers=client.basic()
    )  # the first one makes a row of the log
    for name in ("demo/fixed", "demo/missing", "lab/secret", "nowhere/web"):
        with CaptureQueriesContext(connection) as queries:
            answer = client.raw("GET", f"/v2/{name}/app/manifests/1.0", headers=client.basic())
        answers.add((answer.status, answer.message, tuple(answer.codes), len(queries)))
    assert len(answers) == 1


def test_key_of_some_repositories_pulls_public_ones_like_anybody(world, docker):
    image = docker("owner").push("public/app", "1.0")
    client = DockerClient(make_key(world.owner.user, "ci", repositories="demo/web"))
    assert client.pull("public/app", "1.0")[0] == image.manifest
    client.post("public/app/blobs/uploads/", 403)


def test_key_is_used_in_its_networks_only(world, docker):
    image = docker("owner").push("web/app", "1.0")
    here = DockerClient(make_key(world.owner.user, "here", networks=HERE))
    assert here.pull("web/app", "1.0")[0] == image.manifest
    persona = make_key(world.owner.user, "elsewhere", networks=ELSEWHERE)
    client = DockerClient(persona)
    answer = client.raw("GET", "/v2/web/app/manifests/1.0", headers=client.basic())
    assert (answer.status, answer.codes) == (403, ["DENIED"])
    assert "may not be used from 10.0.0.1" in answer.message
    assert answer.json()["errors"][0]["detail"]["limit"] == "networks"
    assert refusals(persona.key) == [("networks", "10.0.0.1", 1)]
    assert client.raw("GET", "/v2/", headers=client.basic()).status == 403


def test_wrong_secret_is_not_told_of_the_networks(world):
    persona = make_key(world.owner.user, "elsewhere", networks=ELSEWHERE)
    client = DockerClient(persona)
    persona.secret = "kcrs_wrong"
    answer = client.raw("GET", "/v2/", headers=client.basic())
    assert answer.status == 401
    assert "network" not in answer.message


def test_token_of_a_key_is_refused_in_other_networks(world, docker):
    """The token was issued to a client in the key's network, and is used from elsewhere."""
    docker("owner").push("web/app", "1.0")
    persona = make_key(world.owner.user, "here", networks=HERE)
    client, elsewhere = DockerClient(persona), DockerClient(persona, address="192.0.2.9")
    bearer = {"Authorization": f"Bearer {client.token('repository:web/app:pull')}"}
    assert client.raw("GET", "/v2/web/app/manifests/1.0", headers=bearer).status == 200
    answer = elsewhere.raw("GET", "/v2/web/app/manifests/1.0", headers=bearer)
    assert (answer.status, answer.codes) == (403, ["DENIED"])


def test_token_service_refuses_a_key_outside_of_its_networks(world):
    """A key and its refresh token get no token from elsewhere."""
    persona = make_key(world.owner.user, "here", networks=HERE)
    client, elsewhere = DockerClient(persona), DockerClient(persona, address="192.0.2.9")
    refresh = client.token_answer(offline_token="true").json()["refresh_token"]
    assert elsewhere.token_answer().codes == ["DENIED"]
    for there, status in ((client, 200), (elsewhere, 403)):
        form = f"grant_type=refresh_token&service={client.host}&refresh_token={refresh}".encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        assert there.raw("POST", "/token", body=form, headers=headers).status == status
    assert refusals(persona.key) == [("networks", "192.0.2.9", 2)]


def test_refusals_of_an_hour_share_ten_rows_and_one_more(world):
    persona = make_key(world.owner.user, "ci", networks=ELSEWHERE)
    for number in range(12):
        keys.record_refusal(keys.actor(persona.key, address=f"192.0.2.{number}"), "networks")
    keys.record_refusal(keys.actor(persona.key, address="192.0.2.0"), "actions")
    found = refusals(persona.key)
    assert len(found) == 12
    assert found[-2:] == [("networks", audit.SEVERAL_ADDRESSES, 2), ("actions", "192.0.2.0", 1)]


def test_refusal_is_answered_when_the_log_cannot_be_written(world, monkeypatch):
    def fail(*_args: object) -> None:
        raise OperationalError("disk full")

    monkeypatch.setattr(keys, "record_refusal", fail)
    client = DockerClient(make_key(world.owner.user, "ci", actions=["pull"]))
    assert client.post("web/app/blobs/uploads/", 403).codes == ["DENIED"]
