"""``manage.py doctor``"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from registry.doctor import runs, visit
from registry.doctor.results import Result, State

BADGES = {State.OK: "✓", State.WARNING: "!", State.FAILURE: "✗", State.SKIPPED: "-"}
COLOURS = {State.OK: "32", State.WARNING: "33", State.FAILURE: "31", State.SKIPPED: "90"}
LONGEST_WAIT = 900


class Command(BaseCommand):
    help = (
        "Probe the deployed address through its proxy, and database, queue, storage, mail and scans. Says for each"
        " fault which setting or which line of the proxy to change. Status 1 if something fails."
    )
    requires_system_checks = ()  # a wrong setting is a result

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("probe", nargs="*", help="only these probes, by their names in the output of --json")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--send-mail", metavar="ADDRESS", default="", help="send a test mail to this address")
        parser.add_argument(
            "--wait",
            type=_seconds,
            metavar="SECONDS",
            default=visit.WAIT,
            help=f"for how long the proxy must wait for an answer (default: {visit.WAIT}; at most {LONGEST_WAIT})",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the results in the order of the probes, as soon as they are there."""
        wanted = [probe for probe in runs.probes() if not options["probe"] or probe.name in options["probe"]]
        if unknown := set(options["probe"]) - {probe.name for probe in wanted}:
            raise CommandError(f"there is no probe {', '.join(sorted(unknown))}")
        asked = visit.Visit(wait=options["wait"], send_mail=options["send_mail"])
        with suppress(Exception):  # a database that is away is a result, too
            asked.run = runs.open_run("manage.py doctor").pk
        self.known = {probe.name: probe for probe in wanted}
        self.is_terminal = self.stdout.isatty()
        self.group, self.left = "", set(self.known)
        found = []
        for result in runs.run(asked, wanted, self.show_progress):
            found.append(result)
            if not options["json"]:
                self.show(result)
        if asked.run:
            with suppress(Exception):
                runs.note(asked.run, found, is_done=True)
        self.finish(found, is_json=options["json"])

    def show_progress(self, result: Result) -> None:
        """Say at a terminal how many probes are at work."""
        self.left.discard(result.probe)
        if sys.stderr.isatty() and self.left:
            waits = ", ".join(sorted(self.left)[:3])
            self.stderr.write(f"\r\033[K… {len(self.left)} probes at work: {waits}", ending="\r")

    def show(self, result: Result) -> None:
        """Print a result in words."""
        probe = self.known[result.probe]
        if sys.stderr.isatty():
            self.stderr.write("\r\033[K", ending="")
        if probe.group != self.group:
            self.stdout.write(f"{chr(10) if self.group else ''}{probe.group}")
            self.group = probe.group
        self.stdout.write(f"  {self.badge(result.state)} {probe.title}: {result.seen}")
        for text in textwrap.wrap(str(result.change), 110):
            self.stdout.write(f"      {text}")
        width = max(map(len, result.lines), default=0)
        for kind, line in result.lines.items():
            self.stdout.write(f"      {kind:<{width}}  {line}")

    def badge(self, state: State) -> str:
        """The badge, in colour at a terminal."""
        return f"\033[{COLOURS[state]}m{BADGES[state]}\033[0m" if self.is_terminal else BADGES[state]

    def finish(self, found: list[Result], *, is_json: bool) -> None:
        """Print the numbers; status 1 for a failure."""
        numbers = {str(state): sum(result.state == state for result in found) for state in State}
        if is_json:
            rows = [{name: value for name, value in each.written().items() if name != "words"} for each in found]
            self.stdout.write(json.dumps({**numbers, "results": rows}, ensure_ascii=False))
        else:
            self.stdout.write("\n" + ", ".join(f"{number} {state}" for state, number in numbers.items()))
        if numbers[State.FAILURE]:
            raise SystemExit(1)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LONGEST_WAIT):
        raise argparse.ArgumentTypeError(f"a number from 1 to {LONGEST_WAIT}")
    return int(text)
