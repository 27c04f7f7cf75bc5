"""SLO: how much of the month's error budget is left.

The objectives: 99.9 % of API requests without 5xx, 95 % of deploys succeed, 99 % of backups are whole.
"""

from typing import Any

from grafana_foundation_sdk.builders import dashboard as sdk

from monitoring.grafana.kit import (
    GREEN,
    ORANGE,
    RED,
    SELECT,
    board,
    graph,
    instant,
    listing,
    number,
    query,
    row,
    rows,
    with_annotations,
    with_variables,
)

BUDGET = 0.001
DEPLOY_BUDGET = 0.05
BACKUP_BUDGET = 0.01
DEPLOYS = "dockmesh_deploy_duration_seconds_count"
BACKUPS = "dockmesh_backup_runs_total"
API = f"dockmesh_api_requests_total{{{SELECT}}}"
BAD = ', result!="success"'
FAILED = f'dockmesh_api_requests_total{{{SELECT}, status=~"5.."}}'


def _share_failed(span: str) -> str:
    failed = f"(sum(max without (instance) (increase({FAILED}[{span}]))) or vector(0))"
    return f"{failed} / sum(max without (instance) (increase({API}[{span}])))"


def _by_outcome(
    builder: sdk.Dashboard, what: str, family: str, budget: float, label: str, heading: str, note: str
) -> sdk.Dashboard:
    """The panels of things that end with a result: all that is not `success` is paid from the budget."""

    def count(span: str, more: str = "", by: str = "") -> str:
        return f"sum{by} (max without (instance) (increase({family}{{{SELECT}{more}}}[{span}])))"

    def share(span: str, by: str = "") -> str:
        return f"({count(span, BAD, by)} / ({count(span, by=by)} > 0))"

    def good(title: str, span: str) -> Any:
        limits = ((None, RED), (1 - budget, GREEN))
        return number(
            title, instant(f"1 - {share(span)}"), unit="percentunit", decimals=2, width=6, limits=limits
        )

    return (
        builder.with_row(row(f"{what} (objective: {1 - budget:.0%})"))
        .with_panel(good(f"{what} that succeeded, 30 days", "30d"))
        .with_panel(
            number(
                f"Budget left of {what.lower()}, 30 days",
                instant(f"1 - {share('30d')} / {budget}"),
                unit="percentunit",
                width=6,
                limits=((None, RED), (0, ORANGE), (0.5, GREEN)),
                description=f"1 − (share that did not succeed) ÷ {budget}. Below 0 the objective is missed. {note}",
            )
        )
        .with_panel(good(f"{what} that succeeded, time on show", "$__range"))
        .with_panel(
            number(
                f"{what} that may still fail, 30 days",
                instant(f"{budget} * {count('30d')} - {count('30d', BAD)}"),
                decimals=1,
                width=6,
                limits=((None, RED), (0, ORANGE), (1, GREEN)),
                description="Until the objective is missed, at the number of the last 30 days.",
            )
        )
        .with_panel(
            graph(
                f"{what} by outcome",
                query(count("$__rate_interval", by=" by (result)"), "{{result}}"),
                bars=True,
                stacked=True,
                states=("success", "partial", "failure"),
            )
        )
        .with_panel(
            graph(
                f"Burn rate of {what.lower()}",
                query(f"{share('1d')} / {budget}", "1d"),
                query(f"{share('7d')} / {budget}", "7d"),
                description="1 uses up the budget in exactly 30 days.",
                limit=1,
            )
        )
        .with_panel(
            listing(
                f"What spends the budget of {what.lower()}",
                rows(f"{share('$__range', f' by (region, {label})')} > 0"),
                rows(f"round({count('$__range', BAD, f' by (region, {label})')}) > 0"),
                columns={
                    "region": "Region",
                    label: heading,
                    "Value #A": "Share that failed",
                    "Value #B": "Failed",
                },
                units={"Share that failed": "percentunit"},
                by="Failed",
                descending=True,
            )
        )
    )


def dashboard() -> sdk.Dashboard:
    """The dashboard, as described at the top of this file."""
    builder = board(
        "dockmesh-slo",
        "dockmesh / SLO",
        "The API, deploys and backups against their objectives, and what is left of the budgets.",
    )
    builder = with_annotations(with_variables(builder))
    builder = (
        builder.with_panel(
            number(
                "Availability, 30 days",
                instant(f"1 - {_share_failed('30d')}"),
                unit="percentunit",
                decimals=3,
                width=6,
                limits=((None, RED), (1 - BUDGET, GREEN)),
            )
        )
        .with_panel(
            number(
                "Budget left, 30 days",
                instant(f"1 - {_share_failed('30d')} / {BUDGET}"),
                unit="percentunit",
                width=6,
                limits=((None, RED), (0, ORANGE), (0.5, GREEN)),
                description="1 − (share of failed requests) ÷ 0.001. Below 0 the objective is missed.",
            )
        )
        .with_panel(
            number(
                "Availability, time on show",
                instant(f"1 - {_share_failed('$__range')}"),
                unit="percentunit",
                decimals=3,
                width=6,
                limits=((None, RED), (1 - BUDGET, GREEN)),
            )
        )
        .with_panel(
            number(
                "Requests answered within 0.5 s",
                instant(
                    "sum(rate(django_http_requests_latency_including_middlewares_seconds_bucket"
                    f'{{{SELECT}, le="0.5"}}[$__range])) / '
                    "sum(rate(django_http_requests_latency_including_middlewares_seconds_count"
                    f"{{{SELECT}}}[$__range]))"
                ),
                unit="percentunit",
                decimals=2,
                width=6,
                limits=((None, RED), (0.95, ORANGE), (0.99, GREEN)),
            )
        )
        .with_panel(
            graph(
                "Burn rate",
                *(
                    query(
                        f"max without (job) (job:dockmesh_api_error_ratio:rate{span}{{{SELECT}}}) / {BUDGET}",
                        span,
                    )
                    for span in ("5m", "30m", "1h", "6h")
                ),
                limit=14.4,
                description="1 uses up the budget in exactly 30 days. DockmeshApiErrorBudgetBurnFast fires when "
                "5m and 1h are above the line, …Slow when 30m and 6h are above 6.",
                width=24,
            )
        )
        .with_panel(
            graph(
                "API requests",
                query(f"sum(job:dockmesh_api_requests:rate5m{{{SELECT}}})", "requests"),
                unit="reqps",
            )
        )
        .with_panel(
            graph(
                "Failed API requests",
                query(
                    f"sum by (status) (max without (instance) (rate({FAILED}[$__rate_interval]))) or vector(0)",
                    "{{status}}",
                ),
                unit="reqps",
            )
        )
        .with_panel(
            listing(
                "Where requests failed",
                rows(
                    "topk(20, sum by (method, path, status) (max without (instance) "
                    f"(increase({FAILED}[$__range])))) > 0"
                ),
                columns={"method": "Method", "path": "Path", "status": "Status", "Value": "Requests"},
                by="Requests",
                descending=True,
            )
        )
    )
    builder = _by_outcome(builder, "Deploys", DEPLOYS, DEPLOY_BUDGET, "stack", "Stack", "")
    partial = "A partial backup is not whole."
    return _by_outcome(builder, "Backups", BACKUPS, BACKUP_BUDGET, "backup_job", "Job", partial)
