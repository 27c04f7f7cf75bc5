"""SLO: how much of the month's error budget is left (objective: 99.9 % of API requests without 5xx)."""

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
    rows,
    with_annotations,
    with_variables,
)

BUDGET = 0.001
API = f"dockmesh_api_requests_total{{{SELECT}}}"
FAILED = f'dockmesh_api_requests_total{{{SELECT}, status=~"5.."}}'


def _share_failed(span: str) -> str:
    failed = f"(sum(max without (instance) (increase({FAILED}[{span}]))) or vector(0))"
    return f"{failed} / sum(max without (instance) (increase({API}[{span}])))"


def dashboard() -> sdk.Dashboard:
    """The dashboard, as described at the top of this file."""
    builder = board(
        "dockmesh-slo",
        "dockmesh / SLO",
        "Availability of the API against 99.9 %, and what is left of the budget.",
    )
    builder = with_annotations(with_variables(builder))
    return (
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
