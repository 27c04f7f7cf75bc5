"""The tokens' tests start with empty throttles and refusals."""

import pytest

from tokens import refusals, throttle


@pytest.fixture(autouse=True)
def _afresh() -> None:
    throttle.forget()
    refusals.forget()
