"""What all dashboards share: variables, annotations, links, and panels with the same look.

Every query selects `{job=~"$job", region=~"$region"}`. A region is an external label: series in a region's
own Prometheus have none, and "All" (`.*`) matches that too.

dockmesh's own families are the same from every replica, so a query takes the maximum over the replicas
(`max without (instance)`, or `max by (…)`) before it adds anything up.
"""

from __future__ import annotations

from typing import Any, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    loki,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as sdk
from grafana_foundation_sdk.builders import logs as logs_builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SELECT = 'job=~"$job", region=~"$region"'
PROMETHEUS = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")
LOKI = common_models.DataSourceRef(type_val="loki", uid="${logs}")

PROMETHEUS_UID = "dockmesh-prometheus"
LOKI_UID = "dockmesh-loki"
ALERTMANAGER_UID = "dockmesh-alertmanager"

TAG = "dockmesh"
GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#8e8e8e"

STATE_COLOURS = {
    "online": GREEN,
    "running": GREEN,
    "success": GREEN,
    "degraded": ORANGE,
    "partial": YELLOW,
    "paused": YELLOW,
    "restarting": ORANGE,
    "deploying": BLUE,
    "created": BLUE,
    "healthy": GREEN,
    "starting": BLUE,
    "unhealthy": RED,
    "removing": BLUE,
    "stopped": GREY,
    "exited": GREY,
    "unknown": "purple",
    "offline": RED,
    "error": RED,
    "dead": RED,
    "failure": RED,
    "critical": RED,
    "warning": ORANGE,
    "info": BLUE,
}


def board(uid: str, title: str, description: str) -> sdk.Dashboard:
    """An empty dashboard with the links between all of them."""
    return (
        sdk.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .link(
            sdk.DashboardLink("dockmesh")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(True)
        )
    )


# ---- variables ---------------------------------------------------------------------------------------------


def datasource_variable() -> sdk.DatasourceVariable:
    """Which Prometheus."""
    return (
        sdk.DatasourceVariable("datasource")
        .label("Prometheus")
        .type("prometheus")
        .current(models.VariableOption(selected=True, text="dockmesh Prometheus", value=PROMETHEUS_UID))
    )


def logs_variable() -> sdk.DatasourceVariable:
    """Which Loki."""
    return (
        sdk.DatasourceVariable("logs")
        .label("Loki")
        .type("loki")
        .current(models.VariableOption(selected=True, text="dockmesh Loki", value=LOKI_UID))
    )


