"""Access keys in the profile."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta

from django.utils import timezone

from accounts.models import AccessKey
from tests.docker_client import DockerClient
from tests.personas import Persona, make_key


def form(**more: object) -> dict[str, object]:
    return {"form_id": str(uuid.uuid4()), "name": "laptop", "expires": "90", **more}


def made(answer) -> tuple[str, str]:
    page = answer.content.decode()
    return re.search(r"KCRK\w+", page)[0], re.search(r"kcrs_\w+", page)[0]


def test_the_secret_is_shown_once_and_works(console, world):
    browser = console("member")
    answer = browser.post("/profile/keys/new", form())
    assert answer.headers["Cache-Control"] == "no-store"
    identifier, secret = made(answer)
    assert f"docker login localhost:8080 --username {identifier} --password-stdin" in answer.content.decode()
    key = AccessKey.objects.get(identifier=identifier)
    DockerClient(Persona(world.member.user, key, secret)).push("web/app", "1")
    listed = browser.get("/profile/keys").content.decode()
    assert identifier in listed
    assert "kcrs_" not in listed
    assert timedelta(days=89) < key.expires_at - timezone.now() < timedelta(days=91)


def test_a_form_that_is_sent_twice_makes_one_key(console, world):
    browser, sent = console("member"), form()
    before = AccessKey.objects.count()
    browser.post("/profile/keys/new", sent)
    answer = browser.post("/profile/keys/new", sent)
    assert "made already" in answer.content.decode()
    assert "kcrs_" not in answer.content.decode()
    assert AccessKey.objects.count() == before + 1


def test_limits(console, world):
    browser = console("member")
    identifier, _ = made(browser.post("/profile/keys/new", form(project="demo", pull_only="on", expires="")))
    key = AccessKey.objects.get(identifier=identifier)
    assert (key.project.name, key.pull_only, key.expires_at) == ("demo", True, None)
    refused = browser.post("/profile/keys/new", form(project="rival"))
    assert "Select a valid choice" in refused.content.decode()
    past = browser.post("/profile/keys/new", form(expires_on="2020-01-01"))
    assert "has passed" in past.content.decode()
    assert 'value="laptop"' in past.content.decode()


def test_a_viewer_may_limit_a_key_to_the_project_that_they_pull_from(console, world):
    identifier, _ = made(console("viewer").post("/profile/keys/new", form(project="demo")))
    assert AccessKey.objects.get(identifier=identifier).project.name == "demo"


def test_ten_keys_at_most(console, world):
    for number in range(9):
        make_key(world.member.user, f"key {number}")
    assert "already: revoke one first" in console("member").post("/profile/keys/new", form()).content.decode()


def test_a_revoked_key_ends_at_once_and_only_ones_own(console, world):
    other = make_key(world.admin.user)
    browser = console("member")
    browser.post("/profile/keys", {"key": other.key.identifier})
    other.key.refresh_from_db()
    assert other.key.revoked_at is None
    client = DockerClient(world.member)
    client.push("web/app", "1")
    browser.post("/profile/keys", {"key": world.member.key.identifier})
    assert client.raw("GET", "/v2/web/app/manifests/1", headers=client.basic()).status == 401
