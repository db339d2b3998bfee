"""Sessions in the database: only hashes of keys are stored, and an upgrade keeps the sessions."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client

from accounts import sessions
from accounts.models import ConsoleSession
from accounts.sessions import SessionStore

BACKEND = "django.contrib.auth.backends.ModelBackend"


def browser(key: str = "") -> Client:
    client = Client(SERVER_NAME="localhost", SERVER_PORT="8080")
    if key:
        client.cookies[settings.SESSION_COOKIE_NAME] = key
    return client


@pytest.fixture
def signed_in(world) -> Client:
    client = browser()
    client.force_login(world.member.user, backend=BACKEND)
    return client


def test_a_copy_of_the_database_opens_no_session(signed_in):
    cookie = signed_in.cookies[settings.SESSION_COOKIE_NAME].value
    assert browser(cookie).get("/profile").status_code == 200
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM accounts_consolesession")
        ((*row,),) = cursor.fetchall()
    for text in (str(value) for value in row):
        assert cookie not in text
        assert browser(text).get("/profile").status_code == 302
        assert browser(text[:32]).get("/profile").status_code == 302


def test_sign_in_changes_the_session_key_and_deletes_the_former_row(world):
    client = browser()
    session = client.session
    session["next"] = "x"
    session.save()
    client.cookies[settings.SESSION_COOKIE_NAME] = session.session_key
    former = session.row_key
    client.force_login(world.member.user, backend=BACKEND)
    assert client.session["next"] == "x"
    assert not ConsoleSession.objects.filter(pk=former).exists()
    client.post("/sign-out")
    assert not ConsoleSession.objects.exists()


def test_the_store_finds_and_deletes_by_the_key_of_the_cookie(db):
    store = SessionStore()
    store["a"] = "b"
    store.save()
    key = store.session_key
    assert ConsoleSession.objects.get().pk == sessions.stored(key) == store.row_key
    assert SessionStore().exists(key)
    assert not SessionStore().exists(store.row_key)
    assert SessionStore(key)["a"] == "b"
    SessionStore().delete(store.row_key)
    SessionStore().delete()
    assert SessionStore().exists(key)
    SessionStore(key).flush()
    assert not ConsoleSession.objects.exists()
    assert SessionStore(key).get("a") is None
