"""`manage.py reencrypt`: the second half of a change of the secret key."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from dockmesh.core.commandline import errors_in_one_line
from dockmesh.web.services import take_secret_key


class Command(BaseCommand):
    """What `serve` does by itself at its start."""

    help = "Encrypt and sign anew under DOCKMESH_SECRET_KEY what one of DOCKMESH_SECRET_KEY_FALLBACKS did."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Says what was done."""
        with errors_in_one_line():
            self.stdout.write(take_secret_key())
