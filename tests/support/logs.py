"""Search for secrets in the logs of this process and of the servers that tests start."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable, Iterator

    from registry.logs import JsonFormatter

SECRET = re.compile(
    r"kcr[sriw]_[A-Za-z0-9_-]{16,}"  # secrets of access keys, refresh tokens, invitations, webhooks
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"  # signed tokens
    r'|/password/new/[^/<"\s]+/[^/<"\s]{16,}'
    r'|/(?:invitations|notices/unsubscribe|notices/confirm)/[^/<"\s@]{16,}(?![^/<"\s]*@)'  # an address is no secret
)


def secrets_in(lines: Iterable[str]) -> list[str]:
    """Return the lines of a JSON log that contain a secret. Other lines are output of commands and mails, which may contain one."""
    return [line for line in lines if SECRET.search(line) and _is_of_a_log(line)]


def _is_of_a_log(line: str) -> bool:
    try:
        return "logger" in json.loads(line)
    except (ValueError, TypeError):
        return False


@pytest.fixture(autouse=True, scope="session")
def lines_with_secrets() -> Iterator[list[str]]:
    """Collect the lines with a secret that this process logs."""
    # Imported here because it reads the settings, and this module is loaded before the tests choose their database.
    from registry.logs import JsonFormatter

    found: list[str] = []
    original = JsonFormatter.format

    def look(formatter: JsonFormatter, record: logging.LogRecord) -> str:
        line = original(formatter, record)
        found.extend(secrets_in([line]))
        return line

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JsonFormatter, "format", look)
        yield found


@pytest.fixture(autouse=True)
def no_secret_is_logged(lines_with_secrets: list[str]) -> Iterator[None]:
    """Fail a test that has logged a secret."""
    lines_with_secrets.clear()
    yield
    assert not lines_with_secrets, "a log holds a secret"
