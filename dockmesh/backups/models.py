"""Backup jobs, and their runs: backups, restores and verifications."""

import secrets

from django.db import models
from django.db.models import F, Q

DEFAULT_TIMEOUT_SECONDS = 6 * 3600
DEFAULT_HOOK_TIMEOUT_SECONDS = 300


def new_snapshot_tag() -> str:
    """A tag that no other job has, here or on another server."""
    return f"job-{secrets.token_hex(8)}"


class BackupJob(models.Model):
    """What to back up, on which host, when, to where; its last results are kept for /metrics."""

    class SourceKind(models.TextChoices):
        """What is backed up."""

        VOLUMES = "volumes", "Named volumes"
        PATH = "path", "A path"
        DATABASE = "database", "dockmesh's own database"

    name = models.CharField(max_length=200, unique=True)
    host = models.ForeignKey("fleet.Host", on_delete=models.CASCADE, related_name="backup_jobs")
    is_enabled = models.BooleanField(default=True)
    source_kind = models.CharField(max_length=16, choices=SourceKind.choices, default=SourceKind.VOLUMES)
    # Of `volumes`: the Compose project whose volumes they are, and their names in its Compose file.
    stack_name = models.CharField(max_length=1024, blank=True)
    volumes = models.JSONField(default=list, blank=True)
    # Of `path`.
    path = models.CharField(max_length=1000, blank=True)
    # Further ones.
    paths = models.JSONField(default=list, blank=True)
    # Patterns of restic's --exclude.
    excludes = models.JSONField(default=list, blank=True)
    # Leave out what is mounted below.
    is_one_file_system = models.BooleanField(default=False)
    # Run on the host by the agent, as a shell has them.
    before_command = models.CharField(max_length=2000, blank=True)
    after_command = models.CharField(max_length=2000, blank=True)
    # Of `volumes`: the stack's containers are down while they are read.
    is_stack_stopped = models.BooleanField(default=False)
    # For each of these.
    hook_timeout_seconds = models.PositiveIntegerField(default=DEFAULT_HOOK_TIMEOUT_SECONDS)
    # A run with fewer files than so many percent of the last one's is a failure; 0: only one without any.
    least_files_percent = models.PositiveIntegerField(default=50)
    # The repository's name in the agent's own configuration; its address and password are known there only.
    repository = models.CharField(max_length=64, default="default")
    # Marks this job's snapshots in the repository: a renamed job keeps its snapshots, and two servers that
    # share a repository never prune each other's.
    snapshot_tag = models.CharField(max_length=100, unique=True, editable=False, default=new_snapshot_tag)
    # A cron expression of five fields; empty: only when asked for.
    schedule = models.CharField(max_length=100, blank=True)
    time_zone = models.CharField(max_length=64, default="UTC")
    # Each run comes up to so many seconds after its moment.
    jitter_seconds = models.PositiveIntegerField(default=0)
    # The moment from which the next scheduled run is due.
    next_run_at = models.DateTimeField(null=True, editable=False)
    # How many snapshots to keep; all 0: keep every one.
    keep_last = models.PositiveIntegerField(default=0)
    keep_daily = models.PositiveIntegerField(default=7)
    keep_weekly = models.PositiveIntegerField(default=4)
    keep_monthly = models.PositiveIntegerField(default=6)
    # Read each new snapshot out of the repository again and compare.
    is_verified = models.BooleanField(default=False)
    timeout_seconds = models.PositiveIntegerField(default=DEFAULT_TIMEOUT_SECONDS)
    created_at = models.DateTimeField(auto_now_add=True)
    last_success_at = models.DateTimeField(null=True, editable=False)
    last_duration_seconds = models.FloatField(null=True, editable=False)
    # The status of the last finished backup; empty before the first.
    last_status = models.CharField(max_length=16, blank=True, editable=False)
    last_attempt_at = models.DateTimeField(null=True, editable=False)
    last_verified_at = models.DateTimeField(null=True, editable=False)
    # Of the last backup whose snapshot counts; without them after a change of what is backed up.
    last_files = models.BigIntegerField(null=True, editable=False)
    last_bytes = models.BigIntegerField(null=True, editable=False)
    last_added_bytes = models.BigIntegerField(null=True, editable=False)
    # How many could not be read in the last backup.
    last_unreadable = models.PositiveIntegerField(default=0, editable=False)
    # The repository that holds a snapshot of this job: one of that name is never made anew.
    proven_repository = models.CharField(max_length=64, blank=True, editable=False)
    # Backups that ended so, ever.
    success_count = models.PositiveBigIntegerField(default=0, editable=False)
    partial_count = models.PositiveBigIntegerField(default=0, editable=False)
    failure_count = models.PositiveBigIntegerField(default=0, editable=False)
    # As the agent last listed them, the newest first: id, time, hostname, paths, is_doubtful.
    snapshots = models.JSONField(default=list, editable=False)
    snapshots_read_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ("name",)
        indexes = [
            # The scheduler's look for what is due, every few seconds.
            models.Index("next_run_at", name="backup_job_due", condition=Q(is_enabled=True)),
        ]

    def __str__(self) -> str:
        return self.name


