"""REST: `backup-jobs`, `backup-runs`."""

import functools
from typing import Any

from dockmesh.backups import services
from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.backups.serializers import (
    BackupJobChangeSerializer,
    BackupJobCreateSerializer,
    BackupJobSerializer,
    BackupRunDetailSerializer,
    BackupRunSerializer,
    RestoreSerializer,
    SnapshotsSerializer,
    UnlockSerializer,
    VerifySerializer,
)
from dockmesh.core.filters import BooleanFilter, FilterSet, ReferenceFilter, TextFilter
from dockmesh.core.viewsets import ServiceViewSet, operation
from tokens.permissions import Permission

# What an agent does: 202 with the run.
run_operation = functools.partial(
    operation,
    Permission.BACKUPS_MANAGE,
    answer=BackupRunDetailSerializer,
    status=202,
    location="backup-runs-detail",
)


class BackupJobFilter(FilterSet):
    """Filters of jobs."""

    host = ReferenceFilter("host_id", "host__name", help_text="Of this host: its id or name.")
    name = TextFilter(help_text="With exactly this name.")
    is_enabled = BooleanFilter(help_text="Enabled or not.")
    last_status = TextFilter(
        choices=("success", "partial", "failure"), help_text="Whose last backup ended so."
    )


class BackupJobViewSet(ServiceViewSet[BackupJob]):
    """Backup jobs by name."""

    noun = "backup job"
    queryset = BackupJob.objects.select_related("host").order_by("name")
    deferred = ("snapshots",)
    serializer_class = BackupJobSerializer
    filterset_class = BackupJobFilter
    read_permission = Permission.FLEET_READ

    def get_serializer_context(self) -> dict[str, Any]:
        """Commands are for those who manage backups."""
        return {**super().get_serializer_context(), "may_manage": self.may(Permission.BACKUPS_MANAGE)}

    @operation(Permission.BACKUPS_MANAGE, body=BackupJobCreateSerializer)
    def create(self, **values: Any) -> BackupJob:
        """A new job."""
        return services.create_job(actor=self.actor, **values)

    @operation(Permission.BACKUPS_MANAGE, body=BackupJobChangeSerializer)
    def change(self, id: int, **values: Any) -> BackupJob:
        """Change a job; its host stays."""
        return services.change_job(actor=self.actor, job_id=id, **values)

    @operation(Permission.BACKUPS_MANAGE)
    def remove(self, id: int) -> None:
        """Remove a job. Its snapshots stay in the repository, its runs in the history."""
        services.remove_job(actor=self.actor, job_id=id)

    @run_operation()
    def run(self, id: int) -> BackupRun:
        """Back up now: 202 with the run; 409 while another run of the job has not ended."""
        return services.run_now(actor=self.actor, job_id=id)

    @run_operation(body=RestoreSerializer, summary="Restore a snapshot")
    def restore(self, id: int, **values: Any) -> BackupRun:
        """Restore a snapshot of this job, or some paths of it, below a path of its host or another: 202 with the run."""
        return services.restore(actor=self.actor, job_id=id, **values)

    @run_operation(body=VerifySerializer, summary="Verify a snapshot")
    def verify(self, id: int, **values: Any) -> BackupRun:
        """Read a snapshot out of the repository and compare: 202 with the run."""
        return services.verify(actor=self.actor, job_id=id, **values)

    @run_operation(summary="Apply a backup job's retention")
    def retention(self, id: int) -> BackupRun:
        """Remove the job's snapshots that its retention does not keep, and their data: 202 with the run."""
        return services.operate(actor=self.actor, job_id=id, kind=BackupRun.Kind.RETENTION)

    @run_operation(summary="Prune a backup job's repository")
    def prune(self, id: int) -> BackupRun:
        """Free what no snapshot in the job's repository needs, also on a full disk: 202 with the run."""
        return services.operate(actor=self.actor, job_id=id, kind=BackupRun.Kind.PRUNE)

    @run_operation(summary="Make a backup job's repository")
    def init(self, id: int) -> BackupRun:
        """Make the job's repository, which must not be there: 202 with the run."""
        return services.operate(actor=self.actor, job_id=id, kind=BackupRun.Kind.INIT)

    @run_operation(body=UnlockSerializer, summary="Unlock a backup job's repository")
    def unlock(self, id: int, **values: Any) -> BackupRun:
        """Remove the locks of the job's repository that nobody holds, or all of them: 202 with the run."""
        return services.unlock(actor=self.actor, job_id=id, **values)

    @operation(
        Permission.FLEET_READ,
        method="get",
        answer=SnapshotsSerializer,
        summary="List a backup job's snapshots",
    )
    def snapshots(self, id: int) -> Any:
        """As the agent listed them last: with the last backup, or when it was last asked."""
        return self.one(id)

    @run_operation(beside=snapshots, summary="Read a backup job's snapshots anew")
    def read_snapshots(self, id: int) -> BackupRun:
        """Ask the agent for the list: 202 with the run."""
        return services.operate(actor=self.actor, job_id=id, kind=BackupRun.Kind.SNAPSHOTS)


class BackupRunFilter(FilterSet):
    """Filters of runs."""

    job = ReferenceFilter("job_id", "job_name", help_text="Of this job: its id or name.")
    host = TextFilter("host_name", help_text="On the host of this name.")
    kind = TextFilter(choices=BackupRun.Kind.values, help_text="Of this kind.")
    status = TextFilter(choices=BackupRun.Status.values, help_text="In this state.")


class BackupRunViewSet(ServiceViewSet[BackupRun]):
    """Backup runs, the newest first."""

    noun = "backup run"
    queryset = BackupRun.objects.order_by("-pk")
    deferred = ("output",)
    serializer_class = BackupRunSerializer
    detail_serializer_class = BackupRunDetailSerializer
    filterset_class = BackupRunFilter
    read_permission = Permission.FLEET_READ

    @run_operation()
    def cancel(self, id: int) -> BackupRun:
        """Cancel a run that waits, at once, or one that runs, as soon as its agent has stopped it: 202 with the run."""
        return services.cancel(actor=self.actor, run_id=id)
