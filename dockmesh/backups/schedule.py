"""When a job's next run is due: cron expressions with a time zone, and some seconds more by chance."""

import datetime
import hashlib
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from dockmesh.core.errors import InvalidInput

MAX_EXPRESSION = 100
PREVIEWED = 3
NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MOST_JITTER_SECONDS = 6 * 3600


def clean_schedule(value: object, *, field: str = "schedule") -> str:
    """A cron expression of five fields or a name as Debian's cron has them, or empty: never by itself."""
    if not isinstance(value, str):
        raise InvalidInput(field, "must be a text.")
    expression = " ".join(value.split()).upper()
    if not expression:
        return ""
    if expression.startswith("@"):
        if expression.lower() not in NAMED:
            raise InvalidInput(field, f"must be one of {', '.join(NAMED)}, or five parts.")
        return expression.lower()
    if len(expression) > MAX_EXPRESSION or not expression.isascii():
        raise InvalidInput(field, f"must be at most {MAX_EXPRESSION} characters.")
    if len(expression.split()) != 5:
        raise InvalidInput(
            field, "must have five parts: minute, hour, day of the month, month, day of the week."
        )
    try:
        next(CronSim(expression, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)))
    except CronSimError as error:
        raise InvalidInput(field, f"is no cron expression: {str(error).lower()}.") from None
    except StopIteration:
        raise InvalidInput(field, "names a day that never comes.") from None
    return expression


def clean_time_zone(value: object, *, field: str = "time_zone") -> str:
    """A time zone of the IANA database."""
    if not isinstance(value, str) or value not in time_zones():
        raise InvalidInput(field, "must be a time zone such as UTC or Europe/Berlin.")
    return value


def next_after(expression: str, time_zone: str, moment: datetime.datetime) -> datetime.datetime | None:
    """The first moment after this one that the expression names, in UTC; None without an expression.

    Raises `InvalidInput` where the time zone, known when it was chosen, is not in this machine's database any more.
    """
    if not expression:
        return None
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise InvalidInput("time_zone", f"{time_zone} is not known here any more: choose another.") from None
    found = next(CronSim(NAMED.get(expression, expression), moment.astimezone(zone)), None)
    return found.astimezone(datetime.UTC) if found else None


def next_of(
    expression: str, time_zone: str, moment: datetime.datetime, *, jitter_seconds: int, seed: str
) -> datetime.datetime | None:
    """As `next_after`, with up to `jitter_seconds` more: always the same for the same `seed` and moment, so that
    nothing is skipped or run twice when it is asked again."""
    if not jitter_seconds:
        return next_after(expression, time_zone, moment)
    start = moment - datetime.timedelta(seconds=jitter_seconds)
    while (named := next_after(expression, time_zone, start)) is not None:
        digest = hashlib.sha256(f"{seed} {named.isoformat()}".encode()).digest()
        delay = int.from_bytes(digest[:8]) % (jitter_seconds + 1)
        following = named + datetime.timedelta(seconds=delay)
        if following > moment:
            return following
        start = named
    return None


def preview(
    expression: str, time_zone: str, moment: datetime.datetime, *, jitter_seconds: int = 0, seed: str = ""
) -> list[datetime.datetime]:
    """The next few moments, for people to see whether they meant that."""
    found: list[datetime.datetime] = []
    while len(found) < PREVIEWED:
        after = found[-1] if found else moment
        following = next_of(expression, time_zone, after, jitter_seconds=jitter_seconds, seed=seed)
        if following is None:
            break
        found.append(following)
    return found


@lru_cache(maxsize=1)
def time_zones() -> frozenset[str]:
    """The names of the IANA database that this machine has."""
    return frozenset(available_timezones())
