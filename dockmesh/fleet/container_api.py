"""REST: what is done with containers, and what became of it."""

import functools
import uuid
from typing import Any

from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from dockmesh.core.api import StrictSerializer, Text, Whole
from dockmesh.core.errors import Conflict, InvalidInput, NotFound
from dockmesh.core.filters import refuse_unknown
from dockmesh.core.viewsets import ServiceViewSet, operation
from dockmesh.fleet.models import AgentCommand, Container
from dockmesh.fleet.serializers import ReferenceSerializer
from dockmesh.fleet.services import containers, logs
from dockmesh.fleet.services.containers import ContainerAction, RefusedAction
from tokens.permissions import Permission


class CommandSerializer(serializers.ModelSerializer[AgentCommand]):
    """A command to a host's agent. It goes on from `queued` to `handed_out`, and ends as `done` or `expired`."""

    id = serializers.UUIDField(source="uuid", read_only=True)
    host = ReferenceSerializer(read_only=True)
    action = serializers.SerializerMethodField(help_text="Of a container; else empty.")
    container = serializers.SerializerMethodField(help_text="The name of the container; else empty.")
    result = serializers.SerializerMethodField(help_text="`success` or `failure`; empty until it has ended.")
    outcome = serializers.SerializerMethodField(
        help_text="In a word, such as `restarted` or `already stopped`."
    )
    error = serializers.SerializerMethodField(help_text="Why it failed; else empty.")

    class Meta:
        model = AgentCommand
        fields = (
            "id",
            "kind",
            "action",
            "container",
            "host",
            "status",
            "result",
            "outcome",
            "error",
            "created_at",
            "handed_out_at",
            "finished_at",
        )

    def get_action(self, command: AgentCommand) -> str:
        """From the payload."""
        return str(command.payload.get("action", "")) if command.kind == containers.KIND else ""

    def get_container(self, command: AgentCommand) -> str:
        """From the payload."""
        return str(command.payload.get("name", "")) if command.kind == containers.KIND else ""

    def get_result(self, command: AgentCommand) -> str:
        """As the agent reported it."""
        return _said(command, "result")

    def get_outcome(self, command: AgentCommand) -> str:
        """As the agent reported it."""
        return _said(command, "outcome")

    def get_error(self, command: AgentCommand) -> str:
        """As the agent reported it, or why nobody reported."""
        return _said(command, "error")


def _said(command: AgentCommand, key: str) -> str:
    return str((command.result or {}).get(key, ""))


class ContainerActionsSerializer(StrictSerializer):
    """What is to be done, with which containers."""

    action = Text(help_text="`start`, `stop`, `restart` or `kill`.")
    containers = serializers.ListField(child=Whole(min_value=1), help_text="Their ids.", allow_empty=True)


class RefusedActionSerializer(serializers.Serializer[RefusedAction]):
    """A container for which nothing was asked, and why."""

    container = serializers.IntegerField()
    name = serializers.CharField()
    detail = serializers.CharField()


class AskedActionsSerializer(serializers.Serializer[Any]):
    """The commands, and the containers for which there is none."""

    commands = CommandSerializer(many=True)
    refused = RefusedActionSerializer(many=True)


LOG_PARAMETERS = [
    OpenApiParameter("tail", int, description=f"The last lines, {logs.USUAL_LINES} if left out."),
    OpenApiParameter("since", str, description="A time, Unix seconds, or how long ago, like `10m`."),
    OpenApiParameter("follow", bool, description="Go on with what is written from now on."),
    OpenApiParameter("stdout", bool, description="True if left out."),
    OpenApiParameter("stderr", bool, description="True if left out."),
    OpenApiParameter("timestamps", bool, description="Before each line."),
    OpenApiParameter("search", str, description="Only lines with this text, in any case."),
    OpenApiParameter("ansi", bool, description="Show terminal sequences instead of taking them out."),
]

_operation = functools.partial(
    operation,
    Permission.CONTAINERS_OPERATE,
    status=202,
    answer=CommandSerializer,
    location="commands-detail",
)


