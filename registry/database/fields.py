"""A text field that sorts by byte in every database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

# A sha512 digest has 135 characters. Digests of other algorithms, which are only compared, may be longer.
DIGEST_LENGTH = 135
GENERAL_DIGEST_LENGTH = 255
MEDIA_TYPE_LENGTH = 255


class NameField(models.CharField):  # type: ignore[type-arg]  # Django's class takes none at run time
    """ASCII text in byte order, as distribution-spec requires for tags. PostgreSQL would sort by its locale."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        """Add collation "C" on PostgreSQL. SQLite sorts by byte by default."""
        parameters: dict[str, Any] = dict(super().db_parameters(connection))
        return {**parameters, "collation": "C" if connection.vendor == "postgresql" else None}
