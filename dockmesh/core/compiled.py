"""A query that is compiled once: what the ORM writes, without its work at every call.

Building a queryset and compiling it to SQL takes several times as long as a small query itself. Where the
same query is made at every scrape or request, it is built and compiled once; the rows are the same tuples
that `values_list` gives, converters included.

And several small queries are one: `read_together` has one statement give the rows of each as a JSON text.
"""

import datetime
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import msgspec
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import CharField, DateTimeField, IntegerField, QuerySet, TextField


class Statement(NamedTuple):
    """A query by hand that needs no values: its text, and how many columns it gives, whole numbers and texts."""

    sql: str
    columns: int


@dataclass(frozen=True, slots=True)
class _Compiled:
    sql: str
    params: tuple[Any, ...] | None
    columns: int
    compiler: Any = None
    converters: Mapping[int, Any] | None = None


class CompiledQuery:
    """`build` gives a `values_list` queryset, or a `Statement`; it is called once, at the first use.

    A value that differs from call to call stands in the queryset as some value that can't be meant, and `rows` is
    told what to put in its place:
    `CompiledQuery(lambda: Token.objects.filter(key="<key>").values_list("id")).rows({"<key>": key})`.
    """

    def __init__(self, build: "Callable[[], QuerySet[Any, Any] | Statement]") -> None:
        self._build = build
        self._compiled: _Compiled | None = None
        self._read: tuple[str, list[tuple[Any, ...]]] | None = None
        self._converted: tuple[Any, list[tuple[Any, ...]]] | None = None

    def rows(self, values: Mapping[str | int, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run it; one query, or none within `read_together`. The list may be the one of the last time: nobody changes it."""
        text = _reading.texts.get(self)
        if text is not None:
            read = self._read
            if read is None or read[0] != text:
                read = self._read = (text, self._rows_of(text))
            return read[1]
        compiled = self.compiled
        params = compiled.params
        if values and params:
            params = tuple(
                values.get(param, param) if isinstance(param, str | int) else param for param in params
            )
        with connection.cursor() as cursor:
            cursor.execute(compiled.sql, params)
            rows = cursor.fetchall()
        if not compiled.converters:
            return list(rows)
        converted = self._converted
        if converted is None or converted[0] != rows:
            found = compiled.compiler.apply_converters(rows, compiled.converters)
            converted = self._converted = (rows, [tuple(row) for row in found])
        return converted[1]

    @property
    def text(self) -> str | None:
        """All its rows as one text, within `read_together`; None outside."""
        return _reading.texts.get(self)

    @property
    def compiled(self) -> _Compiled:
        """Its SQL."""
        if self._compiled is None:
            self._compiled = self._compile()
        return self._compiled

    def _compile(self) -> _Compiled:
        built = self._build()
        if isinstance(built, Statement):
            return _Compiled(built.sql, None, built.columns)
        compiler = built.query.get_compiler(DEFAULT_DB_ALIAS)
        sql, params = compiler.as_sql()
        converters = compiler.get_converters(expression for expression, _, _ in compiler.select)
        return _Compiled(sql, tuple(params), len(compiler.select), compiler, converters)

    def _rows_of(self, text: str) -> list[tuple[Any, ...]]:
        rows = msgspec.json.decode(text, type=list[tuple[Any, ...]])
        compiler = self.compiled.compiler
        kinds = [] if compiler is None else [expression.output_field for expression, _, _ in compiler.select]
        times = {at for at, kind in enumerate(kinds) if isinstance(kind, DateTimeField)}
        if not times:
            return rows
        return [
            tuple(as_datetime(value) if at in times else value for at, value in enumerate(row))
            for row in rows
        ]


class _Reading(threading.local):
    texts: Mapping[CompiledQuery, str] = {}


_reading = _Reading()


@contextmanager
def read_together(queries: Sequence[CompiledQuery]) -> Iterator[None]:
    """Within the block, in this thread, these queries give what one statement reads at its beginning.

    Columns are whole numbers, texts and times: others would not come out of JSON as they went into it.
    """
    _reading.texts = _read(tuple(queries))
    try:
        yield
    finally:
        _reading.texts = {}


def _read(queries: tuple[CompiledQuery, ...]) -> Mapping[CompiledQuery, str]:
    if not queries:
        return {}
    statement = _together(queries, connection.vendor)
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return dict(zip(queries, cursor.fetchone(), strict=True))


@cache
def _together(queries: tuple[CompiledQuery, ...], vendor: str) -> str:
    rows = {
        "postgresql": "COALESCE(json_agg(json_build_array({columns}))::text, '[]')",
        "sqlite": "json_group_array(json_array({columns}))",
    }[vendor]
    parts = []
    for query in queries:
        _check(query)
        columns = ", ".join(f"c{number}" for number in range(query.compiled.columns))
        read = f"SELECT {rows.format(columns=columns)} FROM t"  # noqa: S608 (our own)
        parts.append(f"(WITH t({columns}) AS ({_whole(query.compiled)}) {read})")
    return f"SELECT {', '.join(parts)}"


def _whole(compiled: _Compiled) -> str:
    """Its text with the values in their places: constants of the code, which the drivers would put there every time."""
    if compiled.params is None:
        return compiled.sql
    return compiled.sql % tuple(_literal(param) for param in compiled.params)


def _literal(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    raise TypeError(f"{value!r} can't stand in a statement that is read together with others")


def _check(query: CompiledQuery) -> None:
    compiler = query.compiled.compiler
    for expression, _, _ in () if compiler is None else compiler.select:
        if not isinstance(expression.output_field, IntegerField | CharField | TextField | DateTimeField):
            raise TypeError(f"{expression} can't be read together with others")


def as_datetime(value: datetime.datetime | str | None) -> datetime.datetime | None:
    """A time as a driver gives it, or JSON; SQLite's are texts that don't say that they are in UTC."""
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    if value is not None and value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return value
