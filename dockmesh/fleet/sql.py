"""Statements by hand, for the heartbeat alone: there the ORM takes several times as long as the database.

The names of tables and columns are the models'; values are never part of the text.
"""

import datetime
from collections.abc import Sequence
from typing import Any

from django.db import connection


def fetch(statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All rows. Times come as `moment` reads them, booleans may be numbers."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def run(statement: str, values: Sequence[Any]) -> int:
    """Write; how many rows were written."""
    adapt = connection.ops.adapt_datetimefield_value
    adapted = [adapt(value) if isinstance(value, datetime.datetime) else value for value in values]
    with connection.cursor() as cursor:
        cursor.execute(statement, adapted)
        return int(cursor.rowcount)


def for_update(alias: str) -> str:
    """The end of a SELECT that locks the rows of `alias`; on SQLite, whose transactions lock it all, nothing."""
    return f" FOR UPDATE OF {alias}" if connection.features.has_select_for_update_of else ""


def placeholders(count: int) -> str:
    """`%s,%s,…`"""
    return ",".join(["%s"] * count)


def moment(value: datetime.datetime | str | None) -> datetime.datetime | None:
    """A time as it came from the database: SQLite gives text."""
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    if value is not None and value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return value
