"""Statements by hand, for the heartbeat alone: there the ORM takes several times as long as the database.

The names of tables and columns are the models'; values are never part of the text, which is the same whatever the
number of rows it is about.
"""

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from django.db import connection
from msgspec import UNSET, UnsetType

Row = tuple[Any, ...]

# Docker's "never" is the year 1.
_NEVER_BEFORE = datetime.datetime(1971, 1, 1, tzinfo=datetime.UTC)
_NEVER_AFTER = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)

_encode = msgspec.json.Encoder().encode


def fetch(statement: str, values: Sequence[Any]) -> list[Row]:
    """All rows. Times come as `moment` reads them, booleans may be numbers."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[Row] = cursor.fetchall()
        return found


def fetch_among(statement: str, keys: Sequence[int | str]) -> list[Row]:
    """All rows of a statement in which `IN {keys}` stands for one of `keys`."""
    if connection.vendor == "postgresql":
        return fetch(statement.replace("IN {keys}", "= ANY(%s)"), [list(keys)])
    return fetch(statement.replace("{keys}", "(SELECT value FROM json_each(%s))"), [json.dumps(keys)])


def run(statement: str, values: Sequence[Any]) -> int:
    """Write; how many rows were written. Times must be in UTC."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            values = [_stored(value) if isinstance(value, datetime.datetime) else value for value in values]
        cursor.execute(statement, values)
        return int(cursor.rowcount)


def for_update(alias: str, *, skip_locked: bool = False) -> str:
    """The end of a SELECT that locks the rows of `alias`, and leaves out those that somebody else has locked if
    `skip_locked`; on SQLite, whose transactions lock it all, nothing."""
    if not connection.features.has_select_for_update_of:
        return ""
    return f" FOR UPDATE OF {alias}" + (" SKIP LOCKED" if skip_locked else "")


def placeholders(count: int) -> str:
    """`%s,%s,…`"""
    return ",".join(["%s"] * count)


def kept_moment(value: datetime.datetime | UnsetType | None) -> datetime.datetime | None:
    """A time that an agent says, in UTC; None for what is not said, for Docker's "never" and for what no calendar of a
    database holds."""
    if value is None or value is UNSET or not _NEVER_BEFORE <= value < _NEVER_AFTER:
        return None
    return value.astimezone(datetime.UTC)


class ManyRows:
    """One statement that writes many rows of `table`; each row is the columns of `key`, then those of `values`.

    `key` and `values` map the columns to PostgreSQL's types of them. On SQLite the statement is run for each row,
    compiled once; PostgreSQL gets all rows as one JSON text, which costs it and us less than as many parameters.
    Times must be in UTC; of the columns of the type `bytea` the values are bytes.
    """

    def __init__(self, table: str, *, key: Mapping[str, str], values: Mapping[str, str]) -> None:
        self._columns = (*key, *values)
        self._key_length = len(key)
        self._times = [at for at, kind in enumerate({**key, **values}.values()) if kind == "timestamptz"]
        self._bytes = [at for at, kind in enumerate({**key, **values}.values()) if kind == "bytea"]
        columns = ", ".join(self._columns)
        given = ", ".join(f"{name} {kind}" for name, kind in {**key, **values}.items())
        given = f"json_to_recordset(%s::json) AS given({given})"
        conflict = f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET " + ", ".join(
            f"{name} = EXCLUDED.{name}" for name in values
        )
        self._upserts = {
            "sqlite": f"INSERT INTO {table} ({columns}) VALUES ({placeholders(len(self._columns))}) {conflict}",
            "postgresql": f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {given} {conflict}",
        }
        self._updates = {
            "sqlite": f"UPDATE {table} SET {', '.join(f'{name} = %s' for name in values)}"
            f" WHERE {' AND '.join(f'{name} = %s' for name in key)}",
            "postgresql": f"UPDATE {table} SET {', '.join(f'{name} = given.{name}' for name in values)}"
            f" FROM {given} WHERE {' AND '.join(f'{table}.{name} = given.{name}' for name in key)}",
        }
        self._differs = {
            "sqlite": f" AND ({' OR '.join(f'{name} <> %s' for name in values)})",
            "postgresql": f" AND ({' OR '.join(f'{table}.{name} <> given.{name}' for name in values)})",
        }

    def upsert(self, rows: Sequence[Row]) -> None:
        """Insert, or overwrite the values of the row that has the key."""
        if connection.vendor == "sqlite":
            _run_for_each(self._upserts["sqlite"], self._adapted(rows))
        elif rows:
            run(self._upserts["postgresql"], [self._json(rows)])

    def update(self, rows: Sequence[Row]) -> None:
        """Overwrite the values of the row that has the key."""
        if connection.vendor == "sqlite":
            parts = self._parts(rows)
            _run_for_each(self._updates["sqlite"], [(*values, *key) for key, values in parts])
        elif rows:
            run(self._updates["postgresql"], [self._json(rows)])

    def update_different(self, rows: Sequence[Row]) -> None:
        """Overwrite the values of the rows that have others."""
        statement = self._updates[connection.vendor] + self._differs[connection.vendor]
        if connection.vendor == "sqlite":
            _run_for_each(statement, [(*values, *key, *values) for key, values in self._parts(rows)])
        elif rows:
            run(statement, [self._json(rows)])

    def _parts(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
        return ((row[: self._key_length], row[self._key_length :]) for row in self._adapted(rows))

    def _adapted(self, rows: Sequence[Row]) -> Sequence[Row]:
        """With times as SQLite keeps them."""
        if not self._times:
            return rows
        adapted = []
        for row in rows:
            values = list(row)
            for at in self._times:
                if values[at] is not None:
                    values[at] = _stored(values[at])
            adapted.append(tuple(values))
        return adapted

    def _json(self, rows: Sequence[Row]) -> str:
        if self._bytes:
            rows = [
                tuple(f"\\x{value.hex()}" if at in self._bytes else value for at, value in enumerate(row))
                for row in rows
            ]
        return _encode([dict(zip(self._columns, row, strict=True)) for row in rows]).decode()


def _run_for_each(statement: str, rows: Sequence[Row]) -> None:
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(statement, rows)


def _stored(moment: datetime.datetime) -> str:
    """A time in UTC as SQLite keeps it: without saying so."""
    return str(moment.replace(tzinfo=None))
