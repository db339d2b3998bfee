"""A field for names, which sort bytewise in every database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

# The long digests (sha512) have 135 characters; digests that are never looked up may be longer.
DIGEST_LENGTH = 135
GENERAL_DIGEST_LENGTH = 255
MEDIA_TYPE_LENGTH = 255


class NameField(models.CharField):  # type: ignore[type-arg]  # Django's class takes none at run time
    """ASCII text in byte order, as the specification sorts tags; PostgreSQL's own locale would sort otherwise."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        """Add the collation that means byte order here (SQLite's default is that already)."""
        parameters: dict[str, Any] = dict(super().db_parameters(connection))
        return {**parameters, "collation": "C" if connection.vendor == "postgresql" else None}
