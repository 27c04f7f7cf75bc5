"""The documentation names what there is: every setting, command and metric."""

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from dockmesh import env

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
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


@pytest.mark.parametrize("document", ["README.md", *sorted(str(p) for p in Path("docs").glob("*.md"))])
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []
