"""The table of error codes and statuses: complete, and only for errors of the API."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from django.test import RequestFactory

from accounts.errors import Refusal
from registry import errors
from registry.v2.errors import ANSWERS, answer

CONSOLE_ONLY = {errors.RegistryError, errors.Changed, errors.NameTaken, errors.RecoveryGone}
SPECIFIED = {  # OCI distribution specification 1.1, "Error Codes"; the last two are of Docker's specification
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
    "UNKNOWN",
}


def respond(error):
    context = {
        "request": RequestFactory().get("/v2/"),
        "view": SimpleNamespace(error_headers=lambda known: {"Known": type(known).__name__}),
    }
    return answer(error, context)


def test_every_error_class_has_an_answer_or_belongs_to_the_console():
    every = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Refusal)}
    assert every - {Refusal} == ANSWERS.keys() | CONSOLE_ONLY
    assert not ANSWERS.keys() & CONSOLE_ONLY
    assert {each.code for each in ANSWERS.values()} == SPECIFIED


@pytest.mark.parametrize("error", [Refusal("of an account"), errors.NameTaken("of the console")])
def test_error_without_a_code_is_a_server_error_in_the_api(error, caplog):
    response = respond(error)
    assert (response.status_code, response.headers["Known"]) == (500, "Unexpected")
    assert b"UNKNOWN" in response.content
    assert str(error).encode() not in response.content
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_error_is_answered_with_its_message_and_detail():
    response = respond(errors.Denied("the project is full", detail={"quota": "tags"}))
    assert response.status_code == 403
    assert response.headers["Known"] == "Denied"
    assert b'"code": "DENIED", "message": "the project is full"' in response.content
    assert b'"quota": "tags"' in response.content
