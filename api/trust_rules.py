"""Trust rules of a service account, and the sessions that ID tokens started."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from accounts import federation, id_tokens, issuers, limits, trust_rules
from accounts.models import FederatedSession, OrganizationRole, TrustRule
from registry import service_accounts
from registry.access import Action

from . import problems
from .base import Answer, Page, operation
from .fields import KEY_STATES, Text, Wanted, Whole
from .owners import OwnerView

if TYPE_CHECKING:
    from accounts.models import User

SHORTEST, LONGEST = (int(each.total_seconds()) for each in trust_rules.LIFETIMES)


class TrustRuleJson(serializers.Serializer[Any]):
    """Which ID tokens of an issuer act as the service account."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    issuer = serializers.IntegerField(help_text="the id of the issuer")
    issuer_url = serializers.CharField()
    claims = serializers.DictField(child=serializers.JSONField(), help_text="what the token must say")
    pinned = serializers.DictField(
        child=serializers.JSONField(), help_text="the ids that the first accepted token had; later ones must have them"
    )
    actions = serializers.ListField(child=serializers.ChoiceField(choices=limits.ACTIONS))
    repositories = serializers.CharField(help_text="the only repositories, separated by spaces; empty: all")
    networks = serializers.CharField(help_text="the only networks, separated by spaces; empty: all")
    lifetime = serializers.IntegerField(help_text="seconds of a session")
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    last_used_at = serializers.DateTimeField(allow_null=True)


class TrustRuleWanted(Wanted):
    """A trust rule. It never changes: delete it and make another one."""

    name = Text(max_length=64)
    issuer = Whole(min_value=0, help_text="the id of an issuer of the organization")
    claims = serializers.DictField(
        child=Text(max_length=4_000, allow_blank=True),
        help_text="github: repository, ref, workflow, environment, events; gitlab: project_path, ref, ref_type,"
        " ref_protected, environment; kubernetes: namespace, service_account; generic: sub, claims",
    )
    actions = serializers.ListField(
        child=serializers.ChoiceField(choices=limits.ACTIONS),
        default=lambda: ["pull", "push"],
        min_length=1,
        max_length=len(limits.ACTIONS),
    )
    repositories = Text(
        max_length=3_000, default="", allow_blank=True, help_text="such as shop/web shop/team-*; empty: all"
    )
    networks = Text(max_length=1_000, default="", allow_blank=True, help_text="such as 10.0.0.0/8; empty: all")
    lifetime = Whole(
        min_value=SHORTEST,
        max_value=LONGEST,
        default=int(trust_rules.DEFAULT_LIFETIME.total_seconds()),
        help_text="seconds of a session: a push must fit in",
    )


class TokenWanted(Wanted):
    """An ID token to try."""

    token = Text(max_length=id_tokens.MAX_TOKEN)


class LookJson(serializers.Serializer[Any]):
    """What a rule says about a token."""

    rule = serializers.IntegerField(help_text="the id of the rule")
    problem = serializers.CharField(help_text="why it does not accept the token; empty: it does")


class LooksJson(serializers.Serializer[Any]):
    """What the rules of an account say about a token."""

    problem = serializers.CharField(help_text="why the token itself is refused; empty: it is good")
    rules = LookJson(many=True)


class SessionJson(serializers.Serializer[Any]):
    """A session that an ID token started."""

    id = serializers.CharField(help_text="the ID of its access key, as audit logs have it")
    rule = serializers.IntegerField(help_text="the id of the trust rule")
    state = serializers.ChoiceField(choices=KEY_STATES)
    via = serializers.DictField(child=serializers.CharField(), help_text="issuer, subject, repository, commit, run …")
    address = serializers.CharField()
    client = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True)


class TrustRulesView(OwnerView):
    """…/service-accounts/{account}/trust-rules"""

    noun = "trust rules"

    @operation(Action.ADMINISTER, TrustRuleJson, organization=OrganizationRole.OWNER, is_list=True)
    def get(self, account: str) -> Page:
        """List the trust rules of a service account, the oldest first."""
        return self.page(trust_rules.of(self.account(account)), "pk", _in_json)

    @operation(
        Action.ADMINISTER,
        TrustRuleJson,
        organization=OrganizationRole.OWNER,
        body=TrustRuleWanted,
        statuses=(201,),
    )
    def post(self, account: str) -> Answer:
        """Let ID tokens of an issuer act as a service account."""
        self.require_unlimited()
        found, wanted = self.account(account), self.body
        assert found.organization is not None
        issuer = issuers.of(found.organization).filter(pk=wanted["issuer"]).first()
        if issuer is None:
            detail = f"the organization has no issuer {wanted['issuer']}"
            raise problems.Invalid(errors=[{"pointer": "/issuer", "detail": detail}])
        made = service_accounts.add_trust_rule(
            self.actor,
            found,
            issuer,
            wanted["name"],
            wanted["claims"],
            only=limits.Limits(**{name: wanted[name] for name in ("actions", "repositories", "networks")}),
            lifetime=timedelta(seconds=wanted["lifetime"]),
        )
        return Answer(_in_json(made), 201, location=f"{self.request.path}/{made.pk}")


