"""Projects: list, create, settings, usage."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.models import Organization, OrganizationMembership, OrganizationRole, Project
from registry import access, errors, projects
from registry.access import Action
from registry.models import Image, ProjectUsage, Repository

from . import problems
from .base import Answer, ApiView, Page, etag_of, operation
from .fields import Switch, Text, Wanted

VISIBILITIES, SCANS = ("private", "public"), ("auto", "manual")
# Field of NewRepositoriesJson: the column of Project, and the value for which it is true.
COLUMNS = {
    "visibility": ("new_is_public", "public"),
    "scan": ("new_auto_scan", "auto"),
    "tag_overwrite": ("new_tag_overwrite", True),
}


class NewRepositoriesJson(serializers.Serializer[Any]):
    """The settings of repositories that a push creates."""

    visibility = serializers.ChoiceField(choices=VISIBILITIES)
    scan = serializers.ChoiceField(choices=SCANS)
    tag_overwrite = serializers.BooleanField(help_text="false: a tag always points to the same image")


class NewRepositoriesWanted(Wanted):
    """The settings of repositories that a push creates. PUT sets those that are left out to their defaults."""

    visibility = serializers.ChoiceField(choices=VISIBILITIES, default="private")
    scan = serializers.ChoiceField(choices=SCANS, default="auto")
    tag_overwrite = Switch(default=True)


class ProjectJson(serializers.Serializer[Any]):
    """A project."""

    name = serializers.CharField(help_text="the ID, a part of every image's address")
    organization = serializers.CharField()
    display_name = serializers.CharField()
    description = serializers.CharField()
    create_on_push = serializers.BooleanField(help_text="whether a push creates a repository that does not exist")
    new_repositories = NewRepositoriesJson()
    created_at = serializers.DateTimeField()


class ProjectWanted(Wanted):
    """The settings of a project. PUT sets those that are left out to their defaults."""

    organization = Text(
        max_length=64, required=False, help_text="where it is made; must be given for a new project, never changes"
    )
    display_name = Text(max_length=100, default="", allow_blank=True)
    description = Text(max_length=200, default="", allow_blank=True)
    create_on_push = Switch(default=False)
    new_repositories = NewRepositoriesWanted(
        default=lambda: {"visibility": "private", "scan": "auto", "tag_overwrite": True}
    )


class ProjectChanges(Wanted):
    """The settings to change."""

    display_name = Text(max_length=100, required=False, allow_blank=True)
    description = Text(max_length=200, required=False, allow_blank=True)
    create_on_push = Switch(required=False)
    new_repositories = NewRepositoriesWanted(required=False)


class LimitJson(serializers.Serializer[Any]):
    """A quota. ``used``: null if it is one of each repository or image."""

    used = serializers.IntegerField(allow_null=True)
    limit = serializers.IntegerField()


class UsageJson(serializers.Serializer[Any]):
    """What a project holds, and its quotas."""

    repositories = LimitJson()
    images = LimitJson(help_text="the limit is for each repository")
    tags = LimitJson(help_text="the limit is for each image")
    digests = LimitJson(help_text="the limit is for each image, with those in Recovery")
    size = serializers.IntegerField(allow_null=True, help_text="bytes; null: not measured yet")
    measured_at = serializers.DateTimeField(allow_null=True)


def in_json(project: Project) -> dict[str, Any]:
    """A project as ProjectJson has it."""
    return {
        "name": project.name,
        "organization": project.organization.name,
        "display_name": project.display_name,
        "description": project.description,
        "create_on_push": project.create_on_push,
        "new_repositories": {
            "visibility": "public" if project.new_is_public else "private",
            "scan": "auto" if project.new_auto_scan else "manual",
            "tag_overwrite": project.new_tag_overwrite,
        },
        "created_at": project.created_at,
    }


def _settings(wanted: dict[str, Any]) -> dict[str, Any]:
    """The body as ``projects.update`` takes it."""
    found = dict(wanted)
    for name, value in found.pop("new_repositories", {}).items():
        column, on = COLUMNS[name]
        found[column] = value == on
    return found


class ProjectsView(ApiView):
    """/api/v1/projects"""

    noun = "projects"

    @operation(None, ProjectJson, is_list=True)
    def get(self) -> Page:
        """List the projects in which the holder of the key has a role, by name."""
        found = access.permitted_projects(self.actor, Action.VIEW).select_related("organization")
        return self.page(found, "name", in_json)


class ProjectView(ApiView):
    """/api/v1/projects/{project}"""

    noun = "projects"

    @operation(Action.VIEW, ProjectJson)
    def get(self) -> Answer:
        """Get a project."""
        return _answer(self.project)

    @operation(
        None,
        ProjectJson,
        body=ProjectWanted,
        statuses=(200, 201),
        may_be_absent=True,
        is_conditional=True,
    )
    def put(self) -> Answer:
        """Create a project, or set its settings. Creating takes the role Organization Owner."""
        wanted = _settings(self.body)
        organization = wanted.pop("organization", None)
        if "project" in self.__dict__:
            if organization not in {None, self.project.organization.name}:
                raise problems.Invalid("a project stays in its organization")
            return self._update(wanted)
        self.check("")
        made, is_new = projects.create(self.actor, self._owned(organization), self.kwargs["project"], **wanted)
        if not is_new:
            raise errors.NameTaken(f"the project ID {made.name} is taken")
        return Answer(in_json(made), 201, etag_of(projects.settings_of(made)), self.request.path)

    @operation(Action.ADMINISTER, ProjectJson, body=ProjectChanges, is_conditional=True)
    def patch(self) -> Answer:
        """Change settings of a project."""
        return self._update(_settings(self.body))

    def _update(self, wanted: dict[str, Any]) -> Answer:
        self.require(Action.ADMINISTER)
        now = projects.settings_of(self.project)
        self.check(etag_of(now))
        projects.update(self.actor, self.project, seen=now if self.has_precondition else None, **wanted)
        return _answer(self.project)

    def _owned(self, name: str | None) -> Organization:
        """The organization of the body, if the holder of the key owns it."""
        if name is None:
            raise problems.Invalid(
                errors=[{"pointer": "/organization", "detail": "a new project is made in an organization"}]
            )
        if self.actor.project_id is not None:
            raise errors.Denied("this access key is limited to one project: it makes no others")
        own = OrganizationMembership.objects.filter(organization__name=name, user=self.actor.user_id)
        membership = own.select_related("organization").first()
        if membership is None:
            raise problems.NotFound(f"there is no organization {name}, or you do not belong to it")
        if membership.role != OrganizationRole.OWNER:
            raise errors.Denied(f"making a project takes the role {access.Role.OWNER} in {name}")
        return membership.organization


def _answer(project: Project) -> Answer:
    return Answer(in_json(project), etag=etag_of(projects.settings_of(project)))


class UsageView(ApiView):
    """/api/v1/projects/{project}/usage"""

    noun = "projects"

    @operation(Action.VIEW, UsageJson)
    def get(self) -> dict[str, Any]:
        """Get the quotas of a project, and how much of them is used."""
        measured = ProjectUsage.objects.filter(project=self.project).first()
        live = Repository.objects.live().filter(project=self.project)
        images = Image.objects.with_contents().filter(repository__in=live.values("pk"))
        return {
            "repositories": {"used": live.count(), "limit": self.project.repository_limit},
            "images": {"used": images.count(), "limit": self.project.image_limit},
            "tags": {"used": None, "limit": self.project.tag_limit},
            "digests": {"used": None, "limit": self.project.digest_limit},
            "size": measured.size if measured else None,
            "measured_at": measured.measured_at if measured else None,
        }