def _choice(name: str, label: str, query: str) -> sdk.QueryVariable:
    return (
        sdk.QueryVariable(name)
        .label(label)
        .datasource(PROMETHEUS)
        .definition(query)
        .query({"qryType": 1, "query": query, "refId": f"variable-{name}"})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _many(variable: sdk.QueryVariable) -> sdk.QueryVariable:
    return (
        variable.multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def job_variable() -> sdk.QueryVariable:
    """The scrape job of dockmesh."""
    return _many(_choice("job", "Job", "label_values(dockmesh_hosts_total, job)"))


def region_variable() -> sdk.QueryVariable:
    """The region, where several are federated."""
    return _many(_choice("region", "Region", 'label_values(dockmesh_hosts_total{job=~"$job"}, region)'))


def host_variable(*, single: bool = False) -> sdk.QueryVariable:
    """Hosts as dockmesh names them."""
    choice = _choice("host", "Host", f"label_values(dockmesh_agent_last_seen_seconds{{{SELECT}}}, host)")
    return choice if single else _many(choice)


def stack_variable() -> sdk.QueryVariable:
    """Names of stacks."""
    query = f"label_values(dockmesh_deploy_duration_seconds_count{{{SELECT}}}, stack)"
    return _many(_choice("stack", "Stack", query))


def with_variables(builder: sdk.Dashboard, *more: Any) -> sdk.Dashboard:
    """Data source, job and region on every dashboard, then its own."""
    for variable in (datasource_variable(), job_variable(), region_variable(), *more):
        builder = builder.with_variable(variable)
    return builder


# ---- annotations -------------------------------------------------------------------------------------------


def _annotation(
    name: str, expr: str, colour: str, title: str, text: str, keys: str, *, on: bool
) -> sdk.AnnotationQuery:
    return (
        sdk.AnnotationQuery()
        .name(name)
        .datasource(PROMETHEUS)
        .enable(on)
        .icon_color(colour)
        .title_format(title)
        .text_format(text)
        .tag_keys(keys)
        .target(query(expr).ref_id("Anno").interval("60s"))
    )


def with_annotations(builder: sdk.Dashboard) -> sdk.Dashboard:
    """Deploys, restarts of the server, and alerts that fire, as marks on every graph."""
    deploys = (
        "sum by (stack, result) (max without (instance) "
        f"(increase(dockmesh_deploy_duration_seconds_count{{{SELECT}}}[2m]))) > 0"
    )
    restarts = f"changes(process_start_time_seconds{{{SELECT}}}[2m]) > 0"
    alerts = 'ALERTS{alertname=~"Dockmesh.+", alertstate="firing"}'
    return (
        builder.annotation(
            _annotation(
                "Deploys", deploys, BLUE, "Deploy of {{stack}}", "{{result}}", "stack,result", on=True
            )
        )
        .annotation(
            _annotation(
                "Restarts", restarts, YELLOW, "dockmesh restarted", "{{instance}}", "instance", on=True
            )
        )
        .annotation(_annotation("Alerts", alerts, RED, "{{alertname}}", "{{host}}", "severity", on=False))
    )


# ---- queries -----------------------------------------------------------------------------------------------


def query(expr: str, legend: str = "") -> prometheus.Dataquery:
    """A range query."""
    built = prometheus.Dataquery().datasource(PROMETHEUS).expr(expr).range()
    return built.legend_format(legend) if legend else built


def instant(expr: str, legend: str = "") -> prometheus.Dataquery:
    """A query for the latest values."""
    built = prometheus.Dataquery().datasource(PROMETHEUS).expr(expr).instant()
    return built.legend_format(legend) if legend else built


def rows(expr: str) -> prometheus.Dataquery:
    """A query for the latest values, one table row for each series."""
    return prometheus.Dataquery().datasource(PROMETHEUS).expr(expr).instant().format(PromQueryFormat.TABLE)


def log_query(expr: str, legend: str = "") -> loki.Dataquery:
    """A query to Loki."""
    built = loki.Dataquery().datasource(LOKI).expr(expr).query_type("range")
    return built.legend_format(legend) if legend else built


# ---- panels ------------------------------------------------------------------------------------------------


def steps(*limits: tuple[float | None, str]) -> sdk.ThresholdsConfig:
    """Colours from a value upwards; the first limit is None."""
    return (
        sdk.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=colour) for value, colour in limits])
    )


P = TypeVar("P", timeseries.Panel, stat.Panel)


def _coloured(panel: P, names: dict[str, str]) -> P:
    for name, colour in names.items():
        panel = panel.override_by_name(
            name,
            [models.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})],
        )
    return panel


def graph(
    title: str,
    *queries: Any,
    unit: str = "short",
    description: str = "",
    width: int = 12,
    height: int = 8,
    stacked: bool = False,
    bars: bool = False,
    limit: float | None = None,
    states: tuple[str, ...] = (),
    least: float | None = 0,
    datasource: Any = PROMETHEUS,
) -> timeseries.Panel:
    """Lines (or bars) over time; `limit` draws a line where an alert fires."""
    panel = (
        timeseries.Panel()
        .title(title)
        .datasource(datasource)
        .unit(unit)
        .span(width)
        .height(height)
        .line_width(1)
        .fill_opacity(70 if stacked or bars else 8)
        .show_points(common_models.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    if description:
        panel = panel.description(description)
    if least is not None:
        panel = panel.min(least)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if bars:
        panel = panel.draw_style(common_models.GraphDrawStyle.BARS)
    if limit is not None:
        panel = panel.thresholds(steps((None, "transparent"), (limit, RED))).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.LINE)
        )
    for one in queries:
        panel = panel.with_target(one)
    return _coloured(panel, {name: STATE_COLOURS[name] for name in states})


def number(
    title: str,
    *queries: Any,
    unit: str = "short",
    description: str = "",
    width: int = 4,
    height: int = 4,
    limits: tuple[tuple[float | None, str], ...] = ((None, GREEN),),
    states: tuple[str, ...] = (),
    decimals: int | None = None,
    names: bool = False,
) -> stat.Panel:
    """The latest value, large; coloured by `limits` or by the states' names."""
    panel = (
        stat.Panel()
        .title(title)
        .datasource(PROMETHEUS)
        .unit(unit)
        .span(width)
        .height(height)
        .thresholds(steps(*limits))
        .color_mode(common_models.BigValueColorMode.VALUE)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    )
    if description:
        panel = panel.description(description)
    if decimals is not None:
        panel = panel.decimals(decimals)
    if names:
        panel = panel.text_mode(common_models.BigValueTextMode.VALUE_AND_NAME)
    for one in queries:
        panel = panel.with_target(one)
    return _coloured(panel, {name: STATE_COLOURS[name] for name in states})


