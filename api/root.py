"""What is here, and who asks."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import reverse
from rest_framework import serializers

from accounts.models import AccessKey

from .base import ApiView, operation


class RootJson(serializers.Serializer[Any]):
    """The API, and the key that asks."""

    version = serializers.CharField()
    registry = serializers.CharField(help_text="the address of the console and of the registry")
    openapi = serializers.CharField()
    user = serializers.CharField(help_text="the holder of the key")
    key = serializers.CharField(help_text="the ID of the key")
    project = serializers.CharField(allow_null=True, help_text="the only project of the key; null: all of its holder")
    expires_at = serializers.DateTimeField(allow_null=True)


class RootView(ApiView):
    """/api/v1/"""

    noun = "api"

    @operation(None, RootJson)
    def get(self) -> dict[str, Any]:
        """Tell what is here and who asks."""
        assert self.actor.key_id is not None
        key = AccessKey.objects.select_related("project").get(pk=self.actor.key_id)
        return {
            "version": "v1",
            "registry": settings.PUBLIC_URL,
            "openapi": settings.PUBLIC_URL + reverse("api:openapi"),
            "user": self.actor.label,
            "key": key.identifier,
            "project": key.project.name if key.project else None,
            "expires_at": key.expires_at,
        }
