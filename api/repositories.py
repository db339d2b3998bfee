"""Repositories: list, create, settings, delete."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from rest_framework import serializers

from registry import hosts, repositories, trash
from registry.access import Action
from registry.models import Repository, Severity

from .base import Answer, ApiView, Page, etag_of, operation
from .fields import DeletionJson, SeverityField, Switch, Text, Wanted, Whole, deletion_json

VISIBILITIES = ("private", "public")
SCANS = ("auto", "manual")
MAX_HOURS = 32_767


class PullPolicyJson(serializers.Serializer[Any]):
    """Which images cannot be pulled by users who may not push."""

    block_severity = SeverityField(help_text="the least severity that is refused; none: the policy is off")
    unscanned_grace_hours = serializers.IntegerField(
        allow_null=True, help_text="how long an image without a scan may be pulled after its push; null: for ever"
    )


class PullPolicyWanted(Wanted):
    """Which images cannot be pulled by users who may not push."""

    block_severity = SeverityField(default=Severity.NONE)
    unscanned_grace_hours = Whole(min_value=0, max_value=MAX_HOURS, allow_null=True, default=None)


class RepositoryJson(serializers.Serializer[Any]):
    """A repository."""

    name = serializers.CharField()
    path = serializers.CharField(help_text="project/repository")
    uri = serializers.CharField(help_text="what docker takes, before the name of the image")
    description = serializers.CharField()
    visibility = serializers.ChoiceField(choices=VISIBILITIES)
    scan = serializers.ChoiceField(choices=SCANS)
    tag_overwrite = serializers.BooleanField(help_text="false: a tag always points to the same image")
    pull_policy = PullPolicyJson()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class RepositoryFullJson(RepositoryJson):
    """A repository with its readme."""

    readme = serializers.CharField(help_text="Markdown")


class RepositoryWanted(Wanted):
    """The settings of a repository. PUT sets those that are left out to their defaults."""

    description = Text(max_length=repositories.MAX_DESCRIPTION, default="", allow_blank=True)
    readme = Text(max_length=repositories.MAX_README, default="", allow_blank=True)
    visibility = serializers.ChoiceField(choices=VISIBILITIES, default="private")
    scan = serializers.ChoiceField(choices=SCANS, default="auto")
    tag_overwrite = Switch(default=True)
    pull_policy = PullPolicyWanted(default=lambda: {"block_severity": Severity.NONE, "unscanned_grace_hours": None})


def in_json(repository: Repository) -> dict[str, Any]:
    """A repository as RepositoryJson has it."""
    host = hosts.BARE if hosts.of_service(hosts.BARE.service) else hosts.Host(repository.project.name)
    return {
        "name": repository.name,
        "path": str(repository),
        "uri": host.uri(str(repository)),
        "description": repository.description,
        "visibility": "public" if repository.is_public else "private",
        "scan": "auto" if repository.auto_scan else "manual",
        "tag_overwrite": repository.tag_overwrite,
        "pull_policy": {
            "block_severity": repository.block_severity,
            "unscanned_grace_hours": repository.unscanned_grace_hours,
        },
        "created_at": repository.created_at,
        "updated_at": repository.updated_at,
    }


def _settings(wanted: dict[str, Any]) -> dict[str, Any]:
    """The body as ``repositories.update`` takes it."""
    found: dict[str, Any] = {
        name: wanted[name] for name in ("description", "readme", "tag_overwrite") if name in wanted
    }
    if "visibility" in wanted:
        found["is_public"] = wanted["visibility"] == "public"
    if "scan" in wanted:
        found["auto_scan"] = wanted["scan"] == "auto"
    return found | dict(wanted.get("pull_policy", {}))


class RepositoriesView(ApiView):
    """/api/v1/projects/{project}/repositories"""

    noun = "repositories"

    @operation(Action.VIEW, RepositoryJson, is_list=True)
    def get(self) -> Page:
        """List the repositories of a project, by name."""
        live = Repository.objects.live().filter(project=self.project).select_related("project")
        return self.page(live, "name", in_json)


class RepositoryView(ApiView):
    """/api/v1/projects/{project}/repositories/{repository}"""

    noun = "repositories"

    @operation(Action.VIEW, RepositoryFullJson)
    def get(self) -> Answer:
        """Get a repository with its readme."""
        return self._representation(200)

    @operation(
        Action.MANAGE,
        RepositoryFullJson,
        body=RepositoryWanted,
        statuses=(200, 201),
        may_be_absent=True,
        is_conditional=True,
    )
    def put(self) -> Answer:
        """Create a repository, or set all its settings. The same request twice changes nothing."""
        wanted = _settings(self.body)
        if "repository" in self.__dict__:
            return self._update(wanted)
        self.check("")
        name, first = self.kwargs["repository"], ("description", "is_public", "tag_overwrite", "auto_scan")
        with transaction.atomic():
            given = {each: wanted[each] for each in first}
            self.repository, is_new = repositories.create(self.actor, self.project, name, **given)
            if is_new:
                repositories.update(self.actor, self.repository, **wanted)
        if not is_new:  # another request was faster
            return self._update(wanted)
        answer = self._representation(201)
        answer.location = self.request.path
        return answer

    @operation(Action.MANAGE, RepositoryFullJson, body=RepositoryWanted, is_conditional=True)
    def patch(self) -> Answer:
        """Change settings of a repository. What is left out stays."""
        return self._update(_settings(self.body))

    @operation(Action.MANAGE, DeletionJson, is_conditional=True)
    def delete(self) -> dict[str, Any]:
        """Delete a repository with all its images. The answer says until when it can be restored."""
        self.check(etag_of(self._seen()))
        return deletion_json(trash.delete_repository(self.actor, self.repository))

    def _update(self, wanted: dict[str, Any]) -> Answer:
        now = self._seen()
        self.check(etag_of(now))
        repositories.update(self.actor, self.repository, seen=now if self.has_precondition else None, **wanted)
        return self._representation(200)

    def _seen(self) -> dict[str, Any]:
        readme = repositories.readme_of(self.repository)
        return repositories.settings_of(self.repository) | {"readme": repositories.fingerprint(readme)}

    def _representation(self, status: int) -> Answer:
        self.repository.refresh_from_db(fields=["updated_at"])
        readme = repositories.readme_of(self.repository)
        seen = repositories.settings_of(self.repository) | {"readme": repositories.fingerprint(readme)}
        return Answer(in_json(self.repository) | {"readme": readme}, status, etag_of(seen))
