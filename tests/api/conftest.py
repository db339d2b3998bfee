"""A client of the management API, and pushed images."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from tests.console.conftest import pushed, scanned  # noqa: F401  fixtures
from tests.support.personas import make_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpResponse

    from tests.support.personas import Persona, World

WEB = "/api/v1/projects/demo/repositories/web"
APP = f"{WEB}/images/app"


def basic(persona: Persona) -> str:
    """The Authorization header of an access key."""
    return "Basic " + base64.b64encode(f"{persona.key.identifier}:{persona.secret}".encode()).decode()


class ApiClient:
    """Sends JSON with an access key. ``expect``: the status that the answer must have."""

    def __init__(self, authorization: str = "") -> None:
        self.client = Client(SERVER_NAME="localhost", SERVER_PORT="8080")
        self.authorization = authorization

    def ask(self, method: str, path: str, body: Any = None, expect: int | None = None, **headers: str) -> HttpResponse:
        """Send a request. Names of headers have _ for -."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.authorization:
            sent.setdefault("Authorization", self.authorization)
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        media_type = sent.pop("Content-Type", "application/json")
        answer = self.client.generic(method, path, content, content_type=media_type, headers=sent)
        if expect is not None:
            assert answer.status_code == expect, answer.content.decode()
        if answer.status_code >= 400 and method != "HEAD":
            assert answer.headers["Content-Type"] == "application/problem+json", answer.content
            assert answer.json()["status"] == answer.status_code
        return answer

    def get(self, path: str, expect: int = 200, **headers: str) -> Any:
        """The JSON of a page or thing."""
        return self.ask("GET", path, expect=expect, **headers).json()


@pytest.fixture
def api(world: World) -> Callable[..., ApiClient]:
    """``api("member")`` asks with a key of that persona for the API, ``api(None)`` without credentials."""

    def make(name: str | None = None, **limits: Any) -> ApiClient:
        if name is None:
            return ApiClient()
        limits.setdefault("management", True)
        return ApiClient(basic(make_key(world.people[name].user, "api", **limits)))

    return make
