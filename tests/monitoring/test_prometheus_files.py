"""What is in monitoring/prometheus/ and monitoring/alertmanager/ is accepted by the real tools."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring import files

SNIPPETS = sorted((files.PROMETHEUS / "snippets").glob("*.yml"))
RULE_TESTS = sorted(files.RULE_TESTS.glob("*.yml"))
KINDS = ("fires", "stays quiet", "series born late")


def test_the_rules_pass_every_lint() -> None:
    files.run("promtool", "check", "rules", "--lint=all", "--lint-fatal", files.ALERT_RULES)
    files.run("promtool", "check", "rules", "--lint=all", "--lint-fatal", files.RECORDING_RULES)


def test_the_configuration_is_accepted_with_its_rules_and_its_token(tmp_path: Path) -> None:
    shutil.copytree(files.PROMETHEUS, tmp_path / "prometheus")
    token = tmp_path / "token"
    token.write_text("a token\n")
    config = tmp_path / "prometheus" / "prometheus.yml"
    config.write_text(config.read_text().replace("/run/secrets/dockmesh_token", str(token)))
    output = files.run("promtool", "check", "config", "--lint=all", "--lint-fatal", config)
    assert "2 rule files found" in output


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda path: path.stem)
def test_a_snippet_is_accepted(snippet: Path) -> None:
    files.run("promtool", "check", "config", "--syntax-only", snippet)


def test_every_snippet_is_in_their_readme() -> None:
    text = (files.PROMETHEUS / "snippets" / "README.md").read_text()
    assert set(re.findall(r"`([a-z-]+\.yml)`", text)) == {path.name for path in SNIPPETS}


@pytest.mark.integration
@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_rules(path: Path) -> None:
    files.run("promtool", "test", "rules", path)


def test_each_alert_has_its_three_cases() -> None:
    cases = {
        case["name"]
        for path in RULE_TESTS
        if path.stem != "page-expressions"
        for case in yaml.safe_load(path.read_text())["tests"]
    }
    wanted = {(name, kind) for name in files.alert_names() for kind in KINDS}
    found = {tuple(re.split(": | ", case, maxsplit=1)) for case in cases}
    assert wanted <= found
    assert {name for name, _ in found} == set(files.alert_names())


def test_each_alert_says_what_it_is_and_has_a_runbook() -> None:
    headings = re.findall(r"^## (\w+)$", files.RUNBOOKS.read_text(), re.M)
    assert headings == sorted(set(headings), key=headings.index)
    assert set(headings) == set(files.alert_names())
    for rule in files.alert_rules():
        name = rule["alert"]
        assert name.startswith("Dockmesh")
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith(".")
        assert rule["annotations"]["runbook_url"] == f"monitoring/runbooks.md#{name.lower()}"


def test_each_runbook_has_meaning_impact_check_and_fix() -> None:
    sections = re.split(r"^## ", files.RUNBOOKS.read_text(), flags=re.M)[1:]
    for section in sections:
        for part in ("Meaning", "Impact", "Check", "Fix"):
            assert f"**{part}.**" in section, section.splitlines()[0]


def test_the_central_prometheus_federates_as_on_the_page() -> None:
    central = yaml.safe_load((files.PROMETHEUS / "snippets" / "central.yml").read_text())["scrape_configs"][0]
    assert central["honor_labels"] is True
    assert central["metrics_path"] == "/federate"
    assert central["params"] == {"match[]": ['{job="dockmesh"}']}
    assert central["scrape_interval"] == "30s"
    for region in ("eu", "us"):
        text = (files.PROMETHEUS / "snippets" / f"region-{region}.yml").read_text()
        assert yaml.safe_load(text)["global"]["external_labels"] == {"region": region}


def test_alertmanager_accepts_its_configuration() -> None:
    files.run("amtool", "check-config", files.ALERTMANAGER)


@pytest.mark.parametrize("rule", files.alert_rules(), ids=lambda rule: rule["alert"])
def test_an_alert_goes_where_its_severity_says(rule: dict[str, Any]) -> None:
    severity = rule["labels"]["severity"]
    receiver = {"critical": "pager", "warning": "team", "info": "journal"}[severity]
    files.run(
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={files.ALERTMANAGER}",
        f"--verify.receivers={receiver}",
        f"alertname={rule['alert']}",
        f"severity={severity}",
        "job=dockmesh",
        "region=main",
    )


def test_an_alert_of_somebody_else_goes_to_the_team() -> None:
    files.run(
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={files.ALERTMANAGER}",
        "--verify.receivers=team",
        "alertname=NodeFilesystemFull",
    )


def test_what_inhibits_and_what_is_inhibited_exists() -> None:
    known = set(files.alert_names())
    for rule in yaml.safe_load(files.ALERTMANAGER.read_text())["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            named = set(re.findall(r"Dockmesh[A-Za-z]+", matcher))
            assert named <= known, matcher


def test_no_alert_is_about_a_container_that_is_deployed_or_run_once() -> None:
    about = [rule for rule in files.alert_rules() if "dockmesh_container_" in rule["expr"]]
    assert len(about) == 6
    for rule in about:
        assert "unless on (job, host, stack)\nstack:dockmesh_stack_settling:group10m" in rule["expr"]
        assert "last_over_time(dockmesh_container_oneoff[10m])" in rule["expr"]


def test_every_alert_about_a_container_names_it_and_holds_back_its_stacks() -> None:
    about = {rule["alert"] for rule in files.alert_rules() if rule["alert"].startswith("DockmeshContainer")}
    for rule in yaml.safe_load(files.ALERTMANAGER.read_text())["inhibit_rules"]:
        if rule["target_matchers"] == ['alertname="DockmeshStackError"']:
            assert set(re.findall(r"Dockmesh[A-Za-z]+", str(rule["source_matchers"]))) == about
            assert {"host", "stack"} <= set(rule["equal"])
            return
    raise AssertionError("nothing holds back DockmeshStackError")
