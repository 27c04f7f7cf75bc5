"""Shapes of the backups' endpoints. What the values must be is the services' business."""

from typing import Any

from rest_framework import serializers

from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.core.api import Flag, StrictSerializer, Text, Whole
from dockmesh.fleet.serializers import HostReference, ReferenceSerializer


class BackupJobChangeSerializer(StrictSerializer):
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
    paths = serializers.ListField(
        child=Text(), required=False, help_text="Of `path`: further ones, or all of them."
    )
    excludes = serializers.ListField(
        child=Text(),
        required=False,
        help_text="Patterns of restic's --exclude, such as `*.tmp` or `/srv/cache`.",
    )
    is_one_file_system = Flag(required=False, help_text="Leave out what is mounted below.")
    before_command = Text(
        required=False,
        allow_blank=True,
        help_text="A shell's command that the agent runs before the backup, as root of the host.",
    )
    after_command = Text(
        required=False,
        allow_blank=True,
        help_text="The same after it, whatever came of it; DOCKMESH_BACKUP_RESULT says what.",
    )
    is_stack_stopped = Flag(
        required=False,
        help_text="Of `volumes`: stop the stack's containers while they are read, and start them again.",
    )
    hook_timeout_seconds = Whole(required=False, help_text="The time limit of each of these, in seconds.")
    least_files_percent = Whole(
        required=False,
        help_text="A run with fewer files than so many percent of the last one's fails, and nothing is pruned."
        " 0: only one without any file.",
    )
    jitter_seconds = Whole(required=False, help_text="Each run comes up to so many seconds later.")
    repository = Text(required=False, help_text="The repository's name in the agent's agent.toml.")
    schedule = Text(
        required=False,
        allow_blank=True,
        help_text="A cron expression of five fields, or @hourly, @daily, @weekly, @monthly, @yearly;"
        " empty: only on request.",
    )
    time_zone = Text(required=False, help_text="Of the schedule, such as Europe/Berlin.")
    keep_last = Whole(required=False, help_text="Snapshots to keep: the last ones.")
    keep_daily = Whole(required=False, help_text="The last of so many days.")
    keep_weekly = Whole(required=False, help_text="The last of so many weeks.")
    keep_monthly = Whole(
        required=False, help_text="The last of so many months. All four 0: nothing is pruned."
    )
    is_verified = Flag(
        required=False, help_text="Read each new snapshot out of the repository again and compare."
    )
    timeout_seconds = Whole(
        required=False, help_text="Seconds after which a run is stopped and counts as failed."
    )


class BackupJobCreateSerializer(BackupJobChangeSerializer):
    """A new job."""

    host = HostReference(source="host_id")
    name = Text(help_text="Unique; the label `job` on /metrics.")


class BackupJobSerializer(serializers.ModelSerializer[BackupJob]):
    """A job with its last results."""

    host = ReferenceSerializer()
    volumes = serializers.ListField(child=serializers.CharField())
    paths = serializers.ListField(child=serializers.CharField())
    excludes = serializers.ListField(child=serializers.CharField())
    last_status = serializers.ChoiceField(
        choices=[("", ""), ("success", "success"), ("partial", "partial"), ("failure", "failure")],
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
            "paths",
            "excludes",
            "is_one_file_system",
            "before_command",
            "after_command",
            "is_stack_stopped",
            "hook_timeout_seconds",
            "least_files_percent",
            "repository",
            "schedule",
            "jitter_seconds",
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
            "last_attempt_at",
            "last_verified_at",
            "last_files",
            "last_bytes",
            "last_added_bytes",
            "success_count",
            "partial_count",
            "failure_count",
        )

    def to_representation(self, instance: BackupJob) -> dict[str, Any]:
        """Commands may hold secrets: who may not manage backups sees none."""
        shown: dict[str, Any] = super().to_representation(instance)
        if not self.context.get("may_manage"):
            shown |= {"before_command": "", "after_command": ""}
        return shown


class SnapshotSerializer(serializers.Serializer[Any]):
    """A snapshot in a job's repository."""

    id = serializers.CharField()
    time = serializers.CharField()
    hostname = serializers.CharField()
    paths = serializers.ListField(child=serializers.CharField())
    is_doubtful = serializers.BooleanField(help_text="Too few files were in it: retention leaves it alone.")


class SnapshotsSerializer(serializers.ModelSerializer[BackupJob]):
    """A job's snapshots as its agent last listed them."""

    snapshots = SnapshotSerializer(many=True)

    class Meta:
        model = BackupJob
        fields = ("snapshots_read_at", "snapshots")


class UnlockSerializer(StrictSerializer):
    """Which locks go."""

    remove_all = Flag(
        required=False,
        default=False,
        help_text="Also those that somebody may hold: what that run does at this moment is destroyed.",
    )
    confirm = Text(required=False, default="", help_text="With `remove_all`: the repository's name.")


class RestoreSerializer(StrictSerializer):
    """What to restore, and where to."""

    snapshot_id = Text(help_text="A snapshot's id, or `latest`.")
    target_path = Text(help_text="Absolute path on the host; files keep their whole path below it.")
    paths = serializers.ListField(
        child=Text(), required=False, help_text="Only these of the snapshot; none: all of it."
    )
    host = HostReference(
        source="host_id",
        required=False,
        help_text="Another host than the job's: its id or name. Its agent.toml needs a repository of the same name.",
    )


class VerifySerializer(StrictSerializer):
    """What to verify."""

    snapshot_id = Text(required=False, default="latest", help_text="A snapshot's id, or `latest`.")


class BackupRunSerializer(serializers.ModelSerializer[BackupRun]):
    """A run in a list."""

    job = serializers.IntegerField(source="job_id", allow_null=True, help_text="Null once it is removed.")
    paths = serializers.ListField(child=serializers.CharField(), help_text="Of a restore: only these.")
    unreadable = serializers.ListField(
        child=serializers.CharField(), help_text="What could not be read: the first of them."
    )

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
            "paths",
            "unreadable",
            "unreadable_count",
            "bytes_added",
            "bytes_processed",
            "files",
            "exit_code",
            "error",
        )


class BackupRunDetailSerializer(BackupRunSerializer):
    """A run with its output."""

    class Meta(BackupRunSerializer.Meta):
        fields = (*BackupRunSerializer.Meta.fields, "timeout_seconds", "output")  # type: ignore[assignment]
