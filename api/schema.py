"""The OpenAPI document, and a page about it. Both need no credentials: they tell nothing of this installation."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from django.http import HttpResponse
from django.template import loader

from . import problems

if TYPE_CHECKING:
    from django.http import HttpRequest

POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
HEADERS = {"Cache-Control": "public, max-age=300"}


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document. It is made when it is asked for first: few processes need drf-spectacular."""
    from .openapi import generate  # noqa: PLC0415

    return generate()


def openapi(request: HttpRequest) -> HttpResponse:
    """/api/v1/openapi.json"""
    if request.method not in {"GET", "HEAD"}:
        raise problems.MethodNotAllowed(allow=["GET"])
    content = json.dumps(document(), ensure_ascii=False)
    return HttpResponse(content, content_type="application/json", headers=HEADERS)


def docs(request: HttpRequest) -> HttpResponse:
    """/api/v1/docs: the operations as a page without scripts."""
    if request.method not in {"GET", "HEAD"}:
        raise problems.MethodNotAllowed(allow=["GET"])
    from . import reference  # noqa: PLC0415

    page = loader.get_template("api/docs.html").render({"nouns": reference.nouns(), "problems": reference.problems()})
    return HttpResponse(page, headers={**HEADERS, "Content-Security-Policy": POLICY})
