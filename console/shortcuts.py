"""What views share: who asks, what they ask about, whether they may, and how to answer.

Every view is made by one of three decorators, which say who may see it; a test refuses views without one:

    @public                                     anybody
    @personal                                   whoever is signed in; ``request.user``
    @of_project(Action.VIEW, post=Action.MANAGE)  those who may do this to the project in the URL; gets a Place
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts import audit, guesses, passwords
from accounts.actors import ANONYMOUS, Actor
from accounts.models import Project
from accounts.organizations import Refused
from console.queries import frame, people
from console.queries.repositories import commands
from registry import access
from registry.access import Action
from registry.errors import RegistryError
from registry.models import Image, Repository
from registry.oci import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from django.forms import Form
    from django.http import HttpRequest, HttpResponseBase

    from accounts.models import User
    from registry.models import Deletion

BROWSER_COOKIE = "kcr_browser"
BACKEND = "django.contrib.auth.backends.ModelBackend"
P = ParamSpec("P")
View = "Callable[Concatenate[HttpRequest, P], HttpResponse]"


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
        way_back = f"{reverse('console:undo', args=[self.project.name])} {undo.pk}" if undo else ""
        messages.add_message(self.request, level, text, extra_tags=way_back)

    def render(self, template: str, status: int = 200, **context: Any) -> HttpResponse:
        """A page at this place."""
        around = frame.around(self.actor, self.project)
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


def public(view: Callable[Concatenate[HttpRequest, P], HttpResponse]) -> Callable[..., HttpResponse]:
    """A page for anybody."""
    return _declare(view, "public")


def personal(view: Callable[Concatenate[HttpRequest, P], HttpResponseBase]) -> Callable[..., HttpResponse]:
    """A page for whoever is signed in."""

    @wraps(view)
    def answer(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _to_sign_in(request)
        return view(request, *args, **kwargs)

    return _declare(answer, "personal")


def of_project(action: Action, *, post: Action | None = None) -> Callable[..., Callable[..., HttpResponse]]:
    """A page of the project in the URL, and perhaps of a repository and an image in it.

    Whoever may not VIEW the project is told that it does not exist; who may see it, but not do this, is told why.
    """

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def answer(request: HttpRequest, project: str, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                return _to_sign_in(request)
            place = _place(request, project, kwargs.pop("repository", None), kwargs.pop("image", None))
            if (post if post and request.method == "POST" else action) not in place.actions:
                raise PermissionDenied
            try:
                return view(place, **kwargs)
            except (RegistryError, Refused) as error:
                if request.method != "POST":
                    raise Http404(str(error)) from error
                messages.error(request, str(error))
                return redirect(back(request, reverse("console:overview", args=[project])))

        return _declare(answer, str(post or action))

    return decorate


def about_whom(place: Place, form: Form, nobody: str, role_of: Callable[[User], str | None]) -> User | None:
    """The person of a form that adds somebody or changes their role.

    None, and an error on the form, when nobody of the organization has the address (said in the words of ``nobody``),
    or somebody is to be added who has another role already. Raises Http404 for a change about nobody.
    """
    posted = place.request.POST
    adds, organization = posted.get("act") == "add", place.project.organization
    user = people.find_member(organization, posted.get("email", "").strip())
    if user is None and not adds:
        raise Http404
    if user is None:
        form.add_error("email", nobody % {"organization": organization})
    elif adds and role_of(user) not in {None, posted.get("role", "")}:
        form.add_error("email", _("%(email)s is here already: change the role in the list.") % {"email": user.email})
        return None
    return user


def say_slowed(form: Form, refusal: guesses.Slowed) -> None:
    """Say on the form that no password was looked at, and why."""
    if isinstance(refusal, passwords.Busy):
        words = _("Many people are signing in at the moment. Try again in a few seconds.")
    elif isinstance(refusal, guesses.TooManyForAccount):
        words = _(
            "Too many wrong passwords for this account. Use a browser that has signed in to it before, set a new"
            " password with a link by mail, or try again in %(minutes)s min."
        )
    else:
        words = _("Too many wrong passwords. Try again in %(minutes)s min.")
    form.add_error(None, words % {"minutes": -(-refusal.seconds // 60)})


def later(answer: HttpResponse, seconds: int) -> HttpResponse:
    """The same answer as a 429: the browser is to come again after this time."""
    answer.status_code = 429
    answer.headers["Retry-After"] = str(seconds)
    return answer


def begin_session(request: HttpRequest, user: User, wanted: str) -> HttpResponse:
    """Sign the user in, write it to the audit log, and go to this address."""
    login(request, user, backend=BACKEND)
    by = actor(request)
    request.session.note_origin(by.address, request.headers.get("User-Agent", ""))  # type: ignore[attr-defined]
    audit.record(by, audit.Action.SIGN_IN, person=user)
    answer = HttpResponseRedirect(wanted)
    remember_browser(request, answer, user)
    return answer


def keep_secret_of_link(answer: HttpResponse, cookie: str, secret: str, seconds: int) -> HttpResponse:
    """Keep what the link of a mail says in a cookie, for the page to which this answer redirects.

    So the address of that page does not hold the secret. Nor does the session: a copy of the database must not hold a
    secret that still works.
    """
    answer.set_cookie(
        cookie,
        secret,
        max_age=seconds,
        path=answer.headers["Location"],
        secure=settings.IS_HTTPS,
        httponly=True,
        samesite="Lax",
    )
    return answer


def remember_browser(request: HttpRequest, answer: HttpResponse, user: User) -> None:
    """Have the browser keep the proof that this user has signed in with it (`accounts.passwords`)."""
    answer.set_cookie(
        BROWSER_COOKIE,
        passwords.remember(user, request.COOKIES.get(BROWSER_COOKIE, "")),
        max_age=passwords.BROWSER_AGE,
        secure=settings.IS_HTTPS,
        httponly=True,
        samesite="Lax",
    )


def back(request: HttpRequest, otherwise: str) -> str:
    """The page that the browser came from, when it is one of ours."""
    came_from = request.headers.get("Referer", "")
    own = {request.get_host()}
    return came_from if "/" in came_from and url_has_allowed_host_and_scheme(came_from, own) else otherwise


def alone(request: HttpRequest, template: str, status: int = 200, **context: Any) -> HttpResponse:
    """A page that belongs to no project."""
    around = frame.around(actor(request)) if request.user.is_authenticated else {}
    return render(request, template, {**around, **context}, status=status)


class _Echo:
    """A file that gives back what is written to it: rows go out as they are made."""

    def write(self, text: str) -> str:
        """Give it back."""
        return text


def as_csv(rows: Iterable[Sequence[str]], name: str) -> StreamingHttpResponse:
    """A file of comma-separated values to be kept, however long it is."""
    writer = csv.writer(_Echo())
    lines = (writer.writerow(row) for row in rows)
    return _as_attachment(StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8"), name)


def as_file(content: bytes, name: str, content_type: str) -> HttpResponse:
    """A file to be kept, never shown."""
    return _as_attachment(HttpResponse(content, content_type=content_type), name)


Answer = TypeVar("Answer", HttpResponse, StreamingHttpResponse)


def _as_attachment(answer: Answer, name: str) -> Answer:
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    answer.headers["Content-Disposition"] = f'attachment; filename="{safe}"'
    return answer


def _declare(view: Callable[..., HttpResponseBase], who: str) -> Callable[..., HttpResponse]:
    checked: Any = require_http_methods(["GET", "HEAD", "POST"])(view)
    checked.who = who
    return checked  # type: ignore[no-any-return]


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    return redirect_to_login(request.get_full_path() if request.method == "GET" else "/")


def _place(request: HttpRequest, project: str, repository: str | None, image: str | None) -> Place:
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
