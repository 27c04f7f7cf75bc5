"""One installation for all end-to-end tests of monitoring/."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.monitoring.installation import Installation, installation


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("installation")) as made:
        yield made
