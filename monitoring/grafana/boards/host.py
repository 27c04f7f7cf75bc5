"""Host: one host, from dockmesh and from its own exporters."""

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
    row,
    rows,
    with_annotations,
    with_variables,
)

ON_HOST = f'{SELECT}, host=~"$host"'
CONTAINERS_LINK = (
    "/d/dockmesh-containers?var-datasource=${datasource}&var-job=${job}&var-region=${region}"
    "&var-host=${host}&var-stack=${__value.raw}&from=${__from}&to=${__to}"
)
NODE = 'job="node", region=~"$region", host=~"$host"'
CADVISOR = 'job="cadvisor", region=~"$region", host=~"$host", name!=""'


def dashboard() -> sdk.Dashboard:
    """The dashboard, as described at the top of this file."""
    rtt = f"sum by (le) (max without (instance) (rate(dockmesh_agent_rtt_seconds_bucket{{{ON_HOST}}}[$__rate_interval])))"
    builder = board(
        "dockmesh-host", "dockmesh / Host", "One host: its stacks, containers, agent and machine."
    )
    builder = with_annotations(with_variables(builder, host_variable(single=True)))
    builder = builder.link(
        sdk.DashboardLink("Logs of this host")
        .url("/d/dockmesh-logs?var-host=${host}&var-region=${region}")
        .keep_time(True)
        .icon("doc")
    ).link(
        sdk.DashboardLink("Containers of this host")
        .url("/d/dockmesh-containers?var-host=${host}&var-region=${region}")
        .keep_time(True)
        .icon("dashboard")
    )
    return _exporters(_machine(_from_dockmesh(builder, rtt)))


def _newest(family: str, *by: str) -> str:
    return f"max by ({', '.join(('region', 'host', *by))}) ({family}{{{ON_HOST}}})"


def _machine(builder: sdk.Dashboard) -> sdk.Dashboard:
    """What the machine and Docker use, by what the agent tells."""
    return (
        builder.with_row(row("Machine"))
        .with_panel(
            graph(
                "Processors that are busy",
                query(
                    "max by (region, host)"
                    f" (rate(dockmesh_host_cpu_usage_seconds_total{{{ON_HOST}}}[$__rate_interval]))",
                    "busy",
                ),
                query(_newest("dockmesh_host_cpus"), "there are"),
                width=8,
            )
        )
        .with_panel(graph("Load", query(_newest("dockmesh_host_load1"), "one minute"), width=8))
        .with_panel(
            graph(
                "Memory of the machine",
                query(
                    f"{_newest('dockmesh_host_memory_bytes')} - {_newest('dockmesh_host_memory_available_bytes')}",
                    "used",
                ),
                query(_newest("dockmesh_host_memory_available_bytes"), "available"),
                unit="bytes",
                stacked=True,
                width=8,
            )
        )
        .with_panel(
            graph(
                "Docker's file system",
                query(
                    f"1 - {_newest('dockmesh_host_docker_root_free_bytes')} / {_newest('dockmesh_host_docker_root_bytes')}",
                    "used",
                ),
                unit="percentunit",
                limit=0.9,
                width=8,
            )
        )
        .with_panel(
            graph(
                "What Docker keeps on disk",
                query(_newest("dockmesh_host_docker_disk_bytes", "kind"), "{{kind}}"),
                query(_newest("dockmesh_host_docker_reclaimable_bytes", "kind"), "{{kind}}, unused"),
                unit="bytes",
                width=8,
            )
        )
        .with_panel(
            graph(
                "Largest volumes",
                query(f"topk(10, {_newest('dockmesh_volume_size_bytes', 'volume')})", "{{volume}}"),
                unit="bytes",
                description="Where the agent is told to measure them.",
                width=8,
            )
        )
    )


def _from_dockmesh(builder: sdk.Dashboard, rtt: str) -> sdk.Dashboard:
    """The host, its stacks and its agent."""
    return (
        builder.with_panel(
            number(
                "Last heard",
                instant(f"min without (instance) (dockmesh_agent_last_seen_seconds{{{ON_HOST}}})"),
                unit="s",
                limits=((None, GREEN), (60, ORANGE), (120, RED)),
            )
        )
        .with_panel(
            number(
                "Running containers",
                instant(f'max without (instance) (dockmesh_containers_total{{{ON_HOST}, state="running"}})'),
            )
        )
        .with_panel(
            number(
                "Stacks in error",
                instant(f'max without (instance) (dockmesh_stacks_total{{{ON_HOST}, state="error"}})'),
                limits=((None, GREEN), (1, RED)),
            )
        )
        .with_panel(
            number(
                "Round trip (p95)",
                instant(f"host:dockmesh_agent_rtt_seconds:p95_10m{{{ON_HOST}}}"),
                unit="s",
                limits=((None, GREEN), (0.5, ORANGE), (1, RED)),
            )
        )
        .with_panel(
            number(
                "Clock skew",
                instant(f"max without (instance) (dockmesh_host_clock_skew_seconds{{{ON_HOST}}})"),
                unit="s",
                limits=((None, RED), (-5, GREEN), (5, RED)),
            )
        )
        .with_panel(
            listing(
                "Versions",
                rows(f"max by (agent_version, docker_version, kernel) (dockmesh_host_info{{{ON_HOST}}})"),
                columns={"agent_version": "Agent", "docker_version": "Docker", "kernel": "Kernel"},
                width=4,
                height=4,
            )
        )
        .with_panel(
            graph(
                "Containers by state",
                query(
                    f"sum by (state) (max without (instance) (dockmesh_containers_total{{{ON_HOST}}}))",
                    "{{state}}",
                ),
                stacked=True,
                states=("running", "paused", "restarting", "exited", "dead", "unknown"),
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
            listing(
                "Stacks of this host",
                rows(f"max by (stack, state) (dockmesh_stack_state{{{ON_HOST}}})"),
                rows(f"count by (stack) (max without (instance) (dockmesh_container_state{{{ON_HOST}}}))"),
                rows(
                    "round(sum by (stack) (max without (instance) (increase("
                    f'dockmesh_container_exits_total{{{ON_HOST}, result="error"}}[$__range]))))'
                ),
                columns={
                    "stack": "Stack",
                    "state": "State",
                    "Value #B": "Containers",
                    "Value #C": "Ends with an error",
                },
                limits={"Ends with an error": ((None, GREEN), (0.5, ORANGE))},
                links={"Stack": ("Its containers", CONTAINERS_LINK)},
                by="Stack",
                description="A click on a stack opens its containers.",
            )
        )
        .with_row(row("Agent"))
        .with_panel(
            graph(
                "Round trip of heartbeats",
                query(f"histogram_quantile(0.5, {rtt})", "p50"),
                query(f"histogram_quantile(0.95, {rtt})", "p95"),
                query(f"histogram_quantile(0.99, {rtt})", "p99"),
                unit="s",
            )
        )
        .with_panel(
            density(
                "Round trips by length",
                query(
                    "sum by (le) (max without (instance) "
                    f"(increase(dockmesh_agent_rtt_seconds_bucket{{{ON_HOST}}}[$__rate_interval])))"
                ),
            )
        )
    )


def _exporters(builder: sdk.Dashboard) -> sdk.Dashboard:
    """From node-exporter and cAdvisor, for who has them."""
    return (
        builder.with_row(row("Machine (node-exporter)"))
        .with_panel(
            graph(
                "Processor",
                query(
                    "1 - avg by (host) "
                    f'(rate(node_cpu_seconds_total{{{NODE}, mode="idle"}}[$__rate_interval]))',
                    "busy",
                ),
                unit="percentunit",
                width=6,
            )
        )
        .with_panel(
            graph(
                "Memory",
                query(
                    f"1 - node_memory_MemAvailable_bytes{{{NODE}}} / node_memory_MemTotal_bytes{{{NODE}}}",
                    "used",
                ),
                unit="percentunit",
                width=6,
            )
        )
        .with_panel(
            graph(
                "File systems",
                query(
                    f'1 - node_filesystem_avail_bytes{{{NODE}, fstype!~"tmpfs|overlay|squashfs|ramfs"}} '
                    f'/ node_filesystem_size_bytes{{{NODE}, fstype!~"tmpfs|overlay|squashfs|ramfs"}}',
                    "{{mountpoint}}",
                ),
                unit="percentunit",
                width=6,
            )
        )
        .with_panel(
            graph(
                "Network",
                query(
                    "sum by (host) (rate(node_network_receive_bytes_total"
                    f'{{{NODE}, device!~"lo|veth.*|br-.*|docker.*"}}[$__rate_interval]))',
                    "in",
                ),
                query(
                    "sum by (host) (rate(node_network_transmit_bytes_total"
                    f'{{{NODE}, device!~"lo|veth.*|br-.*|docker.*"}}[$__rate_interval]))',
                    "out",
                ),
                unit="Bps",
                width=6,
            )
        )
        .with_row(row("Containers (cAdvisor)"))
        .with_panel(
            graph(
                "Processor by container",
                query(
                    "topk(10, sum by (name) "
                    f"(rate(container_cpu_usage_seconds_total{{{CADVISOR}}}[$__rate_interval])))",
                    "{{name}}",
                ),
                unit="short",
                description="Processor seconds a second: 1 is one core.",
            )
        )
        .with_panel(
            graph(
                "Memory by container",
                query(
                    f"topk(10, sum by (name) (container_memory_working_set_bytes{{{CADVISOR}}}))", "{{name}}"
                ),
                unit="bytes",
            )
        )
    )
