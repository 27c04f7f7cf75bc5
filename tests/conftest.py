"""What all tests share: the real servers, and patience."""

import pytest
from hypothesis import settings

from tests.integration.browser import chromium, site, visit  # noqa: F401
from tests.integration.docker_plugin import (
    docker_engine,  # noqa: F401  (a real Docker Engine for every room)
    docker_engine_process,  # noqa: F401
)
from tests.integration.postgres import postgres_server  # noqa: F401  (a fixture for every room)

# Hypothesis would fail an example that takes more than 200 ms, which on a busy machine any may.
settings.register_profile("dockmesh", deadline=None)
settings.load_profile("dockmesh")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start real servers come first: shared among processes, the longest must not begin last."""
    slow = {
        item.path
        for item in items
        if item.get_closest_marker("integration") or item.get_closest_marker("browser")
    }
    items.sort(key=lambda item: item.path not in slow)
