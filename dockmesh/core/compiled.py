"""A query that is compiled once: what the ORM writes, without its work at every call.

Building a queryset and compiling it to SQL takes several times as long as a small query itself. Where the
same query is made at every scrape or request, it is built and compiled once; the rows are the same tuples
that `values_list` gives, converters included.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import Model, QuerySet


@dataclass(frozen=True, slots=True)
class _Compiled:
    sql: str
    params: tuple[Any, ...]
    compiler: Any
    converters: Mapping[int, Any]


class CompiledQuery:
    """`build` gives a `values_list` queryset; it is called once, at the first use.

    A value that differs from call to call stands in the queryset as some value that can't be meant, and `rows` is
    told what to put in its place:
    `CompiledQuery(lambda: Token.objects.filter(key="<key>").values_list("id")).rows({"<key>": key})`.
    """

    def __init__(self, build: Callable[[], "QuerySet[Any, Any]"]) -> None:
        self._build = build
        self._compiled: _Compiled | None = None

    def rows(self, values: Mapping[str | int, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run it; one query."""
        compiled = self._compiled or self._compile()
        params = compiled.params
        if values:
            params = tuple(
                values.get(param, param) if isinstance(param, str | int) else param for param in params
            )
        with connection.cursor() as cursor:
            cursor.execute(compiled.sql, params)
            rows = cursor.fetchall()
        if compiled.converters:
            return [tuple(row) for row in compiled.compiler.apply_converters(rows, compiled.converters)]
        return list(rows)

    def _compile(self) -> _Compiled:
        compiler = self._build().query.get_compiler(DEFAULT_DB_ALIAS)
        sql, params = compiler.as_sql()
        converters = compiler.get_converters(expression for expression, _, _ in compiler.select)
        self._compiled = _Compiled(sql, tuple(params), compiler, converters)
        return self._compiled


Row = TypeVar("Row", bound=Model)


class CompiledObjects(Generic[Row]):
    """The same for whole objects: `build` gives a queryset of them."""

    def __init__(self, build: Callable[[], "QuerySet[Row]"]) -> None:
        self._build = build
        self._names: tuple[str, ...] = ()
        self._model: type[Row] | None = None
        self._query = CompiledQuery(self._values)

    def objects(self, values: Mapping[str | int, Any] | None = None) -> list[Row]:
        """Run it; one query."""
        rows = self._query.rows(values)
        if not rows:
            return []
        assert self._model is not None
        return [self._model.from_db(DEFAULT_DB_ALIAS, self._names, row) for row in rows]

    def _values(self) -> "QuerySet[Any, Any]":
        queryset = self._build()
        self._model = queryset.model
        self._names = tuple(field.attname for field in queryset.model._meta.concrete_fields)
        return queryset.values_list(*self._names)
