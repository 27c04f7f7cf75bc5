"""Shapes of the backups' endpoints. What the values must be is the services' business."""

from rest_framework import serializers

from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.core.api import Flag, StrictSerializer, Text, Whole
from dockmesh.fleet.references import HostReference, HostSerializer


class JobChangeSerializer(StrictSerializer):
    """A job's columns; what is left out stays as it is."""

    name = Text(required=False, help_text="Unique; the label `job` on /metrics.")
    is_enabled = Flag(required=False, help_text="Off: no scheduled runs.")
    source_kind = serializers.ChoiceField(
        choices=BackupJob.SourceKind.choices,
        required=False,
        help_text="Volumes of a stack, a path of the host, or dockmesh's own database.",
    )
    stack_name = Text(required=False, allow_blank=True, help_text="Of `volumes`: the stack's name.")
    volumes = serializers.ListField(
        child=Text(),
        required=False,
        help_text="Of `volumes`: as the Compose file names them; none: all of the stack's.",
    )
    path = Text(required=False, allow_blank=True, help_text="Of `path`: absolute.")
    repository = Text(required=False, help_text="The repository's name in the agent's agent.toml.")
    schedule = Text(
        required=False,
        allow_blank=True,
        help_text="A cron expression of five fields; empty: only on request.",
    )
    time_zone = Text(required=False, help_text="Of the schedule, such as Europe/Berlin.")
    keep_last = Whole(required=False, help_text="Snapshots to keep: the last ones.")
    keep_daily = Whole(required=False, help_text="The last of so many days.")
    keep_weekly = Whole(required=False, help_text="The last of so many weeks.")
    keep_monthly = Whole(
        required=False, help_text="The last of so many months. All four 0: nothing is pruned."
    )
    is_verified = Flag(
        required=False, help_text="Restore each new snapshot into a temporary place and compare."
    )
    timeout_seconds = Whole(
        required=False, help_text="Seconds after which a run is stopped and counts as failed."
    )


class NewJobSerializer(JobChangeSerializer):
    """A new job."""

    host = HostReference()
    name = Text(help_text="Unique; the label `job` on /metrics.")


class JobSerializer(serializers.ModelSerializer[BackupJob]):
    """A job with its last results."""

    host = HostSerializer()
    volumes = serializers.ListField(child=serializers.CharField())
    last_status = serializers.ChoiceField(
        choices=[("", ""), ("success", "success"), ("failure", "failure")],
        help_text="Of the last finished backup; empty before the first.",
    )

    class Meta:
        model = BackupJob
        fields = (
            "id",
            "name",
            "host",
            "is_enabled",
            "source_kind",
            "stack_name",
            "volumes",
            "path",
            "repository",
            "schedule",
            "time_zone",
            "next_run_at",
            "keep_last",
            "keep_daily",
            "keep_weekly",
            "keep_monthly",
            "is_verified",
            "timeout_seconds",
            "created_at",
            "last_success_at",
            "last_duration_seconds",
            "last_status",
        )


class RestoreSerializer(StrictSerializer):
    """What to restore, and where to."""

    snapshot_id = Text(help_text="A snapshot's id, or `latest`.")
    target_path = Text(help_text="Absolute path on the job's host; files keep their whole path below it.")


class VerifySerializer(StrictSerializer):
    """What to verify."""

    snapshot_id = Text(required=False, default="latest", help_text="A snapshot's id, or `latest`.")


class RunSerializer(serializers.ModelSerializer[BackupRun]):
    """A run in a list."""

    job = serializers.IntegerField(source="job_id", allow_null=True, help_text="Null once it is removed.")

    class Meta:
        model = BackupRun
        fields = (
            "id",
            "job",
            "job_name",
            "host_name",
            "repository",
            "kind",
            "status",
            "cause",
            "requested_by",
            "requested_at",
            "scheduled_for",
            "started_at",
            "finished_at",
            "duration_seconds",
            "snapshot_id",
            "target_path",
            "bytes_added",
            "bytes_processed",
            "files",
            "exit_code",
            "error",
        )


class RunDetailSerializer(RunSerializer):
    """A run with its output."""

    class Meta(RunSerializer.Meta):
        fields = (*RunSerializer.Meta.fields, "timeout_seconds", "output")  # type: ignore[assignment]
