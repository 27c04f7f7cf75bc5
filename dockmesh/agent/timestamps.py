"""Times as Docker and restic write them: RFC 3339, with up to nine digits of a second."""

from __future__ import annotations

import re
from datetime import datetime

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")


def parse(text: str) -> datetime:
    """The time, to the microsecond, with its offset; raises ValueError for what is none.

    `datetime.fromisoformat` reads neither `Z` nor nanoseconds before Python 3.11.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"no time: {text[:64]!r}")
    day, time, fraction, zone = found.groups("")
    zone = "+00:00" if zone in "Zz" else zone
    return datetime.fromisoformat(f"{day}T{time}.{fraction[:6].ljust(6, '0')}{zone}")
