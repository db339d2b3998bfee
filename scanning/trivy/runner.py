"""Runs Trivy for scanners in other containers: ``python -m scanning.trivy.runner /scans/scanning/trivy.sock``.

Its container has no secret, no network and none of the registry's data. It shares the folder of the socket with the
scanner, which writes there what is to be read, and may read the vulnerability database. It needs the standard library
and Trivy only. Started by root, which needs CHOWN, DAC_OVERRIDE, KILL, SETGID, SETPCAP and SETUID, it gives each run a
user of its own: a run does not reach another one, nor this program.

A request is a line of JSON: arguments, folder (below the socket's), environment, file_bytes, data_bytes. The answer is
a line of JSON: status (as in a shell), said (the end of standard error). Closing the connection stops the run.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import socketserver
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from scanning.trivy import sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_REQUEST = 64 * 1024
SAID_BYTES = 64 * 1024
TURN = 0.25


class _Run(socketserver.StreamRequestHandler):
    """One run of Trivy."""

    def handle(self) -> None:
        """Run Trivy until it ends or the caller closes the connection."""
        wanted = json.loads(self.rfile.readline(MAX_REQUEST))
        root = Path(str(self.server.server_address)).resolve().parent
        folder = Path(wanted["folder"]).resolve(strict=True)
        program = sandbox.find("trivy", os.defpath)
        if program is None or root not in folder.parents:
            raise PermissionError(f"{folder} is not below {root}, or there is no Trivy")
        with tempfile.TemporaryFile() as errors, _user_for(folder) as user:
            with _started(program, wanted, folder, errors, user) as process:
                try:
                    status = self._wait(process)
                finally:
                    process.kill()
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - SAID_BYTES))
            answer = {"status": status, "said": errors.read().decode(errors="replace")}
        with suppress(OSError):
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        while True:
            with suppress(subprocess.TimeoutExpired):
                status = process.wait(TURN)
                return status if status >= 0 else 128 - status
            if select.select([self.request], [], [], 0)[0]:  # after its request, the caller sends nothing: it closed
                return 128


@contextmanager
def _user_for(folder: Path) -> Iterator[int]:
    """A user who owns the folder for the run; their processes are killed afterwards. 0 if this process is not root."""
    if os.geteuid() != 0:
        yield 0
        return
    user, owner = secrets.choice(sandbox.USERS), folder.stat()
    sandbox.give(folder, user)
    try:
        yield user
    finally:
        subprocess.run(sandbox.end_all(user), stderr=subprocess.DEVNULL, check=False)  # noqa: S603  our own words
        for root, _folders, names in os.walk(folder):
            for path in (Path(root), *(Path(root, name) for name in names)):
                if path.lstat().st_uid == user:
                    os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _started(
    program: str, wanted: dict[str, Any], folder: Path, errors: IO[bytes], user: int
) -> subprocess.Popen[bytes]:
    specification = sandbox.Specification(
        "user" if user else "limits",
        str(folder),
        user=user,
        file_bytes=int(wanted["file_bytes"]),
        data_bytes=int(wanted["data_bytes"]),
    )
    command = [sys.executable, "-I", "-S", sandbox.__file__, specification.written(), program, *wanted["arguments"]]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(  # noqa: S603  the caller is KCR's scanner
        command, cwd=folder, env=wanted["environment"], stdin=quiet, stdout=quiet, stderr=errors
    )


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def main(address: str) -> None:
    """Serve until a signal comes."""
    Path(address).unlink(missing_ok=True)
    os.umask(0o077)
    with _Server(address, _Run) as server:
        owner = Path(address).parent.stat()
        if os.geteuid() == 0:
            os.chown(address, owner.st_uid, owner.st_gid)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
