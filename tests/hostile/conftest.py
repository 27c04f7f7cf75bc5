"""One started server for each database and file of tests; after each test, whether it is unharmed."""

from collections.abc import Iterator

import pytest

from tests.hostile.site import Site, start
from tests.integration.postgres import PostgresServer


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    url = ""
    if request.param == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
        url = postgres.create_database()
    with start(tmp_path_factory.mktemp("hostile") / "data", url) as server:
        yield Site(server)


@pytest.fixture(autouse=True)
def unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests that use the site leave everybody else as they were."""
    if "site" not in request.fixturenames:
        yield
        return
    site: Site = request.getfixturevalue("site")
    before = site.series_of("bystander")
    yield
    site.assert_unharmed(before)
