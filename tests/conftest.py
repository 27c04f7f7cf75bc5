"""What all tests share: the real servers, and patience."""

from hypothesis import settings

from tests.integration.browser import chromium, site, visit  # noqa: F401
from tests.integration.docker_plugin import (
    docker_engine,  # noqa: F401  (a real Docker Engine for every room)
    docker_engine_process,  # noqa: F401
)
from tests.integration.postgres import postgres_server  # noqa: F401  (a fixture for every room)

# No test is about seconds: a busy machine must not fail one.
settings.register_profile("dockmesh", deadline=None)
settings.load_profile("dockmesh")
