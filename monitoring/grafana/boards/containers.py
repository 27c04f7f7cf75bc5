"""Containers: each one by its name, with its state, health and how it ended; and the hosts and stacks it is part of."""

from grafana_foundation_sdk.builders import dashboard as sdk
from grafana_foundation_sdk.builders import prometheus, stat

from monitoring.grafana.kit import (
    GREEN,
    ORANGE,
    RED,
    SELECT,
    board,
    graph,
    host_variable,
    instant,
    listing,
    number,
    query,
    row,
    rows,
    stack_variable,
    with_annotations,
    with_variables,
)

ON_HOST = f'{SELECT}, host=~"$host"'
OF_STACK = f'{ON_HOST}, stack=~"$stack"'
KEY = "region, host, stack, service, container"
HOST_LINK = (
    "/d/dockmesh-host?var-datasource=${datasource}&var-job=${job}&var-region=${region}"
    "&var-host=${__value.raw}&from=${__from}&to=${__to}"
)


def _each(family: str, *more: str) -> str:
    return f"max by ({', '.join((KEY, *more))}) ({family}{{{OF_STACK}}})"


def _increase(family: str, by: str) -> str:
    return f"sum by ({by}) (max without (instance) (increase({family}{{{OF_STACK}}}[$__rate_interval])))"


def _count(title: str, family: str, select: str, colour: str) -> stat.Panel:
    return number(
        title,
        instant(f"count(max without (instance) ({family}{{{OF_STACK}, {select}}})) or vector(0)"),
        limits=((None, GREEN), (1, colour)),
        width=4,
    )


def _top(*series: tuple[str, str]) -> list[prometheus.Dataquery]:
    """Of each (expression, what it is) the ten containers with the most."""
    return [
        query(f"topk(10, {expr})", " ".join(["{{host}} {{container}}", what]).strip())
        for expr, what in series
    ]


def _rate(family: str) -> str:
    """A second, over all that is told apart beside the container."""
    return f"sum by ({KEY}) (max without (instance) (rate({family}{{{OF_STACK}}}[$__rate_interval])))"


def _usage(builder: sdk.Dashboard) -> sdk.Dashboard:
    """What containers use: processor, memory, network, disk."""
    memory, limit = (_each(f"dockmesh_container_memory_{what}_bytes") for what in ("working_set", "limit"))
    errors = " + ".join(
        _rate(f"dockmesh_container_network_{way}_errors_total") for way in ("receive", "transmit")
    )
    return (
        builder.with_row(row("What they use"))
        .with_panel(
            graph(
                "Processor by container",
                *_top((_rate("dockmesh_container_cpu_usage_seconds_total"), "")),
                description="Processor seconds a second: 1 is one core.",
            )
        )
        .with_panel(
            graph(
                "Processor, user and system",
                query(
                    "sum by (mode) (max without (instance) (rate("
                    f"dockmesh_container_cpu_usage_seconds_total{{{OF_STACK}}}[$__rate_interval])))",
                    "{{mode}}",
                ),
                stacked=True,
                width=6,
            )
        )
        .with_panel(
            graph(
                "Kept from processors by their limit",
                *_top((_rate("dockmesh_container_cpu_throttled_seconds_total"), "")),
                unit="percentunit",
                width=6,
            )
        )
        .with_panel(graph("Memory by container", *_top((memory, "")), unit="bytes"))
        .with_panel(
            graph(
                "Memory against its limit",
                *_top((f"{memory} / {limit}", "")),
                unit="percentunit",
                limit=0.9,
                width=6,
            )
        )
        .with_panel(
            graph(
                "Processes and threads by container",
                *_top((_each("dockmesh_container_pids"), "")),
                width=6,
            )
        )
        .with_panel(
            graph(
                "Network by container",
                *_top(
                    (_rate("dockmesh_container_network_receive_bytes_total"), "in"),
                    (_rate("dockmesh_container_network_transmit_bytes_total"), "out"),
                ),
                unit="Bps",
            )
        )
        .with_panel(graph("Network errors by container", *_top((errors, "")), unit="cps"))
        .with_panel(
            graph(
                "Disk by container",
                *_top(
                    (_rate("dockmesh_container_block_read_bytes_total"), "read"),
                    (_rate("dockmesh_container_block_written_bytes_total"), "written"),
                ),
                unit="Bps",
                width=24,
            )
        )
    )


def dashboard() -> sdk.Dashboard:
    """The dashboard, as described at the top of this file."""
    running = f'max by ({KEY}) (dockmesh_container_state{{{OF_STACK}, state="running"}})'
    builder = board(
        "dockmesh-containers", "dockmesh / Containers", "Each container, stack and host by its name."
    )
    builder = with_annotations(with_variables(builder, host_variable(), stack_variable()))
    builder = _states(builder, running)
    return _named(_usage(builder))


