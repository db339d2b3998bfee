"""``python -m bench.requests [TREE]``: processor time of single requests to the registry API, without a server.

Calls the WSGI application in this process with requests as docker sends them, and prints for each the least
microseconds of processor time of ROUNDS rounds (which the work of others on the machine lengthens least) and the number
of function calls, which no other work changes. With TREE, another working copy of the source, both are measured in
turn, and the table has the ratio TREE / this one: median and spread of the rounds.

``--postgresql`` starts a PostgreSQL server for it; the time of that server is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 9
REQUESTS = 150  # of each kind in a round
HOST = "localhost:8080"
NAME = "/v2/demo/web/app"
ROW = "{:28}{:>9}{:>9}{:>9}{:>9}   {}"


class Api:
    """The WSGI application of the tree in the working directory, with an installation of its own."""

    def __init__(self) -> None:
        import logging

        import django
        from django.core.management import call_command

        django.setup()
        logging.captureWarnings(True)
        call_command("migrate", verbosity=0)

        from registry.wsgi import application
        from tests.support.images import Image
        from tests.support.personas import make_world

        self._application = application
        self._file = Path(os.environ["KCR_DATA_DIR"], "body")
        self.basic = _basic(make_world().member)
        self.token = ""
        scope = "repository:demo/web/app:pull,push"
        self.path_of_token = f"/token?service={HOST}&scope={scope}"
        self.token = json.loads(self.ask("GET", self.path_of_token, 200, self.basic)[1])["token"]
        self.image = Image(layers=[b"a layer of a small image" * 40])
        for part in self.image.parts[:-1]:
            self.ask("POST", f"{NAME}/blobs/uploads/?digest={part.digest}", 201, body=bytes(part))
        self.put_manifest("1.0", self.image)

    def put_manifest(self, reference: str, image: Any) -> None:
        """Push a manifest."""
        environ = {"CONTENT_TYPE": image.media_type}
        self.ask("PUT", f"{NAME}/manifests/{reference}", 201, body=bytes(image.manifest), environ=environ)

    def request(
        self, method: str, path: str, authorization: str = "", body: bytes = b"", environ: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """The WSGI environment of a request; without ``authorization`` with the token."""
        path, _, query = path.partition("?")
        made = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "RAW_URI": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8080",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_PORT": "50000",
            "HTTP_HOST": HOST,
            "HTTP_USER_AGENT": "docker/28.1.1 go/go1.23.8 kernel/6.1 os/linux arch/amd64",
            "HTTP_ACCEPT": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, */*",
            "HTTP_ACCEPT_ENCODING": "gzip",
            "HTTP_AUTHORIZATION": authorization or f"Bearer {self.token}",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            **(environ or {}),
        }
        if method in {"POST", "PATCH", "PUT"}:
            made["CONTENT_LENGTH"] = str(len(body))
        return made

    def answer(self, environ: dict[str, Any], status: int) -> tuple[dict[str, str], bytes]:
        """The headers and the body of the answer. Exits for another status."""
        said: list[Any] = []
        result = self._application(environ, lambda *started: said.extend(started))
        try:
            body = b"".join(result)
        finally:
            if hasattr(result, "close"):
                result.close()
        if not said[0].startswith(f"{status} "):
            sys.exit(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}: {said[0]} {body!r}")
        return dict(said[1]), body

    def ask(
        self, method: str, path: str, status: int, authorization: str = "", **request: Any
    ) -> tuple[dict[str, str], bytes]:
        """Make a request; return headers and body."""
        return self.answer(self.request(method, path, authorization, **request), status)

    # ── What is measured ─────────────────────────────────────────────────────────────────────────────────────────────
    def kinds(self) -> dict[str, tuple[int, Callable[[], dict[str, Any]]]]:
        """For each row of the table the expected status, and a function that makes the next request."""
        from tests.support.images import Image, sha256

        image, layer = self.image, self.image.layers[0]
        numbers = iter(range(10**9))

        def data() -> bytes:
            return f"{os.getpid()} {next(numbers)}".encode() * 100

        def location() -> str:
            headers, _ = self.ask("POST", f"{NAME}/blobs/uploads/", 202)
            return headers["Location"]

        def finish() -> dict[str, Any]:
            sent = data()
            headers, _ = self.ask("PATCH", location(), 202, body=sent)
            return self.request("PUT", f"{headers['Location']}?digest={sha256(sent)}")

        def whole() -> dict[str, Any]:
            sent = data()
            return self.request("PUT", f"{location()}?digest={sha256(sent)}", body=sent)

        def at_once() -> dict[str, Any]:
            sent = data()
            return self.request("POST", f"{NAME}/blobs/uploads/?digest={sha256(sent)}", body=sent)

        def manifest() -> dict[str, Any]:
            config = {"architecture": "amd64", "os": "linux", "number": next(numbers)}
            made = Image(config=json.dumps(config).encode(), layers=list(image.layers))
            self.ask("POST", f"{NAME}/blobs/uploads/?digest={sha256(made.config)}", 201, body=bytes(made.config))
            kind = {"CONTENT_TYPE": made.media_type}
            return self.request("PUT", f"{NAME}/manifests/{made.digest}", body=bytes(made.manifest), environ=kind)

        def get(path: str, method: str = "GET") -> Callable[[], dict[str, Any]]:
            return lambda: self.request(method, path)

        return {
            "GET /v2/ with a token": (200, get("/v2/")),
            "GET manifest by tag": (200, get(f"{NAME}/manifests/1.0")),
            "GET manifest by digest": (200, get(f"{NAME}/manifests/{image.digest}")),
            "HEAD manifest by tag": (200, get(f"{NAME}/manifests/1.0", "HEAD")),
            "GET small blob": (200, get(f"{NAME}/blobs/{sha256(layer)}")),
            "HEAD of a new blob": (404, lambda: self.request("HEAD", f"{NAME}/blobs/{sha256(b'new' + data())}")),
            "token for one scope": (200, lambda: self.request("GET", self.path_of_token, self.basic)),
            "POST upload": (202, lambda: self.request("POST", f"{NAME}/blobs/uploads/")),
            "PATCH": (202, lambda: self.request("PATCH", location(), body=data())),
            "PUT after PATCH": (201, finish),
            "PUT with all bytes": (201, whole),
            "POST with all bytes": (201, at_once),
            "PUT manifest": (201, manifest),
        }

    def measure(self, requests: int) -> dict[str, float]:
        """The least microseconds of processor time of each kind of request."""
        found = {}
        for name, (status, make) in self.kinds().items():
            times = []
            for _ in range(requests if status in {200, 404} else max(1, requests // 10)):
                self._end_uploads()
                environ = make()
                began = time.process_time_ns()
                self.answer(environ, status)
                times.append((time.process_time_ns() - began) / 1000)
            found[name] = min(times)
        return found

    def count(self) -> dict[str, int]:
        """The number of calls of functions, Python's and C's, in a request of each kind."""
        found = {}
        self.ask("GET", "/v2/", 200)  # reads the signing keys again when it is time
        for name, (status, make) in self.kinds().items():
            self._end_uploads()
            counts = {"call": 0, "c_call": 0}

            def note(frame: Any, event: str, argument: Any, counts: dict[str, int] = counts) -> None:
                if event in counts:
                    counts[event] += 1

            environ = make()
            sys.setprofile(note)
            try:
                self.answer(environ, status)
            finally:
                sys.setprofile(None)
            found[name] = sum(counts.values())
        return found

    def _end_uploads(self) -> None:
        """A user has at most 100 open uploads."""
        from registry.models import UploadSession

        UploadSession.objects.all().delete()


def _basic(person: Any) -> str:
    import base64

    text = f"{person.key.identifier}:{person.secret}"
    return "Basic " + base64.b64encode(text.encode()).decode()


# ── Processes ────────────────────────────────────────────────────────────────────────────────────────────────────────
def serve() -> None:
    """Measure a tree: for each line of standard input a round, or the calls of functions."""
    said = os.fdopen(os.dup(1), "w", buffering=1)
    api = Api()
    api.measure(20)  # fills the caches
    for line in sys.stdin:
        found = api.count() if line == "count\n" else api.measure(int(line))
        print(json.dumps(found), file=said)


class Tree:
    """A working copy of the source, and the process that measures it."""

    def __init__(self, tree: Path, folder: Path, database: str) -> None:
        folder.mkdir()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("KCR_")}
        environment |= {
            "PYTHONPATH": str(tree),
            "PYTHONWARNINGS": "ignore",
            "DJANGO_SETTINGS_MODULE": "registry.settings",
            "KCR_DATA_DIR": str(folder / "data"),
            **({"KCR_DATABASE_URL": database} if database else {}),
        }
        self._log = (folder / "log").open("w")
        command = [sys.executable, "-P", __file__, "--serve"]
        self._process = subprocess.Popen(
            command,
            cwd=tree,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, question: str) -> dict[str, Any]:
        """The answer of the process to a line."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"the process ended:\n{Path(self._log.name).read_text()[-3000:]}")
        return dict(json.loads(line))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
        self._log.close()


