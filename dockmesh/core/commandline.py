"""What the management commands share: durations like 90d, and errors of one line."""

import argparse
import datetime
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError
from django.db import DatabaseError

from dockmesh.core.errors import DomainError, InvalidInput
from dockmesh.core.starting import MOST_WORDS
from dockmesh.core.text import in_one_line

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
MAX_SECONDS = 36525 * 86400
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])\Z", re.ASCII)


def parse_duration(field: str, text: str) -> datetime.timedelta:
    """`90d`: a whole number and one of s, m, h, d, w; more than nothing, at most a hundred years."""
    match = _DURATION.match(text)
    seconds = int(match[1]) * UNITS[match[2]] if match else 0
    if not 0 < seconds <= MAX_SECONDS:
        raise InvalidInput(field, "must be a whole number and one of s, m, h, d, w, like 90d.")
    return datetime.timedelta(seconds=seconds)


@contextmanager
def errors_in_one_line(*, returncode: int = 1) -> Iterator[None]:
    """Within it, what is refused and what the database can't do is one line for whoever called the command."""
    try:
        yield
    except DomainError as error:
        raise CommandError(error.detail, returncode=returncode) from None
    except DatabaseError as error:
        line = in_one_line(error, most=MOST_WORDS)
        raise CommandError(
            f"the database can't be used ({line}); has `migrate` or `serve` run?", returncode=returncode
        ) from None


def complain_in_one_line(parser: argparse.ArgumentParser) -> None:
    """A wrong argument is one line on standard error, without the usage before it; `--help` still has it."""

    def no_usage(file: Any = None) -> None:
        del file

    parser.print_usage = no_usage  # type: ignore[method-assign]
