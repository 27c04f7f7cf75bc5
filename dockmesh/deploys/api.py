"""`/api/v1/stacks` and `/api/v1/deploys`."""

from typing import Any

from django.db.models import Q
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from dockmesh.core.api import filtered, id_or_name, one_of, refuse_unknown, yes_or_no
from dockmesh.core.errors import Conflict, InvalidInput, NotFound
from dockmesh.deploys import selectors, services, surveys
from dockmesh.deploys.adoption import SurveyNeeded
from dockmesh.deploys.models import Deploy
from dockmesh.deploys.serializers import (
    AdoptionSerializer,
    ConfirmedSerializer,
    DeployDetailSerializer,
    DeploySerializer,
    NewStackSerializer,
    StackChangeSerializer,
    StackDetailSerializer,
    StackSerializer,
    SurveySerializer,
)
from dockmesh.fleet.models import Stack
from dockmesh.fleet.states import StackState
from tokens.permissions import Permission
from tokens.principals import actor_of, principal_of

# An agent is heard every 15 s unless told otherwise; a server that stops gives requests 20 s.
SURVEY_WAIT_SECONDS = 18.0


def _filter(name: str, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.STR, description=description, **options)


def _state(value: str) -> Q:
    if value not in list(StackState):
        raise InvalidInput("state", f"must be one of {', '.join(StackState)}.")
    return selectors.in_state(value)


