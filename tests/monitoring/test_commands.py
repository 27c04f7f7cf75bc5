"""`scrapeconfig` and `alertrules` print what Prometheus's own tools accept."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from metrics import alertrules
from tests.monitoring import files


def printed(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def rule(text: str, name: str) -> dict[str, Any]:
    rules = [one for group in yaml.safe_load(text)["groups"] for one in group["rules"]]
    [found] = [one for one in rules if one.get("alert") == name]
    return found


def checked(text: str, folder: Path) -> str:
    path = folder / "rules.yml"
    path.write_text(text)
    files.run("promtool", "check", "rules", "--lint=all", "--lint-fatal", path)
    return text


def test_alertrules_prints_all_committed_rules(tmp_path: Path) -> None:
    text = checked(printed("alertrules"), tmp_path)
    groups = yaml.safe_load(text)["groups"]
    committed = [
        group
        for path in (files.RECORDING_RULES, files.ALERT_RULES)
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    assert groups == committed


NEW = {
    "agent-stale-seconds": "300",
    "backup-stale-hours": "50",
    "deploy-slow-seconds": "90",
    "rtt-high-seconds": "2.5",
    "clock-skew-seconds": "60",
    "token-expiring-days": "14",
    "error-budget": "0.005",
}


def test_every_limit_can_be_changed_in_expression_and_description(tmp_path: Path) -> None:
    assert set(NEW) == {limit.option for limit in alertrules.LIMITS}
    before = printed("alertrules")
    text = checked(printed("alertrules", *(f"--{option}={value}" for option, value in NEW.items())), tmp_path)
    for limit in alertrules.LIMITS:
        for name in limit.alerts:
            old, new = rule(before, name), rule(text, name)
            changed = {key for key in ("expr", "for") if old.get(key) != new.get(key)}
            assert changed, name
            assert NEW[limit.option] in "".join(str(new[key]) for key in changed)
            if limit.default in re.findall(r"[\d.]+", old["annotations"]["description"]):
                assert NEW[limit.option] in new["annotations"]["description"], name
    untouched = set(files.alert_names()) - {name for limit in alertrules.LIMITS for name in limit.alerts}
    assert all(rule(before, name) == rule(text, name) for name in untouched)


def test_the_pages_have_the_servers_address(tmp_path: Path, settings: Any) -> None:
    settings.DOCKMESH_BASE_URL = "https://mesh.example:8443/at"
    text = checked(printed("alertrules"), tmp_path)
    page = rule(text, "DockmeshStackError")["annotations"]["page"]
    assert page == "https://mesh.example:8443/at/stacks/?q={{ urlquery $labels.stack }}"
    assert "page: /" not in text


def test_another_scrape_job_is_named_everywhere(tmp_path: Path) -> None:
    text = checked(printed("alertrules", "--job=mesh-eu"), tmp_path)
    assert 'job="dockmesh"' not in text
    assert 'up{job="mesh-eu"}' in rule(text, "DockmeshDown")["expr"]


def test_runbooks_may_be_anywhere() -> None:
    text = printed("alertrules", "--runbooks=https://wiki.example.com/runbooks")
    url = rule(text, "DockmeshDown")["annotations"]["runbook_url"]
    assert url == "https://wiki.example.com/runbooks#dockmeshdown"


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e400", "5m", "", "1 or vector(1)"])
def test_a_limit_that_is_no_positive_number_is_refused(value: str) -> None:
    with pytest.raises(CommandError, match="agent-stale-seconds"):
        printed("alertrules", f"--agent-stale-seconds={value}")


def test_scrapeconfig_is_what_prometheus_accepts(settings: Any, tmp_path: Path) -> None:
    settings.DOCKMESH_BASE_URL = "https://dockmesh.example.com"
    token = tmp_path / "token"
    token.write_text("a token\n")
    text = printed("scrapeconfig", f"--credentials-file={token}")
    config = tmp_path / "prometheus.yml"
    config.write_text(text)
    files.run("promtool", "check", "config", config)
    jobs = yaml.safe_load(text)["scrape_configs"]
    assert [job["job_name"] for job in jobs] == ["dockmesh", "node", "cadvisor"]
    assert jobs[0]["static_configs"] == [{"targets": ["dockmesh.example.com"]}]
    assert jobs[0]["scheme"] == "https"
    assert jobs[1]["http_sd_configs"][0]["url"] == (
        "https://dockmesh.example.com/api/v1/discovery/prometheus?exporter=node"
    )


def test_scrapeconfig_for_a_choice_of_groups(settings: Any, tmp_path: Path) -> None:
    settings.DOCKMESH_BASE_URL = "https://dockmesh.example.com"
    token = tmp_path / "token"
    token.write_text("a token\n")
    text = printed("scrapeconfig", f"--credentials-file={token}", "--collect", "fleet", "server")
    config = tmp_path / "prometheus.yml"
    config.write_text(text)
    files.run("promtool", "check", "config", config)
    assert yaml.safe_load(text)["scrape_configs"][0]["params"] == {"collect[]": ["fleet", "server"]}
    with pytest.raises(CommandError, match=r"fleet.*objects.*usage.*server"):
        printed("scrapeconfig", "--collect", "nonsense")


def test_scrapeconfig_of_a_public_server_needs_no_token_for_metrics(settings: Any) -> None:
    settings.DOCKMESH_METRICS_AUTH = False
    text = printed("scrapeconfig", "--url=http://dockmesh:8080", "--only-dockmesh")
    [job] = yaml.safe_load(text)["scrape_configs"]
    assert "authorization" not in job
    assert job["static_configs"] == [{"targets": ["dockmesh:8080"]}]


def test_scrapeconfig_without_an_address_says_what_to_do(settings: Any) -> None:
    settings.DOCKMESH_BASE_URL = ""
    with pytest.raises(CommandError, match="--url"):
        printed("scrapeconfig")
    with pytest.raises(CommandError, match="not an address"):
        printed("scrapeconfig", "--url=dockmesh:8080")
