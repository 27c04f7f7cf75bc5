"""What the documentation and the packaging say is what the agent does."""

import argparse
from pathlib import Path

import pytest

from dockmesh.agent import config, errors
from dockmesh.agent.deploy import _OPERATIONS

ROOT = Path(__file__).parent.parent.parent
DOCS = (ROOT / "docs" / "agent.md").read_text()


def options() -> list[str]:
    subparsers = next(
        action for action in config._parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    run = subparsers.choices["run"]
    return sorted(
        option for action in run._actions for option in action.option_strings if option.startswith("--")
    )


@pytest.mark.parametrize("option", [option for option in options() if option != "--help"])
def test_each_option_is_documented_with_its_variable(option: str) -> None:
    variable = "DOCKMESH_AGENT_" + option.removeprefix("--").replace("-", "_").upper()
    variable = {"DOCKMESH_AGENT_LABEL": "DOCKMESH_AGENT_LABELS"}.get(variable, variable)
    assert f"| `{option}" in DOCS
    assert f"`{variable}`" in DOCS


def test_each_exit_code_and_operation_is_documented() -> None:
    for code in (0, errors.EXIT_USAGE, errors.EXIT_REFUSED, errors.EXIT_TLS):
        assert f"\n| {code} |" in DOCS
    for operation in _OPERATIONS:
        assert f"`{operation}`" in DOCS


def test_systemd_does_not_restart_what_a_restart_can_not_mend() -> None:
    unit = (ROOT / "packaging" / "agent" / "dockmesh-agent.service").read_text()
    assert "RestartPreventExitStatus=2 3 4\n" in unit
    assert "\nExecStart=/usr/bin/python3 /opt/dockmesh-agent/launch.py run\n" in unit


@pytest.mark.parametrize(
    "hides", ["PrivateTmp", "ProtectHome", "ProtectSystem", "InaccessiblePaths", "TemporaryFileSystem"]
)
def test_systemd_hides_no_folder_into_which_somebody_may_restore(hides: str) -> None:
    unit = (ROOT / "packaging" / "agent" / "dockmesh-agent.service").read_text()
    assert f"{hides}=" not in unit
