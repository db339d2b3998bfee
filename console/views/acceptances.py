"""Accept the risk of a vulnerability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from console.forms.acceptances import Accept
from console.queries import vulnerabilities as queries
from console.views.shared.decorators import of_project
from console.views.shared.kept_forms import typed
from console.views.shared.subjects import find_subject
from registry.access import Action
from scanning import acceptances

if TYPE_CHECKING:
    from django.http import HttpResponse

    from console.views.shared.place import Place


@of_project(Action.MANAGE)
def accept(place: Place, reference: str) -> HttpResponse:
    """Accept the risk of a vulnerability that was found in a digest. ``?from=cve``: return to the page of the CVE."""
    subject, wanted = find_subject(place, reference), place.request.GET
    vulnerability = wanted.get("vulnerability", "")[:100].replace("\0", "")
    package = wanted.get("package", "")[:300].replace("\0", "")
    back = place.url("vulnerabilities", reference=reference)
    about = queries.acceptable(subject, vulnerability, package)
    if about is None:
        return redirect(back)
    if wanted.get("from") == "cve":
        back = reverse("console:cve", args=[vulnerability])
    package = about["finding"].package.name
    form = Accept(typed(place.request), package=package, repository=str(place.repository))
    if place.request.method == "POST" and form.is_valid():
        chosen = form.cleaned_data
        made = form.attempt(
            acceptances.accept,
            place.actor,
            place.repository if chosen["scope"] == "repository" else place.project,
            vulnerability,
            package=package if chosen["packages"] == "this" else "",
            justification=chosen["justification"],
            reason=chosen["reason"],
            covers_fixed=about["has_fix"],
            expires_at=form.expires_at(),
        )
        if made:
            place.flash(_("%(vulnerability)s has been accepted.") % {"vulnerability": vulnerability})
            return redirect(back)
    context: dict[str, Any] = {"form": form, "subject": subject, "about": about, "back": back}
    return place.render("console/acceptances/accept.html", side="repositories", **context)