class _TrustRuleView(OwnerView):
    noun = "trust rules"

    def found(self, account: str, pk: int, *, with_deleted: bool = False) -> TrustRule:
        """Raises NotFound."""
        rules = TrustRule.objects.filter(account=self.account(account), pk=pk).select_related("issuer", "account")
        rule = rules.first() if with_deleted else rules.filter(deleted_at=None).first()
        if rule is None:
            raise problems.NotFound(f"there is no trust rule {pk}")
        return rule


class TrustRuleView(_TrustRuleView):
    """…/service-accounts/{account}/trust-rules/{rule}"""

    @operation(Action.ADMINISTER, TrustRuleJson, organization=OrganizationRole.OWNER)
    def get(self, account: str, rule: int) -> dict[str, Any]:
        """Get a trust rule."""
        return _in_json(self.found(account, rule))

    @operation(Action.ADMINISTER, organization=OrganizationRole.OWNER)
    def delete(self, account: str, rule: int) -> None:
        """Delete a trust rule. Its sessions end at once."""
        trust_rules.delete(self.actor, self.found(account, rule))


class RestoreView(_TrustRuleView):
    """…/service-accounts/{account}/trust-rules/{rule}/restore"""

    @operation(Action.ADMINISTER, TrustRuleJson, organization=OrganizationRole.OWNER)
    def post(self, account: str, rule: int) -> dict[str, Any]:
        """Undo the deletion of a trust rule within ten minutes. Its sessions stay ended."""
        self.require_unlimited()
        service_accounts.restore_trust_rule(self.actor, self.found(account, rule, with_deleted=True))
        return _in_json(self.found(account, rule))


class UnpinView(_TrustRuleView):
    """…/service-accounts/{account}/trust-rules/{rule}/unpin"""

    @operation(Action.ADMINISTER, TrustRuleJson, organization=OrganizationRole.OWNER)
    def post(self, account: str, rule: int) -> dict[str, Any]:
        """Forget the ids of the first token: the next one that matches gives new ones."""
        trust_rules.unpin(self.actor, self.found(account, rule))
        return _in_json(self.found(account, rule))


class TryView(OwnerView):
    """…/service-accounts/{account}/trust-rules/try"""

    noun = "trust rules"

    @operation(Action.ADMINISTER, LooksJson, organization=OrganizationRole.OWNER, body=TokenWanted)
    def post(self, account: str) -> dict[str, Any]:
        """Tell what the trust rules say about an ID token. No session is started, nothing is kept."""
        rules = list(trust_rules.of(self.account(account)))
        problem, looks = federation.look(rules, self.body["token"].strip())
        return {"problem": problem, "rules": [{"rule": each.rule.pk, "problem": each.problem} for each in looks]}


class SessionsView(OwnerView):
    """…/service-accounts/{account}/sessions"""

    noun = "trust rules"

    @operation(Action.ADMINISTER, SessionJson, organization=OrganizationRole.OWNER, is_list=True)
    def get(self, account: str) -> Page:
        """List the sessions of a service account, the newest first; ended ones, too."""
        return self.page(federation.of_account(self.account(account)), "-pk", _session)


class SessionView(OwnerView):
    """…/service-accounts/{account}/sessions/{identifier}"""

    noun = "trust rules"

    @operation(Action.ADMINISTER, SessionJson, organization=OrganizationRole.OWNER)
    def get(self, account: str, identifier: str) -> dict[str, Any]:
        """Get a session."""
        return _session(self._found(self.account(account), identifier))

    @operation(Action.ADMINISTER, organization=OrganizationRole.OWNER)
    def delete(self, account: str, identifier: str) -> None:
        """End a session at once. Its tokens fail at their next request."""
        federation.end(self.actor, self._found(self.account(account), identifier))

    def _found(self, account: User, identifier: str) -> FederatedSession:
        """Raises NotFound."""
        found = federation.of_account(account).filter(key__identifier=identifier).first()
        if found is None:
            raise problems.NotFound(f"there is no session {identifier}")
        return found


def _in_json(rule: TrustRule) -> dict[str, Any]:
    names = set(TrustRuleJson().fields) - {"id", "issuer", "issuer_url", "actions"}
    shown = {name: getattr(rule, name) for name in names}
    actions = [each for each in limits.ACTIONS if rule.only_actions is None or each in rule.only_actions]
    return shown | {"id": rule.pk, "issuer": rule.issuer_id, "issuer_url": rule.issuer.url, "actions": actions}


def _session(session: FederatedSession) -> dict[str, Any]:
    shown = {name: getattr(session.key, name) for name in ("state", "created_at", "expires_at", "last_used_at")}
    more = {"via": session.provenance, "address": session.address, "client": session.client}
    return shown | more | {"id": session.key.identifier, "rule": session.rule_id}
