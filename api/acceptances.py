"""Risk acceptances: list, accept, withdraw; and all of a repository as OpenVEX."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from rest_framework import serializers

from registry.access import Action
from registry.models import Repository
from scanning import acceptances
from scanning.models import Acceptance

from . import problems
from .base import Answer, ApiView, Page, operation
from .fields import Switch, Text, Wanted


class AcceptanceJson(serializers.Serializer[Any]):
    """A risk acceptance."""

    id = serializers.IntegerField()
    vulnerability = serializers.CharField()
    repository = serializers.CharField(allow_null=True, help_text="null: in the whole project")
    package = serializers.CharField(help_text="empty: in every package")
    justification = serializers.ChoiceField(
        choices=Acceptance.Justification.values,
        allow_null=True,
        help_text="OpenVEX's reason for not affected; null: the risk is taken",
    )
    reason = serializers.CharField()
    covers_fixed = serializers.BooleanField(help_text="false: it ends for a finding when there is a fixed version")
    accepted_by = serializers.CharField()
    accepted_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    withdrawn_at = serializers.DateTimeField(allow_null=True)


class AcceptanceWanted(Wanted):
    """A risk to accept."""

    vulnerability = Text(max_length=100)
    repository = Text(max_length=64, allow_null=True, default=None)
    package = Text(max_length=300, default="", allow_blank=True)
    justification = serializers.ChoiceField(choices=Acceptance.Justification.values, allow_null=True, default=None)
    reason = Text(max_length=acceptances.MAX_REASON)
    covers_fixed = Switch(default=False)
    expires_at = serializers.DateTimeField(allow_null=True, default=None)


class AcceptancesQuery(serializers.Serializer[Any]):
    """Which acceptances."""

    state = serializers.ChoiceField(choices=["active", "ended"], default="active")


class VexAnswer(serializers.Serializer[Any]):
    """An OpenVEX document."""

    def to_representation(self, instance: Any) -> Any:
        """The document as it is."""
        return instance


def in_json(acceptance: Acceptance) -> dict[str, Any]:
    """An acceptance as AcceptanceJson has it."""
    names = set(AcceptanceJson().fields) - {"id", "repository"}
    shown = {name: getattr(acceptance, name) for name in names}
    repository = acceptance.repository.name if acceptance.repository else None
    return shown | {"id": acceptance.pk, "repository": repository, "justification": acceptance.justification or None}


class AcceptancesView(ApiView):
    """/api/v1/projects/{project}/acceptances"""

    noun = "acceptances"

    @operation(Action.VIEW, AcceptanceJson, query=AcceptancesQuery, is_list=True)
    def get(self) -> Page:
        """List the risk acceptances of a project, the newest first."""
        found = Acceptance.objects.filter(project=self.project).select_related("repository")
        active = Acceptance.objects.active(timezone.now()).filter(project=self.project)
        is_active = self.query["state"] == "active"
        found = found.filter(pk__in=active.values("pk")) if is_active else found.exclude(pk__in=active.values("pk"))
        return self.page(found, "-pk", in_json)

    @operation(Action.MANAGE, AcceptanceJson, body=AcceptanceWanted, statuses=(201,))
    def post(self) -> Answer:
        """Accept the risk of a vulnerability that was found. The same again gives the same acceptance."""
        wanted = self.body | {"justification": self.body["justification"] or ""}
        where: Any = self.project
        if (name := wanted.pop("repository")) is not None:
            where = Repository.objects.live().filter(project=self.project, name=name).first()
            if where is None:
                raise problems.Invalid(errors=[{"pointer": "/repository", "detail": f"there is no repository {name}"}])
            where.project = self.project
        made = acceptances.accept(self.actor, where, wanted.pop("vulnerability"), **wanted)
        return Answer(in_json(made), 201, location=f"{self.request.path}/{made.pk}")


class AcceptanceView(ApiView):
    """/api/v1/projects/{project}/acceptances/{acceptance}"""

    noun = "acceptances"

    @operation(Action.VIEW, AcceptanceJson)
    def get(self, acceptance: int) -> dict[str, Any]:
        """Get a risk acceptance."""
        return in_json(self._found(acceptance))

    @operation(Action.MANAGE)
    def delete(self, acceptance: int) -> None:
        """Withdraw a risk acceptance: the findings count again."""
        acceptances.withdraw(self.actor, self._found(acceptance))

    def _found(self, pk: int) -> Acceptance:
        found = Acceptance.objects.filter(project=self.project, pk=pk)
        acceptance = found.select_related("repository__project", "project").first()
        if acceptance is None:
            raise problems.NotFound(f"there is no acceptance {pk}")
        return acceptance


class VexView(ApiView):
    """…/repositories/{repository}/openvex"""

    noun = "acceptances"

    @operation(Action.VIEW, VexAnswer)
    def get(self) -> Any:
        """Get the risk acceptances of a repository as OpenVEX."""
        return acceptances.openvex(self.project, self.repository)
