"""Issuers of ID tokens of an organization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import Http404
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from accounts import issuers
from accounts.errors import Refusal
from accounts.models import IssuerKind
from console.forms.keyless import IssuerKeys, NewIssuer
from console.queries import keyless as queries
from console.views.shared.decorators import personal
from console.views.shared.kept_forms import typed
from console.views.shared.organizations import find_organization, render_for_owners
from console.views.shared.place import actor
from console.views.shared.toasts import toast

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from accounts.models import Issuer, Organization


@personal
def index(request: HttpRequest, organization: str) -> HttpResponse:
    """All issuers. POST fetches the keys of one, or deletes it."""
    found, _is_owner = find_organization(request, organization, change=True)
    if request.method == "POST":
        issuer = _find(found, request.POST.get("issuer", ""))
        try:
            if request.POST.get("act") == "fetch":
                issuers.fetch_now(actor(request), issuer)
                toast(request, _("The keys of %(url)s have been fetched.") % {"url": issuer.url})
            elif request.POST.get("act") == "delete":
                issuers.delete(actor(request), issuer)
                toast(request, _("The issuer %(url)s has been deleted.") % {"url": issuer.url})
        except Refusal as error:
            messages.error(request, error.sentence)
        return redirect("console:organization_issuers", organization=found.name)
    listed = queries.issuers_of(found)
    return render_for_owners(request, "console/issuers/index.html", found, issuers=listed)


@personal
def create(request: HttpRequest, organization: str) -> HttpResponse:
    """A new issuer."""
    found, _is_owner = find_organization(request, organization, change=True)
    form = NewIssuer(typed(request))
    if request.method == "POST" and form.is_valid():
        chosen = form.cleaned_data
        made = form.attempt(
            issuers.create,
            actor(request),
            found,
            IssuerKind(chosen["kind"]),
            chosen["url"],
            audience=chosen["audience"],
            keys=chosen["keys"],
        )
        if made:
            toast(request, _("The issuer %(url)s has been added.") % {"url": made.url})
            return redirect("console:organization_issuers", organization=found.name)
    return render_for_owners(request, "console/issuers/create.html", found, form=form)


@personal
def keys(request: HttpRequest, organization: str, issuer: int) -> HttpResponse:
    """Upload the keys of an issuer."""
    found, _is_owner = find_organization(request, organization, change=True)
    chosen = _find(found, str(issuer))
    form = IssuerKeys(typed(request))
    if request.method == "POST" and form.is_valid():
        form.attempt(issuers.upload_keys, actor(request), chosen, form.cleaned_data["keys"])
        if form.is_valid():
            toast(request, _("The keys of %(url)s have been replaced.") % {"url": chosen.url})
            return redirect("console:organization_issuers", organization=found.name)
    return render_for_owners(request, "console/issuers/keys.html", found, form=form, issuer=chosen)


def _find(organization: Organization, identifier: str) -> Issuer:
    """The issuer of this id. Raises Http404."""
    found = issuers.of(organization).filter(pk=int(identifier)).first() if identifier.isdecimal() else None
    if found is None:
        raise Http404
    return found
