"""Lines of the access log."""

import contextlib
import os
import re
import sys
import time

LOGGED_PATH_CHARACTERS = 300
# The shape of a token, whole or cut short, as somebody may put it into an address by mistake.
TOKEN = re.compile(r"dm[tea]_[0-9A-Za-z]{12}_[0-9A-Za-z]+(?:_[0-9A-Za-z]*)?")


def line(*, address: str, method: str, path: str, status: str | int, size: str | int, seconds: float) -> str:
    """One answer's line; a size of `-` is one that was not known beforehand."""
    shown = _shown(path)
    return f'{address} {_now()} "{method} {shown}" {status} {size} {seconds * 1000:.1f}ms'


def refusal_line(*, address: str, method: str, path: str, status: int, reason: str) -> str:
    """The line of a request that could not be read; `method` and `path` are empty where even they could not."""
    shown = f"{method} {_shown(path)}" if method else "-"
    return f'{address} {_now()} "{shown}" {status} refused: {reason}'


def write(lines: str) -> None:
    """Write to standard output; characters that could steer a terminal are escaped."""
    with contextlib.suppress(OSError):  # a log that nobody reads any more must not fail a request
        os.write(sys.stdout.fileno(), lines.encode("ascii", "backslashreplace") + b"\n")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _shown(path: str) -> str:
    """A path as it may be logged: short, printable, and without a token."""
    path = TOKEN.sub("***", path)[:LOGGED_PATH_CHARACTERS]
    return "".join(
        character if " " < character < "\x7f" and character != '"' else f"\\x{ord(character):02x}"
        for character in path
    )
