"""The pages of docs/reference match the code (settings.md: registry/test_settings.py)."""

from __future__ import annotations

import argparse
import csv
import itertools
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError
from django.test import Client
from django.urls import get_resolver, reverse

from accounts.actors import SYSTEM
from accounts.models import Project
from registry import access, audit
from registry.models import Event
from registry.quota_warnings import Fill
from registry.v2.errors import ANSWERS
from registry.v2.exchange import ExchangeView
from registry.v2.token import TokenView
from scanning import acceptances
from scanning.models import Acceptance, Delivery
from scanning.notifications import cloud_events, messages, quota_messages
from tests.support.factories import high, make_manifest, make_report, scanned, subscribe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.urls import URLPattern


REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"


def section(page: str, heading: str) -> str:
    """Return the part of a page below a heading, up to the next one."""
    text = (REFERENCE / page).read_text()
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the table in a text, without its header."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cells: str) -> list[str]:
    """Return all texts in code spans."""
    return re.findall(r"`([^`]+)`", cells)


def fields(value: Any, path: str = "") -> Iterator[str]:
    """Return the path of each field of a JSON document. Counts by severity are one field."""
    if isinstance(value, list):
        yield f"{path}[]"
        for each in value:
            yield from (name for name in fields(each, f"{path}[]") if name != f"{path}[]")
    elif isinstance(value, dict) and not path.endswith("counts"):
        for name, each in value.items():
            inner = f"{path}.{name}".lstrip(".")
            yield from fields(each, inner) if isinstance(each, dict | list) and each else [inner]
    else:
        yield path


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────
OURS = {"accounts", "api", "registry", "scanning", "console"}
COMMANDS = sorted((name, app) for name, app in get_commands().items() if app in OURS)


def test_every_command_has_its_entry():
    headings = re.findall(r"^### (.*)$", (REFERENCE / "commands.md").read_text(), re.MULTILINE)
    assert sorted(headings) == [name for name, _ in COMMANDS]


@pytest.mark.parametrize(("name", "app"), COMMANDS)
def test_every_argument_of_a_command_has_its_row(name, app):
    command = load_command_class(app, name)
    common = {option for action in BaseCommand().create_parser("", "")._actions for option in action.option_strings}
    taken = [
        action.option_strings[-1] if action.option_strings else action.dest
        for action in command.create_parser("manage.py", name)._actions
        if not common.intersection(action.option_strings) and not isinstance(action, argparse._HelpAction)
    ]
    text = section("commands.md", name)
    assert [names(row[0])[0] for row in rows(text)] == taken
    synopsis = text.strip().splitlines()[0]
    assert synopsis.startswith(f"`manage.py {name}")
    assert set(re.findall(r"--[a-z-]+", synopsis)) <= set(taken)


def calls() -> Iterator[tuple[str, list[str]]]:
    """Yield every command in a block of code: the document, and the words after ``manage.py``."""
    root = REFERENCE.parents[1]
    for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL):
            for line in re.findall(r"manage\.py (.*)", block):
                is_quoted = line.count("'") % 2 == 1  # as in sh -c '…'
                words = shlex.split(line.rpartition("'")[0] if is_quoted else line, comments=True)
                yield path.name, list(itertools.takewhile(lambda word: word not in {"<", ">", "|", "&&"}, words))


def test_every_documented_command_line_is_valid():
    apps = get_commands()
    checked = 0
    for page, (name, *arguments) in calls():
        if apps[name] in OURS:
            try:
                load_command_class(apps[name], name).create_parser("manage.py", name).parse_args(arguments)
            except CommandError as error:
                pytest.fail(f"{page}: {name} {arguments}: {error}")
            checked += 1
    assert checked > 10


# ── The registry API ─────────────────────────────────────────────────────────────────────────────────────────────────
def routes() -> dict[str, set[str]]:
    """Return the methods of every route of the API by address, without the catch-all route."""
    patterns: list[URLPattern] = get_resolver("registry.v2.urls").url_patterns
    found = {}
    for pattern in patterns:
        if pattern.name != "unknown":
            address = re.sub(r"\(\?P(<\w+>)(?:[^()]|\([^()]*\))*\)", r"\1", str(pattern.pattern))
            found["/v2" + address.strip("^$").replace("/?", "/")] = set(pattern.callback.cls.actions)
    return found | {"/token": set(TokenView.actions), "/token/exchange": set(ExchangeView.actions)}


