"""Server: dockmesh's own requests, database and processes."""

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
    timeline,
    with_annotations,
    with_variables,
)

LATENCY = (
    "sum by (le) (rate(django_http_requests_latency_including_middlewares_seconds_bucket"
    f"{{{SELECT}}}[$__rate_interval]))"
)
YES_NO = {"1": ("yes", GREEN), "0": ("no", RED)}


def dashboard() -> sdk.Dashboard:
    """The dashboard, as described at the top of this file."""
    api = f"dockmesh_api_requests_total{{{SELECT}}}"
    builder = board(
        "dockmesh-server", "dockmesh / Server", "Requests, database, scrapes and processes of dockmesh."
    )
    builder = with_annotations(with_variables(builder))
    return (
        builder.with_panel(
            number(
                "Replicas up",
                instant(f"sum(up{{{SELECT}}})"),
                limits=((None, RED), (1, GREEN)),
            )
        )
        .with_panel(
            listing(
                "Version",
                rows(f"max by (instance, version) (dockmesh_build_info{{{SELECT}}})"),
                columns={"instance": "Replica", "version": "Version"},
                width=8,
                height=4,
            )
        )
        .with_panel(
            number(
                "/metrics asks for a token",
                instant(f"min(dockmesh_metrics_auth_enabled{{{SELECT}}})"),
                limits=((None, ORANGE), (1, GREEN)),
                description="1: yes; 0: public.",
            )
        )
        .with_panel(
            number(
                "Migrations not applied",
                instant(f"max(django_migrations_unapplied_total{{{SELECT}}})"),
                limits=((None, GREEN), (1, RED)),
            )
        )
        .with_panel(
            number(
                "File descriptors in use",
                instant(f"max(process_open_fds{{{SELECT}}} / process_max_fds{{{SELECT}}})"),
                unit="percentunit",
                limits=((None, GREEN), (0.6, ORANGE), (0.8, RED)),
            )
        )
        .with_row(row("Requests"))
        .with_panel(
            graph(
                "API requests by status",
                query(
                    f"sum by (status) (max without (instance) (rate({api}[$__rate_interval])))", "{{status}}"
                ),
                unit="reqps",
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "API requests by path",
                query(
                    "topk(10, sum by (method, path) (max without (instance) "
                    f"(rate({api}[$__rate_interval]))))",
                    "{{method}} {{path}}",
                ),
                unit="reqps",
            )
        )
        .with_panel(
            graph(
                "How long requests take",
                query(f"histogram_quantile(0.5, {LATENCY})", "p50"),
                query(f"histogram_quantile(0.95, {LATENCY})", "p95"),
                query(f"histogram_quantile(0.99, {LATENCY})", "p99"),
                unit="s",
                description="All requests of these processes, pages and scrapes included.",
            )
        )
        .with_panel(
            ranking(
                "Slowest views on average",
                instant(
                    "topk(10, sum by (view) (rate(django_http_requests_latency_seconds_by_view_method_sum"
                    f"{{{SELECT}}}[$__range])) / (sum by (view) (rate("
                    f"django_http_requests_latency_seconds_by_view_method_count{{{SELECT}}}[$__range])) > 0))",
                    "{{view}}",
                ),
                unit="s",
            )
        )
        .with_row(row("Database and scrapes"))
        .with_panel(
            timeline(
                "Database reachable",
                query(f"dockmesh_db_up{{{SELECT}}}", "{{instance}}"),
                words=YES_NO,
                width=8,
            )
        )
        .with_panel(
            timeline(
                "Collectors that succeed",
                query(f"min by (collector) (dockmesh_collector_success{{{SELECT}}})", "{{collector}}"),
                words=YES_NO,
                width=8,
            )
        )
        .with_panel(
            graph(
                "How long collectors take",
                query(
                    f"max by (collector) (dockmesh_collector_duration_seconds{{{SELECT}}})", "{{collector}}"
                ),
                unit="s",
                width=8,
                description="Most of it is the database's answer.",
            )
        )
        .with_panel(
            graph(
                "How long scrapes take",
                query(f"scrape_duration_seconds{{{SELECT}}}", "{{instance}}"),
                unit="s",
            )
        )
        .with_panel(
            graph(
                "Samples of a scrape",
                query(f"scrape_samples_scraped{{{SELECT}}}", "{{instance}}"),
            )
        )
        .with_panel(
            graph(
                "Scrapes by result",
                query(
                    "sum by (result) (max without (instance) (rate("
                    f"dockmesh_scrapes_total{{{SELECT}}}[$__rate_interval])))",
                    "{{result}}",
                ),
                unit="reqps",
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Size of the database",
                query(f"max by (region) (dockmesh_database_size_bytes{{{SELECT}}})", "{{region}}"),
                unit="bytes",
            )
        )
        .with_row(row("Agents"))
        .with_panel(
            graph(
                "Heartbeats by result",
                query(
                    "sum by (result) (max without (instance) (rate("
                    f"dockmesh_heartbeats_total{{{SELECT}}}[$__rate_interval])))",
                    "{{result}}",
                ),
                unit="reqps",
                stacked=True,
                width=8,
            )
        )
        .with_panel(
            graph(
                "Commands that wait or run",
                query(
                    f"max by (kind, status) (dockmesh_commands_open{{{SELECT}}}) > 0", "{{kind}} {{status}}"
                ),
                stacked=True,
                width=8,
            )
        )
        .with_panel(
            graph(
                "Age of the oldest command",
                query(f"max by (region) (dockmesh_command_oldest_age_seconds{{{SELECT}}})", "{{region}}"),
                unit="s",
                width=8,
            )
        )
        .with_row(row("Periodic tasks"))
        .with_panel(
            timeline(
                "Replica that runs them",
                query(f"dockmesh_scheduler_leader{{{SELECT}}}", "{{instance}}"),
                words=YES_NO,
                width=24,
            )
        )
        .with_panel(
            graph(
                "Faults",
                query(
                    "sum by (task) (max without (instance) (increase("
                    f"dockmesh_periodic_task_failures_total{{{SELECT}}}[$__rate_interval])))",
                    "{{task}}",
                ),
            )
        )
        .with_panel(
            graph(
                "Time since the last run without a fault",
                query(
                    "time() - max by (task) (dockmesh_periodic_task_last_success_timestamp_seconds"
                    f"{{{SELECT}}} > 0)",
                    "{{task}}",
                ),
                unit="s",
                description="The daily tasks are at up to a day.",
            )
        )
        .with_row(row("Processes"))
        .with_panel(
            graph(
                "Memory",
                query(f"process_resident_memory_bytes{{{SELECT}}}", "{{instance}}"),
                unit="bytes",
                width=8,
            )
        )
        .with_panel(
            graph(
                "Processor",
                query(f"rate(process_cpu_seconds_total{{{SELECT}}}[$__rate_interval])", "{{instance}}"),
                width=8,
                description="Processor seconds a second: 1 is one core.",
            )
        )
        .with_panel(
            graph(
                "Time since start",
                query(f"time() - process_start_time_seconds{{{SELECT}}}", "{{instance}}"),
                unit="s",
                width=8,
            )
        )
    )
