"""The open uploads of the holder of the key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from rest_framework import serializers

from registry import access, uploads
from registry.access import Action

from . import problems
from .base import ApiView, Page, operation

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from registry.models import UploadSession


class UploadJson(serializers.Serializer[Any]):
    """An upload that has not been finished."""

    id = serializers.UUIDField()
    image = serializers.CharField(help_text="project/repository/image")
    size = serializers.IntegerField(help_text="bytes so far")
    moved_at = serializers.DateTimeField(help_text="when it began or got its last bytes")
    expires_at = serializers.DateTimeField()


class UploadsView(ApiView):
    """/api/v1/uploads"""

    noun = "uploads"

    @operation(None, UploadJson, is_list=True)
    def get(self) -> Page:
        """List the open uploads of the holder of the key, in the order of their ids."""
        if "after" in self.query and _uuid(self.query["after"]) is None:
            raise problems.BadRequest("take `after` from `next` of the page before")
        return self.page(_reached(self).select_related("repository__project"), "id", _in_json)


class UploadView(ApiView):
    """/api/v1/uploads/{upload}"""

    noun = "uploads"

    @operation(None, UploadJson)
    def get(self, upload: UUID) -> dict[str, Any]:
        """Get an open upload of the holder of the key."""
        return _in_json(self._found(upload))

    @operation(None)
    def delete(self, upload: UUID) -> None:
        """End an open upload of the holder of the key. Its bytes are deleted."""
        uploads.discard(self._found(upload))

    def _found(self, upload: UUID) -> UploadSession:
        """Raises NotFound."""
        found = _reached(self).filter(pk=upload).select_related("repository__project").first()
        if found is None:
            raise problems.NotFound(f"there is no open upload {upload}")
        return found


def _reached(view: ApiView) -> QuerySet[UploadSession]:
    """The uploads that the key reaches: a limited one sees those in repositories to which it may push."""
    found = uploads.of_user(view.actor.user_id or 0)
    if view.actor.project_id is None and not view.actor.repositories:
        return found
    return access.permitted(found, view.actor, Action.PUSH, "repository")


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _in_json(session: UploadSession) -> dict[str, Any]:
    return {
        "id": session.pk,
        "image": f"{session.repository}/{session.image_name}",
        "size": session.offset,
        "moved_at": uploads.moved_at(session),
        "expires_at": session.expires_at,
    }
