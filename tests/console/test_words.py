"""The Korean of the console: complete, compiled, and on the pages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polib
import pytest

from tests.programs import require

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


def test_what_is_compiled_is_what_is_written(catalogue):
    compiled = polib.mofile(str(CATALOGUE.with_suffix(".mo")))
    assert {entry.msgid: translations(entry) for entry in compiled} == {
        entry.msgid: translations(entry) for entry in catalogue
    }


@pytest.mark.real
@pytest.mark.sqlite_only
def test_no_word_is_missing(catalogue, tmp_path):
    """Collect the words again, from a copy: nothing new, nothing that is gone."""
    require("xgettext")
    for name in ("console", "accounts", "scanning", "registry", "templates", "manage.py"):
        copy = shutil.copytree if (SOURCE / name).is_dir() else shutil.copy
        copy(SOURCE / name, tmp_path / name)
    command = [
        sys.executable,
        "manage.py",
        "makemessages",
        "--locale",
        "ko",
        "--no-location",
        "--no-obsolete",
        "--ignore",
        "registry/*",
    ]
    environment = os.environ | {"KCR_DATA_DIR": str(tmp_path / "data"), "DJANGO_SETTINGS_MODULE": "registry.settings"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    collected = polib.pofile(str(tmp_path / CATALOGUE.relative_to(SOURCE)))
    assert {entry.msgid for entry in collected} == {entry.msgid for entry in catalogue}


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/projects/demo/", ["개요", "최근 활동", "리포지토리 생성"]),
        ("/projects/demo/repositories/", ["공개 범위", "태그 덮어쓰기"]),
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
