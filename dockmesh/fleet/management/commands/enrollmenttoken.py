"""`manage.py enrollmenttoken`: a one-time token for a host, and nothing else on stdout."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from dockmesh.audit.services import SYSTEM
from dockmesh.core.commandline import complain_in_one_line, errors_in_one_line, parse_duration
from dockmesh.core.errors import InvalidInput
from dockmesh.fleet import services
from dockmesh.fleet.models import Host


class Command(BaseCommand):
    """Prints the token."""

    help = "Prints a one-time enrollment token for a new host, or for a known one that shall get a new agent token."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--expires-in`, `--host`."""
        complain_in_one_line(parser)
        parser.add_argument(
            "--expires-in", default="1h", metavar="1h", help="a number and one of s, m, h, d, w; at most 30d"
        )
        parser.add_argument(
            "--host", metavar="NAME", help="for this known host: enrolling with it ends the agent's old token"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make it and print it; raises `CommandError`, one line, where that is not possible."""
        with errors_in_one_line():
            _, text = services.create_enrollment_token(
                actor=SYSTEM,
                lifetime=parse_duration("--expires-in", options["expires_in"]),
                host_id=self._host_id(options["host"]),
            )
        self.stdout.write(text)

    def _host_id(self, name: str | None) -> int | None:
        if name is None:
            return None
        host_id = Host.objects.filter(name=name).values_list("pk", flat=True).first()
        if host_id is None:
            raise InvalidInput("--host", f"there is no host named {name!r}.")
        return host_id