def ranking(
    title: str,
    *queries: Any,
    unit: str = "short",
    description: str = "",
    width: int = 12,
    height: int = 8,
    decimals: int | None = None,
) -> bargauge.Panel:
    """One horizontal bar for each series."""
    panel = (
        bargauge.Panel()
        .title(title)
        .datasource(PROMETHEUS)
        .unit(unit)
        .span(width)
        .height(height)
        .min(0)
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .thresholds(steps((None, BLUE)))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    if description:
        panel = panel.description(description)
    for one in queries:
        panel = panel.with_target(one)
    return panel


def density(
    title: str, target: Any, *, description: str = "", width: int = 12, height: int = 8
) -> heatmap.Panel:
    """A histogram's buckets over time."""
    panel = (
        heatmap.Panel()
        .title(title)
        .datasource(PROMETHEUS)
        .span(width)
        .height(height)
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Blues")
            .steps(64)
        )
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .with_target(target.format(PromQueryFormat.HEATMAP).legend_format("{{le}}"))
    )
    return panel.description(description) if description else panel


def timeline(
    title: str,
    *queries: Any,
    words: dict[str, tuple[str, str]],
    description: str = "",
    width: int = 12,
    height: int = 8,
) -> statetimeline.Panel:
    """Bars that change colour with the value; `words` maps a value to (text, colour)."""
    panel = (
        statetimeline.Panel()
        .title(title)
        .datasource(PROMETHEUS)
        .span(width)
        .height(height)
        .mappings(
            [
                models.ValueMap(
                    options={
                        value: models.ValueMappingResult(text=text, color=colour, index=index)
                        for index, (value, (text, colour)) in enumerate(words.items())
                    }
                )
            ]
        )
    )
    if description:
        panel = panel.description(description)
    for one in queries:
        panel = panel.with_target(one)
    return panel


def listing(
    title: str,
    *queries: Any,
    columns: dict[str, str],
    description: str = "",
    width: int = 24,
    height: int = 9,
    units: dict[str, str] | None = None,
    limits: dict[str, tuple[tuple[float | None, str], ...]] | None = None,
    links: dict[str, tuple[str, str]] | None = None,
    by: str = "",
    descending: bool = False,
) -> table.Panel:
    """A table of the latest values.

    `columns` maps field names of the merged queries (a label, or `Value #A`) to headings, in order; all
    other fields are hidden. `units`, `limits` (colours) and `links` ((text, URL)) go by heading.
    """
    panel = (
        table.Panel()
        .title(title)
        .datasource(PROMETHEUS)
        .span(width)
        .height(height)
        .cell_options(common_models.TableAutoCellOptions())
        .with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="filterFieldsByName", options={"include": {"names": list(columns)}}
            )
        )
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "indexByName": {name: place for place, name in enumerate(columns)},
                    "renameByName": columns,
                },
            )
        )
    )
    if description:
        panel = panel.description(description)
    if by:
        panel = panel.sort_by([common.TableSortByFieldState().display_name(by).desc(descending)])
    for one in queries:
        panel = panel.with_target(one)
    for heading, unit in (units or {}).items():
        panel = panel.override_by_name(heading, [models.DynamicConfigValue(id_val="unit", value=unit)])
    for heading, colours in (limits or {}).items():
        panel = panel.override_by_name(
            heading,
            [
                models.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
                models.DynamicConfigValue(
                    id_val="thresholds",
                    value={
                        "mode": "absolute",
                        "steps": [{"value": value, "color": colour} for value, colour in colours],
                    },
                ),
            ],
        )
    for heading, (text, url) in (links or {}).items():
        panel = panel.override_by_name(
            heading, [models.DynamicConfigValue(id_val="links", value=[{"title": text, "url": url}])]
        )
    return panel


def log_lines(title: str, target: Any, *, description: str = "", height: int = 18) -> logs_builder.Panel:
    """Log lines as they were written."""
    panel = (
        logs_builder.Panel()
        .title(title)
        .datasource(LOKI)
        .span(24)
        .height(height)
        .show_time(True)
        .show_labels(False)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(common_models.LogsSortOrder.DESCENDING)
        .with_target(target)
    )
    return panel.description(description) if description else panel


def row(title: str) -> sdk.Row:
    """A heading over the panels that follow."""
    return sdk.Row(title)
