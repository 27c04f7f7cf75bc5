"""Numbers and times as people read them. The exact value always goes along (in the title)."""

from __future__ import annotations

import datetime
import math

MINUTE, HOUR, DAY = 60, 3600, 86400


def ago(at: datetime.datetime, now: datetime.datetime) -> str:
    """`4 s ago`, `12 min ago`, `3 h ago`, `5 d ago`; a time to come is `in 5 d`."""
    seconds = (now - at).total_seconds()
    size = abs(seconds)
    if size < 1:
        return "just now"
    if size < MINUTE:
        text = f"{int(size)} s"
    elif size < HOUR:
        text = f"{int(size // MINUTE)} min"
    elif size < DAY:
        text = f"{int(size // HOUR)} h"
    else:
        text = f"{int(size // DAY)} d"
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def exact_time(at: datetime.datetime) -> str:
    """`22 Nov 2026, 13:05:10 UTC`."""
    utc = at.astimezone(datetime.UTC)
    return f"{utc.day} {utc:%b %Y, %H:%M:%S} UTC"


def duration(seconds: float) -> str:
    """`320 ms`, `4.2 s`, `1 min 23 s`, `2 h 5 min`, `3 d 4 h`."""
    if not math.isfinite(seconds):
        return "unknown"
    sign = "-" if seconds < 0 else ""
    size = abs(seconds)
    if size == 0:
        return "0 s"
    if size < 0.9995:
        return f"{sign}{size * 1000:.3g} ms"
    if size < 9.95:
        return f"{sign}{size:.1f} s"
    whole = round(size)
    if whole < MINUTE:
        return f"{sign}{whole} s"
    for unit, name, below, below_name in (
        (DAY, "d", HOUR, "h"),
        (HOUR, "h", MINUTE, "min"),
        (MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // below
            tail = f" {rest} {below_name}" if rest else ""
            return f"{sign}{whole // unit} {name}{tail}"
    raise AssertionError("unreachable")


def size(count: float) -> str:
    """Bytes in binary units: `512 B`, `1.5 KiB`, `24 GiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1023.5 or unit == "TiB":
            break
        value /= 1024
    digits = f"{value:.0f}" if unit == "B" or abs(value) >= 99.95 else f"{value:.1f}".removesuffix(".0")
    return f"{digits} {unit}"
