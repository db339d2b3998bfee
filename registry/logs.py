"""Log formats: JSON lines, or short lines on a terminal. Secrets of links are removed from paths."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from json.encoder import encode_basestring
from math import isfinite
from typing import TYPE_CHECKING, Any

from django.urls import Resolver404, resolve

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.urls import ResolverMatch

#: Names of URL arguments that are secrets. Every route with a secret uses one of these names.
SECRET_ARGUMENTS = frozenset({"token"})
_LONG_SEGMENT = re.compile(r"[^/]{33,}")

# No format here shows these; each costs every record.
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "request"}


def holds_secret(match: ResolverMatch | None) -> bool:
    """Whether this route takes a secret argument."""
    return match is not None and not SECRET_ARGUMENTS.isdisjoint(match.kwargs)


def shown_path(request: HttpRequest) -> str:
    """Return the path of a request without secrets.

    For a route with a secret argument, return the route. A path without a route may be a secret link that a mail
    program changed: replace segments of more than 32 characters by ``***``.
    """
    match = request.resolver_match or _resolved(request.path_info)
    if match is None:
        return _LONG_SEGMENT.sub("***", request.path)
    return f"/{match.route}" if holds_secret(match) else request.path


def _resolved(path: str) -> ResolverMatch | None:
    try:
        return resolve(path)
    except Resolver404:
        return None


class Once:
    """Logs each message once in the life of the process, and at most ``most`` of them: clients choose words in them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._logged: set[str] = set()

    def warn(self, logger: logging.Logger, message: str) -> None:
        """Log the message at level warning, unless it was logged or there were too many others."""
        if message not in self._logged and len(self._logged) < self._most:
            self._logged.add(message)
            logger.warning(message)


class SecretsFilter(logging.Filter):
    """Puts ``shown_path`` into records that name the path of their request: Django's own about 4xx and 5xx do."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; it is always logged."""
        request: HttpRequest | None = getattr(record, "request", None)
        path = getattr(request, "path", "")
        if request is not None and path and isinstance(record.args, tuple):
            escaped = path.encode("unicode_escape").decode()  # as Django writes it
            record.args = tuple(shown_path(request) if arg in {path, escaped} else arg for arg in record.args)
        return True


def formatter() -> logging.Formatter:
    """Return the terminal formatter if standard error is a terminal, else JsonFormatter."""
    if sys.stderr.isatty():
        return logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    return JsonFormatter()


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, and the fields of ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON object without a line feed."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return "{" + ", ".join([f"{_in_json(name)}: {_in_json(value)}" for name, value in line.items()]) + "}"


def _in_json(value: Any) -> str:
    """The value in JSON. Texts and durations go the short way: ``json.dumps`` makes an encoder for each value."""
    if type(value) is str:
        return encode_basestring(value)
    if type(value) is float and isfinite(value):
        return repr(value)
    return json.dumps(value, default=str, ensure_ascii=False)


def log_request(logger: logging.Logger, message: str, **fields: str | float) -> None:
    """Log an answered request. Unlike ``logger.info`` it does not look for the line of code that calls it."""
    if logger.isEnabledFor(logging.INFO):
        record = logging.LogRecord(logger.name, logging.INFO, __file__, 0, message, (), None, "log_request")
        record.__dict__ |= fields
        logger.handle(record)
