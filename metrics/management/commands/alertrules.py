"""`manage.py alertrules`: the rules for Prometheus, with limits of one's own."""

import math
import re
from argparse import ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from dockmesh.core.commandline import complain_in_one_line
from metrics import alertrules


def _number(text: str) -> str:
    """A positive number, as it was written."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf) or not re.fullmatch(r"\d+(\.\d+)?", text):
        raise ArgumentTypeError(f"{text!r} is not a number above 0, such as 26 or 0.5")
    return text


def _job(text: str) -> str:
    if not re.fullmatch(r"[\w./:-]+", text):
        raise ArgumentTypeError(f"{text!r} is not the name of a scrape job")
    return text


class Command(BaseCommand):
    """Prints one rule file for Prometheus: recording rules and alert rules."""

    help = "Print Prometheus's rules for dockmesh, with other limits where options say so."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """One option for each limit."""
        complain_in_one_line(parser)
        for limit in alertrules.LIMITS:
            parser.add_argument(
                f"--{limit.option}",
                type=_number,
                metavar="N",
                help=f"{limit.help} (default: {limit.default})",
            )
        parser.add_argument(
            "--job", type=_job, default="dockmesh", help="scrape job of dockmesh in Prometheus"
        )
        parser.add_argument(
            "--runbooks", default=alertrules.RUNBOOKS, metavar="URL", help="where people find runbooks.md"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the rules and nothing else."""
        given = {limit.option: options[limit.option.replace("-", "_")] for limit in alertrules.LIMITS}
        limits = {option: value for option, value in given.items() if value is not None}
        try:
            text = alertrules.rules(
                limits,
                job=options["job"],
                runbooks=options["runbooks"],
                base_url=settings.DOCKMESH_BASE_URL,
            )
        except OSError as error:
            raise CommandError(f"the rules are not there: {error}") from None
        self.stdout.write(text, ending="")
