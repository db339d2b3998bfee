"""Prepared queries: Django writes the SQL of a query once, and only the values change afterwards.

Django takes a hundred times as long to build the query of a pull as the database takes to run it. A prepared query is
built with a Param in the place of each value. Its SQL is kept for each kind of actor, since the kind decides which
conditions the query has.

    @prepare(_Pulled, digest=models.TextField())
    def _pulled(actor, digest):
        found = ManifestBlob.objects.filter(blob__digest=digest)
        return access.permitted(found, actor, Action.PULL, "repository").values_list("blob", "blob__size")

    row = _pulled.first(actor, digest="sha256:…")
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.db import connection, models
from django.db.models import Expression
from django.utils.dateparse import parse_datetime

from accounts.actors import Actor

from .drivers import Statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import Field, QuerySet

Row = TypeVar("Row", bound=tuple[Any, ...])


class FrozenMoment(TypeError):
    """The query holds a moment, such as timezone.now(), that would be the same in every run: use Now() or a Param."""


class Param(Expression):
    """A value that is given when the query is run; in the SQL it is one placeholder."""

    def __init__(self, name: str, field: Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name = name
        self.is_moment = isinstance(field, models.DateTimeField)

    def __repr__(self) -> str:
        return f"Param({self.name!r})"

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        """A placeholder, with this object as its parameter."""
        return "%s", (self,)

    def value_in(self, values: dict[str, Any]) -> Any:
        """The value of this name, as the database takes it."""
        value = values[self.name]
        return connection.ops.adapt_datetimefield_value(value) if self.is_moment else value


_ID = models.BigIntegerField()
_OF_ACTOR = {name: Param(name, _ID) for name in ("user_id", "key_id", "project_id")}


class Prepared(Generic[Row]):
    """A query that is run with an actor and the values of its Params. Its SQL is written at the first run."""

    def __init__(
        self, row: Callable[..., Row], params: dict[str, Param], build: Callable[..., QuerySet[Any, Any]]
    ) -> None:
        self._row, self._params, self._build = row, params, build
        self._written: dict[tuple[bool, ...], _Written] = {}  # by the kind of actor

    def first(self, actor: Actor, **values: Any) -> Row | None:
        """The first row, None when there is none."""
        written = self._of_kind(actor)
        row = written.statement.first(written.filled(actor, values))
        return None if row is None else self._row(*row)

    def all(self, actor: Actor, **values: Any) -> list[Row]:
        """Every row."""
        written = self._of_kind(actor)
        return [self._row(*row) for row in written.statement.all(written.filled(actor, values))]

    def _of_kind(self, actor: Actor) -> _Written:
        """The query for actors of this kind."""
        kind = (
            actor.user_id is not None,
            actor.key_id is not None,
            actor.project_id is not None,
            actor.pull_only,
            actor.is_system,
        )
        if (written := self._written.get(kind)) is None:
            written = self._written[kind] = self._write(actor)
        return written

    def _write(self, actor: Actor) -> _Written:
        ids: dict[str, Any] = {name: param for name, param in _OF_ACTOR.items() if getattr(actor, name) is not None}
        of_kind = Actor(**ids, pull_only=actor.pull_only, is_system=actor.is_system)
        sql, parameters = self._build(of_kind, **self._params).query.sql_with_params()
        if frozen := [parameter for parameter in parameters if _is_moment(parameter)]:
            raise FrozenMoment(f"{self._build.__qualname__} holds the moment {frozen[0]}")
        return _Written(sql, parameters)


class _Written:
    """A query in SQL, and its parameters: constants, and a Param for each value of a run."""

    def __init__(self, sql: str, parameters: tuple[Any, ...]) -> None:
        self.statement = Statement(sql)
        self._parameters = list(parameters)
        self._places = [(place, each) for place, each in enumerate(parameters) if isinstance(each, Param)]

    def filled(self, actor: Actor, values: dict[str, Any]) -> list[Any]:
        """The parameters of a run."""
        values |= {"user_id": actor.user_id, "key_id": actor.key_id, "project_id": actor.project_id}
        filled = self._parameters.copy()
        for place, param in self._places:
            filled[place] = param.value_in(values)
        return filled


def prepare(row: Callable[..., Row], **fields: Field[Any, Any]) -> Callable[..., Prepared[Row]]:
    """Decorate a function that builds a query of tuples (``values_list``) from an actor and these Params.

    ``row``: the NamedTuple that each row becomes. ``fields``: the field of each Param, by its name. The query must not
    depend on the actor's token (``scope``): the caller asks ``access.token_covers`` about the row.
    """
    params = {name: Param(name, field) for name, field in fields.items()}
    return lambda build: Prepared(row, params, build)


def as_moment(value: datetime) -> datetime:
    """A column that is a moment, as a row has it. SQLite returns UTC without a time zone."""
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _is_moment(parameter: object) -> bool:
    """Whether this is a date or time, or the text as which SQLite stores one."""
    if not isinstance(parameter, str):
        return isinstance(parameter, date)  # a datetime is one
    try:
        return parse_datetime(parameter) is not None
    except ValueError:  # it has the form of one
        return True
