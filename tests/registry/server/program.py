"""``python -m tests.registry.server.program PORT PATIENCE PROCESSES``: the worker of KCR with an application that reports.

``POST /read?KEY`` reads its body as it arrives, ``/gather?KEY`` in blocks of 64 KiB; ``GET /seen?KEY`` returns the result of that request: {"bytes", "error"}, or null.
``GET /file`` is a file of FILE_BYTES, ``/stream`` pieces of a megabyte without end, ``/hold`` takes until ``/release``.
``/echo`` and ``/echo1`` return what the application gets: method, query, the headers that begin with X, the body or its
error. ``/echo1`` reads the body as it arrives.
``GET /count`` returns the number of earlier such requests; ``/process`` returns the id of the worker's process.
"""

import itertools
import json
import os
import sys
import threading
import time
from pathlib import Path

import django
from gunicorn.app.base import BaseApplication

from registry.server import connections
from registry.server.worker import Worker

FILE_BYTES = 64 * 1024 * 1024
THREADS = 64
SEEN: dict[str, dict[str, object]] = {}
RELEASED = threading.Event()
COUNT = itertools.count()
FILE = os.memfd_create("file")


class Pieces:
    """A stand-in for Django's StreamingHttpResponse."""

    streaming = True
    made = 0

    def __iter__(self):
        while True:
            Pieces.made += 1
            yield b"p" * (1 << 20)


def read(environ, read_some):
    seen = {"bytes": 0, "error": ""}
    try:
        while block := read_some(65536):
            seen["bytes"] += len(block)
    except Exception as error:
        seen["error"] = type(error).__name__
    SEEN[environ["QUERY_STRING"]] = seen


def echo(environ, read_all):
    seen = {name: value for name, value in environ.items() if name.startswith(("REQUEST_METHOD", "QUERY", "HTTP_X"))}
    try:
        seen["body"] = read_all().decode("latin-1")
    except Exception as error:
        seen["error"] = type(error).__name__
    return seen


def application(environ, start_response):
    path, body, sent = environ["PATH_INFO"], b"ok", environ["wsgi.input"]
    if path == "/read":
        read(environ, sent.read1)
    elif path == "/gather":
        read(environ, sent.read)
    elif path == "/seen":
        body = json.dumps(SEEN.get(environ["QUERY_STRING"])).encode()
    elif path == "/echo":
        body = json.dumps(echo(environ, sent.read), sort_keys=True).encode()
    elif path == "/echo1":
        body = json.dumps(echo(environ, lambda: b"".join(iter(sent.read1, b""))), sort_keys=True).encode()
    elif path == "/environ":
        body = json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()
    elif path == "/threads":
        body = str(threading.active_count()).encode()
    elif path == "/count":
        body = str(next(COUNT)).encode()
    elif path == "/process":
        body = str(os.getpid()).encode()
    elif path == "/broken":
        raise RuntimeError("this application fails")
    elif path == "/hold":
        RELEASED.wait(20)
    elif path == "/release":
        RELEASED.set()
        RELEASED.clear()
    elif path == "/busy":
        time.sleep(0.3)
    elif path == "/text":
        body = b"t" * (8 << 20)
    elif path == "/pieces":
        body = str(Pieces.made).encode()
    elif path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Pieces()
    elif path == "/file":
        start_response("200 OK", [("Content-Length", str(FILE_BYTES))])
        opened = Path(f"/proc/self/fd/{FILE}").open("rb")  # noqa: SIM115  the server closes it
        return environ["wsgi.file_wrapper"](opened, 65536)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


class Program(BaseApplication):
    def load_config(self):
        options = {
            "bind": [f"127.0.0.1:{sys.argv[1]}"],
            "worker_class": Worker,
            "workers": int(sys.argv[3]),
            "threads": THREADS,
            "graceful_timeout": 10,
            "errorlog": "-",
            "forwarded_allow_ips": "",
            "forwarder_headers": "",
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self):
        return application


if __name__ == "__main__":
    django.setup()
    connections.PATIENCE = float(sys.argv[2])
    os.ftruncate(FILE, FILE_BYTES)
    Program().run()
