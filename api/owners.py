"""The project or organization that a path names, and its service accounts. The routes of both have the same views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accounts.models import AccessKey
from registry import errors, service_accounts

from . import problems
from .base import ApiView

if TYPE_CHECKING:
    from datetime import datetime

    from accounts.models import Organization, Project, User


class OwnerView(ApiView):
    """A view below a project or below an organization."""

    @property
    def owner(self) -> Project | Organization:
        """The project of the path, or its organization."""
        return self.project if "project" in self.kwargs else self.organization

    def account(self, name: str, *, with_deleted: bool = False) -> User:
        """The service account of this name. Raises NotFound."""
        found = service_accounts.find(self.owner, name, with_deleted=with_deleted)
        if found is None:
            raise problems.NotFound(f"{self.owner.name} has no service account {name}")
        return found

    def require_unlimited(self) -> None:
        """Raises Denied if this key is limited to actions, repositories or networks: it must not free itself."""
        own = AccessKey.objects.get(pk=self.actor.key_id or 0)
        if own.only_actions is not None or own.repositories or own.networks:
            raise errors.Denied(
                "this access key is limited to some actions, repositories or networks: it makes no credentials"
            )

    def require_may_make(self, project: Project | None, expires_at: datetime | None) -> None:
        """Raises Denied if a key for this project (None: all) with this end would have more than this one."""
        own = AccessKey.objects.get(pk=self.actor.key_id or 0)
        if own.project_id is not None and (project is None or project.pk != own.project_id):
            raise errors.Denied("this access key is limited to one project: it makes keys for that project only")
        self.require_unlimited()
        if own.expires_at and (expires_at is None or expires_at > own.expires_at):
            raise errors.Denied("this access key ends: it makes keys that end no later")
