"""Helpers of the tests."""

import os
import shutil
from typing import NoReturn

import pytest


def require(program: str) -> str:
    """The path of a program that a test needs; without it the test is skipped, in CI it fails."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        missing(f"{program} is not installed")
    return path


def missing(reason: str) -> NoReturn:
    """Skip with the reason, or fail where everything has to be there (DOCKMESH_TEST_REQUIRE_ALL=1)."""
    if os.environ.get("DOCKMESH_TEST_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
