"""Fixtures of the real Docker Engine; a test file takes them by importing them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.dockerd import DockerEngine, require_docker


@pytest.fixture(scope="session")
def docker_engine_process() -> Iterator[DockerEngine]:
    """One Engine for the whole run of the tests."""
    require_docker()
    engine = DockerEngine()
    try:
        engine.start()
        engine.import_busybox()
        yield engine
    finally:
        engine.close()


@pytest.fixture
def docker_engine(docker_engine_process: DockerEngine) -> Iterator[DockerEngine]:
    """The Engine, running and empty before and after each test."""
    docker_engine_process.remove_all()
    yield docker_engine_process
    docker_engine_process.remove_all()
