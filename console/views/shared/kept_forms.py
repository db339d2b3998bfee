"""Forms that were sent after the session had ended: a cookie keeps them until the person has signed in.

The cookie goes to the address of the form only, is signed, and lasts ten minutes. After the sign-in the page shows the
form as it was typed. Nothing is carried out before the person sends it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from django.conf import settings
from django.core import signing
from django.http import QueryDict

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

COOKIE = "kcr_form"
SECONDS = 600
MAX_COOKIE = 3_800  # characters; browsers take 4,096 with name and attributes
SALT = "kcr.form"
NEVER_KEPT = ("csrfmiddlewaretoken", "password", "old_password", "new_password1", "new_password2", "url")
"""Fields with secrets. The address of a webhook is one: its path often holds a token."""


def keep(answer: HttpResponse, request: HttpRequest) -> bool:
    """Keep the form that was sent, without NEVER_KEPT. Returns whether its fields fit in a cookie."""
    sent = request.POST.copy()
    for name in NEVER_KEPT:
        sent.pop(name, None)
    whole, empty = (_signed(request, fields) for fields in (sent.urlencode(), ""))
    fits = len(whole) <= MAX_COOKIE
    answer.set_cookie(
        COOKIE,
        whole if fits else empty,
        max_age=SECONDS,
        path=quote(request.path),
        secure=settings.IS_HTTPS,
        httponly=True,
        samesite="Lax",
    )
    return fits and bool(sent)


def typed(request: HttpRequest) -> QueryDict | None:
    """The fields to fill a form with: those that were sent, or that were kept for this address; None for neither.

    A view that acts asks for the method POST besides.
    """
    if request.method == "POST":
        return request.POST or None
    return QueryDict(_read(request) or "") or None


def is_back(request: HttpRequest) -> bool:
    """Whether this is the page of a kept form, and the person has signed in."""
    return request.method == "GET" and _read(request) is not None and request.user.is_authenticated


def forget(answer: HttpResponse, request: HttpRequest) -> None:
    """Delete the cookie: the page has shown the form."""
    answer.delete_cookie(COOKIE, path=quote(request.path), samesite="Lax")


def _signed(request: HttpRequest, fields: str) -> str:
    return signing.dumps([request.get_full_path(), fields], salt=SALT, compress=True)


def _read(request: HttpRequest) -> str | None:
    """The fields that were kept for this address, as a query string; None if there is no form."""
    try:
        path, fields = signing.loads(request.COOKIES.get(COOKIE, ""), salt=SALT, max_age=SECONDS)
    except signing.BadSignature:
        return None
    return str(fields) if path == request.get_full_path() else None