def _states(builder: sdk.Dashboard, running: str) -> sdk.Dashboard:
    """How containers are."""
    return (
        builder.with_panel(
            number("Running", instant(f"count({running}) or vector(0)"), width=4),
        )
        .with_panel(_count("Restarting", "dockmesh_container_state", 'state="restarting"', ORANGE))
        .with_panel(_count("Unhealthy", "dockmesh_container_health", 'health="unhealthy"', RED))
        .with_panel(
            number(
                "Ended with an error",
                instant(
                    f"count(max without (instance) (dockmesh_container_last_exit_code{{{OF_STACK}}}) > 0) or vector(0)"
                ),
                limits=((None, GREEN), (1, ORANGE)),
                description="Containers that do not run and whose last exit code was not 0.",
                width=4,
            )
        )
        .with_panel(_count("Stacks in error", "dockmesh_stack_state", 'state="error"', RED))
        .with_panel(
            number(
                "Hosts that are offline",
                instant(f"count(max without (instance) (dockmesh_host_up{{{ON_HOST}}}) == 0) or vector(0)"),
                limits=((None, GREEN), (1, RED)),
                width=4,
            )
        )
        .with_panel(
            listing(
                "Containers",
                rows(_each("dockmesh_container_state", "state")),
                rows(_each("dockmesh_container_health", "health")),
                rows(f"(time() - {_each('dockmesh_container_start_time_seconds')}) and {running}"),
                rows(_each("dockmesh_container_last_exit_code")),
                rows(f"max by ({KEY}) (increase(dockmesh_container_restarts_total{{{OF_STACK}}}[$__range]))"),
                rows(_each("container:dockmesh_container_info:group", "image")),
                rows(_each("dockmesh_container_oneoff")),
                columns={
                    "region": "Region",
                    "host": "Host",
                    "stack": "Stack",
                    "container": "Container",
                    "state": "State",
                    "health": "Health",
                    "Value #C": "Up for",
                    "Value #E": "Restarts",
                    "Value #D": "Last exit code",
                    "image": "Image",
                    "Value #G": "Run once",
                },
                units={"Up for": "s"},
                links={"Host": ("Host", HOST_LINK)},
                limits={"Last exit code": ((None, GREEN), (1, ORANGE))},
                by="Container",
                height=14,
            )
        )
        .with_panel(
            listing(
                "Newer images",
                rows(f"max by (region, host, image) (dockmesh_image_update_available{{{ON_HOST}}}) > 0"),
                rows(
                    "time() - max by (region, host, image)"
                    f" (dockmesh_image_last_check_timestamp_seconds{{{ON_HOST}}})"
                    f" and max by (region, host, image) (dockmesh_image_update_available{{{ON_HOST}}}) > 0"
                ),
                columns={
                    "region": "Region",
                    "host": "Host",
                    "image": "Image",
                    "Value #A": "Newer",
                    "Value #B": "Asked",
                },
                units={"Asked": "s"},
                links={"Host": ("Host", HOST_LINK)},
                by="Host",
                height=8,
            )
        )
        .with_panel(
            graph(
                "Containers by state",
                query(
                    f"count by (state) (max without (instance) (dockmesh_container_state{{{OF_STACK}}}))",
                    "{{state}}",
                ),
                stacked=True,
                states=("running", "paused", "restarting", "exited", "dead", "unknown"),
            )
        )
        .with_panel(
            graph(
                "Containers by health",
                query(
                    f"count by (health) (max without (instance) (dockmesh_container_health{{{OF_STACK}}}))",
                    "{{health}}",
                ),
                stacked=True,
                states=("healthy", "starting", "unhealthy"),
            )
        )
        .with_panel(
            graph(
                "Restarts by container",
                query(
                    f"topk(10, {_increase('dockmesh_container_restarts_total', KEY)} > 0)",
                    "{{host}} {{container}}",
                ),
                bars=True,
                stacked=True,
                width=8,
            )
        )
        .with_panel(
            graph(
                "Exits by result",
                query(_increase("dockmesh_container_exits_total", "result"), "{{result}}"),
                bars=True,
                stacked=True,
                states=("success", "error"),
                width=8,
            )
        )
        .with_panel(
            graph(
                "Kills for memory by container",
                query(
                    f"topk(10, {_increase('dockmesh_container_oom_kills_total', KEY)} > 0)",
                    "{{host}} {{container}}",
                ),
                bars=True,
                stacked=True,
                width=8,
            )
        )
    )


def _named(builder: sdk.Dashboard) -> sdk.Dashboard:
    """The stacks and hosts that they are part of."""
    return (
        builder.with_row(row("Stacks and hosts"))
        .with_panel(
            listing(
                "Stacks",
                rows(f"max by (region, host, stack, state) (dockmesh_stack_state{{{OF_STACK}}})"),
                rows(f"max by (region, host, stack, managed) (dockmesh_stack_info{{{OF_STACK}}})"),
                columns={
                    "region": "Region",
                    "host": "Host",
                    "stack": "Stack",
                    "state": "State",
                    "managed": "Managed here",
                },
                links={"Host": ("Host", HOST_LINK)},
                by="State",
                width=12,
            )
        )
        .with_panel(
            listing(
                "Hosts",
                rows(f"max by (region, host, status) (dockmesh_host_status{{{ON_HOST}}})"),
                rows(f"max by (region, host) (dockmesh_host_cpus{{{ON_HOST}}})"),
                rows(f"max by (region, host) (dockmesh_host_memory_bytes{{{ON_HOST}}})"),
                rows(
                    f"count by (region, host) (max without (instance) (dockmesh_container_state{{{OF_STACK}}}))"
                ),
                columns={
                    "region": "Region",
                    "host": "Host",
                    "status": "Status",
                    "Value #B": "Processors",
                    "Value #C": "Memory",
                    "Value #D": "Containers",
                },
                units={"Memory": "bytes"},
                links={"Host": ("Host", HOST_LINK)},
                by="Host",
                width=12,
            )
        )
        .with_panel(
            listing(
                "Labels of hosts",
                rows(f"max without (instance) (dockmesh_host_labels{{{ON_HOST}}})"),
                columns={
                    "region": "Region",
                    "host": "Host",
                    "label_site": "Site",
                    "label_env": "Environment",
                },
                description="Shows the labels `site` and `env`, where hosts have them; add your own.",
                by="Host",
                width=12,
            )
        )
    )
