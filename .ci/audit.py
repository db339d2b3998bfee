"""Ask whether a locked dependency has a known vulnerability (``make audit``).

Reads the lock files and asks the source of pip-audit about each version. Arguments go to pip-audit: for instance
``--vulnerability-service osv --osv-url ADDRESS`` asks another source.

Status 0: nothing known, or the source cannot be reached from here (the last line says which).
Status 1: a vulnerability that .ci/allowed_vulnerabilities.toml does not allow, an entry there whose time is over, or a
dependency that the source does not know.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LOCK_FILES = (HERE.parent / "requirements.txt", HERE.parent / "requirements-dev.txt")
ALLOWED = HERE / "allowed_vulnerabilities.toml"


@dataclass(frozen=True)
class Allowed:
    """A vulnerability that is known and accepted until a date."""

    package: str
    id: str
    reason: str
    until: date


class Unreachable(Exception):
    """The source does not answer, or does not know the packages."""


def read_allowed(path: Path) -> list[Allowed]:
    """The entries of the allow list; TypeError or ValueError when one lacks a field or gives no reason."""
    entries = [Allowed(**entry) for entry in tomllib.loads(path.read_text()).get("allowed", [])]
    for entry in entries:
        if not entry.reason.strip() or not isinstance(entry.until, date):
            raise ValueError(f"{path.name}: {entry.id} needs a reason, and a date in `until`")
    return entries


def ask(*options: str) -> list[dict[str, Any]]:
    """Return the source's answer for each locked dependency: ``name``, ``version``, ``vulns``, or ``skip_reason``.

    Raises Unreachable.
    """
    files = [word for path in LOCK_FILES for word in ("--requirement", str(path))]
    # The lock files name every dependency, so pip need not resolve anything.
    fixed = [
        "--require-hashes",
        "--disable-pip",
        "--progress-spinner=off",
        "--desc=off",
        "--aliases=on",
        "--format=json",
    ]
    command = [sys.executable, "-m", "pip_audit", *fixed, *files, *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        told: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except ValueError:
        lines = ended.stderr.strip().splitlines() or ["pip-audit printed nothing"]
        if "ConnectionError" in ended.stderr or "Timeout" in ended.stderr or "ServiceError" in ended.stderr:
            raise Unreachable(lines[-1]) from None
        raise SystemExit(f"pip-audit failed:\n{ended.stderr}") from None
    # A mirror that serves packages only answers 404 to every question; pip-audit calls that "nothing known".
    if all("skip_reason" in dependency for dependency in told):
        raise Unreachable(f"it knows none of {len(told)} dependencies")
    return told


def judge(told: list[dict[str, Any]], allowed: list[Allowed]) -> list[str]:
    """Return one line for each problem."""
    known = {(entry.package, entry.id) for entry in allowed}
    wrong = []
    for dependency in told:
        name = dependency["name"]
        if "skip_reason" in dependency:
            wrong.append(f"{name}: {dependency['skip_reason']}")
        for found in dependency.get("vulns", []):
            if not any((name, identifier) in known for identifier in (found["id"], *found["aliases"])):
                fixed = ", ".join(found["fix_versions"]) or "no version yet"
                wrong.append(f"{name} {dependency['version']}: {found['id']}, fixed in {fixed}")
    return list(dict.fromkeys(wrong))  # a dependency of both lock files occurs twice


def main(options: list[str], today: date, path: Path = ALLOWED) -> int:
    """Print the problems; return the exit status. ``path``: the allow list."""
    allowed = read_allowed(path)
    wrong = [f"{path.name}: {it.id} ({it.package}) ended on {it.until}" for it in allowed if it.until < today]
    try:
        told = ask(*options)
        wrong += judge(told, allowed)
        outcome = f"{len({dependency['name'] for dependency in told})} dependencies were audited"
    except Unreachable as reason:
        outcome = f"NOT AUDITED: the source of vulnerabilities cannot be reached ({reason})"
    print(*wrong, outcome, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], date.today()))  # noqa: DTZ011  a day more or less does not matter
