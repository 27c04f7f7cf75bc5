"""docs/hostile.md: each row has a test, and each test that it names exists; each test here is in a row."""

import ast
import re

from tests.integration.server import ROOT

DOCUMENT = (ROOT / "docs" / "hostile.md").read_text(encoding="utf-8")
ROWS = [
    line.strip("|").split(" | ") for line in DOCUMENT.splitlines() if line.startswith("| ") and "`" in line
]


def functions(path: str) -> set[str]:
    """The tests in a file below tests/."""
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def named(row: list[str]) -> list[tuple[str, str]]:
    """File and name of the tests of a row; a file alone stands for all that is in it."""
    return [
        (path, test) for path, _, test in (each.partition("::") for each in re.findall(r"`([^`]+)`", row[-1]))
    ]


def test_each_row_has_tests_that_exist() -> None:
    assert len(ROWS) > 50
    for row in ROWS:
        assert len(row) == 3, row
        assert named(row), row
        for path, test in named(row):
            found = functions(path)
            assert found, path
            assert not test or test in found, (path, test)


def test_each_test_of_the_suite_is_in_a_row() -> None:
    inside = {test for row in ROWS for path, test in named(row) if path.startswith("hostile/")}
    for path in ("test_tokens.py", "test_http.py", "test_heartbeats.py"):
        assert functions(f"hostile/{path}") <= inside | {"test_the_checksum_here_is_the_servers"}
