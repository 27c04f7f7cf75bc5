"""From SQLite to PostgreSQL: every row of every table, in one transaction, read from one snapshot."""

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from django.apps import apps
from django.core.management.color import no_style
from django.db import DatabaseError, connection, connections, models, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from dockmesh.core.text import in_one_line

SOURCE = "source"
_ROWS_AT_A_TIME = 2_000


class CannotMove(Exception):
    """Why nothing was moved, in one line for the operator."""


@contextmanager
def source_database(file: Path) -> Iterator[None]:
    """The SQLite file as the connection `SOURCE`, read only; raises `CannotMove` where it is none of this version's."""
    if not file.is_file():
        raise CannotMove(f"{file} is not there")
    settings = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": f"{file.absolute().as_uri()}?mode=ro",
        "OPTIONS": {"uri": True},
    }
    connections.databases[SOURCE] = {**connections.databases["default"], "TEST": {}, **settings}
    try:
        _refuse_other_version(file)
        yield
    finally:
        connections[SOURCE].close()
        del connections[SOURCE]
        del connections.databases[SOURCE]


def last_written(model: str, column: str) -> datetime.datetime | None:
    """The newest time in a column of the source's rows of a model (`"app.Model"`); None where there is none."""
    table = apps.get_model(model)._meta.db_table
    with connections[SOURCE].cursor() as cursor:
        cursor.execute(f"SELECT MAX({column}) FROM {table}")  # noqa: S608 - the code's own names
        newest = cursor.fetchone()[0]
    return datetime.datetime.fromisoformat(newest).replace(tzinfo=datetime.UTC) if newest else None


def move_rows(*, refused_if_any: Sequence[str]) -> dict[str, int]:
    """Copy the source into the migrated default database (PostgreSQL), in the caller's transaction; rows by table.

    What a server that merely started wrote there is replaced. Raises `CannotMove` where the target holds rows of
    one of the models `refused_if_any` (`"app.Model"`), or refuses a row; nothing is changed then.
    """
    for model in map(apps.get_model, refused_if_any):
        if model._default_manager.exists():
            raise CannotMove(
                f"the database of DOCKMESH_DATABASE_URL is in use: it has {model._meta.verbose_name_plural} already"
            )
    tables = _models()
    with transaction.atomic(), connection.cursor() as cursor:
        names = ", ".join(map(_quoted_table, tables))
        cursor.execute(f"TRUNCATE {names} RESTART IDENTITY")
        with transaction.atomic(using=SOURCE):
            moved = {model._meta.db_table: _copy(model) for model in tables}
        for statement in connection.ops.sequence_reset_sql(no_style(), tables):
            cursor.execute(statement)
    return moved


def _models() -> list[type[models.Model]]:
    return [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy
    ]


def _copy(model: type[models.Model]) -> int:
    """All rows of one table, with the values that the columns have: no default and no `auto_now` comes between."""
    fields = model._meta.local_concrete_fields
    columns = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
    table = _quoted_table(model)
    rows = model._base_manager.using(SOURCE).order_by("pk")
    count = 0
    connection.ensure_connection()
    try:
        with (
            connection.connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy,
        ):
            for row in rows.iterator(chunk_size=_ROWS_AT_A_TIME):
                copy.write_row([_value(field, row) for field in fields])
                count += 1
    except psycopg.DataError as error:
        reason = in_one_line(error, most=300)
        raise CannotMove(f"{model._meta.db_table}, row {count + 1} or before: {reason}") from None
    return count


def _quoted_table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(str(model._meta.db_table))


def _value(field: Any, row: models.Model) -> Any:
    return field.get_db_prep_save(getattr(row, field.attname), connection)


def _refuse_other_version(file: Path) -> None:
    try:
        applied = set(MigrationRecorder(connections[SOURCE]).applied_migrations())
    except DatabaseError as error:
        raise CannotMove(f"{file} can't be read as a database ({error})") from None
    known = set(MigrationLoader(None, ignore_no_migrations=True).disk_migrations or ())
    if applied - known:
        raise CannotMove(f"{file} was written by a newer dockmesh")
    if known - applied:
        raise CannotMove(f"{file} is of an older dockmesh: start this version with it once, then move")
