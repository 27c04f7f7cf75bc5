"""Backups: is everything backed up?

dockmesh's label `job` of these families is `exported_job` in Prometheus, which keeps `job` for itself.
"""

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

DAY = 24 * 3600
LIMIT = 26 * 3600


def _of(family: str) -> str:
    return f"max without (instance) ({family}{{{SELECT}}})"


def dashboard() -> sdk.Dashboard:
    """The dashboard, as described at the top of this file."""
    last = f"max without (instance) (dockmesh_backup_last_run_timestamp{{{SELECT}}})"
    took = f"max without (instance) (dockmesh_backup_last_duration_seconds{{{SELECT}}})"
    age = f"time() - ({last} > 0)"
    builder = board("dockmesh-backups", "dockmesh / Backups", "When each backup job last succeeded.")
    builder = with_annotations(with_variables(builder))
    return (
        builder.with_panel(number("Jobs", instant(f"count({last}) or vector(0)"), width=6))
        .with_panel(
            number(
                "Overdue",
                instant(f"count({age} > {LIMIT}) or vector(0)"),
                width=6,
                limits=((None, GREEN), (1, RED)),
                description="Last success more than 26 hours ago.",
            )
        )
        .with_panel(
            number(
                "Never succeeded",
                instant(f"count({last} == 0) or vector(0)"),
                width=6,
                limits=((None, GREEN), (1, ORANGE)),
            )
        )
        .with_panel(
            number(
                "Oldest last success",
                instant(f"max({age})"),
                unit="s",
                width=6,
                limits=((None, GREEN), (DAY, ORANGE), (LIMIT, RED)),
            )
        )
        .with_panel(
            listing(
                "All jobs",
                rows(f"max by (region, exported_job) ({last} > bool 0)"),
                rows(f"max by (region, exported_job) ({last} > 0) * 1000"),
                rows(f"max by (region, exported_job) ({age})"),
                rows(f"max by (region, exported_job) ({took})"),
                columns={
                    "region": "Region",
                    "exported_job": "Job",
                    "Value #A": "Has succeeded",
                    "Value #B": "Last success",
                    "Value #C": "Age",
                    "Value #D": "Took",
                },
                units={"Last success": "dateTimeAsIso", "Age": "s", "Took": "s"},
                limits={
                    "Has succeeded": ((None, RED), (1, GREEN)),
                    "Age": ((None, GREEN), (DAY, ORANGE), (LIMIT, RED)),
                },
                by="Age",
                descending=True,
                description="0: an enabled job that has never succeeded.",
            )
        )
        .with_panel(
            graph(
                "Time since the last success",
                query(age, "{{exported_job}}"),
                unit="s",
                limit=LIMIT,
                description="DockmeshBackupStale fires above the line.",
            )
        )
        .with_panel(
            graph(
                "Duration of the last run",
                query(took, "{{exported_job}}"),
                unit="s",
                description="Of the last finished run, succeeded or failed.",
            )
        )
        .with_row(row("Runs"))
        .with_panel(
            graph(
                "Backups by result",
                query(
                    "sum by (result) (max without (instance) (increase("
                    f"dockmesh_backup_runs_total{{{SELECT}}}[$__rate_interval])))",
                    "{{result}}",
                ),
                bars=True,
                stacked=True,
                states=("success", "partial", "failure"),
            )
        )
        .with_panel(
            graph(
                "Added to the repository by the last run",
                query(_of("dockmesh_backup_last_added_bytes"), "{{backup_job}}"),
                unit="bytes",
            )
        )
        .with_panel(
            listing(
                "What the jobs are and did",
                rows(
                    f"max by (region, backup_job, host, repository, enabled) (dockmesh_backup_info{{{SELECT}}})"
                ),
                rows(
                    f"max by (region, backup_job) (dockmesh_backup_last_attempt_timestamp_seconds{{{SELECT}}} > 0) * 1000"
                ),
                rows(
                    f"max by (region, backup_job) (dockmesh_backup_next_run_timestamp_seconds{{{SELECT}}} > 0) * 1000"
                ),
                rows(
                    f"max by (region, backup_job) (dockmesh_backup_last_verified_timestamp_seconds{{{SELECT}}} > 0) * 1000"
                ),
                rows(f"max by (region, backup_job) (dockmesh_backup_last_bytes{{{SELECT}}})"),
                rows(f"max by (region, backup_job) (dockmesh_backup_last_files{{{SELECT}}})"),
                rows(f"max by (region, backup_job) (dockmesh_backup_last_unreadable_files{{{SELECT}}})"),
                columns={
                    "region": "Region",
                    "backup_job": "Job",
                    "host": "Host",
                    "repository": "Repository",
                    "enabled": "Enabled",
                    "Value #B": "Last run",
                    "Value #C": "Next run",
                    "Value #D": "Last verified",
                    "Value #E": "Size",
                    "Value #F": "Files",
                    "Value #G": "Not readable",
                },
                units={
                    "Last run": "dateTimeAsIso",
                    "Next run": "dateTimeAsIso",
                    "Last verified": "dateTimeAsIso",
                    "Size": "bytes",
                },
                limits={"Not readable": ((None, GREEN), (1, ORANGE))},
                by="Job",
                description="Sizes and files of the last run that succeeded; what could not be read of the last run.",
            )
        )
    )
