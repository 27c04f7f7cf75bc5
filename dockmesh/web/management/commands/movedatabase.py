"""`manage.py movedatabase`: from SQLite to PostgreSQL."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection, transaction

from dockmesh.audit import verification
from dockmesh.core import clock, starting
from dockmesh.core.commandline import complain_in_one_line
from dockmesh.core.text import in_one_line
from dockmesh.web import moving

# A server writes down every few seconds that it listens; after a longer pause than this none is running.
STILL_RUNNING = datetime.timedelta(seconds=15)


class Command(BaseCommand):
    """Copies all rows in one transaction; the SQLite file stays as it is."""

    help = (
        "Move everything from the SQLite database in the data folder into the PostgreSQL database that"
        " DOCKMESH_DATABASE_URL names. Stop the server first; the SQLite file stays as it is."
    )
    requires_system_checks = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The SQLite file."""
        complain_in_one_line(parser)
        parser.add_argument(
            "--from",
            dest="source",
            type=Path,
            metavar="FILE",
            help="the SQLite file (default: dockmesh.sqlite3 in the data folder)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints what was moved; exit 1 and one line where nothing was."""
        file: Path = options["source"] or settings.DOCKMESH_DATA_DIR / "dockmesh.sqlite3"
        if connection.vendor != "postgresql":
            raise CommandError(
                "DOCKMESH_DATABASE_URL must name the PostgreSQL database to move to", returncode=2
            )
        try:
            with moving.source_database(file):
                self._refuse_running(file)
                moved = self._move()
        except (moving.CannotMove, starting.CannotStart) as error:
            raise CommandError(f"nothing was moved: {error}") from None
        except DatabaseError as error:
            raise CommandError(f"nothing was moved: {in_one_line(error, most=starting.MOST_WORDS)}") from None
        self.stdout.write(
            f"Moved {sum(moved.values()):,} rows of {sum(map(bool, moved.values()))} tables from {file};"
            " the audit chain holds. From now on start the server with the same DOCKMESH_DATABASE_URL and data folder."
        )

    def _refuse_running(self, file: Path) -> None:
        last = moving.last_written("fleet.ListeningSpan", "until")
        if last is not None and clock.now() - last < STILL_RUNNING:
            raise moving.CannotMove(f"a server still works with {file}: stop it first, then wait 15 seconds")

    def _move(self) -> dict[str, int]:
        with starting.prepared_database(lambda what: self.stderr.write(f"dockmesh: {what}")):
            with transaction.atomic():
                moved = moving.move_rows(
                    refused_if_any=["tokens.User", "fleet.Host", "tokens.ApiToken", "audit.AuditEntry"]
                )
                try:
                    verification.verify()
                except verification.Broken as broken:
                    raise moving.CannotMove(f"the audit chain does not hold: {broken}") from None
            return moved
