"""`/api/v1/backup-jobs` and `/api/v1/backup-runs`."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from dockmesh.backups import services
from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.backups.serializers import (
    JobChangeSerializer,
    JobSerializer,
    NewJobSerializer,
    RestoreSerializer,
    RunDetailSerializer,
    RunSerializer,
    SnapshotsSerializer,
    UnlockSerializer,
    VerifySerializer,
)
from dockmesh.core.api import StrictSerializer, filtered, id_or_name, one_of, yes_or_no
from dockmesh.core.errors import NotFound
from tokens.permissions import Permission
from tokens.principals import actor_of, principal_of

LAST_STATUSES = ["success", "partial", "failure"]


def _filter(name: str, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.STR, description=description, **options)


def _values(shape: type[StrictSerializer], request: Request) -> dict[str, Any]:
    body = shape(data=request.data)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)


def _shown(request: Request, what: Any, **how: Any) -> Any:
    """Jobs as this principal may see them."""
    principal = principal_of(request)
    may_manage = principal is not None and principal.has(Permission.BACKUPS_MANAGE)
    return JobSerializer(what, context={"may_manage": may_manage}, **how).data


class JobsView(generics.GenericAPIView[BackupJob]):
    """All backup jobs, and new ones."""

    required_permission = {"GET": Permission.FLEET_READ, "POST": Permission.BACKUPS_MANAGE}
    queryset = BackupJob.objects.select_related("host").defer("snapshots").order_by("name")
    serializer_class = JobSerializer

    @extend_schema(
        operation_id="backup_jobs_list",
        parameters=[
            _filter("host", "Of this host: its id or name."),
            _filter("name", "With exactly this name."),
            _filter("is_enabled", "Enabled or not.", enum=["true", "false"]),
            _filter("last_status", "Whose last backup ended so.", enum=LAST_STATUSES),
        ],
        responses=JobSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """All jobs by name, a page at a time."""
        rows = filtered(
            self.get_queryset(),
            request,
            {
                "host": id_or_name("host_id", "host__name"),
                "name": "name",
                "is_enabled": yes_or_no("is_enabled"),
                "last_status": one_of("last_status", LAST_STATUSES),
            },
        )
        return self.get_paginated_response(_shown(request, self.paginate_queryset(rows), many=True))

    @extend_schema(
        operation_id="backup_jobs_create", request=NewJobSerializer, responses={201: JobSerializer}
    )
    def post(self, request: Request) -> Response:
        """A new job."""
        values = _values(NewJobSerializer, request)
        job = services.create_job(actor=actor_of(request), host_id=values.pop("host"), **values)
        headers = {"Location": f"/api/v1/backup-jobs/{job.pk}"}
        return Response(_shown(request, job), status=status.HTTP_201_CREATED, headers=headers)


class JobView(APIView):
    """One job."""

    required_permission = {
        "GET": Permission.FLEET_READ,
        "PATCH": Permission.BACKUPS_MANAGE,
        "DELETE": Permission.BACKUPS_MANAGE,
    }

    @extend_schema(operation_id="backup_jobs_read", responses=JobSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """One job."""
        job = BackupJob.objects.select_related("host").filter(pk=pk).first()
        if job is None:
            raise NotFound("There is no such backup job.")
        return Response(_shown(request, job))

    @extend_schema(operation_id="backup_jobs_change", request=JobChangeSerializer, responses=JobSerializer)
    def patch(self, request: Request, pk: int) -> Response:
        """Change a job; its host stays."""
        values = _values(JobChangeSerializer, request)
        job = services.change_job(actor=actor_of(request), job_id=pk, **values)
        return Response(_shown(request, job))

    @extend_schema(
        operation_id="backup_jobs_delete", responses={204: OpenApiResponse(description="Removed.")}
    )
    def delete(self, request: Request, pk: int) -> Response:
        """Remove a job. Its snapshots stay in the repository, its runs in the history."""
        services.remove_job(actor=actor_of(request), job_id=pk)
        return Response(status=status.HTTP_204_NO_CONTENT)


class JobRunView(APIView):
    """A backup now."""

    required_permission = {"POST": Permission.BACKUPS_MANAGE}

    @extend_schema(operation_id="backup_jobs_run", request=None, responses={202: RunDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Back up now: 202 with the run; 409 while another run of the job has not ended."""
        return _accepted(services.run_now(actor=actor_of(request), job_id=pk))


