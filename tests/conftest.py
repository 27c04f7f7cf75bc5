"""What all tests share: the real servers, and patience."""

import os

import pytest
from django.conf import settings as django_settings
from hypothesis import settings

from dockmesh.audit import known
from tests.integration.browser import chromium, site, visit  # noqa: F401
from tests.integration.docker_plugin import (
    docker_engine,  # noqa: F401  (a real Docker Engine for every room)
    docker_engine_process,  # noqa: F401
)
from tests.integration.postgres import postgres_server  # noqa: F401  (a fixture for every room)

# Hypothesis would fail an example that takes more than 200 ms, which on a busy machine any may.
settings.register_profile("dockmesh", deadline=None)
settings.load_profile("dockmesh")


@pytest.fixture(autouse=True)
def _audit_chain_of_its_own() -> None:
    """Each test's database is another; what the data folder knows of the one before is not of its chain."""
    known.forget()


def pytest_configure() -> None:
    # What makes guessing slow would make most of the time of the tests of users.
    django_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that start real servers come first: shared among processes, the longest must not begin last.

    On another database than SQLite only the tests that use one run: the others can't tell a difference.
    """
    if "DOCKMESH_TEST_DATABASE_URL" in os.environ:
        config.hook.pytest_deselected(items=[item for item in items if not _uses_database(item)])
        items[:] = [item for item in items if _uses_database(item)]

    slow = {
        item.path
        for item in items
        if item.get_closest_marker("integration") or item.get_closest_marker("browser")
    }
    items.sort(key=lambda item: item.path not in slow)


def _uses_database(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return bool(item.get_closest_marker("django_db") or {"db", "transactional_db"}.intersection(fixtures))
