"""``manage.py serve``: the web server of this installation. See docs/design/server.md."""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from gunicorn.app.base import BaseApplication

from registry import migrated, pools
from registry.background import Flusher
from registry.metrics import counters
from registry.server.worker import Worker

M_ARENA_MAX = -8  # malloc.h of glibc


def _allow_many_files() -> None:
    """Raise the soft limit of 1,024 open files: each thread may use a socket, a blob and a database connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _share_arenas() -> None:
    """Have all threads allocate from two arenas of glibc. Call it before the first thread starts.

    By default each thread gets one of its own, and keeps what it has freed there. Other C libraries have no arenas.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def _start_flusher(worker: Any) -> None:
    Flusher(partial(counters.observe_process, worker)).start()


def _has_ended(server: object, worker: Any) -> None:
    if settings.METRICS_LISTEN:
        counters.forget_process(worker.pid)


class Server(BaseApplication):
    """gunicorn with KCR's Worker and limits."""

    def load_config(self) -> None:
        """Set what differs from gunicorn's defaults."""
        options = {
            "bind": [*settings.LISTEN.split(","), *filter(None, [settings.METRICS_LISTEN])],
            "worker_class": Worker,
            "workers": settings.WEB_WORKERS,
            "threads": settings.WEB_THREADS,  # created when needed
            "timeout": 60,  # of the worker's heartbeat, never of a request
            "graceful_timeout": 30,
            "limit_request_line": 8190,  # a token request may have many scopes
            # Ignore forwarding headers: registry.middleware checks the proxy.
            "forwarded_allow_ips": "",
            "forwarder_headers": "",
            "control_socket_disable": True,
            "errorlog": "-",
            "loglevel": "error",  # its warnings are about clients that try TLS first
            "post_worker_init": _start_flusher,
            "child_exit": _has_ended,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The application, in each worker."""
        from registry.wsgi import application  # noqa: PLC0415  loaded after the fork: threads do not survive it

        return application


class Command(BaseCommand):
    help = "Serve console and registry at KCR_LISTEN."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT; transfers under way get 30 seconds."""
        call_command("collectstatic", verbosity=0, interactive=False)
        _allow_many_files()
        _share_arenas()
        pools.resize(settings.WEB_THREADS)
        try:
            migrated.require()
        except migrated.NotMigrated as error:
            raise CommandError(str(error)) from error
        pools.warn_if_short(settings.WEB_WORKERS)
        pools.close()
        Server().run()
