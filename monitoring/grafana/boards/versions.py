"""Versions: of the server, the agents and the Docker Engines, and who is behind."""

from grafana_foundation_sdk.builders import dashboard as sdk

from monitoring.grafana.kit import (
    BLUE,
    GREEN,
    ORANGE,
    SELECT,
    board,
    graph,
    host_variable,
    instant,
    listing,
    number,
    query,
    ranking,
    rows,
    with_annotations,
    with_variables,
)

INFO = f'dockmesh_host_info{{{SELECT}, host=~"$host"}}'
BUILD = f"dockmesh_build_info{{{SELECT}}}"
HOST_LINK = (
    "Open the host",
    "/d/dockmesh-host?var-datasource=${datasource}&var-job=${job}&var-region=${region}"
    "&var-host=${__value.raw}&from=${__from}&to=${__to}",
)


def _hosts(label: str) -> str:
    return f"count by ({label}) (max without (instance) ({INFO}))"


def dashboard() -> sdk.Dashboard:
    """The dashboard, as described at the top of this file."""
    others = f'host:dockmesh_agent_version_skew:group{{{SELECT}, host=~"$host"}}'
    builder = board(
        "dockmesh-versions", "dockmesh / Versions", "Server, agents, Docker Engines: which versions, where."
    )
    builder = with_annotations(with_variables(builder, host_variable()))
    return (
        builder.with_panel(
            number(
                "Agents of another version than the server",
                instant(f"count({others}) or vector(0)"),
                width=6,
                limits=((None, GREEN), (1, ORANGE)),
                description="DockmeshAgentVersionSkew fires after a day.",
            )
        )
        .with_panel(
            number("Versions of agents", instant(f"count({_hosts('agent_version')}) or vector(0)"), width=6)
        )
        .with_panel(
            number("Versions of Engines", instant(f"count({_hosts('docker_version')}) or vector(0)"), width=6)
        )
        .with_panel(
            listing(
                "Server",
                rows(f"max by (region, instance, version) ({BUILD})"),
                columns={"region": "Region", "instance": "Replica", "version": "Version"},
                width=6,
                height=4,
            )
        )
        .with_panel(
            ranking("Hosts by agent version", instant(_hosts("agent_version"), "{{agent_version}}"), width=8)
        )
        .with_panel(
            ranking(
                "Hosts by Engine version", instant(_hosts("docker_version"), "{{docker_version}}"), width=8
            )
        )
        .with_panel(ranking("Hosts by kernel", instant(_hosts("kernel"), "{{kernel}}"), width=8))
        .with_panel(
            graph(
                "Hosts by agent version over time",
                query(_hosts("agent_version"), "{{agent_version}}"),
                stacked=True,
                description="An upgrade of the fleet is one colour that takes the place of another.",
            )
        )
        .with_panel(
            graph(
                "Hosts by Engine version over time",
                query(_hosts("docker_version"), "{{docker_version}}"),
                stacked=True,
            )
        )
        .with_panel(
            listing(
                "Versions by host",
                rows(f"max by (region, host, agent_version, docker_version, os, arch, kernel) ({INFO})"),
                rows(f"max by (region, host) ({others})"),
                columns={
                    "region": "Region",
                    "host": "Host",
                    "agent_version": "Agent",
                    "Value #B": "Other than the server",
                    "docker_version": "Engine",
                    "os": "System",
                    "arch": "Architecture",
                    "kernel": "Kernel",
                },
                limits={"Other than the server": ((None, BLUE), (1, ORANGE))},
                links={"Host": HOST_LINK},
                by="Agent",
                height=12,
            )
        )
    )