class BackupRun(models.Model):
    """One backup, restore or verification. It outlives its job."""

    class Kind(models.TextChoices):
        """What the agent is asked to do; only a backup counts on /metrics."""

        BACKUP = "backup"
        RESTORE = "restore"
        VERIFY = "verify"
        # Remove what the job's retention does not keep; free what no snapshot needs.
        RETENTION = "retention"
        PRUNE = "prune"
        # Make the repository.
        INIT = "init"
        SNAPSHOTS = "snapshots"
        UNLOCK = "unlock"

    class Status(models.TextChoices):
        """Where the run is."""

        QUEUED = "queued"
        RUNNING = "running"
        SUCCESS = "success"
        # The snapshot counts, but some files could not be read.
        PARTIAL = "partial"
        FAILURE = "failure"
        CANCELLED = "cancelled"

    class Cause(models.TextChoices):
        """Why it runs: its time has come, its time had come while the host was away, somebody asked."""

        SCHEDULE = "schedule"
        MISSED = "missed"
        REQUEST = "request"

    job = models.ForeignKey(BackupJob, on_delete=models.SET_NULL, null=True, related_name="runs")
    job_name = models.CharField(max_length=200)
    # A restore may go to another host than the job's.
    host = models.ForeignKey("fleet.Host", on_delete=models.SET_NULL, null=True, related_name="+")
    host_name = models.CharField(max_length=200)
    repository = models.CharField(max_length=64)
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.BACKUP)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.QUEUED)
    cause = models.CharField(max_length=16, choices=Cause.choices, default=Cause.REQUEST)
    requested_by = models.CharField(max_length=255)
    requested_at = models.DateTimeField()
    # The moment of the schedule that this run answers.
    scheduled_for = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    duration_seconds = models.FloatField(null=True)
    # Made by a backup; taken by a restore or a verification.
    snapshot_id = models.CharField(max_length=64, blank=True)
    target_path = models.CharField(max_length=1000, blank=True)
    # Of a restore: only these of the snapshot.
    paths = models.JSONField(default=list)
    # What could not be read: the first of them, and how many.
    unreadable = models.JSONField(default=list)
    unreadable_count = models.PositiveIntegerField(default=0)
    # Who asked for its end.
    cancelled_by = models.CharField(max_length=255, blank=True)
    # Of an unlock: also locks that somebody may hold.
    is_remove_all = models.BooleanField(default=False)
    bytes_added = models.BigIntegerField(null=True)
    bytes_processed = models.BigIntegerField(null=True)
    files = models.BigIntegerField(null=True)
    exit_code = models.IntegerField(null=True)
    output = models.TextField(blank=True)
    error = models.CharField(max_length=2000, blank=True)
    timeout_seconds = models.PositiveIntegerField(default=DEFAULT_TIMEOUT_SECONDS)
    command_id = models.BigIntegerField(null=True, editable=False)
    # Who copies the database for it, and until when that holds by the database's clock unless it is prolonged.
    dump_claim = models.CharField(max_length=32, blank=True, editable=False)
    dump_claimed_until = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ("-id",)
        constraints = [
            # One at a time for each job, however many ask at once; what helps a run that waits may run beside it.
            models.UniqueConstraint(
                fields=["job"],
                condition=Q(status__in=["queued", "running"]) & ~Q(kind__in=["snapshots", "unlock"]),
                name="one_open_run_of_a_job",
            )
        ]
        indexes = [
            # The job's page and the lists, newest first.
            models.Index("job", F("id").desc(), name="backup_run_by_job"),
            models.Index("status", F("id").desc(), name="backup_run_by_status"),
        ]

    def __str__(self) -> str:
        return f"backup run {self.pk}"

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.status in (self.Status.QUEUED, self.Status.RUNNING)
