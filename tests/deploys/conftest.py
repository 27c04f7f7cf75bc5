"""What the deploys' tests start from."""

import pytest

from dockmesh.audit.services import Actor
from dockmesh.fleet.models import Host
from tests.fleet.factories import make_host
from tests.tokens.support import bearer, token_with
from tokens import refusals, throttle

COMPOSE = "services:\n  web:\n    image: nginx:1.27\n"
ANN = Actor("user", "1", "ann", "192.0.2.1")


@pytest.fixture(autouse=True)
def _afresh() -> None:
    throttle.forget()
    refusals.forget()


@pytest.fixture
def host(db: None) -> Host:
    return make_host("alpha")[0]


@pytest.fixture
def may_deploy(db: None) -> dict[str, str]:
    """Headers of a token with stacks.deploy and fleet.read."""
    return bearer(token_with("stacks.deploy", "fleet.read", name="deployer")[1])


@pytest.fixture
def may_read(db: None) -> dict[str, str]:
    """Headers of a token with fleet.read only."""
    return bearer(token_with("fleet.read", name="reader")[1])
