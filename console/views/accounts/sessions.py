"""Where a person is signed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.shortcuts import redirect
from django.utils.translation import ngettext

from accounts import sessions as console_sessions
from console.queries.shared.listing import Listing
from console.views.shared.decorators import personal
from console.views.shared.pages import render_standalone

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from accounts.models import User


@personal
def sessions(request: HttpRequest) -> HttpResponse:
    """The sessions of the person. POST ends one, or all others."""
    user: User = request.user  # type: ignore[assignment]  # personal views only
    mine = console_sessions.of_user(user)
    this = request.session.row_key  # type: ignore[attr-defined]  # accounts.sessions
    if request.method == "POST":
        wanted = request.POST.get("session", "")
        chosen = [
            session.pk
            for session in mine
            if session.pk != this and wanted in {"others", console_sessions.public_id(session.pk)}
        ]
        ended = console_sessions.end(user, chosen)
        said = ngettext("%(count)s session has been ended.", "%(count)s sessions have been ended.", ended)
        messages.success(request, said % {"count": ended})
        return redirect("console:sessions")
    rows = [
        {"session": session, "id": console_sessions.public_id(session.pk), "is_this": session.pk == this}
        for session in mine
    ]
    return render_standalone(request, "console/accounts/sessions.html", page={"listing": Listing(rows)})
