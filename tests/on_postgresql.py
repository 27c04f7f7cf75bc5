"""Runs pytest with the given arguments on a real PostgreSQL of its own: `python -m tests.on_postgresql tests/fleet`."""

import os
import subprocess
import sys

from tests.integration.postgres import PostgresServer, binaries


def main() -> int:
    """The exit code of pytest; 0 with a note where PostgreSQL is not installed and need not be."""
    try:
        binaries()
    except RuntimeError as error:
        is_needed = os.environ.get("DOCKMESH_TEST_REQUIRE_ALL") == "1"
        print(f"{'failed' if is_needed else 'skipped'}: the tests on PostgreSQL: {error}", file=sys.stderr)
        return 1 if is_needed else 0
    with PostgresServer() as server:
        environment = {**os.environ, "DOCKMESH_TEST_DATABASE_URL": server.create_database()}
        return subprocess.run(
            [sys.executable, "-m", "pytest", *sys.argv[1:]], env=environment, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