def test_every_route_has_its_row():
    documented = {names(row[0])[0]: set(names(row[1])) for row in rows(section("registry-api.md", "Addresses"))}
    assert documented == routes()


def test_every_error_has_its_row():
    documented = {(row[0], names(row[1])[0]) for row in rows(section("registry-api.md", "Errors"))}
    assert documented == {(str(answer.status), answer.code) for answer in ANSWERS.values()}


# ── Roles ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_table_of_roles_matches_the_policy():
    text = (REFERENCE / "roles.md").read_text().split("\n\n| action |")[0]
    actions = [
        access.Action(cell.strip()) for cell in re.search(r"^\| role \|(.*)\|$", text, re.MULTILINE)[1].split("|")
    ]
    documented = {row[0]: {action for action, cell in zip(actions, row[1:], strict=True) if cell} for row in rows(text)}
    roles = [role for role in access.Role if role != access.Role.SYSTEM]
    assert documented == {
        str(role): {action for action, allowed in access.ALLOWED.items() if role in allowed} for role in roles
    }
    assert [action.value for action in access.Action] == [action.value for action in actions]


# ── Webhooks and downloads ───────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
def test_the_fields_of_a_webhook_are_documented(web):
    documented = [names(row[0])[0] for row in rows(section("webhook.md", "Body"))]
    subscription = subscribe(web.project, web)
    scanned(make_manifest(web, "app", tag="1"), high("CVE-1"))
    (pk,) = messages.gather()
    sent = Delivery.objects.get(pk=pk).content
    assert sent["images"][0]["new"]
    for content in (sent, messages.test_content(subscription, subscription.created_at)):
        assert set(fields(content)) - {"images[].tags[]"} | {"images[].tags", "totals"} == set(documented)


def test_the_fields_of_a_message_about_a_quota_are_documented():
    documented = [names(row[0])[0] for row in rows(section("webhook.md", "Quotas"))]
    content = quota_messages._content(Fill(Project(name="demo"), "bytes", "demo", 9, 10))
    assert [
        *(name for name in content if name != "quota"),
        *(f"quota.{name}" for name in content["quota"]),
    ] == documented


@pytest.mark.django_db
def test_the_types_and_fields_of_events_are_documented(web):
    documented = {names(row[0])[0]: names(row[1])[0] for row in rows(section("events.md", "Types"))}
    assert documented == {kind: str(action) for action, kind in cloud_events.TYPES.items()}
    event = audit.record(SYSTEM, Event.Action.PROJECT_UPDATE, web.project, before=1)
    sent = cloud_events.of(event, web.project)
    found = {name for name in sent if name != "data"} | {f"data.{name}" for name in sent["data"]}
    assert found == {names(row[0])[0] for row in rows(section("events.md", "Body"))}


def header_of(client: Client, name: str, *args: str) -> list[str]:
    answer = client.get(reverse(f"console:{name}", args=args))
    return next(csv.reader([b"".join(answer.streaming_content).decode("utf-8-sig").splitlines()[0]]))


@pytest.mark.django_db
def test_the_columns_of_csv_files_are_documented(world, web):
    client = Client(SERVER_NAME="localhost", SERVER_PORT="8080")
    client.force_login(world.owner.user, backend="django.contrib.auth.backends.ModelBackend")
    manifest = make_manifest(web, "app", tag="1")
    make_report(manifest, [high("CVE-1")])
    files = {
        "Audit log of a project, repository or image": header_of(client, "audit_log_csv", "demo"),
        "Audit log of an organization": header_of(client, "organization_audit_log_csv", "acme"),
        "Vulnerabilities of a digest": header_of(client, "vulnerabilities_csv", "demo", "web", "app", manifest.digest),
        "Images with a vulnerability": header_of(client, "cve_csv", "CVE-1"),
    }
    for heading, header in files.items():
        assert [names(row[0])[0] for row in rows(section("csv.md", heading))] == header


@pytest.mark.django_db
def test_the_fields_of_openvex_are_documented(web):
    make_report(make_manifest(web, "app", tag="1"), [high("CVE-1"), high("CVE-2")])
    for name, justification in (("CVE-1", ""), ("CVE-2", Acceptance.Justification.CODE)):
        acceptances.accept(SYSTEM, web, name, reason="why", justification=justification, covers_fixed=True)
    documented = {names(row[0])[0] for row in rows((REFERENCE / "openvex.md").read_text())}
    found = set(fields(acceptances.openvex(web.project, web)))
    assert found - {"statements[].products[]"} == documented
