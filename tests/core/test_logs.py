"""No library's logger writes a secret into the log."""

from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest
from apprise import Apprise

from dockmesh.core.logs import redacted

SECRET = "T000hunter2hunter2"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the console's handler writes, with the handler of the settings."""
    stream = io.StringIO()
    handlers = {
        handler
        for name in ("", "django")
        for handler in logging.getLogger(name).handlers
        if any(type(each).__name__ == "LibrariesAtWarning" for each in handler.filters)
    }
    assert handlers
    for handler in handlers:
        assert isinstance(handler, logging.StreamHandler)
        monkeypatch.setattr(handler, "stream", stream)
    return stream


@pytest.mark.parametrize(
    "address", [f"slakc://{SECRET}/B00/xyz", f"https://[{SECRET}", f"tgram://bad/{SECRET}", f"{SECRET}"]
)
def test_an_address_that_apprise_does_not_take_is_not_written(address: str, log: io.StringIO) -> None:
    assert not Apprise().add(address)
    logging.getLogger("apprise").error("Unsupported URL: %s", address)
    assert log.getvalue() == ""


@pytest.mark.parametrize(
    "message",
    [
        f"Retrying after connection broken by 'x': /services/{SECRET} url: /services/{SECRET}",
        f"HTTPSConnectionPool(host='a', port=443): Max retries exceeded with url: /services/{SECRET} (Caused by x)",
        f"cannot send to mailto://me:{SECRET}@example.org?x=1",
        f"request to https://example.org/a?token={SECRET} failed",
        f"Authorization: Bearer {SECRET}",
        f"{{'password': '{SECRET}'}}",
        f"dmt_0123456789ab_{SECRET}",
    ],
)
@pytest.mark.parametrize(
    "name", ["urllib3.connectionpool", "httpx", "docker.api", "waitress", "django.request"]
)
def test_a_library_warns_without_its_secrets(name: str, message: str, log: io.StringIO) -> None:
    logging.getLogger(name).error(message.replace("broken by 'x': /services/" + SECRET, "broken"))
    assert f" ERROR {name}: " in log.getvalue()
    assert SECRET not in log.getvalue()


def test_what_is_below_a_warning_stays_in_the_library(log: io.StringIO) -> None:
    logging.getLogger("httpx").info("HTTP Request: POST https://example.org/%s", SECRET)
    logging.getLogger("urllib3.connectionpool").debug("POST /%s", SECRET)
    assert log.getvalue() == ""


def test_our_own_words_are_as_they_are(log: io.StringIO) -> None:
    logging.getLogger("dockmesh.server").info("Listening on http://127.0.0.1:8080/")
    assert log.getvalue().endswith(" INFO dockmesh.server: Listening on http://127.0.0.1:8080/\n")


def test_an_exception_that_we_log_has_no_address(log: io.StringIO) -> None:
    try:
        raise OSError(f"https://hooks.example.org/services/{SECRET} did not answer")
    except OSError:
        logging.getLogger("dockmesh.alerts").exception("It failed")
    assert "OSError: https://… did not answer" in log.getvalue()
    assert SECRET not in log.getvalue()


def test_no_library_has_a_way_of_its_own_to_the_console() -> None:
    """In a process as the server has it: every handler there is belongs to the settings."""
    code = (
        "import logging, django; django.setup(); import apprise, docker, requests, urllib3, waitress\n"
        "print([n for n, l in logging.root.manager.loggerDict.items() for h in getattr(l, 'handlers', [])"
        " if type(h) is not logging.NullHandler and h not in logging.root.handlers + logging.getLogger('django').handlers])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plain_text_is_left_alone() -> None:
    text = 'Password authentication failed for user "x"; Internal Server Error: /api/v1/stacks/3 in 12 ms; see line 4'
    assert redacted(text) == text
