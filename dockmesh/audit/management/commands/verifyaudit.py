"""`manage.py verifyaudit`: does the audit chain hold?"""

import argparse
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from dockmesh.audit import known
from dockmesh.audit.verification import Broken, verify
from dockmesh.core.commandline import complain_in_one_line, errors_in_one_line


class Command(BaseCommand):
    """Exit 0 where it holds; exit 1 and the first broken entry where it doesn't."""

    help = "Check the whole audit chain; exit 1 and the first broken entry if it does not hold."
    requires_system_checks = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The file of the checkpoint sink."""
        complain_in_one_line(parser)
        parser.add_argument(
            "--checkpoints",
            type=Path,
            metavar="FILE",
            help="compare with what the checkpoint sink received, one JSON object a line",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints the verdict."""
        path: Path | None = options["checkpoints"]
        try:
            lines = path.read_text(encoding="utf-8").splitlines() if path else []
            with errors_in_one_line(returncode=2):
                verdict = verify(lines, known=known.read())
        except Broken as broken:
            self.stdout.write(f"The audit chain is broken at {broken}")
            sys.exit(1)
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{path}: {error}", returncode=2) from None
        if verdict.last < verdict.first:
            self.stdout.write("The audit chain holds: it has no entries.")
            return
        checked = f", {verdict.checkpoints} checkpoints agree" if path else ""
        self.stdout.write(
            f"The audit chain holds: {verdict.last - verdict.first + 1} entries,"
            f" from {verdict.first} to {verdict.last}{checked}."
        )
