"""The server's clock: the one place that tests replace.

On PostgreSQL it goes by the database's clock, so that replicas on several machines agree on ages and on who is offline.
Nobody asks the database for the time: each process measures every few seconds how far its own machine is behind.
"""

import datetime

from django.db import connection

# An answer that took longer says too little of the moment at which it was given.
LONGEST_ROUND_TRIP = datetime.timedelta(seconds=1)

_behind = datetime.timedelta(0)


def now() -> datetime.datetime:
    """The current time, timezone-aware, in UTC."""
    return datetime.datetime.now(datetime.UTC) + _behind


def agree() -> None:
    """Measure how far this machine's clock is behind the database's; raises `django.db.Error`.

    One short query on PostgreSQL, none on SQLite, whose clock is this machine's. Each process calls it when it starts and
    every few seconds, in a thread that has nothing else to do.
    """
    global _behind
    if connection.vendor != "postgresql":
        return
    before = datetime.datetime.now(datetime.UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (there,) = cursor.fetchone()
    took = datetime.datetime.now(datetime.UTC) - before
    if datetime.timedelta(0) <= took <= LONGEST_ROUND_TRIP:
        _behind = there - (before + took / 2)
