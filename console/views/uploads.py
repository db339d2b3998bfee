"""A person's unfinished uploads."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.contrib import messages
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.queries.shared.listing import Listing
from console.views.shared.decorators import personal
from console.views.shared.pages import render_standalone
from registry import uploads

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from accounts.models import User


@personal
def index(request: HttpRequest) -> HttpResponse:
    """The open uploads of the person, the last active first. POST ends one, or all."""
    user: User = request.user  # type: ignore[assignment]  # personal views only
    if request.method == "POST":
        ended = sum(uploads.end(user.pk, upload) for upload in _wanted(user, request.POST.get("upload", "")))
        said = ngettext("%(count)s upload has been ended.", "%(count)s uploads have been ended.", ended)
        messages.success(request, said % {"count": ended} if ended else _("This upload has ended already."))
        return redirect("console:uploads")
    mine = uploads.of_user(user.pk).select_related("repository__project").order_by("-expires_at")
    rows = [{"upload": upload, "moved_at": uploads.moved_at(upload)} for upload in mine]
    page = {"listing": Listing(rows), "limit": uploads.OPEN_SESSIONS_OF_USER, "of_key": uploads.OPEN_SESSIONS}
    return render_standalone(request, "console/uploads/index.html", page=page)


def _wanted(user: User, text: str) -> list[UUID]:
    if text == "all":
        return list(uploads.of_user(user.pk).values_list("pk", flat=True))
    try:
        return [UUID(text)]
    except ValueError:
        return []
