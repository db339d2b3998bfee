"""Plant each defect of ``bugs.py`` into a copy of the source, and print whether the tests found it.

    python -m tests.planted                   all of them, two at a time
    python -m tests.planted --only NAME       those whose name contains this
    python -m tests.planted --list            their names

Ends with status 0 when every one was found. The source itself is never touched.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from .bugs import BUGS, Bug, Rotten

SOURCE = Path(__file__).resolve().parents[2]
PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
PASSED, FAILED = 0, 1  # exit statuses of pytest; with any other status no test was run


@dataclass
class Verdict:
    """The result of one defect. ``word``: found, survived, or broken (the tests could not run)."""

    bug: Bug
    word: str
    seconds: float
    said: str = ""


def main() -> int:
    """See the module."""
    options = _options()
    wanted = [bug for bug in BUGS if options.only.casefold() in bug.name.casefold()]
    if options.list:
        print("\n".join(bug.name for bug in wanted))
        return 0
    if not wanted:
        print(f"no defect has {options.only!r} in its name")
        return 2
    with tempfile.TemporaryDirectory(prefix="kcr-planted-") as folder:
        roots: queue.Queue[Path] = queue.Queue()
        for number in range(options.parallel):
            roots.put(_copy(Path(folder) / str(number)))
        with ThreadPoolExecutor(options.parallel) as threads:
            # A test that fails without the defect finds nothing.
            for control in threads.map(lambda bug: _try(bug, roots, 10 * options.timeout), _controls(wanted)):
                if control.word != "survived":
                    print(f"without any defect, the tests do not pass:\n{control.said}")
                    return 2
            print("the tests pass without a defect", flush=True)
            verdicts = []
            for tried in as_completed([threads.submit(_try, bug, roots, options.timeout) for bug in wanted]):
                verdict = tried.result()
                print(f"{verdict.word:9} {verdict.seconds:5.0f} s  {verdict.bug.name}", flush=True)
                verdicts.append(verdict)
    missed = [verdict for verdict in verdicts if verdict.word != "found"]
    for verdict in missed:
        print(f"\n{verdict.word}: {verdict.bug.name}\n  {' '.join(verdict.bug.tests)}\n{verdict.said}")
    print(f"\n{len(verdicts) - len(missed)} of {len(verdicts)} were found")
    return 1 if missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--only", default="", metavar="NAME", help="those whose name contains this")
    parser.add_argument("--list", action="store_true", help="show the names, and do nothing")
    parser.add_argument("--parallel", type=int, default=2, help="so many at a time (2)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for the tests of one defect (300)")
    return parser.parse_args()


def _controls(bugs: list[Bug]) -> list[Bug]:
    """Return, for each database, a run of all tests of these defects without a defect."""
    tests: dict[str, dict[str, None]] = {}
    for bug in bugs:
        tests.setdefault(bug.database, {}).update(dict.fromkeys(bug.tests))
    return [Bug("no defect", (), tuple(some), database) for database, some in tests.items()]


def _copy(root: Path) -> Path:
    """Copy the files that git tracks, and new files that it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=SOURCE,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = SOURCE / name, root / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return root


def _try(bug: Bug, roots: queue.Queue[Path], timeout: float) -> Verdict:
    root, started = roots.get(), time.monotonic()
    before = {change.file: (root / change.file).read_bytes() for change in bug.changes if (root / change.file).exists()}
    try:
        bug.plant(root)
        word, said = _run(bug, root, timeout)
    except Rotten as error:
        word, said = "broken", str(error)
    finally:
        for file, content in before.items():
            (root / file).write_bytes(content)
        roots.put(root)
    return Verdict(bug, word, time.monotonic() - started, said)


def _run(bug: Bug, root: Path, timeout: float) -> tuple[str, str]:
    """Run the tests of a defect. Return the word for the result, and the end of the output of pytest."""
    # Python compares compiled files with sources by seconds and length only. A defect may change neither.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "KCR_TEST_DATABASE": bug.database}
    process = subprocess.Popen(
        [*PYTEST, *(f"tests/{test}" for test in bug.tests)],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        said = process.communicate(timeout=timeout)[0]
    except subprocess.TimeoutExpired:
        process.terminate()  # pytest ends the processes of its tests
        try:
            said = process.communicate(timeout=30)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            said = process.communicate()[0]
        return "broken", f"not done after {timeout:.0f} s\n{said[-1500:]}"
    word = {PASSED: "survived", FAILED: "found"}.get(process.returncode, "broken")
    return word, said[-3000:]


if __name__ == "__main__":
    sys.exit(main())
