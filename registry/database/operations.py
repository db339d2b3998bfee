"""Operations of migrations that PostgreSQL carries out while tables are written to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db.migrations.operations import AddIndex

if TYPE_CHECKING:
    from django.db.backends.base.schema import BaseDatabaseSchemaEditor
    from django.db.migrations.state import ProjectState


class AddIndexOnline(AddIndex):
    """Add an index; writers go on meanwhile (CREATE INDEX CONCURRENTLY). The migration has ``atomic = False``.

    SQLite has no other way than to keep writers out.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """See Django's."""
        kind = AddIndexConcurrently if schema_editor.connection.vendor == "postgresql" else AddIndex
        kind(self.model_name, self.index).database_forwards(app_label, schema_editor, from_state, to_state)
