"""What the backups' tests start from."""

import pytest

from dockmesh.fleet.models import Host
from tests.fleet.factories import make_host
from tests.tokens.support import bearer, token_with
from tokens import refusals, throttle


@pytest.fixture(autouse=True)
def _afresh() -> None:
    throttle.forget()
    refusals.forget()


@pytest.fixture
def host(db: None) -> Host:
    return make_host("alpha")[0]


@pytest.fixture
def may_back_up(db: None) -> dict[str, str]:
    """Headers of a token with backups.manage and fleet.read."""
    return bearer(token_with("backups.manage", "fleet.read", name="keeper")[1])


@pytest.fixture
def may_read(db: None) -> dict[str, str]:
    """Headers of a token with fleet.read only."""
    return bearer(token_with("fleet.read", name="reader")[1])
