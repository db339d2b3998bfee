"""A person's access keys: what docker login takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from accounts import keys
from accounts.models import AccessKey
from console.forms.accounts import NewKey
from console.queries import accounts as queries
from console.views.shared.decorators import personal
from console.views.shared.pages import render_standalone
from console.views.shared.place import actor
from registry import hosts

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@personal
def show(request: HttpRequest) -> HttpResponse:
    """All keys of the person; POST revokes one."""
    if request.method == "POST":
        key = AccessKey.objects.filter(user=request.user.pk, identifier=request.POST.get("key", "")).first()
        if key:
            keys.revoke(key, by=actor(request))
            messages.success(request, _("Access key “%(name)s” has been revoked.") % {"name": key.name})
        return redirect("console:keys")
    return render_standalone(request, "console/accounts/keys.html", page=queries.keys(actor(request)))


@personal
def create(request: HttpRequest) -> HttpResponse:
    """Make a key; its secret is in the answer to this request and nowhere else."""
    form = NewKey(request.POST or None, projects=queries.pullable_projects(actor(request)))
    if request.method == "POST" and form.is_valid():
        made = form.attempt(
            keys.create,
            request.user,
            form.cleaned_data["name"],
            project=form.cleaned_data["project"],
            pull_only=form.cleaned_data["pull_only"],
            expires_at=form.expires_at(),
            form_id=form.cleaned_data["form_id"],
            by=actor(request),
        )
        if made:
            login = f"docker login {queries.login_host(made.key)} --username {made.key.identifier}"
            context: dict[str, Any] = {"made": made, "login": login, "host": hosts.BARE.service}
            return render_standalone(request, "console/accounts/key_made.html", tab="keys", **context)
    return render_standalone(request, "console/accounts/key_new.html", tab="keys", form=form)
