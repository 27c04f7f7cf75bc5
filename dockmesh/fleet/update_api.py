"""REST: agents that are brought up to date."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from rest_framework import serializers
from rest_framework.response import Response

from dockmesh.core.api import Flag, StrictSerializer, Text, Whole
from dockmesh.core.errors import InvalidInput
from dockmesh.core.filters import FilterSet, ReferenceFilter, TextFilter
from dockmesh.core.strictjson import MAX_INTEGER
from dockmesh.core.viewsets import ServiceViewSet, operation
from dockmesh.env import digits
from dockmesh.fleet.models import AgentUpdate, Host
from dockmesh.fleet.selectors import with_label
from dockmesh.fleet.serializers import ReferenceSerializer
from dockmesh.fleet.services import agent_updates
from dockmesh.fleet.services.agent_updates import RefusedUpdate
from tokens.permissions import Permission


class AgentUpdateSerializer(serializers.ModelSerializer[AgentUpdate]):
    """An agent's update: `waiting`, `running`, then `success`, `failure`, or `stopped` where it never began."""

    host = ReferenceSerializer(read_only=True)
    rollout = serializers.IntegerField(source="rollout_id", read_only=True)
    requested_at = serializers.DateTimeField(source="rollout.created_at", read_only=True)
    requested_by = serializers.CharField(source="rollout.created_by", read_only=True)

    class Meta:
        model = AgentUpdate
        fields = (
            "id",
            "rollout",
            "host",
            "status",
            "error",
            "version_before",
            "requested_at",
            "requested_by",
            "finished_at",
        )


class AgentUpdatesSerializer(StrictSerializer):
    """Which hosts: one of the three."""

    hosts = serializers.ListField(child=Whole(min_value=1), required=False, help_text="Their ids.")
    label = Text(  # type: ignore[assignment]  # a field of that name
        required=False, help_text="`key=value`, or `key` with any value."
    )
    all = Flag(required=False, help_text="`true`: all whose agents are not what this server hands out.")


class RefusedUpdateSerializer(serializers.Serializer[RefusedUpdate]):
    """A host whose agent is not updated, and why."""

    host = serializers.IntegerField()
    name = serializers.CharField()
    detail = serializers.CharField()


class AskedUpdatesSerializer(serializers.Serializer[Any]):
    """The updates of a rollout, and the hosts for which there is none."""

    rollout = serializers.IntegerField()
    updates = AgentUpdateSerializer(many=True)
    refused = RefusedUpdateSerializer(many=True)


class AgentUpdateOperations(ServiceViewSet[Host]):
    """What can be done with the agents of hosts."""

    @operation(
        Permission.FLEET_MANAGE,
        path="update-agent",
        status=202,
        answer=AgentUpdateSerializer,
        location="agent-updates-detail",
        summary="Update a host's agent",
    )
    def update_agent(self, id: int) -> AgentUpdate:
        """The agent fetches this server's file, tries it, and goes back to its own unless the server hears the new one.

        409 where it can't: the host is offline, its agent up to date, or not installed by the server's script.
        """
        return agent_updates.update_agent(actor=self.actor, host_id=id)

    @operation(
        Permission.FLEET_MANAGE,
        path="update-agents",
        detail=False,
        body=AgentUpdatesSerializer,
        status=202,
        answer=AskedUpdatesSerializer,
        summary="Update the agents of several hosts",
    )
    def update_agents(self, **which: Any) -> Response:
        """One at first, then five at a time; the first one that fails stops those that have not begun.

        409 if none can be updated.
        """
        rollout, refused = agent_updates.update_agents(actor=self.actor, host_ids=_chosen(which))
        updates = rollout.updates.select_related("host", "rollout").order_by("host__name")
        shown = {"rollout": rollout.pk, "updates": updates, "refused": refused}
        return Response(AskedUpdatesSerializer(shown).data, status=202)


def _chosen(which: dict[str, Any]) -> list[int]:
    if len(which) != 1 or which.get("all") is False:
        raise InvalidInput("hosts", "must be given, or label, or all as true; one of the three.")
    if "hosts" in which:
        return list(which["hosts"])
    rows = Host.objects.filter(with_label(which["label"])) if "label" in which else Host.objects.all()
    if not (found := agent_updates.behind(rows)):
        raise InvalidInput(next(iter(which)), "names no host whose agent is not up to date.")
    return found


def _of_rollout(value: str) -> Q:
    number = digits(value, most=MAX_INTEGER)
    if number is None:
        raise InvalidInput("rollout", "must be a whole number.")
    return Q(rollout_id=number)


class AgentUpdateFilter(FilterSet):
    """Filters of updates."""

    host = ReferenceFilter("host_id", "host__name", help_text="Id or name of a host.")
    rollout = TextFilter(
        condition=_of_rollout, help_text="Id of a rollout: of updates that were asked for together."
    )
    status = TextFilter(choices=list(AgentUpdate.Status))


class AgentUpdateViewSet(ServiceViewSet[AgentUpdate]):
    """Updates of agents, the newest first."""

    noun = "agent update"
    queryset = AgentUpdate.objects.select_related("host", "rollout").order_by("-id")
    serializer_class = AgentUpdateSerializer
    filterset_class = AgentUpdateFilter
    read_permission = Permission.FLEET_READ
