"""Addresses of the pages of service accounts, and marks of machines in lists of people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _

from accounts.models import Project
from console.templatetags.icons import icon

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

    from accounts.models import Organization, User

register = template.Library()

DOMAINS = (".project.invalid", ".organization.invalid")  # registry.service_accounts.address


@register.simple_tag
def service_url(owner: Project | Organization, view: str, **more: Any) -> str:
    """The address of a page about service accounts or their keys. ``view``: the URL name of the page of a project."""
    if isinstance(owner, Project):
        return reverse(f"console:{view}", kwargs={"project": owner.name, **more})
    name = f"organization_{view.removeprefix('project_')}"
    return reverse(f"console:{name}", kwargs={"organization": owner.name, **more})


@register.filter
def is_machine(label: str) -> bool:
    """Whether a holder or an actor of this name is a service account: no address of a person ends so."""
    return label.endswith(DOMAINS)


@register.filter
def home_of(label: str) -> str:
    """The project or organization of a service account of this name, as its name spells it."""
    return label.partition("@")[2].rsplit(".", 2)[0]


@register.simple_tag
def machine(label: str) -> SafeString | str:
    """The icon of service accounts before the name of one; nothing before the name of a person."""
    if not is_machine(label):
        return ""
    return format_html('{} <span class="visually-hidden">{}</span>', icon("bot", 14), _("Service account"))


@register.simple_tag
def account_url(account: User) -> str:
    """The address of the page of a service account."""
    owner = account.project or account.organization
    assert owner is not None
    return service_url(owner, "service_account", account=account.name)
