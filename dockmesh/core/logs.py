"""What gets into the log: our own words as they are, those of libraries without what may be secret in them.

Libraries write addresses with the tokens in them: Apprise those that somebody mistyped, urllib3 and requests those that
did not answer. So of an address only its scheme is left, and nothing below a warning gets through.
"""

import logging
import re

OURS = ("dockmesh", "metrics", "tokens")
_ADDRESS = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*)://[^\s'\"<>]*")
# As urllib3 names it: host and path apart.
_PATH = re.compile(r"(\burl:\s*)/[^\s'\"<>)]*")
_TOKEN = re.compile(r"\bdm[tea]_[0-9A-Za-z_]+")
_CREDENTIAL = re.compile(
    r"(?i)(\b(?:authorization|password|passwd|token|secret)['\"]?\s*[:=]\s*(?:(?:bearer|basic)\s+)?|\b(?:bearer|basic)\s+)\S+"
)


def is_ours(logger: str) -> bool:
    """Whether the logger of this name is one of this project."""
    return logger.partition(".")[0] in OURS


def redacted(text: str) -> str:
    """The text without paths and credentials of addresses, and without tokens."""
    text = _TOKEN.sub("…", _PATH.sub(r"\1…", _ADDRESS.sub(r"\1://…", text)))
    return _CREDENTIAL.sub(r"\1…", text)


class LibrariesAtWarning(logging.Filter):
    """Lets pass what is ours, and what libraries warn of."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it gets into the log."""
        return is_ours(record.name) or record.levelno >= logging.WARNING


class Line(logging.Formatter):
    """One line for a record; what a library says, also in an exception that we log, is redacted."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without a traceback."""
        line = super().formatMessage(record)
        return line if is_ours(record.name) else redacted(line)

    def formatException(self, ei: object) -> str:
        """A traceback, whose exceptions may hold addresses."""
        return redacted(super().formatException(ei))  # type: ignore[arg-type]
