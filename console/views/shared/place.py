"""Where in the console a request is, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone

from accounts.actors import ANONYMOUS, Actor
from accounts.models import Project
from console.queries.repositories import commands
from console.queries.shared import layout
from registry import access
from registry.access import Action
from registry.models import Image, Repository
from registry.oci import names

if TYPE_CHECKING:
    from django.http import HttpRequest

    from registry.models import Deletion


def actor(request: HttpRequest, label: str = ANONYMOUS.label) -> Actor:
    """Who acts in this request; ``label`` is what to call a visitor who has not signed in."""
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
    repository: Repository | None = None
    image: Image | None = None

    @property
    def may_manage(self) -> bool:
        """Whether buttons that change things are shown."""
        return Action.MANAGE in self.actions

    @property
    def may_administer(self) -> bool:
        """Whether members, quotas and notices may be changed."""
        return Action.ADMINISTER in self.actions

    @property
    def home(self) -> Repository:
        """The repository that the URL names."""
        assert self.repository is not None
        return self.repository

    @property
    def pushed(self) -> Image:
        """The image that the URL names."""
        assert self.image is not None
        return self.image

    def url(self, view: str, **more: Any) -> str:
        """The address of another page at this place."""
        return reverse(f"console:{view}", kwargs=self._names() | more)

    def go(self, view: str, **more: Any) -> HttpResponse:
        """Send the browser to another page at this place."""
        return redirect(self.url(view, **more))

    def say(self, text: str, *, undo: Deletion | None = None, level: int = messages.SUCCESS) -> None:
        """Tell the person, on the next page that they see; with ``undo`` it can be taken back from there."""
        way_back = f"{reverse('console:restore', args=[self.project.name])} {undo.pk}" if undo else ""
        messages.add_message(self.request, level, text, extra_tags=way_back)

    def render(self, template: str, status: int = 200, **context: Any) -> HttpResponse:
        """A page at this place."""
        around = layout.context(self.actor, self.project)
        recovery = {
            "recovery_days": settings.RECOVERY_DAYS,
            "recoverable_until": timezone.now() + timedelta(days=settings.RECOVERY_DAYS),
        }
        if self.repository:
            around["commands"] = commands(self.home, self.image.name if self.image else "IMAGE")
        return render(self.request, template, {"place": self, **recovery, **around, **context}, status=status)

    def _names(self) -> dict[str, Any]:
        named: dict[str, Any] = {"project": self.project.name}
        if self.repository:
            named["repository"] = self.repository.name
        if self.image:
            named["image"] = self.image.name
        return named


def find_place(request: HttpRequest, project: str, repository: str | None, image: str | None) -> Place:
    """Find what the URL names. Raises Http404, in the same way for what is missing and what may not be seen."""
    who = actor(request)
    actions = access.actions_in_project(who, project)
    if Action.VIEW not in actions:
        raise Http404
    place = Place(request, who, Project.objects.select_related("organization").get(name=project), actions)
    if repository is not None:
        named = names.ImageName(project, repository, image or "")
        place.repository = Repository.objects.named(named).first()
        if place.repository is None:
            raise Http404
        place.repository.project = place.project
    if image is not None:
        place.image = Image.objects.live().filter(repository=place.repository, name=image).first()
        if place.image is None:
            raise Http404
        place.image.repository = place.home
    return place
