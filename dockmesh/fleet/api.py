"""REST: `hosts`, `containers`, `enrollment-tokens`, `discovery/prometheus`."""

import datetime
from typing import Any

from django.db.models import Q
from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from dockmesh.core.api import Lookup, filtered, id_or_name
from dockmesh.core.errors import InvalidInput, NotFound
from dockmesh.core.text import LABEL_NAME
from dockmesh.fleet import renewal, selectors, services
from dockmesh.fleet.discovery import target_groups
from dockmesh.fleet.models import Container, EnrollmentToken, Host
from dockmesh.fleet.serializers import (
    ContainerShape,
    EnrollmentTokenBody,
    EnrollmentTokenShape,
    HostChange,
    HostShape,
    IssuedEnrollmentToken,
    TargetShape,
)
from dockmesh.fleet.states import ContainerState, HostStatus
from tokens.permissions import Permission
from tokens.principals import actor_of, principal_of


def _host(host_id: int) -> Host:
    host = Host.objects.select_related("heartbeat_state").filter(pk=host_id).first()
    if host is None:
        raise NotFound("There is no such host.")
    return host


def _status(value: str) -> Q:
    if value not in list(HostStatus):
        raise InvalidInput("status", f"must be one of {', '.join(HostStatus)}.")
    return selectors.hosts_in_status(HostStatus(value))


def _state(value: str) -> Q:
    if value not in list(ContainerState):
        raise InvalidInput("state", f"must be one of {', '.join(ContainerState)}.")
    return selectors.in_shown_state(value)


def _label(value: str) -> Q:
    if not LABEL_NAME.match(value.partition("=")[0]):
        raise InvalidInput("label", "must be key=value, or a key alone.")
    return selectors.hosts_with_label(value)


class Hosts(generics.GenericAPIView[Host]):
    """All hosts. A new one enrols with a token of its own: `POST /api/v1/enrollment-tokens`."""

    required_permission = Permission.FLEET_READ
    queryset = Host.objects.select_related("heartbeat_state").order_by("name")
    serializer_class = HostShape

    @extend_schema(
        operation_id="hosts_list",
        summary="List hosts",
        parameters=[
            OpenApiParameter("status", str, enum=[status.value for status in HostStatus]),
            OpenApiParameter("name", str),
            OpenApiParameter("label", str, description="`key=value`, or `key` with any value."),
        ],
        responses=HostShape(many=True),
    )
    def get(self, request: Request) -> Response:
        """Every host with its status and its counts by state."""
        lookups: dict[str, Lookup] = {"status": _status, "name": "name", "label": _label}
        page = self.paginate_queryset(filtered(self.get_queryset(), request, lookups))
        return self.get_paginated_response(HostShape(page, many=True).data)


class HostDetail(APIView):
    """One host."""

    required_permission = {
        "GET": Permission.FLEET_READ,
        "PATCH": Permission.FLEET_MANAGE,
        "DELETE": Permission.FLEET_MANAGE,
    }

    @extend_schema(operation_id="hosts_read", summary="Show a host", responses=HostShape)
    def get(self, request: Request, id: int) -> Response:
        """The host."""
        return Response(HostShape(_host(id)).data)

    @extend_schema(
        operation_id="hosts_change", summary="Change a host", request=HostChange, responses=HostShape
    )
    def patch(self, request: Request, id: int) -> Response:
        """Rename it, replace its labels, or say where its exporters are."""
        body = HostChange(data=request.data)
        body.is_valid(raise_exception=True)
        services.change_host(actor=actor_of(request), host_id=id, **body.validated_data)
        return Response(HostShape(_host(id)).data)

    @extend_schema(operation_id="hosts_remove", summary="Remove a host", responses={204: None})
    def delete(self, request: Request, id: int) -> Response:
        """Forget the host, its stacks, containers and series; its agent's token ends."""
        services.remove_host(actor=actor_of(request), host_id=id)
        return Response(status=status.HTTP_204_NO_CONTENT)


class Containers(generics.GenericAPIView[Container]):
    """All containers."""

    required_permission = Permission.FLEET_READ
    queryset = Container.objects.select_related("host__heartbeat_state", "stack").order_by("name", "id")
    serializer_class = ContainerShape

    @extend_schema(
        operation_id="containers_list",
        summary="List containers",
        parameters=[
            OpenApiParameter("host", str, description="Id or name of a host."),
            OpenApiParameter("state", str, enum=[state.value for state in ContainerState]),
            OpenApiParameter("stack", str, description="Name of a stack."),
            OpenApiParameter("name", str),
        ],
        responses=ContainerShape(many=True),
    )
    def get(self, request: Request) -> Response:
        """Every container as its host's last inventory had it."""
        lookups: dict[str, Lookup] = {
            "host": id_or_name("host_id", "host__name"),
            "state": _state,
            "stack": "stack__name",
            "name": "name",
        }
        page = self.paginate_queryset(filtered(self.get_queryset(), request, lookups))
        return self.get_paginated_response(ContainerShape(page, many=True).data)