class ContainerOperations(ServiceViewSet[Container]):
    """What can be done with a container: answered at once with the command, which its agent fetches at once."""

    @_operation(summary="Start a container")
    def start(self, id: int) -> AgentCommand:
        """409 while the host is offline or can't, and while something else is done with the container."""
        return self._act(id, ContainerAction.START)

    @_operation(summary="Stop a container")
    def stop(self, id: int) -> AgentCommand:
        """With the time that the container has for it. Refused as `start`."""
        return self._act(id, ContainerAction.STOP)

    @_operation(summary="Restart a container")
    def restart(self, id: int) -> AgentCommand:
        """Stopped as by `stop`, then started. Refused as `start`."""
        return self._act(id, ContainerAction.RESTART)

    @_operation(summary="Kill a container")
    def kill(self, id: int) -> AgentCommand:
        """At once, with SIGKILL. Refused as `start`."""
        return self._act(id, ContainerAction.KILL)

    @_operation(
        detail=False,
        body=ContainerActionsSerializer,
        answer=AskedActionsSerializer,
        summary="Act on several containers",
    )
    def actions(self, action: str, containers: list[int]) -> Response:
        """Each by itself: `commands` are those that were asked for, `refused` the containers for which nothing was.

        409 if none was asked for.
        """
        return several(actor=self.actor, action=action, container_ids=containers)

    @extend_schema(
        parameters=LOG_PARAMETERS,
        responses={(200, "text/plain"): OpenApiTypes.STR},
    )
    @operation(Permission.CONTAINERS_LOGS, method="get", summary="Read a container's log")
    def logs(self, id: int) -> StreamingHttpResponse:
        """The last lines, or all that come with `follow`; at most 10 MB and 15 minutes, then a last line says so.

        409 with the reason where there is no log to be had, 429 while too many logs of the host are being read, 503
        while too many are being read through this server, 504 where its agent does not answer.
        """
        params = self.request.query_params
        refuse_unknown(params, logs.OPTIONS)
        for name in logs.OPTIONS:
            if len(params.getlist(name)) > 1:
                raise InvalidInput(name, "must be given once.")
        return log_response(self.request, actor=self.actor, container_id=id, options=logs.log_options(params))

    def _act(self, id: int, action: ContainerAction) -> AgentCommand:
        return containers.act_on_container(actor=self.actor, container_id=id, action=action)


def log_response(
    request: Any, *, actor: Any, container_id: int, options: logs.LogOptions, filename: str = ""
) -> StreamingHttpResponse:
    """The log as text while it comes; a file to be saved where it has a name."""
    is_gone = request.META.get("dockmesh.has_hung_up", lambda: False)
    stream = logs.LogStream(actor=actor, container_id=container_id, options=options, is_gone=is_gone)
    response = StreamingHttpResponse(
        stream,
        content_type="text/plain; charset=utf-8",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    if filename:
        response.headers["Content-Disposition"] = content_disposition_header(True, filename) or "attachment"
    return response


def several(*, actor: Any, action: str, container_ids: list[int]) -> Response:
    """The answer to one request for several containers."""
    if action not in list(ContainerAction):
        raise InvalidInput("action", f"must be one of {', '.join(ContainerAction)}.")
    asked, refused = containers.act_on_containers(
        actor=actor, container_ids=container_ids, action=ContainerAction(action)
    )
    if not asked:
        raise Conflict(
            "Nothing was asked for.",
            errors={"containers": [f"{each.name or each.container}: {each.detail}" for each in refused]},
        )
    data = AskedActionsSerializer({"commands": asked, "refused": refused}).data
    return Response(data, status=202)


class CommandViewSet(ServiceViewSet[AgentCommand]):
    """Commands to agents, for a week after their end."""

    noun = "command"
    queryset = AgentCommand.objects.select_related("host")
    serializer_class = CommandSerializer
    read_permission = Permission.FLEET_READ
    is_listed = False
    lookup_field = "uuid"
    lookup_value_converter = "str"

    def one(self, id: str) -> AgentCommand:
        """The command with this UUID; what is none names nothing."""
        try:
            command: AgentCommand = super().one(uuid.UUID(id))
        except ValueError:
            raise NotFound("There is no such command.") from None
        return command
