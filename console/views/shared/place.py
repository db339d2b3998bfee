"""Where in the console a request is, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages
from django.db.models import TextField
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLResolver, get_resolver, reverse
from django.utils import timezone

from accounts.actors import ANONYMOUS, Actor
from accounts.models import Project
from console.queries import accounts
from console.queries.repositories import commands
from console.queries.shared import layout
from console.views.shared.toasts import UndoForm, toast
from registry import access
from registry.access import Action
from registry.database.prepared import prepare_models
from registry.models import Image, Repository
from registry.oci import names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import QuerySet
    from django.http import HttpRequest

    from registry.models import Deletion, Event


def actor(request: HttpRequest, label: str = ANONYMOUS.label) -> Actor:
    """The actor of a request. ``label``: the name of a visitor who has not signed in."""
    user: Any = request.user
    who = {"user_id": user.pk, "label": user.email} if user.is_authenticated else {"label": label}
    return Actor(
        **who,
        address=request.META.get("REMOTE_ADDR", ""),
        client=f"console, {request.headers.get('User-Agent', '')}"[:200],
    )


@dataclass
class Place:
    """Where in the console a request is: the project, and the repository and image when the URL names them."""

    request: HttpRequest
    actor: Actor
    project: Project
    actions: frozenset[Action]
    maybe_repository: Repository | None = None
    maybe_image: Image | None = None

    @property
    def may_manage(self) -> bool:
        """Whether buttons that change things are shown."""
        return Action.MANAGE in self.actions

    @property
    def may_administer(self) -> bool:
        """Whether members, quotas and notifications may be changed."""
        return Action.ADMINISTER in self.actions

    @property
    def repository(self) -> Repository:
        """The repository of a page whose URL names one."""
        assert self.maybe_repository is not None
        return self.maybe_repository

    @property
    def image(self) -> Image:
        """The image of a page whose URL names one."""
        assert self.maybe_image is not None
        return self.maybe_image

    @property
    def is_waiting(self) -> bool:
        """Whether an empty page asks if something was pushed (``parts/_waiting.html``)."""
        return self.request.headers.get("HX-Trigger") == "waiting"

    @property
    def login_key(self) -> str:
        """The ID of an access key with which the person can log in here; "" if there is none. One query."""
        return accounts.login_key(self.actor, self.project)

    def url(self, view: str, **more: Any) -> str:
        """The address of another page of this project, repository or image.

        ``view`` is a URL name. ``more`` holds the arguments of its route that the place does not have.
        """
        here = {name: value for name, value in self._names().items() if name in _routes()[view]}
        return reverse(f"console:{view}", kwargs=here | more)

    def named(self, view: str) -> str:
        """The URL name of a page that exists for projects, repositories and images: of the one that is shown."""
        if self.maybe_image:
            return f"image_{view}"
        return f"repository_{view}" if self.maybe_repository else view

    def redirect_to(self, view: str, **more: Any) -> HttpResponse:
        """Redirect the browser to another page of this place; the arguments are those of ``url``."""
        return redirect(self.url(view, **more))

    def flash(
        self,
        text: str,
        *,
        restorable: Deletion | None = None,
        undoable: Event | None = None,
        undo: UndoForm | None = None,
        level: int = messages.SUCCESS,
    ) -> None:
        """Show a message on the next page, with a button that undoes what it says.

        ``restorable``: the button restores this deletion. ``undoable``: it undoes this event (``registry.undo``).
        ``undo``: it sends this form.
        """
        if restorable:
            undo = (self.url("restore"), {"deletion": str(restorable.pk)})
        elif undoable:
            undo = (self.url("undo_event", event=undoable.pk), {})
        toast(self.request, text, level=level, undo=undo)

    def render(self, template: str, status: int = 200, **context: Any) -> HttpResponse:
        """Render a page of this place."""
        shared: dict[str, Any] = layout.layout_context(self.actor, self.project) | {
            "place": self,
            "recovery_days": settings.RECOVERY_DAYS,
            "recoverable_until": timezone.now() + timedelta(days=settings.RECOVERY_DAYS),
        }
        if self.maybe_repository:
            image = self.maybe_image.name if self.maybe_image else "IMAGE"
            shared["commands"] = commands(self.maybe_repository, image)
        return render(self.request, template, shared | context, status=status)

    def _names(self) -> dict[str, str]:
        named = {"project": self.project.name}
        if self.maybe_repository:
            named["repository"] = self.maybe_repository.name
        if self.maybe_image:
            named["image"] = self.maybe_image.name
        return named


@cache
def _routes() -> dict[str, frozenset[str]]:
    """The names of the arguments of each of the console's routes, by URL name."""

    def walk(resolver: URLResolver, above: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
        for route in resolver.url_patterns:
            arguments = above | route.pattern.converters.keys()
            if isinstance(route, URLResolver):
                yield from walk(route, arguments)
            else:
                yield str(route.name), arguments

    return dict(walk(get_resolver("console.urls"), frozenset()))


def find_place(request: HttpRequest, project: str, repository: str | None, image: str | None) -> Place:
    """The place that a URL names. Raises Http404 alike for what does not exist and what the user may not see."""
    who = actor(request)
    actions = access.actions_in_project(who, project)
    if Action.VIEW not in actions:
        raise Http404
    if (found := _project.first(name=project)) is None:
        raise Http404
    place = Place(request, who, found, actions)
    if repository is not None:
        place.maybe_repository = _repository.first(project=project, repository=repository)
        if place.maybe_repository is None:
            raise Http404
        place.maybe_repository.project = place.project
    if image is not None:
        place.maybe_image = _image.first(path=f"{place.repository}/{image}")
        if place.maybe_image is None:
            raise Http404
        place.maybe_image.repository = place.repository
    return place


@prepare_models(Project, name=TextField())
def _project(_actor: Actor, name: Any) -> QuerySet[Project]:
    return Project.objects.select_related("organization").filter(name=name)


@prepare_models(Repository, project=TextField(), repository=TextField())
def _repository(_actor: Actor, project: Any, repository: Any) -> QuerySet[Repository]:
    return Repository.objects.named(names.ImageName(project, repository, ""))


@prepare_models(Image, path=TextField())
def _image(_actor: Actor, path: Any) -> QuerySet[Image]:
    return Image.objects.live().filter(path=path)
