"""A clock that the alert tests turn by hand."""

import datetime
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from dockmesh.core import clock


class Time:
    """The faked clock."""

    def __init__(self) -> None:
        self.now = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)

    def passes(self, seconds: float) -> None:
        self.now += datetime.timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def receivers_are_here(settings: Any) -> None:
    """The tests' receivers are on this machine."""
    settings.DOCKMESH_ALERT_LOCAL_RECEIVERS = True


@pytest.fixture
def time() -> Iterator[Time]:
    faked = Time()
    with mock.patch.object(clock, "now", side_effect=lambda: faked.now):
        yield faked
