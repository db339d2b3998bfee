"""The response time of a sign-in reveals nothing about accounts."""

from __future__ import annotations

import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher

from tests.support import PASSWORD


@pytest.fixture
def hashes(monkeypatch):
    """Record each password hash: the response time depends on their number."""
    counted = []

    def counting(name):
        as_ever = getattr(Argon2PasswordHasher, name)

        def count(self, *arguments):
            counted.append(name)
            return as_ever(self, *arguments)

        return count

    monkeypatch.setattr(Argon2PasswordHasher, "encode", counting("encode"))
    monkeypatch.setattr(Argon2PasswordHasher, "verify", counting("verify"))
    return counted


@pytest.mark.parametrize("who", ["unknown", "wrong password", "without a password", "inactive"])
def test_every_wrong_guess_costs_one_password_hash(console, world, hashes, who):
    user = world.member.user
    user.set_password(PASSWORD)
    if who == "without a password":
        user.set_unusable_password()
    user.is_active = who != "inactive"
    user.save()
    hashes.clear()
    email = "nobody@acme.test" if who == "unknown" else user.email
    answer = console(None).post("/sign-in", {"email": email, "password": "a wrong guess"})
    assert answer.status_code == 200
    assert "Wrong e-mail address or password." in answer.content.decode()
    assert len(hashes) == 1
