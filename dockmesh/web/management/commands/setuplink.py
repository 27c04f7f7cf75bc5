"""`manage.py setuplink`: the link at which the first administrator is made."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from dockmesh.core.commandline import errors_in_one_line
from dockmesh.web.services import setup_link


class Command(BaseCommand):
    """As `serve` prints it at its start."""

    help = "Print the link at which the first administrator is made; it works once, and for an hour."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints the link, or its path where DOCKMESH_BASE_URL is not set; exit 1 once there is an administrator."""
        with errors_in_one_line():
            link = setup_link(settings.DOCKMESH_BASE_URL)
        if link is None:
            raise CommandError("there is an administrator already")
        self.stdout.write(link)
