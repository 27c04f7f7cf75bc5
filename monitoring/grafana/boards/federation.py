"""Federation: several regions in one Prometheus, told apart by the label `region`."""

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


def dashboard() -> sdk.Dashboard:
    """The dashboard, as described at the top of this file."""
    hosts = f"max without (instance) (dockmesh_hosts_total{{{SELECT}}})"
    containers = f"max without (instance) (dockmesh_containers_total{{{SELECT}}})"
    stacks = f"max without (instance) (dockmesh_stacks_total{{{SELECT}}})"
    builder = board(
        "dockmesh-federation",
        "dockmesh / Federation",
        "One line for each region. Meant for the central Prometheus; in a single one the region is empty.",
    )
    builder = with_annotations(with_variables(builder))
    return (
        builder.with_panel(
            number(
                "Regions", instant(f"count(count by (region) (dockmesh_hosts_total{{{SELECT}}}))"), width=6
            )
        )
        .with_panel(number("All hosts", instant(f"sum({hosts})"), width=6))
        .with_panel(
            number(
                "Hosts not online",
                instant(f'sum(max without (instance) (dockmesh_hosts_total{{{SELECT}, status!="online"}}))'),
                width=6,
                limits=((None, GREEN), (1, RED)),
            )
        )
        .with_panel(
            number(
                "Oldest region's data",
                instant(f"max(time() - max by (region) (timestamp(dockmesh_hosts_total{{{SELECT}}})))"),
                unit="s",
                width=6,
                limits=((None, GREEN), (90, ORANGE), (180, RED)),
                description="Age of the newest sample of the region that lags most.",
            )
        )
        .with_panel(
            listing(
                "Each region",
                rows(
                    f'sum by (region) (max without (instance) (dockmesh_hosts_total{{{SELECT}, status="online"}}))'
                ),
                rows(
                    f'sum by (region) (max without (instance) (dockmesh_hosts_total{{{SELECT}, status="offline"}}))'
                ),
                rows(
                    f'sum by (region) (max without (instance) (dockmesh_stacks_total{{{SELECT}, state="error"}}))'
                ),
                rows(
                    "sum by (region) (max without (instance) "
                    f'(dockmesh_containers_total{{{SELECT}, state="running"}}))'
                ),
                rows(f"time() - max by (region) (timestamp(dockmesh_hosts_total{{{SELECT}}}))"),
                columns={
                    "region": "Region",
                    "Value #A": "Online",
                    "Value #B": "Offline",
                    "Value #C": "Stacks in error",
                    "Value #D": "Running containers",
                    "Value #E": "Age of data",
                },
                units={"Age of data": "s"},
                limits={
                    "Offline": ((None, GREEN), (1, RED)),
                    "Stacks in error": ((None, GREEN), (1, RED)),
                    "Age of data": ((None, GREEN), (90, ORANGE), (180, RED)),
                },
                links={
                    "Region": (
                        "Open the region's fleet",
                        "/d/dockmesh-fleet?var-datasource=${datasource}&var-job=${job}"
                        "&var-region=${__value.raw}&${__url_time_range}",
                    )
                },
            )
        )
        .with_panel(graph("Hosts", query(f"sum by (region) ({hosts})", "{{region}}"), stacked=True, width=8))
        .with_panel(
            graph("Stacks", query(f"sum by (region) ({stacks})", "{{region}}"), stacked=True, width=8)
        )
        .with_panel(
            graph("Containers", query(f"sum by (region) ({containers})", "{{region}}"), stacked=True, width=8)
        )
        .with_panel(
            graph(
                "dockmesh up",
                query(f"max without (instance) (up{{{SELECT}}})", "{{region}} {{job}}"),
            )
        )
        .with_panel(
            graph(
                "Share of API requests that fail",
                query(f"job:dockmesh_api_error_ratio:rate5m{{{SELECT}}}", "{{region}} {{job}}"),
                unit="percentunit",
                description="The recording rules must be loaded here or federated "
                '(match[]={__name__=~"job:dockmesh.+"}).',
            )
        )
    )
