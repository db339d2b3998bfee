"""Each error that a person reads on a page is a sentence: a capital letter, and a full stop."""

from __future__ import annotations

import ast
import re

import pytest
from django import forms as django_forms
from django.utils import translation

from accounts.errors import Refusal, sentence
from registry import errors
from registry.models import Repository
from tests.support.pages import Page, see
from tests.support.server import SOURCE

DEMO = "/projects/demo/"
WEB = f"{DEMO}repositories/web/"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("the expiry date has passed", "The expiry date has passed."),
        ("Withdraw some first.", "Withdraw some first."),
        ("sign in first, then open the link again", "Sign in first, then open the link again."),
        ("mina@acme.test has 10 access keys already", "mina@acme.test has 10 access keys already."),
        ("demo/web/app:1.0 is held", "demo/web/app:1.0 is held."),
        ("sha256:ab was deleted", "sha256:ab was deleted."),
        ("manage.py grant changed demo/web meanwhile", "manage.py grant changed demo/web meanwhile."),
        ("CVE-2026-1 was found nowhere in demo", "CVE-2026-1 was found nowhere in demo."),
        ("Is this meant?", "Is this meant?"),
    ],
)
def test_a_message_becomes_a_sentence_and_names_keep_their_letters(message, shown):
    assert sentence(message) == shown
    assert Refusal(message).sentence == shown
    assert sentence(sentence(message)) == shown


def test_a_korean_sentence_keeps_the_name_at_its_beginning():
    with translation.override("ko"):
        assert sentence("demo 프로젝트가 가득 찼습니다") == "demo 프로젝트가 가득 찼습니다."


def constants(node: ast.AST) -> list[str]:
    return [each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def written_errors() -> list[str]:
    """The texts of form errors in the source of the console: of ValidationError, add_error and error_messages."""
    found = []
    for path in sorted((SOURCE / "console").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "error_messages":
                found += constants(node.value)[1::2]
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "words":
                found += [text for text in constants(node.value)[:1] if _is_error(path.read_text(), node)]
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name == "ValidationError":
                found += constants(node.args[0])[:1]
            if name == "add_error":
                found += constants(node.args[1])[:1]
    return [text for text in found if " " in text]


def _is_error(source: str, node: ast.Assign) -> bool:
    """Whether the text that is assigned to ``words`` goes to an error of a form a few lines below."""
    below = "\n".join(source.splitlines()[node.lineno : node.lineno + 8])
    return bool(re.search(r"(ValidationError|add_error)\([^)]*words", below))


def test_every_error_that_the_console_writes_is_a_sentence():
    texts = written_errors()
    assert len(texts) >= 10
    wrong = [text for text in texts if not re.fullmatch(r"(?s)(%\(|[A-Z]).*[.?]", text)]
    assert wrong == []


def test_no_view_shows_a_refusal_as_it_is():
    """``sentence`` is the way: the message alone is for the API and for commands."""
    for path in sorted((SOURCE / "console").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and node.name and "Refusal" in ast.unparse(node.type or node):
                assert f"str({node.name})" not in ast.unparse(node), path
                assert f"{node.name}.message" not in ast.unparse(node), path


def test_messages_of_the_api_are_no_sentences():
    """One style in all bodies of errors: no capital letter, no full stop."""
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Refusal)]
    assert len(classes) > 20
    for each in classes:
        assert re.match(r"[a-z]", each.message), each
        assert not each.message.endswith("."), each


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/profile/keys/new", {"name": "x", "expires": "90", "expires_on": "2020-01-01"}),
        ("/profile/keys/new", {"name": "", "expires": "90"}),
        ("/profile", {"time_zone": "Nowhere"}),
        (f"{DEMO}repositories/new", {"name": "A B"}),
        (f"{DEMO}repositories/new", {"name": "fixed"}),
        (f"{DEMO}members/add", {"email": "unknown@acme.test"}),
        (f"{DEMO}members/add", {"email": "reader@acme.test", "role": "admin"}),
        (f"{DEMO}notifications/new?channel=mail", {"recipients": "no address"}),
        (f"{DEMO}notifications/new?channel=webhook", {"url": "http://127.0.0.1/"}),
        (f"{WEB}-/permissions/add", {"email": "reader@acme.test"}),
        (f"{WEB}-/cleanup", {"keep_last": "0"}),
        (f"{WEB}app/-/tags/add", {"tag": "-", "digest": "1.0"}),
        (f"{WEB}app/-/tags/add", {"tag": "new", "digest": "nothing"}),
        (f"{WEB}-/delete", {"typed": "other"}),
        ("/organizations/acme/invite", {"email": "reader@acme.test"}),
        ("/organizations/acme/projects/new", {"name": "rival"}),
    ],
)
def test_errors_of_forms_are_sentences(console, pushed, path, fields):
    browser = console("owner")
    form = see(browser, path).form(*fields)
    answer = form.submit(browser, **fields)
    assert answer.status_code == 200
    shown = re.findall(r'(?s)class="error"[^>]*>.*?<span>(.*?)</span>', answer.content.decode())
    shown += re.findall(r'(?s)class="note bad"[^>]*>.*?<div>(.*?)</div>', answer.content.decode())
    assert shown, Page(answer.content.decode()).text
    for text in shown:
        assert re.fullmatch(r"(?s)\s*(?:[A-Z“]|[\w.]+[@/]|[0-9]|&).*[.?!]\s*", text), text
    assert Repository.objects.filter(name="web").exists()


def test_errors_of_django_are_sentences():
    messages = {
        str(text)
        for field in (django_forms.CharField(), django_forms.EmailField(), django_forms.ChoiceField())
        for text in field.error_messages.values()
    }
    assert all(re.fullmatch(r"(?s)[A-Z].*\.", text) for text in messages)
