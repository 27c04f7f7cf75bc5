"""`manage.py acceptaudit`: go on with the audit log as it is found."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from dockmesh.audit.services import accept
from dockmesh.core.commandline import complain_in_one_line, errors_in_one_line

MOST_REASON = 500


class Command(BaseCommand):
    """An explicit act, and an entry: after a restore, or when it is known what happened to the log."""

    help = (
        "Go on with the audit log as it is found: after a restore of an older database, or once it is known who changed"
        " it. Writes an entry that says what was wrong, and the reason."
    )
    requires_system_checks = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Why."""
        complain_in_one_line(parser)
        parser.add_argument("--reason", required=True, help="why, for the entry; at most 500 characters")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints what was wrong."""
        reason = " ".join(options["reason"].split())
        if not 0 < len(reason) <= MOST_REASON:
            raise CommandError(f"--reason: expected 1 to {MOST_REASON} characters", returncode=2)
        try:
            with errors_in_one_line(returncode=2):
                wrong = accept(reason=reason)
        except OSError as error:
            raise CommandError(f"the data folder can't be written ({error.strerror})", returncode=2) from None
        self.stdout.write(f"Accepted. What was wrong: {wrong.rstrip('.') or 'nothing'}.")
