"""Issuers of ID tokens that an organization trusts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from accounts import issuers
from accounts.models import IssuerKind, OrganizationRole

from . import problems
from .base import Answer, Page, operation
from .fields import Text, Wanted
from .owners import OwnerView

if TYPE_CHECKING:
    from accounts.models import Issuer


class IssuerJson(serializers.Serializer[Any]):
    """An issuer of ID tokens."""

    id = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=IssuerKind.values)
    url = serializers.CharField(help_text="the claim iss of its tokens")
    audience = serializers.CharField(help_text="the claim aud of its tokens")
    is_uploaded = serializers.BooleanField(help_text="true: its keys are uploaded, nothing is fetched")
    keys = serializers.ListField(child=serializers.CharField(), help_text="the identifiers of its public keys")
    fetched_at = serializers.DateTimeField(allow_null=True)
    problem = serializers.CharField(help_text="why the keys could not be fetched last; empty: they were")
    created_at = serializers.DateTimeField()


class IssuerWanted(Wanted):
    """An issuer to trust."""

    kind = serializers.ChoiceField(choices=IssuerKind.values)
    url = Text(max_length=issuers.MAX_URL, help_text="exactly the claim iss of its tokens")
    audience = Text(
        max_length=issuers.MAX_URL,
        default="",
        allow_blank=True,
        help_text="the claim aud of its tokens; empty: the address of this registry, as github and gitlab always have",
    )
    jwks = serializers.DictField(
        default=None, allow_null=True, help_text="the public keys, if this registry cannot fetch them; null: it fetches"
    )


class IssuerKeysWanted(Wanted):
    """New public keys."""

    jwks = serializers.DictField(help_text="the JSON of the issuer's jwks_uri")


class IssuersView(OwnerView):
    """/api/v1/organizations/{organization}/issuers"""

    noun = "issuers"

    @operation(None, IssuerJson, organization=OrganizationRole.OWNER, is_list=True)
    def get(self) -> Page:
        """List the issuers, by address."""
        return self.page(issuers.of(self.organization), "url", _in_json)

    @operation(None, IssuerJson, organization=OrganizationRole.OWNER, body=IssuerWanted, statuses=(201,))
    def post(self) -> Answer:
        """Trust an issuer, and fetch its keys. One that does not answer is added, and its `problem` says so."""
        self.require_unlimited()
        wanted = dict(self.body)
        jwks, kind = wanted.pop("jwks"), IssuerKind(wanted.pop("kind"))
        keys = "" if jwks is None else json.dumps(jwks)
        made = issuers.create(self.actor, self.organization, kind, **wanted, keys=keys)
        return Answer(_in_json(made), 201, location=f"{self.request.path}/{made.pk}")


class _IssuerView(OwnerView):
    noun = "issuers"

    def found(self, pk: int) -> Issuer:
        """Raises NotFound."""
        found = issuers.of(self.organization).filter(pk=pk).first()
        if found is None:
            raise problems.NotFound(f"there is no issuer {pk}")
        return found


class IssuerView(_IssuerView):
    """/api/v1/organizations/{organization}/issuers/{issuer}"""

    @operation(None, IssuerJson, organization=OrganizationRole.OWNER)
    def get(self, issuer: int) -> dict[str, Any]:
        """Get an issuer."""
        return _in_json(self.found(issuer))

    @operation(None, organization=OrganizationRole.OWNER)
    def delete(self, issuer: int) -> None:
        """Stop trusting an issuer that has no trust rules."""
        issuers.delete(self.actor, self.found(issuer))


class IssuerKeysView(_IssuerView):
    """/api/v1/organizations/{organization}/issuers/{issuer}/keys"""

    @operation(None, IssuerJson, organization=OrganizationRole.OWNER, body=IssuerKeysWanted)
    def put(self, issuer: int) -> dict[str, Any]:
        """Set the public keys of an issuer. From then on nothing is fetched."""
        self.require_unlimited()
        issuers.upload_keys(self.actor, self.found(issuer), json.dumps(self.body["jwks"]))
        return _in_json(self.found(issuer))


class IssuerFetchView(_IssuerView):
    """/api/v1/organizations/{organization}/issuers/{issuer}/fetch"""

    @operation(None, IssuerJson, organization=OrganizationRole.OWNER)
    def post(self, issuer: int) -> dict[str, Any]:
        """Fetch the public keys of an issuer now, also of one with uploaded keys."""
        return _in_json(issuers.fetch_now(self.actor, self.found(issuer)))


def _in_json(issuer: Issuer) -> dict[str, Any]:
    names = set(IssuerJson().fields) - {"id", "keys"}
    shown = {name: getattr(issuer, name) for name in names}
    return shown | {"id": issuer.pk, "keys": sorted(key["kid"] for key in issuer.keys)}
