"""What holds the house together: the skeleton starts, and its built-in roles are there."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from django.core.management import call_command

from tokens.models import Role
from tokens.permissions import ALL


def test_system_checks_find_nothing() -> None:
    call_command("check", fail_level="WARNING")


@pytest.mark.django_db
def test_built_in_roles_are_there_after_migrating() -> None:
    assert set(Role.objects.filter(is_builtin=True).values_list("name", flat=True)) == {
        "admin",
        "operator",
        "viewer",
    }
    assert set(Role.objects.get(name="admin").permissions) == set(ALL)


ROOT = Path(__file__).parents[1]


def imported(folders: list[str]) -> set[str]:
    """The packages of others that the code imports, anywhere in it."""
    found: set[str] = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"dockmesh", "metrics", "tokens", "monitoring"}


def test_whatever_is_imported_is_required() -> None:
    """And not there by luck, because something else brings it along."""
    pinned = re.findall(r"^([\w-]+)(?:\[\w+\])?==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    known = {name.lower().replace("_", "-") for name in pinned}
    providers = packages_distributions()
    missing = {
        package
        for package in imported(["dockmesh", "metrics", "tokens"])
        if not known & {name.lower().replace("_", "-") for name in providers.get(package, [package])}
    }
    assert missing == set()


def unguarded(path: Path) -> list[str]:
    """Calls of services that write, where a refusal would be a page for errors of the server."""
    found: list[str] = []

    def look(node: ast.AST, is_guarded: bool) -> None:
        if isinstance(node, ast.Try):
            caught = " ".join(ast.dump(handler.type) for handler in node.handlers if handler.type)
            for part in node.body:
                look(part, is_guarded or "DomainError" in caught)
            rest: list[ast.AST] = [*node.handlers, *node.orelse, *node.finalbody]
            for other in rest:
                look(other, is_guarded)
            return
        if isinstance(node, ast.FunctionDef):
            # One that says so, and what `FormPage` and `Action` call.
            says = ast.get_docstring(node) or ""
            is_guarded |= "raises `DomainError`" in says or node.name in ("save", "act")
        if isinstance(node, ast.Call) and not is_guarded:
            named = {keyword.arg for keyword in node.keywords}
            if "services" in ast.unparse(node.func).split(".") and named & {"actor", "principal"}:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node.func)}")
        for child in ast.iter_child_nodes(node):
            look(child, is_guarded)

    look(ast.parse(path.read_text()), False)
    return found


def test_what_a_service_refuses_is_told_at_the_form() -> None:
    pages = [
        *ROOT.glob("dockmesh/*/*views.py"),
        *ROOT.glob("tokens/*views.py"),
        *ROOT.glob("tokens/*pages.py"),
    ]
    assert len(pages) > 8
    assert [call for path in pages for call in unguarded(path)] == []


# Django finds the one, and the app imports the other.
BY_NAME = {"apps", "checks"}


def rooms_that_import() -> dict[str, set[str]]:
    """By module of `core`, the rooms that import it: `core`, an app, or `dockmesh` for the files at its top."""
    found: dict[str, set[str]] = {}
    for path in (
        path for folder in ("dockmesh", "metrics", "tokens") for path in (ROOT / folder).rglob("*.py")
    ):
        parts = path.relative_to(ROOT).parts
        room = parts[1] if parts[0] == "dockmesh" and len(parts) > 2 else parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "dockmesh.core":
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dockmesh.core."):
                names = {(node.module or "").split(".")[2]}
            else:
                continue
            for name in names:
                found.setdefault(name, set()).add(room)
    return found


def test_what_is_one_apps_own_is_not_in_core() -> None:
    importers = rooms_that_import()
    settings = (ROOT / "dockmesh" / "settings.py").read_text()
    modules = {path.stem for path in (ROOT / "dockmesh" / "core").iterdir() if path.suffix == ".py"}
    own = {
        name: importers.get(name, set())
        for name in modules - BY_NAME - {"__init__"}
        if len(importers.get(name, set())) < 2 and f"dockmesh.core.{name}" not in settings
    }
    assert own == {}
