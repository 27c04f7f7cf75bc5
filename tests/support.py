"""Helpers of the tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

# Whoever waits for a condition waits this many times as long as it takes on a machine with nothing else to do.
PATIENCE = 4


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


def python(version: str) -> str:
    """A Python of that version, on the path or where pyenv has it."""
    found = [Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"]
    candidates = [
        each / "bin" / "python3" for folder in found for each in sorted(folder.glob(f"{version}.*"))
    ]
    candidates += [Path(path)] if (path := shutil.which(f"python{version}")) else []
    for candidate in candidates:
        done = subprocess.run([candidate, "-c", "import ssl, sqlite3"], capture_output=True)
        if done.returncode == 0:
            return str(candidate)
    return missing(f"there is no Python {version}")


def calls_of(function: Callable[[], object]) -> int:
    """Calls of Python and of C functions, which are the same in every run."""
    count = 0

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count
