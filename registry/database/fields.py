"""Text fields that sort by byte in every database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Literal(models.Value):
    """A text that is part of the query. SQLite uses a partial index only if it can read the values of its condition."""

    def as_sql(self, compiler: Any, connection: BaseDatabaseWrapper) -> Any:
        """The text in quotation marks."""
        return f"""'{self.value.replace("'", "''").replace("%", "%%")}'""", []


class ComputedNameField(NameField):
    """A NameField that is computed from the field ``source`` whenever a row is written, also by ``bulk_create``.

    ``source`` must not change by ``QuerySet.update``. Migrations see a NameField.
    """

    def __init__(
        self, *args: Any, source: str = "name", compute: Callable[[str], str] | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **{"editable": False, **options})
        self.source, self.compute = source, compute

    def deconstruct(self) -> Any:
        """Return a NameField: the function is not for migrations."""
        name, _path, args, options = super().deconstruct()
        return name, "registry.database.fields.NameField", args, options

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Compute the value, and set it."""
        if self.compute is not None:
            setattr(model_instance, self.attname, self.compute(getattr(model_instance, self.source)))
        return super().pre_save(model_instance, add)