class ContainerDetail(APIView):
    """One container."""

    required_permission = Permission.FLEET_READ

    @extend_schema(operation_id="containers_read", summary="Show a container", responses=ContainerShape)
    def get(self, request: Request, id: int) -> Response:
        """The container."""
        row = Container.objects.select_related("host__heartbeat_state", "stack").filter(pk=id).first()
        if row is None:
            raise NotFound("There is no such container.")
        return Response(ContainerShape(row).data)


class EnrollmentTokens(generics.GenericAPIView[EnrollmentToken]):
    """All enrollment tokens."""

    required_permission = Permission.FLEET_MANAGE
    queryset = EnrollmentToken.objects.select_related("host").order_by("-id")
    serializer_class = EnrollmentTokenShape

    @extend_schema(
        operation_id="enrollment_tokens_list",
        summary="List enrollment tokens",
        responses=EnrollmentTokenShape(many=True),
    )
    def get(self, request: Request) -> Response:
        """Used and unused ones, the newest first, without their secrets."""
        page = self.paginate_queryset(filtered(self.get_queryset(), request, {}))
        return self.get_paginated_response(EnrollmentTokenShape(page, many=True).data)

    @extend_schema(
        operation_id="enrollment_tokens_create",
        summary="Make an enrollment token",
        request=EnrollmentTokenBody,
        responses={201: IssuedEnrollmentToken},
    )
    def post(self, request: Request) -> Response:
        """A token that lets one host in, once. It is in this answer and never shown again.

        With `host` it is for that host: enrolling with it gives the host a new agent token, the old one ends at
        once, and name, labels and history stay. Since the host's commands then go to whoever enrols with it, that
        needs the permissions `stacks.deploy` and `backups.manage` too.
        """
        principal, data = principal_of(request), request.data
        if principal is not None and isinstance(data, dict) and data.get("host") is not None:
            renewal.require(principal, path=request.path)
        body = EnrollmentTokenBody(data=request.data)
        body.is_valid(raise_exception=True)
        token, text = services.create_enrollment_token(
            actor=actor_of(request),
            lifetime=datetime.timedelta(seconds=body.validated_data["expires_in_seconds"]),
            host_id=body.validated_data["host"],
        )
        return Response(
            IssuedEnrollmentToken(token, context={"token": text}).data,
            status=status.HTTP_201_CREATED,
            headers={"Cache-Control": "no-store", "Location": f"/api/v1/enrollment-tokens/{token.pk}"},
        )


class EnrollmentTokenDetail(APIView):
    """One enrollment token."""

    required_permission = Permission.FLEET_MANAGE

    @extend_schema(
        operation_id="enrollment_tokens_read",
        summary="Show an enrollment token",
        responses=EnrollmentTokenShape,
    )
    def get(self, request: Request, id: int) -> Response:
        """The token, without its secret."""
        row = EnrollmentToken.objects.select_related("host").filter(pk=id).first()
        if row is None:
            raise NotFound("There is no such enrollment token.")
        return Response(EnrollmentTokenShape(row).data)

    @extend_schema(
        operation_id="enrollment_tokens_delete", summary="Delete an enrollment token", responses={204: None}
    )
    def delete(self, request: Request, id: int) -> Response:
        """It lets nobody in any more."""
        services.delete_enrollment_token(actor=actor_of(request), token_id=id)
        return Response(status=status.HTTP_204_NO_CONTENT)


class PrometheusDiscovery(APIView):
    """For `http_sd_configs`."""

    required_permission = Permission.DISCOVERY_READ

    @extend_schema(
        operation_id="discovery_prometheus",
        summary="Targets for Prometheus",
        parameters=[OpenApiParameter("exporter", str, required=True, enum=list(selectors.EXPORTERS))],
        responses={200: TargetShape(many=True)},
    )
    def get(self, request: Request) -> HttpResponse:
        """The whole list of the fleet's exporters, never a page of it; offline hosts stay listed."""
        known = ", ".join(selectors.EXPORTERS)
        for name in request.query_params:
            if name != "exporter":
                raise InvalidInput(name, "is no parameter here; there is: exporter.")
        chosen: list[str] = request.query_params.getlist("exporter")
        if len(chosen) != 1 or chosen[0] not in selectors.EXPORTERS:
            raise InvalidInput("exporter", f"must be one of {known}.")
        groups: list[dict[str, Any]] = target_groups(chosen[0])
        # Prometheus wants exactly this Content-Type.
        return JsonResponse(groups, safe=False)
