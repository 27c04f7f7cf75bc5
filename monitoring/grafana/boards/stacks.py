"""Stacks and deploys: what runs, and how deploys go."""

from grafana_foundation_sdk.builders import dashboard as sdk

from monitoring.grafana.kit import (
    GREEN,
    ORANGE,
    RED,
    SELECT,
    board,
    density,
    graph,
    host_variable,
    instant,
    listing,
    number,
    query,
    ranking,
    row,
    rows,
    stack_variable,
    with_annotations,
    with_variables,
)

OF_STACK = f'{SELECT}, stack=~"$stack"'
ON_HOST = f'{SELECT}, host=~"$host"'
CONTAINERS_LINK = (
    "/d/dockmesh-containers?var-datasource=${datasource}&var-job=${job}&var-region=${region}"
    "&var-host=${__data.fields.Host}&var-stack=${__data.fields.Stack}&from=${__from}&to=${__to}"
)
COUNT = "dockmesh_deploy_duration_seconds_count"


def _deploys(result: str, span: str = "$__range") -> str:
    select = f'{OF_STACK}, result="{result}"' if result else OF_STACK
    return f"sum(max without (instance) (increase({COUNT}{{{select}}}[{span}])))"


def dashboard() -> sdk.Dashboard:
    """The dashboard, as described at the top of this file."""
    bucket = f"dockmesh_deploy_duration_seconds_bucket{{{OF_STACK}}}"
    total = f"dockmesh_deploy_duration_seconds_sum{{{OF_STACK}}}"
    count = f"{COUNT}{{{OF_STACK}}}"
    builder = board("dockmesh-stacks", "dockmesh / Stacks and deploys", "Stacks by state, and their deploys.")
    builder = with_annotations(with_variables(builder, host_variable(), stack_variable()))
    return (
        builder.with_panel(
            number("Deploys that succeeded", instant(_deploys("success")), decimals=0, width=6)
        )
        .with_panel(
            number(
                "Deploys that failed",
                instant(_deploys("failure")),
                decimals=0,
                width=6,
                limits=((None, GREEN), (0.5, RED)),
            )
        )
        .with_panel(
            number(
                "Share of failed deploys",
                instant(f"{_deploys('failure')} / ({_deploys('')} > 0) or vector(0)"),
                unit="percentunit",
                width=6,
                limits=((None, GREEN), (0.05, ORANGE), (0.2, RED)),
            )
        )
        .with_panel(
            number(
                "Longest usual deploy (p95, 1 h)",
                instant(f"max(stack:dockmesh_deploy_duration_seconds:p95_1h{{{OF_STACK}}} >= 0)"),
                unit="s",
                width=6,
                limits=((None, GREEN), (300, ORANGE), (600, RED)),
                description="DockmeshDeploySlow fires above 600 seconds.",
            )
        )
        .with_panel(
            graph(
                "Stacks by state",
                query(
                    f"sum by (state) (max without (instance) (dockmesh_stacks_total{{{ON_HOST}}}))",
                    "{{state}}",
                ),
                stacked=True,
                states=("running", "partial", "stopped", "error", "deploying", "unknown"),
            )
        )
        .with_panel(
            graph(
                "Deploys by result",
                query(
                    f"sum by (result) (max without (instance) (increase({count}[$__rate_interval])))",
                    "{{result}}",
                ),
                bars=True,
                stacked=True,
                states=("success", "failure"),
            )
        )
        .with_row(row("How long deploys take"))
        .with_panel(
            graph(
                "95th percentile over 5 minutes",
                query(
                    f"histogram_quantile(0.95, max without (instance) (rate({bucket}[5m])))",
                    "{{stack}} {{result}}",
                ).exemplar(True),
                unit="s",
                limit=600,
                description="The expression of the documentation page; empty while nothing is deployed.",
            )
        )
        .with_panel(
            graph(
                "Average by stack",
                query(
                    f"sum by (stack) (max without (instance) (increase({total}[1h]))) "
                    f"/ (sum by (stack) (max without (instance) (increase({count}[1h]))) > 0)",
                    "{{stack}}",
                ),
                unit="s",
                description="Over the last hour, succeeded and failed together.",
            )
        )
        .with_panel(
            density(
                "Deploys by length",
                query(f"sum by (le) (max without (instance) (increase({bucket}[$__rate_interval])))"),
            )
        )
        .with_panel(
            ranking(
                "Deploys by stack",
                instant(
                    f"topk(10, sum by (stack) (max without (instance) (increase({count}[$__range]))))",
                    "{{stack}}",
                ),
                decimals=0,
            )
        )
        .with_panel(
            listing(
                "Stacks that do not run",
                rows(
                    "max by (region, host, stack, state) (dockmesh_stack_state{"
                    f'{OF_STACK}, host=~"$host", state=~"error|partial|stopped"}})'
                ),
                columns={"region": "Region", "host": "Host", "stack": "Stack", "state": "State"},
                by="Stack",
                links={"Stack": ("Its containers", CONTAINERS_LINK)},
            )
        )
        .with_panel(
            graph(
                "Deploys that wait or run",
                query(
                    f"max by (status) (dockmesh_deploys_open{{{SELECT}}})",
                    "{{status}}",
                ),
                stacked=True,
                width=24,
            )
        )
        .with_panel(
            listing(
                "Last deploy of each stack",
                rows(
                    "max by (region, host, stack, result) (dockmesh_stack_last_deploy_timestamp_seconds{"
                    f'{ON_HOST}, stack=~"$stack"}}) * 1000'
                ),
                columns={
                    "region": "Region",
                    "host": "Host",
                    "stack": "Stack",
                    "result": "Result",
                    "Value": "Ended",
                },
                units={"Ended": "dateTimeAsIso"},
                links={"Stack": ("Its containers", CONTAINERS_LINK)},
                by="Ended",
                descending=True,
            )
        )
    )
