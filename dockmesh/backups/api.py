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
    VerifySerializer,
)
from dockmesh.core.api import StrictSerializer, filtered, id_or_name, one_of, yes_or_no
from dockmesh.core.errors import NotFound
from tokens.permissions import Permission
from tokens.principals import actor_of


def _filter(name: str, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.STR, description=description, **options)


def _values(shape: type[StrictSerializer], request: Request) -> dict[str, Any]:
    body = shape(data=request.data)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)


class JobsView(generics.GenericAPIView[BackupJob]):
    """All backup jobs, and new ones."""

    required_permission = {"GET": Permission.FLEET_READ, "POST": Permission.BACKUPS_MANAGE}
    queryset = BackupJob.objects.select_related("host").order_by("name")
    serializer_class = JobSerializer

    @extend_schema(
        operation_id="backup_jobs_list",
        parameters=[
            _filter("host", "Of this host: its id or name."),
            _filter("name", "With exactly this name."),
            _filter("is_enabled", "Enabled or not.", enum=["true", "false"]),
            _filter("last_status", "Whose last backup ended so.", enum=["success", "failure"]),
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
                "last_status": one_of("last_status", ["success", "failure"]),
            },
        )
        return self.get_paginated_response(JobSerializer(self.paginate_queryset(rows), many=True).data)

    @extend_schema(
        operation_id="backup_jobs_create", request=NewJobSerializer, responses={201: JobSerializer}
    )
    def post(self, request: Request) -> Response:
        """A new job."""
        values = _values(NewJobSerializer, request)
        job = services.create_job(actor=actor_of(request), host_id=values.pop("host"), **values)
        headers = {"Location": f"/api/v1/backup-jobs/{job.pk}"}
        return Response(JobSerializer(job).data, status=status.HTTP_201_CREATED, headers=headers)


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
        return Response(JobSerializer(job).data)

    @extend_schema(operation_id="backup_jobs_change", request=JobChangeSerializer, responses=JobSerializer)
    def patch(self, request: Request, pk: int) -> Response:
        """Change a job; its host stays."""
        values = _values(JobChangeSerializer, request)
        return Response(JobSerializer(services.change_job(actor=actor_of(request), job_id=pk, **values)).data)

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
        """Restore a snapshot of this job below a path of its host: 202 with the run."""
        values = _values(RestoreSerializer, request)
        return _accepted(services.restore(actor=actor_of(request), job_id=pk, **values))


class JobVerifyView(APIView):
    """A verification."""

    required_permission = {"POST": Permission.BACKUPS_MANAGE}

    @extend_schema(
        operation_id="backup_jobs_verify", request=VerifySerializer, responses={202: RunDetailSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Restore a snapshot into a temporary place and compare: 202 with the run."""
        values = _values(VerifySerializer, request)
        return _accepted(services.verify(actor=actor_of(request), job_id=pk, **values))


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
