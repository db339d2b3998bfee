"""The project or organization whose service accounts a page is about. The pages of both are the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.http import Http404
from django.shortcuts import redirect

from accounts.errors import Refusal
from console.templatetags.service_accounts import service_url
from console.views.shared.decorators import of_project, personal
from console.views.shared.organizations import find_organization
from console.views.shared.pages import render_standalone
from console.views.shared.place import actor
from console.views.shared.toasts import toast
from registry import service_accounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

    from accounts.actors import Actor
    from accounts.models import AccessKey, Organization, Project, User
    from console.views.shared.place import Place
    from console.views.shared.toasts import UndoForm
    from registry.access import Action


@dataclass
class Home:
    """The project or organization whose service accounts a page shows, and who asks."""

    request: HttpRequest
    actor: Actor
    owner: Project | Organization
    may_administer: bool
    place: Place | None = None

    def url(self, view: str, **more: Any) -> str:
        """The address of another page of this home; ``view`` is the URL name of the page of a project."""
        return service_url(self.owner, view, **more)

    def flash(self, words: str, *, undo: UndoForm | None = None) -> None:
        """Show a message on the next page."""
        toast(self.request, words, undo=undo)

    def render(self, template: str, **context: Any) -> HttpResponse:
        """Render a page of this home."""
        shared: dict[str, Any] = {"owner": self.owner, "may_administer": self.may_administer}
        page = f"console/service_accounts/{template}.html"
        if self.place:
            return self.place.render(page, side="members", **shared | context)
        standalone = shared | {"organization": self.owner, "is_owner": self.may_administer}
        return render_standalone(self.request, page, **standalone | context)

    def find(self, name: str, *, with_deleted: bool = False) -> User:
        """The service account of this name. Raises Http404."""
        account = service_accounts.find(self.owner, name, with_deleted=with_deleted)
        if account is None:
            raise Http404
        return account

    def find_key(self, identifier: str) -> AccessKey:
        """The key of a service account that the person may rotate. Raises Http404."""
        key = service_accounts.keys_of(self.owner).filter(identifier=identifier).first()
        if key is None:
            raise Http404
        return key


def in_project(view: Callable[..., HttpResponse], action: Action, *, post: Action | None = None) -> Any:
    """The view for projects."""

    @of_project(action, post=post)
    @wraps(view)
    def answer(place: Place, **kwargs: Any) -> HttpResponse:
        home = Home(place.request, place.actor, place.project, place.may_administer, place)
        return view(home, **kwargs)

    return answer


def in_organization(view: Callable[..., HttpResponse], *, change: bool = True) -> Any:
    """The view for organizations. ``change``: for owners only."""

    def answer(request: HttpRequest, organization: str, **kwargs: Any) -> HttpResponse:
        found, is_owner = find_organization(request, organization, change=change)
        home = Home(request, actor(request), found, is_owner)
        try:
            return view(home, **kwargs)
        except Refusal as error:
            if request.method != "POST":
                raise Http404(error.sentence) from error
            messages.error(request, error.sentence)
            return redirect(home.url("service_accounts"))

    declared: Any = wraps(view)(answer)
    return personal(declared)
