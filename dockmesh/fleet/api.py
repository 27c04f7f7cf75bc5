"""REST: `hosts`, `containers`, `enrollment-tokens`, `discovery/prometheus`."""

import datetime
from typing import Any

from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from dockmesh.core.errors import InvalidInput
from dockmesh.core.filters import FilterSet, ReferenceFilter, TextFilter, refuse_unknown
from dockmesh.core.viewsets import ServiceViewSet, operation
from dockmesh.fleet import renewal, selectors, services
from dockmesh.fleet.container_api import ContainerOperations
from dockmesh.fleet.discovery import target_groups
from dockmesh.fleet.models import Container, EnrollmentToken, Host
from dockmesh.fleet.serializers import (
    ContainerSerializer,
    EnrollmentTokenCreateSerializer,
    EnrollmentTokenIssuedSerializer,
    EnrollmentTokenSerializer,
    HostChangeSerializer,
    HostSerializer,
    TargetSerializer,
)
from dockmesh.fleet.states import ContainerState, HostStatus
from dockmesh.fleet.update_api import AgentUpdateOperations
from tokens.permissions import Permission


class HostFilter(FilterSet):
    """Filters of hosts."""

    status = TextFilter(
        choices=list(HostStatus), condition=lambda value: selectors.hosts_in_status(HostStatus(value))
    )
    name = TextFilter()
    label = TextFilter(condition=selectors.with_label, help_text="`key=value`, or `key` with any value.")


class HostViewSet(AgentUpdateOperations):
    """Every host by name, with its status and its counts by state.

    A new one enrols with a token of its own: `POST /api/v1/enrollment-tokens`.
    """

    noun = "host"
    queryset = Host.objects.select_related("heartbeat_state").order_by("name")
    serializer_class = HostSerializer
    filterset_class = HostFilter
    read_permission = Permission.FLEET_READ

    @operation(Permission.FLEET_MANAGE, body=HostChangeSerializer)
    def change(self, id: int, **values: Any) -> Any:
        """Rename it, replace its labels, or say where its exporters are."""
        services.change_host(actor=self.actor, host_id=id, **values)
        return self.one(id)

    @operation(Permission.FLEET_MANAGE)
    def remove(self, id: int) -> None:
        """Forget the host, its stacks, containers and series; its agent's token ends."""
        services.remove_host(actor=self.actor, host_id=id)


class ContainerFilter(FilterSet):
    """Filters of containers."""

    host = ReferenceFilter("host_id", "host__name", help_text="Id or name of a host.")
    state = TextFilter(choices=list(ContainerState), condition=selectors.in_shown_state)
    stack = TextFilter("stack__name", help_text="Name of a stack.")
    name = TextFilter()


class ContainerViewSet(ContainerOperations):
    """Every container by name, as its host's last inventory had it."""

    noun = "container"
    queryset = Container.objects.select_related("host__heartbeat_state", "stack").order_by("name", "id")
    serializer_class = ContainerSerializer
    filterset_class = ContainerFilter
    read_permission = Permission.FLEET_READ


class EnrollmentTokenViewSet(ServiceViewSet[EnrollmentToken]):
    """Used and unused enrollment tokens, the newest first, without their secrets."""

    noun = "enrollment token"
    queryset = EnrollmentToken.objects.select_related("host").order_by("-id")
    serializer_class = EnrollmentTokenSerializer
    read_permission = Permission.FLEET_MANAGE

    def check_permissions(self, request: Request) -> None:
        """One for a known host takes more than its permission, and that is refused before anything is told of the host."""
        super().check_permissions(request)
        sent: Any = request.data if self.action == "create" else {}
        if sent.get("host") is not None:
            renewal.require(self.principal, path=request.path)

    @operation(
        Permission.FLEET_MANAGE, body=EnrollmentTokenCreateSerializer, answer=EnrollmentTokenIssuedSerializer
    )
    def create(self, *, expires_in_seconds: int, host_id: int | None) -> services.Issued:
        """A token that lets one host in, once. It is in this answer and never shown again.

        With `host` it is for that host: enrolling with it gives the host a new agent token, the old one ends at
        once, and name, labels and history stay. Since the host's commands then go to whoever enrols with it, that
        needs the permissions `stacks.deploy` and `backups.manage` too.
        """
        lifetime = datetime.timedelta(seconds=expires_in_seconds)
        return services.create_enrollment_token(actor=self.actor, lifetime=lifetime, host_id=host_id)

    @operation(Permission.FLEET_MANAGE)
    def remove(self, id: int) -> None:
        """It lets nobody in any more."""
        services.delete_enrollment_token(actor=self.actor, token_id=id)


class PrometheusDiscovery(APIView):
    """For `http_sd_configs`."""

    required_permission = Permission.DISCOVERY_READ

    @extend_schema(
        operation_id="discovery_prometheus",
        summary="Targets for Prometheus",
        parameters=[OpenApiParameter("exporter", str, required=True, enum=list(selectors.EXPORTERS))],
        responses={200: TargetSerializer(many=True)},
    )
    def get(self, request: Request) -> HttpResponse:
        """The whole list of the fleet's exporters, never a page of it; offline hosts stay listed."""
        refuse_unknown(request.query_params, ["exporter"])
        chosen: list[str] = request.query_params.getlist("exporter")
        if len(chosen) != 1 or chosen[0] not in selectors.EXPORTERS:
            raise InvalidInput("exporter", f"must be one of {', '.join(selectors.EXPORTERS)}.")
        groups: list[dict[str, Any]] = target_groups(chosen[0])
        # Prometheus wants exactly this Content-Type.
        return JsonResponse(groups, safe=False)
