"""Datetimes as clients read and write them."""

import datetime
import re

from django.utils.dateparse import parse_datetime

from dockmesh.core.errors import InvalidInput

# A `+` of a query string arrives as a space where the client forgot to quote it.
_LOST_PLUS = re.compile(r" (\d\d:?\d\d)\Z", re.ASCII)


def read_datetime(field: str, text: object) -> datetime.datetime:
    """An ISO 8601 date or date and time; one without an offset is UTC. Raises `InvalidInput`."""
    moment = None
    if isinstance(text, str) and text.isascii() and len(text) < 64:
        try:
            moment = parse_datetime(_LOST_PLUS.sub(r"+\1", text.strip()))
        except ValueError:
            moment = None
    if moment is None:
        raise InvalidInput(field, "must be a time like 2027-01-31T12:00:00Z.")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError:
        raise InvalidInput(field, "must be a time between the years 1 and 9999.") from None


def utc_text(at: datetime.datetime) -> str:
    """ISO 8601 in UTC, always with six digits of a second's fraction: `2027-01-31T12:00:00.000000Z`."""
    return at.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
