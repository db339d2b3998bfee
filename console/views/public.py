"""Pages of public repositories, for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import Http404

from console.queries import public as queries
from console.queries.repositories import commands
from console.views.shared.decorators import public
from console.views.shared.pages import render_standalone

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@public
def repository(request: HttpRequest, project: str, repository: str) -> HttpResponse:
    """The images of a public repository. 404 alike for private repositories and for those that do not exist."""
    found = queries.repository(project, repository)
    if found is None:
        raise Http404
    page = queries.images(found, request.GET)
    return _render(request, "console/public/repository.html", repository=found, page=page, commands=commands(found))


@public
def image(request: HttpRequest, project: str, repository: str, image: str) -> HttpResponse:
    """The tags of an image in a public repository."""
    home = queries.repository(project, repository)
    found = queries.image(home, image) if home else None
    if home is None or found is None:
        raise Http404
    page = queries.tags(found, request.GET)
    shown: dict[str, Any] = {"repository": home, "image": found, "page": page, "commands": commands(home, found.name)}
    return _render(request, "console/public/image.html", **shown)


def _render(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    answer = render_standalone(request, template, **context)
    answer.headers["X-Robots-Tag"] = "noindex"
    return answer
