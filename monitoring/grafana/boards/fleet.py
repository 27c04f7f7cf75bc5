"""Fleet: is everything there and well?"""

from grafana_foundation_sdk.builders import dashboard as sdk

from monitoring.grafana.kit import (
    GREEN,
    ORANGE,
    RED,
    SELECT,
    STATE_COLOURS,
    board,
    graph,
    host_variable,
    instant,
    listing,
    number,
    query,
    row,
    rows,
    with_annotations,
    with_variables,
)

HOST_LINK = (
    "Open the host",
    "/d/dockmesh-host?var-datasource=${datasource}&var-job=${job}&var-region=${region}"
    "&var-host=${__value.raw}&${__url_time_range}",
)

HOSTS = f"max without (instance) (dockmesh_hosts_total{{{SELECT}}})"
ON_HOST = f'{SELECT}, host=~"$host"'


def dashboard() -> sdk.Dashboard:
    """The dashboard, as described at the top of this file."""
    stacks = f"max without (instance) (dockmesh_stacks_total{{{ON_HOST}}})"
    containers = f"max without (instance) (dockmesh_containers_total{{{ON_HOST}}})"
    seen = f"min without (instance) (dockmesh_agent_last_seen_seconds{{{ON_HOST}}})"
    builder = board("dockmesh-fleet", "dockmesh / Fleet", "All hosts, stacks and containers at a glance.")
    builder = with_annotations(with_variables(builder, host_variable()))
    return (
        builder.with_panel(
            number(
                "Hosts",
                instant(f"sum by (status) ({HOSTS})", "{{status}}"),
                width=8,
                states=("online", "degraded", "offline"),
                names=True,
            )
        )
        .with_panel(
            number(
                "Stacks in error",
                instant(f'sum(max without (instance) (dockmesh_stacks_total{{{ON_HOST}, state="error"}}))'),
                limits=((None, GREEN), (1, RED)),
            )
        )
        .with_panel(
            number(
                "Running containers",
                instant(
                    f'sum(max without (instance) (dockmesh_containers_total{{{ON_HOST}, state="running"}}))'
                ),
            )
        )
        .with_panel(
            number(
                "Containers restarting or dead",
                instant(
                    "sum(max without (instance) "
                    f'(dockmesh_containers_total{{{ON_HOST}, state=~"restarting|dead"}}))'
                ),
                limits=((None, GREEN), (1, ORANGE)),
            )
        )
        .with_panel(
            number(
                "dockmesh alerts firing",
                instant('count(ALERTS{alertname=~"Dockmesh.+", alertstate="firing"}) or vector(0)'),
                description="Alerts of Prometheus's own rules, not those of dockmesh's pages.",
                limits=((None, GREEN), (1, RED)),
            )
        )
        .with_panel(
            graph(
                "Hosts by status",
                query(f"sum by (status) ({HOSTS})", "{{status}}"),
                width=8,
                stacked=True,
                states=("online", "degraded", "offline"),
            )
        )
        .with_panel(
            graph(
                "Stacks by state",
                query(f"sum by (state) ({stacks})", "{{state}}"),
                width=8,
                stacked=True,
                states=("running", "partial", "stopped", "error", "deploying", "unknown"),
            )
        )
        .with_panel(
            graph(
                "Containers by state",
                query(f"sum by (state) ({containers})", "{{state}}"),
                width=8,
                stacked=True,
                states=tuple(
                    state
                    for state in STATE_COLOURS
                    if state in {"running", "paused", "restarting", "removing", "exited", "dead", "unknown"}
                ),
            )
        )
        .with_panel(
            listing(
                "All hosts",
                rows(f"min by (region, host) ({seen})"),
                rows(f'max by (region, host) (dockmesh_containers_total{{{ON_HOST}, state="running"}})'),
                rows(f'max by (region, host) (dockmesh_stacks_total{{{ON_HOST}, state="error"}})'),
                rows(f"max by (region, host) (host:dockmesh_agent_rtt_seconds:p95_10m{{{ON_HOST}}})"),
                columns={
                    "region": "Region",
                    "host": "Host",
                    "Value #A": "Last heard",
                    "Value #B": "Running containers",
                    "Value #C": "Stacks in error",
                    "Value #D": "Round trip (p95)",
                },
                units={"Last heard": "s", "Round trip (p95)": "s"},
                limits={
                    "Last heard": ((None, GREEN), (60, ORANGE), (120, RED)),
                    "Stacks in error": ((None, GREEN), (1, RED)),
                },
                links={"Host": HOST_LINK},
                by="Last heard",
                descending=True,
                description="A click on a host opens its own dashboard.",
            )
        )
        .with_row(row("Agents"))
        .with_panel(
            graph(
                "Time since the last heartbeat",
                query(seen, "{{host}}"),
                unit="s",
                limit=120,
                description="DockmeshAgentStale fires above the line.",
            )
        )
        .with_panel(
            graph(
                "Round trip of heartbeats (p95)",
                query(f"host:dockmesh_agent_rtt_seconds:p95_10m{{{ON_HOST}}}", "{{host}}"),
                unit="s",
                limit=1,
            )
        )
        .with_panel(
            graph(
                "Clock skew",
                query(f"max without (instance) (dockmesh_host_clock_skew_seconds{{{ON_HOST}}})", "{{host}}"),
                unit="s",
                least=None,
                description="How far the host's clock is ahead of the server's.",
            )
        )
        .with_panel(
            listing(
                "What the hosts are",
                rows(
                    "max by (host, agent_version, docker_version, os, arch, kernel) "
                    f"(dockmesh_host_info{{{ON_HOST}}})"
                ),
                columns={
                    "host": "Host",
                    "agent_version": "Agent",
                    "docker_version": "Docker",
                    "os": "System",
                    "arch": "Architecture",
                    "kernel": "Kernel",
                },
                links={"Host": HOST_LINK},
                width=12,
                height=8,
            )
        )
    )