class StacksView(generics.GenericAPIView[Any]):
    """All stacks, and new managed ones."""

    required_permission = {"GET": Permission.FLEET_READ, "POST": Permission.STACKS_DEPLOY}
    queryset = Stack.objects.none()
    serializer_class = StackSerializer

    @extend_schema(
        operation_id="stacks_list",
        parameters=[
            _filter("host", "Of this host: its id or name."),
            _filter("name", "With exactly this name."),
            _filter("state", "In this state.", enum=[state.value for state in StackState]),
            _filter("is_managed", "Managed (true) or discovered (false)."),
        ],
        responses=StackSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """All stacks by name, a page at a time."""
        rows = filtered(
            selectors.stacks().order_by("name", "host_id", "pk"),
            request,
            {
                "host": id_or_name("host_id", "host__name"),
                "name": "name",
                "state": _state,
                "is_managed": yes_or_no("is_managed"),
            },
        )
        page = selectors.complete(self.paginate_queryset(rows) or [])
        return self.get_paginated_response(StackSerializer(page, many=True).data)

    @extend_schema(
        operation_id="stacks_create", request=NewStackSerializer, responses={201: StackDetailSerializer}
    )
    def post(self, request: Request) -> Response:
        """Store a new managed stack; `POST /api/v1/stacks/{id}/deploy` starts it."""
        body = NewStackSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        values = dict(body.validated_data)
        stack = services.create_stack(actor=actor_of(request), host_id=values.pop("host"), **values)
        return _stack(request, stack.pk, status.HTTP_201_CREATED, f"/api/v1/stacks/{stack.pk}")


class StackView(APIView):
    """One stack."""

    required_permission = {
        "GET": Permission.FLEET_READ,
        "PATCH": Permission.STACKS_DEPLOY,
        "DELETE": Permission.STACKS_DEPLOY,
    }

    @extend_schema(operation_id="stacks_read", responses=StackDetailSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """One stack with the names in its env file and, for whoever has `stacks.read`, its Compose files."""
        return _stack(request, pk)

    @extend_schema(
        operation_id="stacks_change", request=StackChangeSerializer, responses=StackDetailSerializer
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Change the files of a managed stack; what runs is not touched before the next deploy."""
        body = StackChangeSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        values = dict(body.validated_data)
        if "env_file" in values:
            values["env_file"] = values["env_file"] or ""
        services.change_stack(actor=actor_of(request), stack_id=pk, **values)
        return _stack(request, pk)

    @extend_schema(
        operation_id="stacks_delete",
        parameters=[
            _filter("forget", "`true`: leave the host alone, whatever runs there.", enum=["true", "false"])
        ],
        responses={
            202: DeployDetailSerializer,
            204: OpenApiResponse(description="Forgotten; nothing was asked of the host."),
        },
    )
    def delete(self, request: Request, pk: int) -> Response:
        """Take the stack down on its host and then remove it here: 202 with the deploy that does it.

        Volumes stay. With `?forget=true` it is only removed here, at once: 204.
        """
        refuse_unknown(request.query_params, ["forget"])
        forget = request.query_params.get("forget", "false")
        if forget not in ("true", "false"):
            raise InvalidInput("forget", "must be true or false.")
        if forget == "true":
            services.forget_stack(actor=actor_of(request), stack_id=pk)
            return Response(status=status.HTTP_204_NO_CONTENT)
        return _accepted(services.remove_stack(actor=actor_of(request), stack_id=pk))


def _confirmed(request: Request) -> list[str]:
    """What the body confirms. None is needed: another one than JSON, as before there was any, confirms nothing."""
    if "json" not in (request.content_type or "json"):
        return []
    body = ConfirmedSerializer(data=request.data)
    body.is_valid(raise_exception=True)
    return list(body.validated_data["remove"])


def _ask(request: Request, pk: int, operation: Deploy.Operation) -> Response:
    return _accepted(services.request_deploy(actor=actor_of(request), stack_id=pk, operation=operation))


class StackDeployView(APIView):
    """`docker compose up`."""

    required_permission = {"POST": Permission.STACKS_DEPLOY}

    @extend_schema(
        operation_id="stacks_deploy", request=ConfirmedSerializer, responses={202: DeployDetailSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Deploy the stack, or deploy it again: 202 with the deploy.

        409 while another one of it runs, or where its host can't do it. What would be removed has to be confirmed
        in `remove`; else the deploy ends as a failure, with `removes`, before anything is changed.
        """
        return _accepted(
            services.request_deploy(actor=actor_of(request), stack_id=pk, remove=_confirmed(request))
        )


class StackPreviewView(APIView):
    """`docker compose up` without doing it."""

    required_permission = {"POST": Permission.STACKS_DEPLOY}

    @extend_schema(operation_id="stacks_preview", request=None, responses={202: DeployDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """What a deploy would do: 202 with a deploy of the operation `preview`.

        Once that has ended, `output` has what Compose would do, `removes` what has to be confirmed, `diff` the lines
        of the Compose file that changed. 409 while another one of the stack runs.
        """
        return _accepted(services.request_preview(actor=actor_of(request), stack_id=pk))


class StackStopView(APIView):
    """`docker compose stop`."""

    required_permission = {"POST": Permission.STACKS_DEPLOY}

    @extend_schema(operation_id="stacks_stop", request=None, responses={202: DeployDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Stop the stack's containers; they stay. 202 with the deploy that does it, 409 while another runs."""
        return _ask(request, pk, Deploy.Operation.STOP)


class StackRestartView(APIView):
    """`docker compose restart`."""

    required_permission = {"POST": Permission.STACKS_DEPLOY}

    @extend_schema(operation_id="stacks_restart", request=None, responses={202: DeployDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Restart the stack's containers: 202 with the deploy that does it, 409 while another runs."""
        return _ask(request, pk, Deploy.Operation.RESTART)


class StackValidateView(APIView):
    """`docker compose config`."""

    required_permission = {"POST": Permission.STACKS_DEPLOY}

    @extend_schema(operation_id="stacks_validate", request=None, responses={202: DeployDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Have the host's Compose read the stack's files; nothing is touched.

        202 with the deploy whose `output` will have Compose's words, 409 while another operation runs.
        """
        return _ask(request, pk, Deploy.Operation.VALIDATE)


class StackSurveyView(APIView):
    """What a discovered stack is made of, read on its host."""

    required_permission = {
        "GET": (Permission.STACKS_READ, Permission.STACKS_DEPLOY),
        "POST": Permission.STACKS_DEPLOY,
    }

    @extend_schema(operation_id="stacks_survey_read", responses=SurveySerializer)
    def get(self, request: Request, pk: int) -> Response:
        """The latest survey of a discovered stack; 404 before the first."""
        survey = surveys.latest(pk)
        if survey is None:
            raise NotFound("This stack was not surveyed.")
        return Response(SurveySerializer(surveys.view(survey)).data)

    @extend_schema(operation_id="stacks_survey", request=None, responses={202: SurveySerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Have the agent read the stack's files, from where Compose's labels say it was started: 202."""
        survey = surveys.request_survey(actor=actor_of(request), stack_id=pk)
        return Response(
            SurveySerializer(surveys.view(survey)).data,
            status=status.HTTP_202_ACCEPTED,
            headers={"Location": f"/api/v1/stacks/{pk}/survey"},
        )


class StackAdoptView(APIView):
    """Managing what was only discovered."""

    required_permission = {"POST": Permission.STACKS_DEPLOY}

    @extend_schema(operation_id="stacks_adopt", request=AdoptionSerializer, responses=StackDetailSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Manage a discovered stack; nothing is deployed.

        Without a Compose file it is managed by the files that it was started from. Where these, or what relative
        paths mean, have to be read on the host first, the answer takes as long as the agent does, at most
        18 seconds. 409 names what the user has to decide: each path whose meaning would change.
        """
        body = AdoptionSerializer(data=request.data if request.data is not None else {})
        body.is_valid(raise_exception=True)
        actor, wish = actor_of(request), body.validated_data
        try:
            services.adopt_stack(actor=actor, stack_id=pk, **wish)
        except SurveyNeeded as needed:
            self._survey(request, pk, needed)
            services.adopt_stack(actor=actor, stack_id=pk, **wish)
        return _stack(request, pk)

    def _survey(self, request: Request, pk: int, needed: SurveyNeeded) -> None:
        """Have the stack surveyed, and wait for that; raises `Conflict` that says what that leaves open."""
        try:
            survey = surveys.request_survey(actor=actor_of(request), stack_id=pk)
        except Conflict as refusal:
            raise Conflict(f"{refusal.detail} {needed.detail}") from None
        survey = surveys.wait(survey, seconds=SURVEY_WAIT_SECONDS)
        if survey.error:
            raise Conflict(f"The files could not be read: {survey.error}. {needed.detail}")


class DeploysView(generics.GenericAPIView[Deploy]):
    """All deploys."""

    required_permission = {"GET": Permission.FLEET_READ}
    queryset = Deploy.objects.none()
    serializer_class = DeploySerializer

    @extend_schema(
        operation_id="deploys_list",
        parameters=[
            _filter("stack", "Of this stack: its id or name."),
            _filter("host", "On the host of this name."),
            _filter("status", "In this state.", enum=Deploy.Status.values),
            _filter("operation", "Of this kind.", enum=Deploy.Operation.values),
        ],
        responses=DeploySerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """All deploys, the newest first, a page at a time."""
        rows = filtered(
            Deploy.objects.defer(*selectors.LARGE).order_by("-pk"),
            request,
            {
                "stack": id_or_name("stack_id", "stack_name"),
                "host": "host_name",
                "status": one_of("status", Deploy.Status.values),
                "operation": one_of("operation", Deploy.Operation.values),
            },
        )
        return self.get_paginated_response(DeploySerializer(self.paginate_queryset(rows), many=True).data)


class DeployView(APIView):
    """One deploy."""

    required_permission = {"GET": Permission.FLEET_READ}

    @extend_schema(operation_id="deploys_read", responses=DeployDetailSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """One deploy; for whoever has `stacks.read` with its output so far and the Compose files as deployed."""
        deploy = Deploy.objects.filter(pk=pk).first()
        if deploy is None:
            raise NotFound("There is no such deploy.")
        data = DeployDetailSerializer(deploy).data
        if not _may_read_files(request):
            data |= {"compose_file": None, "override_files": None, "diff": None, "output": None}
        return Response(data)


class DeployRollbackView(APIView):
    """Back to an earlier deploy."""

    required_permission = {"POST": Permission.STACKS_DEPLOY}

    @extend_schema(
        operation_id="deploys_rollback", request=ConfirmedSerializer, responses={202: DeployDetailSerializer}
    )
    def post(self, request: Request, pk: int) -> Response:
        """Deploy the files and images of this earlier, successful deploy again: 202 with the new deploy."""
        return _accepted(
            services.roll_back(actor=actor_of(request), deploy_id=pk, remove=_confirmed(request))
        )


class DeployCancelView(APIView):
    """The end of a deploy that is under way."""

    required_permission = {"POST": Permission.STACKS_DEPLOY}

    @extend_schema(operation_id="deploys_cancel", request=None, responses={202: DeployDetailSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Cancel a deploy: 202 with it.

        One that waits is `cancelled` at once. One that its agent has begun is broken off there: while images are
        fetched nothing has changed yet, after that the stack stays as far as it got; `is_changed` tells. 409 where
        it has ended.
        """
        return _accepted(services.cancel_deploy(actor=actor_of(request), deploy_id=pk))


def _may_read_files(request: Request) -> bool:
    """Compose files and outputs may hold secrets."""
    return selectors.may_read(principal_of(request))


def _stack(request: Request, pk: int, code: int = status.HTTP_200_OK, location: str = "") -> Response:
    view = selectors.detailed(pk)
    if view is None:
        raise NotFound("There is no such stack.")
    if not _may_read_files(request):
        view = view.without_files()
    headers = {"Location": location} if location else None
    return Response(StackDetailSerializer(view).data, status=code, headers=headers)


def _accepted(deploy: Deploy) -> Response:
    return Response(
        DeployDetailSerializer(deploy).data,
        status=status.HTTP_202_ACCEPTED,
        headers={"Location": f"/api/v1/deploys/{deploy.pk}"},
    )
