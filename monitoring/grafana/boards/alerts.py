"""Alerts and audit: what went wrong, and who did what."""

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
    ranking,
    row,
    rows,
    with_annotations,
    with_variables,
)

FIRED = f"dockmesh_alerts_fired_total{{{SELECT}}}"
ENTRIES = f"dockmesh_audit_log_entries_total{{{SELECT}}}"
EXPIRES = f"max without (instance) (dockmesh_api_token_expires_timestamp_seconds{{{SELECT}}})"


def dashboard() -> sdk.Dashboard:
    """The dashboard, as described at the top of this file."""
    builder = board(
        "dockmesh-alerts",
        "dockmesh / Alerts and audit",
        "Alerts of dockmesh itself and of Prometheus, the audit log, tokens that expire.",
    )
    builder = with_annotations(with_variables(builder))
    return (
        builder.with_panel(
            number(
                "Fired in dockmesh",
                instant(f"sum(max without (instance) (increase({FIRED}[$__range]))) or vector(0)"),
                decimals=0,
                width=6,
                description="Alert rules of dockmesh's own pages, within the time on show.",
                limits=((None, GREEN), (0.5, ORANGE)),
            )
        )
        .with_panel(
            number(
                "Firing in Prometheus",
                instant('count(ALERTS{alertname=~"Dockmesh.+", alertstate="firing"}) or vector(0)'),
                width=6,
                limits=((None, GREEN), (1, RED)),
            )
        )
        .with_panel(
            number(
                "Audit entries",
                instant(f"sum(max without (instance) (increase({ENTRIES}[$__range]))) or vector(0)"),
                decimals=0,
                width=6,
            )
        )
        .with_panel(
            number(
                "Tokens that end within a week",
                instant(f"count({EXPIRES} - time() < 7 * 86400) or vector(0)"),
                width=6,
                limits=((None, GREEN), (1, ORANGE)),
            )
        )
        .with_panel(
            graph(
                "Alerts fired in dockmesh, by severity",
                query(f"sum by (severity) (max without (instance) (rate({FIRED}[5m])))", "{{severity}}"),
                unit="cps",
                states=("critical", "warning", "info"),
                description="The expression of the documentation page.",
            )
        )
        .with_panel(
            ranking(
                "Alerts fired in dockmesh, by rule",
                instant(
                    f"topk(10, sum by (rule, severity) (max without (instance) (increase({FIRED}[$__range]))))",
                    "{{rule}} ({{severity}})",
                ),
                description="Within the time on show.",
                decimals=0,
            )
        )
        .with_panel(
            listing(
                "Alerts of Prometheus now",
                rows(
                    "max by (alertname, alertstate, severity, host, stack, container, backup_job) (label_join("
                    'ALERTS{alertname=~"Dockmesh.+"}, "backup_job", "", "backup_job", "exported_job"))'
                ),
                columns={
                    "alertname": "Alert",
                    "alertstate": "State",
                    "severity": "Severity",
                    "host": "Host",
                    "stack": "Stack",
                    "container": "Container",
                    "backup_job": "Backup job",
                },
                height=8,
            )
        )
        .with_panel(
            listing(
                "Open alerts of dockmesh, by rule",
                rows(f"max by (region, rule, severity, status) (dockmesh_alerts{{{SELECT}}}) > 0"),
                columns={
                    "region": "Region",
                    "rule": "Rule",
                    "severity": "Severity",
                    "status": "Status",
                    "Value": "Alerts",
                },
                by="Alerts",
                descending=True,
            )
        )
        .with_panel(
            graph(
                "Messages to channels",
                query(
                    "sum by (channel, result) (max without (instance) (increase("
                    f"dockmesh_notifications_total{{{SELECT}}}[$__rate_interval]))) > 0",
                    "{{channel}} {{result}}",
                ),
                bars=True,
                stacked=True,
                description="failed: attempts that are tried again; dropped: what no longer held.",
            )
        )
        .with_row(row("Audit"))
        .with_panel(
            graph(
                "Audit entries by action",
                query(
                    f"sum by (action) (max without (instance) (increase({ENTRIES}[$__rate_interval]))) > 0",
                    "{{action}}",
                ),
                bars=True,
                stacked=True,
            )
        )
        .with_panel(
            ranking(
                "Audit entries by action, all time",
                instant(f"topk(15, sum by (action) (max without (instance) ({ENTRIES})))", "{{action}}"),
            )
        )
        .with_panel(
            listing(
                "Tokens by time left",
                rows(f"max by (region, token) ({EXPIRES}) - time()"),
                columns={"region": "Region", "token": "Token", "Value": "Time left"},
                units={"Time left": "s"},
                limits={"Time left": ((None, RED), (86400, ORANGE), (7 * 86400, GREEN))},
                by="Time left",
                height=8,
                description="Tokens without an end are not listed.",
            )
        )
        .with_panel(
            graph(
                "Newest entry's sequence",
                query(f"max(dockmesh_audit_head_sequence{{{SELECT}}})", "sequence"),
                least=None,
                description="It never falls but where the database was restored from an older copy.",
            )
        )
    )
