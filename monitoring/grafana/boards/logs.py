"""Logs: what containers write, from Loki. Its labels are host, stack and service."""

from grafana_foundation_sdk.builders import dashboard as sdk
from grafana_foundation_sdk.models import dashboard as models

from monitoring.grafana.kit import (
    LOKI,
    board,
    datasource_variable,
    graph,
    job_variable,
    log_lines,
    log_query,
    logs_variable,
    region_variable,
    with_annotations,
)

STREAMS = '{host=~"$host", stack=~"$stack", service=~"$service"}'
MATCHING = f'{STREAMS} |~ "(?i)$search"'
WRONG = "(?i)(error|exception|fatal|panic|traceback)"


def _labels(name: str, label: str, streams: str) -> sdk.QueryVariable:
    return (
        sdk.QueryVariable(name)
        .label(label)
        .datasource(LOKI)
        .query({"type": 1, "label": name, "stream": streams, "refId": f"variable-{name}"})
        .definition(f"label_values({streams}, {name})" if streams else f"label_values({name})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+" if name == "host" else ".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def dashboard() -> sdk.Dashboard:
    """The dashboard, as described at the top of this file."""
    builder = board("dockmesh-logs", "dockmesh / Logs", "Container logs by host, stack and service.")
    for variable in (
        datasource_variable(),
        logs_variable(),
        job_variable(),
        region_variable(),
        _labels("host", "Host", ""),
        _labels("stack", "Stack", '{host=~"$host"}'),
        _labels("service", "Service", '{host=~"$host", stack=~"$stack"}'),
        sdk.TextBoxVariable("search").label("Search").default_value(""),
    ):
        builder = builder.with_variable(variable)
    return (
        with_annotations(builder)
        .with_panel(
            graph(
                "Lines by stack",
                log_query(f"sum by (stack) (count_over_time({MATCHING} [$__auto]))", "{{stack}}"),
                stacked=True,
                bars=True,
                height=6,
                datasource=LOKI,
            )
        )
        .with_panel(
            graph(
                "Lines that look like errors, by service",
                log_query(
                    f"sum by (stack, service) (count_over_time({MATCHING} |~ `{WRONG}` [$__auto]))",
                    "{{stack}} / {{service}}",
                ),
                stacked=True,
                bars=True,
                height=6,
                datasource=LOKI,
            )
        )
        .with_panel(
            log_lines(
                "Log lines",
                log_query(MATCHING),
                description="Search is a regular expression, upper and lower case alike.",
            )
        )
    )