class JobRestoreView(APIView):
    """A restore."""

    required_permission = {"POST": Permission.BACKUPS_MANAGE}

    @extend_schema(
        operation_id="backup_jobs_restore", request=RestoreSerializer, responses={202: RunDetailSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Restore a snapshot of this job, or some paths of it, below a path of its host or another: 202 with the run."""
        values = _values(RestoreSerializer, request)
        values["host_id"] = values.pop("host", None)
        return _accepted(services.restore(actor=actor_of(request), job_id=pk, **values))


class JobVerifyView(APIView):
    """A verification."""

    required_permission = {"POST": Permission.BACKUPS_MANAGE}

    @extend_schema(
        operation_id="backup_jobs_verify", request=VerifySerializer, responses={202: RunDetailSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Read a snapshot out of the repository and compare: 202 with the run."""
        values = _values(VerifySerializer, request)
        return _accepted(services.verify(actor=actor_of(request), job_id=pk, **values))


class JobRetentionView(APIView):
    """Retention by itself."""

    required_permission = {"POST": Permission.BACKUPS_MANAGE}

    @extend_schema(operation_id="backup_jobs_retention", request=None, responses={202: RunDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Remove the job's snapshots that its retention does not keep, and their data: 202 with the run."""
        return _accepted(services.operate(actor=actor_of(request), job_id=pk, kind=BackupRun.Kind.RETENTION))


class JobPruneView(APIView):
    """Space."""

    required_permission = {"POST": Permission.BACKUPS_MANAGE}

    @extend_schema(operation_id="backup_jobs_prune", request=None, responses={202: RunDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Free what no snapshot in the job's repository needs, also on a full disk: 202 with the run."""
        return _accepted(services.operate(actor=actor_of(request), job_id=pk, kind=BackupRun.Kind.PRUNE))


class JobInitView(APIView):
    """A repository anew."""

    required_permission = {"POST": Permission.BACKUPS_MANAGE}

    @extend_schema(operation_id="backup_jobs_init", request=None, responses={202: RunDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Make the job's repository, which must not be there: 202 with the run."""
        return _accepted(services.operate(actor=actor_of(request), job_id=pk, kind=BackupRun.Kind.INIT))


class JobUnlockView(APIView):
    """Locks."""

    required_permission = {"POST": Permission.BACKUPS_MANAGE}

    @extend_schema(
        operation_id="backup_jobs_unlock", request=UnlockSerializer, responses={202: RunDetailSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Remove the locks of the job's repository that nobody holds, or all of them: 202 with the run."""
        values = _values(UnlockSerializer, request)
        return _accepted(services.unlock(actor=actor_of(request), job_id=pk, **values))


class JobSnapshotsView(APIView):
    """The snapshots of a job."""

    required_permission = {"GET": Permission.FLEET_READ, "POST": Permission.BACKUPS_MANAGE}

    @extend_schema(operation_id="backup_jobs_snapshots", responses=SnapshotsSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """As the agent listed them last: with the last backup, or when it was last asked."""
        job = BackupJob.objects.filter(pk=pk).first()
        if job is None:
            raise NotFound("There is no such backup job.")
        return Response(SnapshotsSerializer(job).data)

    @extend_schema(
        operation_id="backup_jobs_snapshots_list", request=None, responses={202: RunDetailSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Ask the agent for the list: 202 with the run."""
        return _accepted(services.operate(actor=actor_of(request), job_id=pk, kind=BackupRun.Kind.SNAPSHOTS))


class RunCancelView(APIView):
    """The end of a run."""

    required_permission = {"POST": Permission.BACKUPS_MANAGE}

    @extend_schema(operation_id="backup_runs_cancel", request=None, responses={202: RunDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Cancel a run that waits, at once, or one that runs, as soon as its agent has stopped it: 202 with the run."""
        return _accepted(services.cancel(actor=actor_of(request), run_id=pk))


class RunsView(generics.GenericAPIView[BackupRun]):
    """All runs."""

    required_permission = {"GET": Permission.FLEET_READ}
    queryset = BackupRun.objects.defer("output").order_by("-pk")
    serializer_class = RunSerializer

    @extend_schema(
        operation_id="backup_runs_list",
        parameters=[
            _filter("job", "Of this job: its id or name."),
            _filter("host", "On the host of this name."),
            _filter("kind", "Of this kind.", enum=BackupRun.Kind.values),
            _filter("status", "In this state.", enum=BackupRun.Status.values),
        ],
        responses=RunSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """All runs, the newest first, a page at a time."""
        rows = filtered(
            self.get_queryset(),
            request,
            {
                "job": id_or_name("job_id", "job_name"),
                "host": "host_name",
                "kind": one_of("kind", BackupRun.Kind.values),
                "status": one_of("status", BackupRun.Status.values),
            },
        )
        return self.get_paginated_response(RunSerializer(self.paginate_queryset(rows), many=True).data)


class RunView(APIView):
    """One run."""

    required_permission = {"GET": Permission.FLEET_READ}

    @extend_schema(operation_id="backup_runs_read", responses=RunDetailSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """One run with its output so far."""
        run = BackupRun.objects.filter(pk=pk).first()
        if run is None:
            raise NotFound("There is no such run.")
        return Response(RunDetailSerializer(run).data)


def _accepted(run: BackupRun) -> Response:
    return Response(
        RunDetailSerializer(run).data,
        status=status.HTTP_202_ACCEPTED,
        headers={"Location": f"/api/v1/backup-runs/{run.pk}"},
    )
