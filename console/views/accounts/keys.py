"""A person's access keys: what docker login takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts import keys, limits
from accounts.errors import Refusal
from accounts.models import AccessKey
from console.forms.accounts import NewKey
from console.queries import accounts as queries
from console.views.shared.decorators import personal
from console.views.shared.kept_forms import typed
from console.views.shared.pages import render_standalone
from console.views.shared.place import actor
from console.views.shared.toasts import toast
from registry import hosts

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@personal
def show(request: HttpRequest) -> HttpResponse:
    """All keys of the person; POST revokes or restores one."""
    if request.method == "POST":
        key = AccessKey.objects.filter(user=request.user.pk, identifier=request.POST.get("key", "")).first()
        if key and request.POST.get("act") == "restore":
            _restore(request, key)
        elif key:
            keys.revoke(key, by=actor(request))
            undo = (reverse("console:keys"), {"act": "restore", "key": key.identifier})
            toast(request, _("Access key “%(name)s” has been revoked.") % {"name": key.name}, undo=undo)
        return redirect("console:keys")
    return render_standalone(request, "console/accounts/keys.html", page=queries.keys(actor(request)))


def _restore(request: HttpRequest, key: AccessKey) -> None:
    try:
        keys.restore(key, by=actor(request))
    except Refusal as error:
        messages.error(request, error.sentence)
    else:
        messages.success(request, _("Access key “%(name)s” works again.") % {"name": key.name})


@personal
def revoke(request: HttpRequest) -> HttpResponse:
    """Ask before a key is revoked; the form goes to ``show``."""
    found = AccessKey.objects.alive().filter(user=request.user.pk, identifier=request.GET.get("key", ""))
    key, there = found.select_related("user").first(), reverse("console:keys")
    if key is None:
        return redirect(there)
    context = queries.revocation(key) | {"back": there, "action": there}
    return render_standalone(request, "console/accounts/key_revoke.html", tab="keys", **context)


@personal
def create(request: HttpRequest) -> HttpResponse:
    """Make a key; its secret is in the answer to this request and nowhere else."""
    form = NewKey(typed(request), projects=queries.pullable_projects(actor(request)))
    if request.method == "POST" and form.is_valid():
        made = form.attempt(
            keys.create,
            request.user,
            form.cleaned_data["name"],
            project=form.cleaned_data["project"],
            only=limits.Limits(["pull"]) if form.cleaned_data["pull_only"] else limits.NONE,
            counts_pulls=not form.cleaned_data["uncounted"],
            management=form.cleaned_data["management"],
            expires_at=form.expires_at(),
            form_id=form.cleaned_data["form_id"],
            by=actor(request),
        )
        if made:
            login = f"docker login {queries.login_host(made.key)} --username {made.key.identifier}"
            context: dict[str, Any] = {"made": made, "login": login, "host": hosts.BARE.service}
            return render_standalone(request, "console/accounts/key_made.html", tab="keys", **context)
    return render_standalone(request, "console/accounts/key_new.html", tab="keys", form=form)
