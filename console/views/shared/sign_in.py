"""What signing in, new passwords and invitations share: sessions, cookies, and answers that slow guessing down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth import login
from django.http import HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from accounts import audit, guesses, passwords
from console.views.shared.place import actor

if TYPE_CHECKING:
    from django.forms import Form
    from django.http import HttpRequest

    from accounts.models import User


BROWSER_COOKIE = "kcr_browser"
BACKEND = "django.contrib.auth.backends.ModelBackend"


def add_slowed_error(form: Form, refusal: guesses.Slowed) -> None:
    """Add an error to the form: the password was not checked, and why."""
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


def too_many_requests(answer: HttpResponse, seconds: int) -> HttpResponse:
    """Make the answer a 429 that asks the browser to wait."""
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
    """Set a cookie with the secret of a mail's link, for the page to which this answer redirects.

    The address of that page must not hold the secret: proxies log addresses. Nor must the session: a copy of the
    database would hold a secret that still works.
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
    """Set the cookie that proves that this user has signed in with this browser (`accounts.passwords`)."""
    answer.set_cookie(
        BROWSER_COOKIE,
        passwords.remember(user, request.COOKIES.get(BROWSER_COOKIE, "")),
        max_age=passwords.BROWSER_AGE,
        secure=settings.IS_HTTPS,
        httponly=True,
        samesite="Lax",
    )
