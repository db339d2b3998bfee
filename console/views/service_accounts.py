"""Service accounts of a project and of an organization, and their keys.

The pages of both are the same. A Home is the project or the organization; each view has two routes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import keys as access_keys
from accounts.errors import sentence
from accounts.models import Project
from console.forms.service_accounts import NewServiceAccount, NewServiceKey, Rotation, ServiceAccount
from console.queries import service_accounts as queries
from console.views.shared.homes import Home, in_organization, in_project
from console.views.shared.kept_forms import typed
from registry import hosts, service_accounts
from registry import undo as registry_undo
from registry.access import Action
from scanning import undo

if TYPE_CHECKING:
    from django.http import HttpResponse

    from accounts.models import User

UNDO_TIME = timedelta(days=1)


def _index(home: Home) -> HttpResponse:
    """All service accounts."""
    return home.render("index", page=queries.accounts(home.actor, home.owner, home.request.GET))


def _create(home: Home) -> HttpResponse:
    """A new service account."""
    form = NewServiceAccount(typed(home.request), of_project=home.place is not None)
    if home.request.method == "POST" and form.is_valid():
        made = form.attempt(
            service_accounts.create,
            home.actor,
            home.owner,
            form.cleaned_data["name"],
            description=form.cleaned_data["description"],
            contacts=form.addresses(),
            role=form.role_given(),
        )
        if made:
            home.flash(_("The service account %(name)s has been created.") % {"name": made.name})
            return redirect(home.url("service_account", account=made.name))
    return home.render("create", form=form, back=home.url("service_accounts"))


def _show(home: Home, account: str) -> HttpResponse:
    """A service account: roles, keys, what it did. POST disables, enables, deletes or restores it."""
    if home.request.method == "POST":
        return _change(home, home.find(account, with_deleted=True))
    found = home.find(account)
    context: dict[str, Any] = {"page": queries.account(home.actor, found, may_administer=home.may_administer)}
    if isinstance(home.owner, Project) and home.may_administer:
        acts = undo.acts(home.owner, timezone.now() - UNDO_TIME, user_id=found.pk)
        context["steps"] = undo.preview(home.actor, acts)
    return home.render("show", account=found, **context)


def _change(home: Home, account: User) -> HttpResponse:
    here, said = home.url("service_account", account=account.name), {"name": account.name}
    act = home.request.POST.get("act", "")
    if act == "delete":
        service_accounts.delete(home.actor, account)
        home.flash(_("The service account %(name)s has been deleted.") % said, undo=(here, {"act": "restore"}))
        return redirect(home.url("service_accounts"))
    if act == "restore":
        result = registry_undo.restore_service_account(home.actor, account)
        home.flash(_("The service account %(name)s works again.") % said)
        for step in result.skipped:
            words = _("Not undone: %(what)s: %(problem)s") % {"what": step.words, "problem": step.problem}
            messages.warning(home.request, sentence(words))
    elif act in {"disable", "enable"}:
        service_accounts.set_active(home.actor, account, is_active=act == "enable")
        if act == "disable":
            words = _("The service account %(name)s has been disabled.") % said
            home.flash(words, undo=(here, {"act": "enable"}))
        else:
            home.flash(_("The service account %(name)s works again.") % said)
    return redirect(here)


def _edit(home: Home, account: str) -> HttpResponse:
    """Description and contacts."""
    found = home.find(account)
    contacts = "\n".join(found.contacts.order_by("email").values_list("email", flat=True))
    form = ServiceAccount(typed(home.request), initial={"description": found.description, "contacts": contacts})
    here = home.url("service_account", account=found.name)
    if home.request.method == "POST" and form.is_valid():
        change = form.attempt(
            service_accounts.update,
            home.actor,
            found,
            description=form.cleaned_data["description"],
            contacts=form.addresses(),
        )
        if change is not None:
            home.flash(_("The service account %(name)s has been saved.") % {"name": found.name})
            return redirect(here)
    return home.render("edit", form=form, account=found, back=here)


def _delete(home: Home, account: str) -> HttpResponse:
    """Ask before an account is deleted; the form goes to ``_show``."""
    found = home.find(account)
    here = home.url("service_account", account=found.name)
    context: dict[str, Any] = {
        "question": _("Delete the service account %(name)s?") % {"name": found.name},
        "page": queries.account(home.actor, found, may_administer=True),
        "minutes": access_keys.RESTORE_TIME // timedelta(minutes=1),
    }
    return home.render("delete", account=found, back=here, action=here, **context)


def _new_key(home: Home, account: str) -> HttpResponse:
    """Make a key; its secret is in the answer to this request and nowhere else."""
    found = home.find(account)
    form = NewServiceKey(typed(home.request), of_project=home.place is not None)
    if home.request.method == "POST" and form.is_valid():
        made = form.attempt(
            service_accounts.make_key,
            home.actor,
            found,
            form.cleaned_data["name"],
            only=form.limits(),
            counts_pulls=not form.cleaned_data["uncounted"],
            management=form.cleaned_data["management"],
            expires_at=form.expires_at(),
            form_id=form.cleaned_data["form_id"],
        )
        if made:
            return _made(home, made, found)
    return home.render("key_new", form=form, account=found, back=home.url("service_account", account=found.name))


def _rotate(home: Home, identifier: str) -> HttpResponse:
    """Give a key a new secret. POST answers with the secret."""
    key = home.find_key(identifier)
    form = Rotation(typed(home.request))
    if home.request.method == "POST" and form.is_valid():
        made = form.attempt(service_accounts.rotate, home.actor, key, former_ends_in=form.former_ends_in())
        if made:
            return _made(home, made, key.user, is_rotated=True)
    here = home.url("project_key", identifier=identifier)
    context: dict[str, Any] = {
        "question": _("Make a new secret of the access key “%(name)s”?") % {"name": key.name},
        "back": here,
        "action": home.url("project_key_rotate", identifier=identifier),
    }
    return home.render("rotate", form=form, key=key, **context)


def _made(home: Home, made: access_keys.NewKey, account: User, *, is_rotated: bool = False) -> HttpResponse:
    project = account.project.name if account.project else "PROJECT"
    host = hosts.BARE if settings.BARE_HOST_NAMES else hosts.Host(project)
    path = f"{project}/REPOSITORY/IMAGE"
    context: dict[str, Any] = {
        "made": made,
        "account": account,
        "is_rotated": is_rotated,
        "former": getattr(made.key, "former", None) if is_rotated else None,
        "host": host.service,
        "login": f"docker login {host.service} --username {made.key.identifier}",
        "uri": host.uri(path),
        "back": home.url("project_key", identifier=made.key.identifier),
    }
    return home.render("key_made", **context)


index = in_project(_index, Action.VIEW)
create = in_project(_create, Action.ADMINISTER)
show = in_project(_show, Action.VIEW, post=Action.ADMINISTER)
edit = in_project(_edit, Action.ADMINISTER)
delete = in_project(_delete, Action.ADMINISTER)
new_key = in_project(_new_key, Action.ADMINISTER)
rotate = in_project(_rotate, Action.ADMINISTER)

organization_index = in_organization(_index)
organization_create = in_organization(_create)
organization_show = in_organization(_show, change=False)
organization_edit = in_organization(_edit)
organization_delete = in_organization(_delete)
organization_new_key = in_organization(_new_key)
organization_rotate = in_organization(_rotate)