@contextlib.contextmanager
def databases(wanted: bool, number: int) -> Iterator[list[str]]:
    """Addresses of empty databases; "" is SQLite."""
    if not wanted:
        yield [""] * number
        return
    from tests.support.programs import PostgresServer

    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(PostgresServer(f"postgres-{each}")).url for each in range(number)]


def table(rounds: list[list[dict[str, float]]], calls: list[dict[str, int]]) -> None:
    """Print least times, calls and ratios. ``rounds``: of each tree, the first is this one."""
    print(ROW.format("microseconds of processor", "other", "this", "calls", "calls", "other / this"))
    for name in rounds[0][0]:
        least = [min(each[name] for each in of_tree) for of_tree in rounds]
        if len(rounds) == 1:
            print(ROW.format(name, "", f"{least[0]:,.0f}", "", f"{calls[0][name]:,}", ""))
            continue
        ratios = sorted(other[name] / ours[name] for ours, other in zip(*rounds, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} - {ratios[-1]:.2f})"
        times = (f"{value:,.0f}" for value in reversed(least))
        print(ROW.format(name, *times, *(f"{each[name]:,}" for each in reversed(calls)), spread))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", nargs="?", type=Path, help="another working copy, to compare with")
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    trees = [Path.cwd(), *([options.tree.resolve()] if options.tree else [])]
    with tempfile.TemporaryDirectory(prefix="kcr-bench-") as name, databases(options.postgresql, len(trees)) as urls:
        running = [
            Tree(tree, Path(name, str(number)), url) for number, (tree, url) in enumerate(zip(trees, urls, strict=True))
        ]
        rounds: list[list[dict[str, float]]] = [[] for _ in running]
        for _ in range(options.rounds):
            for each, found in zip(running, rounds, strict=True):
                found.append(each.ask(str(REQUESTS)))
        table(rounds, [each.ask("count") for each in running])
        for each in running:
            each.close()


if __name__ == "__main__":
    main()
