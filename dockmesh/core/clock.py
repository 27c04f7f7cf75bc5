"""The server's clock: the one place that tests replace."""

import datetime


def now() -> datetime.datetime:
    """The current time, timezone-aware, in UTC."""
    return datetime.datetime.now(datetime.UTC)
