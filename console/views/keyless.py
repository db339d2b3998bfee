"""Trust rules and sessions of a service account, and snippets for pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import Http404
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from accounts import federation, issuers, trust_rules
from accounts.models import FederatedSession, TrustRule
from console.forms.keyless import Rule, TryToken
from console.queries import keyless as queries
from console.views.shared.homes import Home, in_organization, in_project
from console.views.shared.kept_forms import typed
from registry import service_accounts
from registry.access import Action

if TYPE_CHECKING:
    from django.http import HttpResponse

    from accounts.models import User


def _rules(home: Home, account: str) -> HttpResponse:
    """The rules and sessions. POST tries a token, deletes, restores or unpins a rule, or ends a session."""
    found = home.find(account)
    act = home.request.POST.get("act", "") if home.request.method == "POST" else ""
    form, looked = TryToken(typed(home.request) if act == "try" else None), None
    if act == "try":
        if form.is_valid():
            looked = federation.look(list(trust_rules.of(found)), form.cleaned_data["token"].strip())
    elif act:
        _change(home, found, act)
        return redirect(home.url("service_account_rules", account=found.name))
    page = queries.rules(home.actor, found)
    return home.render("rules", account=found, page=page, form=form, looked=looked)


def _change(home: Home, account: User, act: str) -> None:
    if act == "end":
        session = FederatedSession.objects.filter(
            key__user=account, key__identifier=home.request.POST.get("session", "")
        )
        if (chosen := session.select_related("key__user", "rule").first()) and federation.end(home.actor, chosen):
            home.flash(_("The session has been ended."))
        return
    rule = _rule(account, home.request.POST.get("rule", ""))
    said = {"name": rule.name}
    here = home.url("service_account_rules", account=account.name)
    if act == "delete" and trust_rules.delete(home.actor, rule):
        undo = (here, {"act": "restore", "rule": str(rule.pk)})
        home.flash(_("The trust rule %(name)s has been deleted, and its sessions have ended.") % said, undo=undo)
    elif act == "restore":
        service_accounts.restore_trust_rule(home.actor, rule)
        home.flash(_("The trust rule %(name)s works again.") % said)
    elif act == "unpin" and trust_rules.unpin(home.actor, rule):
        home.flash(_("The trust rule %(name)s keeps the ids of the next token that it accepts.") % said)


def _rule(account: User, identifier: str) -> TrustRule:
    found = TrustRule.objects.filter(account=account, pk=int(identifier)) if identifier.isdecimal() else None
    rule = found.select_related("issuer", "account").first() if found is not None else None
    if rule is None:
        raise Http404
    return rule


def _new_rule(home: Home, account: str, issuer: int) -> HttpResponse:
    """A new rule for tokens of an issuer."""
    found = home.find(account)
    assert found.organization is not None
    chosen = issuers.of(found.organization).filter(pk=issuer).first()
    if chosen is None:
        raise Http404
    form = Rule(typed(home.request), kind=chosen.kind)
    back = home.url("service_account_rules", account=found.name)
    if home.request.method == "POST" and form.is_valid():
        made = form.attempt(
            service_accounts.add_trust_rule,
            home.actor,
            found,
            chosen,
            form.cleaned_data["name"],
            form.claims(),
            only=form.limits(),
            lifetime=form.session_lifetime(),
            form_id=form.cleaned_data["form_id"],
        )
        if made:
            home.flash(_("The trust rule %(name)s has been added.") % {"name": made.name})
            return redirect(back)
    kind = queries.kind_words(chosen)
    return home.render("rule_new", account=found, issuer=chosen, kind=kind, form=form, back=back)


def _snippets(home: Home, account: str) -> HttpResponse:
    """Pieces of pipelines that push as the account."""
    found = home.find(account)
    return home.render("ci", account=found, snippets=queries.snippets(found))


rules = in_project(_rules, Action.ADMINISTER)
new_rule = in_project(_new_rule, Action.ADMINISTER)
snippets = in_project(_snippets, Action.ADMINISTER)

organization_rules = in_organization(_rules)
organization_new_rule = in_organization(_new_rule)
organization_snippets = in_organization(_snippets)
