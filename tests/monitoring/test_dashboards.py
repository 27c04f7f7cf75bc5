"""The Grafana dashboards: as generated, valid against Grafana's published types, consistent in themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from monitoring.grafana import build
from tests.monitoring import files

SCHEMAS = files.ROOT / "tests" / "monitoring" / "schema"
# What Grafana's Prometheus plugin reads of an annotation; the published type knows only Grafana's own.
PLUGIN_ANNOTATION_FIELDS = ("target", "titleFormat", "textFormat", "tagKeys")
NAMES = (
    "fleet", "host", "stacks", "containers", "backups", "alerts", "server", "slo", "versions", "logs", "federation",
)  # fmt: skip


def load(name: str) -> dict[str, Any]:
    board: dict[str, Any] = json.loads((files.DASHBOARDS / f"{name}.json").read_text())
    return board


BOARDS = {path.stem: load(path.stem) for path in sorted(files.DASHBOARDS.glob("*.json"))}
each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (panel for panel in board["panels"] if panel["type"] != "row")


def schema(name: str) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads((SCHEMAS / f"{name}.json").read_text()))


def problems(validator: jsonschema.Draft7Validator, document: Any) -> list[str]:
    return [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
        for error in validator.iter_errors(document)
    ]


def test_every_dashboard_is_there() -> None:
    assert set(BOARDS) == {f"dockmesh-{name}" for name in NAMES}


def test_the_committed_files_are_what_the_generator_writes() -> None:
    made = {name: build.text(board) for name, board in build.all_dashboards().items()}
    committed = {path.name: path.read_text() for path in files.DASHBOARDS.glob("*.json")}
    assert committed == made, "run: python -m monitoring.grafana.build"


@each_board
def test_a_dashboard_is_valid_against_grafanas_published_types(board: dict[str, Any]) -> None:
    document = json.loads(json.dumps(board))
    for annotation in document["annotations"]["list"]:
        for name in PLUGIN_ANNOTATION_FIELDS:
            annotation.pop(name)
    assert problems(schema("dashboard"), document) == []
    for panel in panels(board):
        assert problems(schema(f"{panel['type']}.options"), panel["options"]) == [], panel["title"]
        if (SCHEMAS / f"{panel['type']}.fieldconfig.json").exists():
            custom = panel["fieldConfig"]["defaults"].get("custom", {})
            assert problems(schema(f"{panel['type']}.fieldconfig"), custom) == [], panel["title"]


def test_the_published_types_refuse_a_wrong_dashboard() -> None:
    board = load("dockmesh-fleet")
    board["panels"][0]["gridPos"]["w"] = "wide"
    board["refrehs"] = "30s"
    found = problems(schema("dashboard"), board)
    assert any("wide" in problem for problem in found)
    assert any("refrehs" in problem for problem in found)


@each_board
def test_panels_have_titles_ids_and_places_of_their_own(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in panels(board)]
    assert all(titles)
    assert len(titles) == len(set(titles))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} covers another panel"
        taken |= cells


@each_board
def test_variables_that_are_used_are_there_and_the_other_way_round(board: dict[str, Any]) -> None:
    variables = {variable["name"] for variable in board["templating"]["list"]}
    text = json.dumps(
        {"panels": board["panels"], "annotations": board["annotations"], "links": board["links"]}
    )
    queries = json.dumps([variable.get("query") for variable in board["templating"]["list"]])
    used = set(re.findall(r"\$\{?([a-z]+)\b", text + queries))
    assert used <= variables
    assert {"datasource", "job", "region"} <= variables
    assert variables <= used | {"datasource", "job", "region"}


@each_board
def test_every_query_asks_the_variables_data_source(board: dict[str, Any]) -> None:
    for panel in panels(board):
        for target in panel["targets"]:
            source = target["datasource"]
            assert source in (
                {"type": "prometheus", "uid": "${datasource}"},
                {"type": "loki", "uid": "${logs}"},
            ), panel["title"]
            assert panel["datasource"] == source


@each_board
def test_every_query_is_limited_to_the_region(board: dict[str, Any]) -> None:
    for panel in panels(board):
        for target in panel["targets"]:
            if target["datasource"]["type"] == "loki" or "ALERTS{" in target["expr"]:
                continue
            for selector in re.findall(r"\b\w+\{([^}]*)\}", target["expr"]):
                assert 'region=~"$region"' in selector, f"{panel['title']}: {selector}"


@each_board
def test_links_lead_to_dashboards_that_exist(board: dict[str, Any]) -> None:
    linked = set(re.findall(r"/d/([a-z-]+)", json.dumps(board)))
    assert linked <= set(BOARDS)


def test_fleet_leads_to_host_and_host_to_logs() -> None:
    assert "/d/dockmesh-host?" in json.dumps(BOARDS["dockmesh-fleet"])
    assert "var-host=${__value.raw}" in json.dumps(BOARDS["dockmesh-fleet"])
    assert "/d/dockmesh-logs?var-host=${host}" in json.dumps(BOARDS["dockmesh-host"])


@pytest.mark.parametrize(
    ("board", "host", "stack"),
    [("host", "${host}", "${__value.raw}"), ("stacks", "${__data.fields.Host}", "${__data.fields.Stack}")],
)
def test_a_stacks_name_leads_to_its_containers(board: str, host: str, stack: str) -> None:
    links = [
        url["url"]
        for panel in panels(BOARDS[f"dockmesh-{board}"])
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if override["matcher"]["options"] == "Stack" and each["id"] == "links"
        for url in each["value"]
    ]
    assert links
    for link in links:
        assert link.startswith("/d/dockmesh-containers?")
        assert f"&var-host={host}&var-stack={stack}&" in link


@each_board
def test_deploys_restarts_and_alerts_are_annotations(board: dict[str, Any]) -> None:
    assert [one["name"] for one in board["annotations"]["list"]] == ["Deploys", "Restarts", "Alerts"]


def test_backup_panels_use_exported_job() -> None:
    text = json.dumps(BOARDS["dockmesh-backups"])
    assert "exported_job" in text
    assert "by (job" not in text


def test_provisioning_has_the_uids_that_the_dashboards_default_to() -> None:
    provisioning = files.MONITORING / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "dockmesh.yml").read_text())["datasources"]
    uids = {source["type"]: source["uid"] for source in sources}
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "datasource":
                assert variable["current"]["value"] == uids[variable["query"]]
    assert uids["alertmanager"] == "dockmesh-alertmanager"


def test_the_promised_scrape_interval_is_prometheus_own() -> None:
    provisioning = files.MONITORING / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "dockmesh.yml").read_text())["datasources"]
    prometheus = yaml.safe_load((files.PROMETHEUS / "prometheus.yml").read_text())
    [source] = [source for source in sources if source["type"] == "prometheus"]
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
