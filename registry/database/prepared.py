"""Prepared queries: Django writes the SQL of a query once, and only the values change afterwards.

Django takes a hundred times as long to build the query of a pull as the database takes to run it. A prepared query is
built with a Param in the place of each value. Its SQL is kept for each kind of actor, since the kind decides which
conditions the query has.

    @prepare(_Pulled, digest=models.TextField())
    def _pulled(actor, digest):
        found = ManifestBlob.objects.filter(blob__digest=digest)
        return access.permitted(found, actor, Action.PULL, "repository").values_list("blob", "blob__size")

    row = _pulled.first(actor, digest="sha256:…")

A value that is a list has a ListOf its field: ``digests=ListOf(models.TextField())`` for ``digest__in=digests``.

``prepare_models`` is for queries of whole rows, with annotations and with what ``select_related`` adds.
``prepare_update`` and ``PreparedInsert`` are for writes.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import DEFAULT_DB_ALIAS, connection, connections, models
from django.db.models import Expression
from django.db.models.constants import OnConflict
from django.db.models.query import get_related_populators
from django.db.models.sql import InsertQuery, UpdateQuery
from django.utils.dateparse import parse_datetime

from accounts import limits
from accounts.actors import ANONYMOUS, Actor

from .drivers import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.db.models import Field, QuerySet

Row = TypeVar("Row")
Instance = TypeVar("Instance", bound=models.Model)


class FrozenMoment(TypeError):
    """The query holds a moment, such as timezone.now(), that would be the same in every run: use Now() or a Param."""


class Param(Expression):
    """A value that is given when the query is run; in the SQL it is one placeholder."""

    def __init__(self, name: str, field: Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name = name
        self.is_converted = isinstance(field, models.DateTimeField | models.UUIDField)

    def __repr__(self) -> str:
        return f"Param({self.name!r})"

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        """A placeholder, with this object as its parameter."""
        return "%s", (self,)

    def value_in(self, values: dict[str, Any]) -> Any:
        """The value of this name, as the database takes it."""
        value = values[self.name]
        return self.output_field.get_db_prep_value(value, connection) if self.is_converted else value


class ListOf:
    """The type of a Param that is a list of texts or numbers: of the values of this field, for the look-up ``in``."""

    def __init__(self, field: Field[Any, Any]) -> None:
        self.field = field


class ListParam(Param):
    """A list of texts or numbers that is given when the query is run. One placeholder, however long the list is."""

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        """A subquery with a row for each value."""
        if connection.vendor == "sqlite":
            return "(SELECT value FROM json_each(%s))", (self,)
        return f"(SELECT unnest(%s::{self.output_field.db_type(connection)}[]))", (self,)

    def value_in(self, values: dict[str, Any]) -> Any:
        """The list of this name, as the database takes it."""
        value = list(values[self.name])
        return json.dumps(value) if connection.vendor == "sqlite" else value


_ID = models.BigIntegerField()
_OF_ACTOR = {name: Param(name, _ID) for name in ("user_id", "key_id", "project_id")}
_REPOSITORIES = Param("repositories_regex", models.TextField())  # in the place of Actor.repositories


class Prepared(Generic[Row]):
    """A query that is run with an actor and the values of its Params. Its SQL is written at the first run."""

    def __init__(
        self,
        row: Callable[..., Row] | None,  # None: the rows are instances of the query's model
        params: dict[str, Param],
        build: Callable[..., QuerySet[Any, Any]],
    ) -> None:
        self._row, self._params, self._build = row, params, build
        self._written: dict[tuple[Any, ...], _Written[Row] | None] = {}  # by the kind of actor

    def first(self, actor: Actor = ANONYMOUS, **values: Any) -> Row | None:
        """The first row, None when there is none. Without an actor for queries that do not depend on one."""
        if (written := self._of_kind(actor)) is None:
            return None
        row = written.statement.first(written.filled(actor, values))
        return None if row is None else written.made_of(row)

    def all(self, actor: Actor = ANONYMOUS, **values: Any) -> list[Row]:
        """Every row. Without an actor for queries that do not depend on one."""
        if (written := self._of_kind(actor)) is None:
            return []
        return [written.made_of(row) for row in written.statement.all(written.filled(actor, values))]

    def _of_kind(self, actor: Actor) -> _Written[Row] | None:
        """The query for actors of this kind; None when Django knows that it has no rows."""
        kind = (
            actor.user_id is not None,
            actor.key_id is not None,
            actor.project_id is not None,
            actor.actions,
            bool(actor.repositories),
            actor.is_system,
        )
        try:
            return self._written[kind]
        except KeyError:
            written = self._written[kind] = self._write(actor)
            return written

    def _write(self, actor: Actor) -> _Written[Row] | None:
        ids: dict[str, Any] = {name: param for name, param in _OF_ACTOR.items() if getattr(actor, name) is not None}
        if actor.repositories:
            ids["repositories"] = _REPOSITORIES
        of_kind = Actor(**ids, actions=actor.actions, is_system=actor.is_system)
        compiler = self._build(of_kind, **self._params).query.get_compiler(DEFAULT_DB_ALIAS)
        try:
            sql, parameters = compiler.as_sql()
        except EmptyResultSet:
            return None
        _refuse_moments(parameters, self._build)
        if self._row is None:
            return _Written(sql, parameters, _Instances(compiler).made_of)
        row = self._row
        return _Written[Any](sql, parameters, tuple if row is tuple else lambda columns: row(*columns))


class _Written(Generic[Row]):
    """A query in SQL. Its parameters are constants, and a Param for each value of a run.

    ``made_of`` makes the row that callers get of a row of the database.
    """

    def __init__(self, sql: str, parameters: tuple[Any, ...], made_of: Callable[[tuple[Any, ...]], Row]) -> None:
        self.statement, self.made_of = Statement(sql), made_of
        self._parameters = list(parameters)
        self._places = [(place, each) for place, each in enumerate(parameters) if isinstance(each, Param)]

    def filled(self, actor: Actor, values: dict[str, Any]) -> list[Any]:
        """The parameters of a run."""
        values |= {"user_id": actor.user_id, "key_id": actor.key_id, "project_id": actor.project_id}
        if actor.repositories:
            values["repositories_regex"] = limits.regex(actor.repositories)
        filled = self._parameters.copy()
        for place, param in self._places:
            filled[place] = param.value_in(values)
        return filled


class PreparedUpdate:
    """An UPDATE that is run with the values of its Params. Its SQL is written at the first run."""

    def __init__(
        self, params: dict[str, Param], build: Callable[..., tuple[QuerySet[Any, Any], dict[str, Any]]]
    ) -> None:
        self._params, self._build = params, build
        self._written: _Written[Any] | None = None

    def run(self, **values: Any) -> int:
        """Update the rows; return their number."""
        written = self._written = self._written or self._write()
        return written.statement.change(written.filled(ANONYMOUS, values))

    def _write(self) -> _Written[Any]:
        rows, changes = self._build(**self._params)
        query: Any = rows.query.chain(UpdateQuery)
        query.add_update_values(changes)
        sql, parameters = query.get_compiler(DEFAULT_DB_ALIAS).as_sql()
        _refuse_moments(parameters, self._build)
        return _Written(sql, parameters, tuple)


class PreparedInsert(Generic[Instance]):
    """An INSERT of one row, or of some, one by one.

    A row that is there: ``ignores`` leaves it, ``updates`` changes these fields of the row with the same ``unique``.
    ``returns_key``: ``run`` finds out the key that the database gives, and clears ``_state.adding`` of the row.
    """

    def __init__(
        self,
        model: type[Instance],
        *,
        ignores: bool = False,
        updates: Sequence[str] = (),
        unique: Sequence[str] = (),
        returns_key: bool = False,
    ) -> None:
        self._model, self._updates, self._unique = model, updates, unique
        self._returns_key = returns_key
        self._on_conflict = OnConflict.IGNORE if ignores else OnConflict.UPDATE if updates else None
        self._statement: Statement | None = None

    def run(self, row: Instance) -> None:
        """Insert the row. Raises IntegrityError. With ``returns_key`` its key is None if a row was there."""
        statement = self._statement = self._statement or self._write(row)
        if not self._returns_key:
            statement.change(self._values(row))
        elif (found := statement.insert(self._values(row))) is not None:
            (row.pk,) = found
            row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS

    def run_all(self, rows: Sequence[Instance]) -> None:
        """Insert the rows. On PostgreSQL it waits once for all of them. Raises IntegrityError."""
        if rows:
            statement = self._statement = self._statement or self._write(rows[0])
            statement.change_all([self._values(row) for row in rows])

    def _values(self, row: Instance) -> list[Any]:
        database = connections[DEFAULT_DB_ALIAS]
        return [each.get_db_prep_save(each.pre_save(row, add=True), database) for each in self._fields]

    def _write(self, row: Instance) -> Statement:
        options = self._model._meta
        self._fields = [each for each in options.concrete_fields if not isinstance(each, models.AutoField)]
        query = InsertQuery(
            self._model,
            on_conflict=self._on_conflict,
            update_fields=[options.get_field(name) for name in self._updates],
            unique_fields=[options.get_field(name) for name in self._unique],
        )
        query.insert_values(self._fields, [row])
        compiler = query.get_compiler(DEFAULT_DB_ALIAS)
        compiler.returning_fields = [options.pk] if self._returns_key else None
        ((sql, parameters),) = compiler.as_sql()
        assert len(parameters) == len(self._fields), "a value of the row is part of the SQL"
        return Statement(sql)


class _Instances:
    """Makes instances of rows, as a queryset does: with ``select_related`` and annotations."""

    def __init__(self, compiler: Any) -> None:
        found, columns = compiler.klass_info, compiler.select
        self._columns = slice(found["select_fields"][0], found["select_fields"][-1] + 1)
        self._names = [column.target.attname for column, _, _ in columns[self._columns]]
        self._model, self._compiler = found["model"], compiler
        self._annotations = list(compiler.annotation_col_map.items())
        self._related = get_related_populators(found, columns, DEFAULT_DB_ALIAS)  # type: ignore[call-arg]  # wrong stub
        self._converters = compiler.get_converters([column for column, _, _ in columns])

    def made_of(self, columns: tuple[Any, ...]) -> Any:
        """The instance of a row of the database."""
        (row,) = self._compiler.apply_converters([columns], self._converters)
        made = self._model.from_db(DEFAULT_DB_ALIAS, self._names, row[self._columns])
        for related in self._related:
            related.populate(row, made)
        for name, place in self._annotations:
            setattr(made, name, row[place])
        return made


def prepare(row: Callable[..., Row], **fields: Field[Any, Any] | ListOf) -> Callable[..., Prepared[Row]]:
    """Decorate a function that builds a query of tuples (``values_list``) from an actor and these Params.

    ``row``: the NamedTuple that each row becomes, or ``tuple`` for rows as they are. ``fields``: the field of each
    Param, by its name. The query must not depend on the actor's token (``scope``): the caller asks
    ``access.token_covers`` about the row.
    """
    params = _params(fields)
    return lambda build: Prepared(row, params, build)


def prepare_models(
    model: type[Instance], **fields: Field[Any, Any] | ListOf
) -> Callable[[Callable[..., QuerySet[Instance]]], Prepared[Instance]]:
    """As ``prepare``, for a query of the rows of a model."""
    params = _params(fields)
    return lambda build: Prepared(None, params, build)


def prepare_update(
    **fields: Field[Any, Any] | ListOf,
) -> Callable[[Callable[..., tuple[QuerySet[Any, Any], dict[str, Any]]]], PreparedUpdate]:
    """Decorate a function that makes, of these Params, the rows to update and their new values by field."""
    params = _params(fields)
    return lambda build: PreparedUpdate(params, build)


def _params(fields: dict[str, Field[Any, Any] | ListOf]) -> dict[str, Param]:
    return {
        name: ListParam(name, each.field) if isinstance(each, ListOf) else Param(name, each)
        for name, each in fields.items()
    }


def number_of(rows: QuerySet[Any, Any]) -> QuerySet[Any, Any]:
    """How many rows there are, as a query of one row with one number (``count`` of a queryset would run it)."""
    one_group = rows.order_by().values(every=models.Value(1))
    counted: QuerySet[Any, Any] = one_group.annotate(number=models.Count("pk")).values_list("number")
    return counted


def as_moment(value: datetime) -> datetime:
    """A column that is a moment, as a row has it. SQLite returns UTC without a time zone."""
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _refuse_moments(parameters: Sequence[Any], build: Callable[..., Any]) -> None:
    """Raises FrozenMoment."""
    if frozen := [parameter for parameter in parameters if _is_moment(parameter)]:
        raise FrozenMoment(f"{build.__qualname__} holds the moment {frozen[0]}")


def _is_moment(parameter: object) -> bool:
    """Whether this is a date or time, or the text as which SQLite stores one."""
    if not isinstance(parameter, str):
        return isinstance(parameter, date)  # a datetime is one
    try:
        return parse_datetime(parameter) is not None
    except ValueError:  # it has the form of one
        return True
