"""The documentation names what there is: every setting, command, metric, permission, alert kind …"""

import re
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from dockmesh import env
from dockmesh.alerts import kinds
from dockmesh.alerts.models import AlertRule, Channel
from dockmesh.audit.actions import Action
from dockmesh.core import schedule
from dockmesh.fleet import commands
from tokens.permissions import ALL, BUILT_IN_ROLES, Permission, in_order

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
TOKENS = (ROOT / "docs" / "tokens.md").read_text(encoding="utf-8")
ALERTS = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
PAGE = (ROOT / "tests" / "golden" / "metrics.txt").read_text(encoding="utf-8")


def test_every_setting_is_in_the_readme_and_none_that_is_not() -> None:
    assert set(re.findall(r"`(DOCKMESH_[A-Z_]+)`", README.partition("## Settings")[2])) == set(env.KNOWN)


def test_every_command_is_in_the_readme() -> None:
    own = {name for name, app in get_commands().items() if app.startswith(("dockmesh.", "metrics", "tokens"))}
    table = README.partition("## Commands")[2].partition("## Settings")[0]
    assert {name for name in own if f"`manage.py {name}" not in table} == set()


def test_every_family_is_in_the_metrics_document_and_none_that_is_not() -> None:
    shown = set(re.findall(r"^# TYPE (dockmesh_\w+)", PAGE, re.MULTILINE))
    tables = METRICS.partition("## Queries")[0]
    assert set(re.findall(r"`(dockmesh_\w+)`", tables)) == shown


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table below the heading, as cells; without its head."""
    lines = text.partition(f"{heading}\n")[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    rows = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" |")])
    return rows


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_permission_is_in_the_tokens_document() -> None:
    assert [words(row[0])[0] for row in table(TOKENS, "## Permissions")] == [
        each.value for each in Permission
    ]


def test_the_built_in_roles_are_in_the_tokens_document_as_they_are() -> None:
    shown = {words(row[0])[0]: row[1] for row in table(TOKENS, "Built-in roles, which can't be changed:")}
    assert shown.keys() == BUILT_IN_ROLES.keys()
    for name, held in BUILT_IN_ROLES.items():
        assert shown[name] == "all" if held == ALL else in_order(held) == words(shown[name])


def test_every_kind_of_alert_is_documented_with_its_parameters() -> None:
    rows = {words(row[0])[0]: row[2] for row in table(ALERTS, "## Kinds of rules")}
    assert rows.keys() == set(AlertRule.Kind.values)
    for kind, cell in rows.items():
        assert {name for name in kinds.parameter_names(kind) if f"`{name}` (" not in cell} == set(), kind


@pytest.mark.parametrize("kind", Channel.Kind.values)
def test_every_kind_of_channel_is_documented(kind: str) -> None:
    assert f"`{kind}`" in ALERTS.partition("## Channels\n")[2]


def test_every_kind_of_command_is_in_the_agents_document_and_none_that_is_not() -> None:
    agent = (ROOT / "docs" / "agent.md").read_text(encoding="utf-8")
    documented = {kind for row in table(agent, "## Commands") for kind in words(row[0])}
    assert documented == {*commands._handlers, commands.CANCEL}


def test_every_action_is_in_the_audit_document_and_none_that_is_not() -> None:
    audit = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    assert [name for row in table(audit, "## Actions") for name in words(row[1])] == [
        action.value for action in Action
    ]


def test_every_periodic_task_is_in_the_architecture_document_and_none_that_is_not() -> None:
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    documented = {name for row in table(architecture, "## Periodic tasks") for name in words(row[0])}
    assert documented == {job.name for job in schedule.jobs()}


DOCUMENTS = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
DOCUMENTS += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


def links(document: str) -> list[tuple[Path, str]]:
    """(file, anchor) of each link to a file of the repository."""
    path = ROOT / document
    found = re.findall(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8"))
    return [(path.parent / target if target else path, anchor) for target, anchor in found]


def anchors(path: Path) -> set[str]:
    """Of the headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    assert [
        str(path)
        for path, anchor in links(document)
        if not path.exists() or (anchor and anchor not in anchors(path))
    ] == []


def test_every_document_is_linked_from_another() -> None:
    linked = {
        path.resolve() for document in DOCUMENTS for path, _ in links(document) if path != ROOT / document
    }
    assert {document for document in DOCUMENTS[1:] if (ROOT / document).resolve() not in linked} == set()


def test_the_defaults_in_the_readme_are_those_that_hold(tmp_path: Path) -> None:
    rows = table(README, "## Settings")
    shown = {words(name)[0]: words(default)[0] for name, default, _ in rows if default.startswith("`")}
    assert len(shown) > 5
    unset = {"DOCKMESH_DATA_DIR": str(tmp_path)}
    data = shown.pop("DOCKMESH_DATA_DIR")
    assert env.read(unset) == env.read({**shown, **unset})
    assert (ROOT / data).resolve() == ROOT / "data"


def test_the_options_in_the_readme_are_those_of_the_commands() -> None:
    for row in table(README, "## Commands"):
        for name in re.findall(r"manage\.py (\w+)", row[0]):
            parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
            known = {option for action in parser._actions for option in action.option_strings}
            assert set(re.findall(r"--[\w-]+", " ".join(row))) <= known, name
