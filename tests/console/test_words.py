"""The Korean translation of the console: complete, compiled and shown."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polib
import pytest
from django.utils import translation

from console.templatetags.cleanup import reason_words
from console.templatetags.clients import client_words
from registry.models import CleanupLine
from tests.support.images import image_of
from tests.support.programs import require

SOURCE = Path(__file__).resolve().parents[2]
CATALOGUE = SOURCE / "console" / "locale" / "ko" / "LC_MESSAGES" / "django.po"
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w+\}|</?\w+[^>]*>")


@pytest.fixture(scope="module")
def catalogue() -> polib.POFile:
    return polib.pofile(str(CATALOGUE))


def translations(entry: polib.POEntry) -> list[str]:
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


def test_every_entry_is_translated_with_its_placeholders(catalogue):
    for entry in catalogue:
        assert not entry.fuzzy, entry.msgid
        for text in translations(entry):
            assert text.strip(), entry.msgid
            wanted = set(PLACEHOLDER.findall(entry.msgid_plural or entry.msgid))
            assert set(PLACEHOLDER.findall(text)) == wanted, entry.msgid


def test_compiled_catalog_matches_the_source(catalogue):
    compiled = polib.mofile(str(CATALOGUE.with_suffix(".mo")))
    written = {(entry.msgctxt, entry.msgid): translations(entry) for entry in catalogue}
    assert {(entry.msgctxt, entry.msgid): translations(entry) for entry in compiled} == written


@pytest.mark.real
@pytest.mark.sqlite_only
def test_catalog_has_every_message(catalogue, tmp_path):
    """Run makemessages on a copy: no message is new, none is obsolete."""
    require("xgettext")
    for name in ("console", "accounts", "scanning", "registry", "templates", "manage.py"):
        copy = shutil.copytree if (SOURCE / name).is_dir() else shutil.copy
        copy(SOURCE / name, tmp_path / name)
    command = [sys.executable, "manage.py", "makemessages", "--locale", "ko", "--no-location", "--no-obsolete"]
    environment = os.environ | {"KCR_DATA_DIR": str(tmp_path / "data"), "DJANGO_SETTINGS_MODULE": "registry.settings"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    collected = polib.pofile(str(tmp_path / CATALOGUE.relative_to(SOURCE)))
    assert {entry.msgid for entry in collected} == {entry.msgid for entry in catalogue}


FACTS = {
    *(("attached", "digest"), ("pattern", "pattern"), ("newest", "number"), ("not-newest", "number"), ("no-rule", "")),
    *(("old", "days since"), ("unpulled", "days since"), ("untagged", "since"), ("untagged-long", "days since")),
    *(("changed", ""), ("needed", ""), ("gone", ""), ("tag-rule", "number of pattern")),
}
VALUES = {
    "digest": "sha256:abcdef",
    "pattern": "release-*",
    "number": 3,
    "days": 30,
    "since": "2026-01-02T03:04:05Z",
} | {"of": "demo/web"}


@pytest.mark.parametrize(("reason", "needs"), sorted(FACTS))
def test_the_reasons_of_cleanup(reason, needs):
    line = CleanupLine(reason=reason, facts={name: VALUES[name] for name in needs.split()})
    with translation.override("en"):
        said = reason_words(line)
    shown = {"digest": "abcdef", "since": "2 Jan 2026"}
    assert said
    for name in needs.split():
        assert str(shown.get(name, VALUES[name])) in said
    with translation.override("ko"):
        assert reason_words(line) != said


def test_console_client_name_is_translated():
    client = "console, Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    for language, words in (("en", "console, Firefox (Linux)"), ("ko", "콘솔, Firefox (Linux)")):
        with translation.override(language):
            assert client_words(client) == words


def test_every_reason_of_cleanup_has_words():
    assert {reason for reason, _ in FACTS} == set(CleanupLine.Reason.values)


def test_reason_stored_as_text_is_shown_unchanged():
    assert reason_words(CleanupLine(facts={"words": "something else"})) == "something else"
    assert reason_words(CleanupLine(reason="untagged", facts={"since": "2026-01-02"})).endswith("2 Jan 2026")


def test_refusals_are_translated_in_the_console_and_english_for_docker(console, docker, world):
    world.projects["demo"].repository_limit = 0
    world.projects["demo"].save()
    form = {"name": "shop", "visibility": "private", "overwrite": "yes", "scan": "auto", "block_severity": "0"}
    for language, words in (("ko", "가득 찼습니다"), ("en", "is full")):
        answer = console("member", headers={"accept-language": language}).post("/projects/demo/repositories/new", form)
        assert words in answer.content.decode()
    client, other = docker("member"), image_of("other")
    client.push("fixed/app", "1.0")
    client.push("fixed/app", "2.0", other)
    korean = {"Content-Type": other.media_type, "Accept-Language": "ko"}
    refused = client.put("fixed/app/manifests/1.0", 403, body=other.manifest, headers=korean)
    assert "does not allow tags to be overwritten" in refused.message


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/projects/demo/", ["개요", "최근 활동", "리포지토리 생성"]),
        ("/projects/demo/repositories/", ["공개 범위", "태그 규칙"]),
        ("/projects/demo/repositories/new", ["프로젝트 멤버와 이 리포지토리의", "설명"]),
        ("/projects/demo/repositories/web/app/", ["다이제스트", "태그 추가"]),
        ("/projects/demo/members", ["관리자", "멤버 추가"]),
        ("/projects/demo/recovery", ["복구할 항목이 없습니다"]),
        ("/profile/keys/new", ["액세스 키 생성", "90일 후"]),
    ],
)
def test_pages_speak_korean(console, pushed, address, words):
    page = console("admin").get(address, headers={"Accept-Language": "ko"}).content.decode()
    assert [word for word in words if word not in page] == []
