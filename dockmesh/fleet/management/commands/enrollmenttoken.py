"""`manage.py enrollmenttoken`: a one-time token for a new host, and nothing else on stdout."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from dockmesh.audit.services import SYSTEM
from dockmesh.core.commandline import complain_in_one_line, parse_duration
from dockmesh.core.errors import DomainError
from dockmesh.fleet import services


class Command(BaseCommand):
    """Prints the token."""

    help = "Prints a one-time enrollment token for a new host."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--expires-in`."""
        complain_in_one_line(parser)
        parser.add_argument(
            "--expires-in", default="1h", metavar="1h", help="a number and one of s, m, h, d, w; at most 30d"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make it and print it; raises `CommandError`, one line, where that is not possible."""
        try:
            _, text = services.create_enrollment_token(
                actor=SYSTEM, lifetime=parse_duration("--expires-in", options["expires_in"])
            )
        except DomainError as error:
            raise CommandError(error.detail) from None
        except DatabaseError as error:
            line = " ".join(str(error).split())
            raise CommandError(
                f"the database can't be used ({line}); has `migrate` or `serve` run?"
            ) from None
        self.stdout.write(text)
