"""The connection doctor, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.queries import doctor as queries
from console.views.shared.decorators import of_operators
from console.views.shared.pages import render_standalone
from console.views.shared.place import actor
from registry.doctor import runs

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@of_operators
def show(request: HttpRequest) -> HttpResponse:
    """The last run. POST starts another one, in a thread of this process."""
    if request.method == "POST":
        if not runs.start(actor(request).label):
            messages.warning(request, _("The doctor runs already."))
        return redirect("console:doctor")
    return render_standalone(request, "console/doctor/show.html", page=queries.page())
