"""Shapes of the hosts', containers' and enrollment tokens' endpoints. What values must be is the services' business."""

import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from dockmesh.core import clock
from dockmesh.core.api import StrictSerializer, Text, Whole
from dockmesh.fleet.listening import offline_before
from dockmesh.fleet.models import Container, EnrollmentToken, Host
from dockmesh.fleet.selectors import counts_by_state, status_of_host
from dockmesh.fleet.states import ContainerState, HostStatus, StackState, shown_state
from tokens.serializers import IssuedMixin


@extend_schema_field(
    {
        "oneOf": [{"type": "integer"}, {"type": "string"}],
        "description": "The host's id (a number) or its name (a text).",
    }
)
class HostReference(serializers.Field[int, Any, Any, Any]):
    """A host in a request's body: its id as a number, or its name as a text. Validates to its id."""

    default_error_messages = {"unknown": "There is no such host.", "kind": "Must be a host's id or name."}

    def to_internal_value(self, data: Any) -> int:
        """The host's id."""
        if isinstance(data, bool) or not isinstance(data, int | str):
            self.fail("kind")
        found = Host.objects.filter(**({"pk": data} if isinstance(data, int) else {"name": data}))
        pk = found.values_list("pk", flat=True).first()
        if pk is None:
            self.fail("unknown")
        return pk


class ReferenceSerializer(serializers.Serializer[Any]):
    """An object by its id and name, within another's answer."""

    id = serializers.IntegerField()
    name = serializers.CharField()


LABELS_HELP = "Free key=value labels; Prometheus's discovery shows them."
PORT_HELP = "Null where the host has no such exporter."


class HostChangeSerializer(StrictSerializer):
    """What of a host can be changed; what is left out stays."""

    name = Text(required=False, trim_whitespace=False, allow_blank=True)
    labels = serializers.DictField(
        child=Text(trim_whitespace=False, allow_blank=True), required=False, help_text=LABELS_HELP
    )
    address = Text(required=False, allow_blank=True, help_text="Where Prometheus finds the host's exporters.")
    node_exporter_port = Whole(required=False, allow_null=True, help_text=PORT_HELP)
    cadvisor_port = Whole(required=False, allow_null=True, help_text=PORT_HELP)


def _offline_before(serializer: serializers.BaseSerializer[Any]) -> datetime.datetime:
    """`offline_before`, read once for all the rows of an answer."""
    context: Any = serializer.context
    if "offline_before" not in context:
        context["offline_before"] = offline_before(clock.now())
    moment: datetime.datetime = context["offline_before"]
    return moment


class HostSerializer(serializers.ModelSerializer[Host]):
    """A host; `clock_skew_seconds` is how far its agent's clock is ahead of the server's."""

    status = serializers.SerializerMethodField()
    labels = serializers.DictField(child=serializers.CharField(), read_only=True, help_text=LABELS_HELP)
    last_seen_at = serializers.DateTimeField(
        source="heartbeat_state.heard_at",
        read_only=True,
        allow_null=True,
        help_text="Null before the first heartbeat.",
    )
    clock_skew_seconds = serializers.FloatField(source="heartbeat_state.clock_skew_seconds", read_only=True)
    capabilities = serializers.ListField(
        source="agent_info.capabilities",
        child=serializers.CharField(),
        read_only=True,
        default=list,
        help_text="What its agent carries out: `deploy`, `backup`.",
    )
    compose_version = serializers.CharField(
        source="agent_info.compose_version",
        read_only=True,
        default=None,
        allow_null=True,
        help_text="Empty where the host has none, null where its agent does not say.",
    )
    restic_version = serializers.CharField(
        source="agent_info.restic_version",
        read_only=True,
        default=None,
        allow_null=True,
        help_text="As `compose_version`.",
    )
    containers = serializers.SerializerMethodField()
    stacks = serializers.SerializerMethodField()

    class Meta:
        model = Host
        fields = (
            "id",
            "name",
            "status",
            "labels",
            "last_seen_at",
            "clock_skew_seconds",
            "containers",
            "stacks",
            "address",
            "node_exporter_port",
            "cadvisor_port",
            "agent_version",
            "capabilities",
            "compose_version",
            "restic_version",
            "docker_version",
            "docker_error",
            "os",
            "arch",
            "kernel",
            "cpus",
            "memory_bytes",
            "enrolled_at",
        )

    def get_status(self, host: Host) -> HostStatus:
        """By now."""
        return status_of_host(host.heartbeat_state, _offline_before(self))

    def get_containers(self, host: Host) -> dict[str, int]:
        """Counts by state."""
        is_unknown = self.get_status(host) is HostStatus.OFFLINE
        return counts_by_state(host.container_counts, ContainerState, is_unknown=is_unknown)

    def get_stacks(self, host: Host) -> dict[str, int]:
        """Counts by state."""
        is_unknown = self.get_status(host) is HostStatus.OFFLINE
        return counts_by_state(host.stack_counts, StackState, is_unknown=is_unknown)


class ContainerSerializer(serializers.ModelSerializer[Container]):
    """A container as its host's last inventory had it; `unknown` while the host is offline."""

    host = ReferenceSerializer(read_only=True)
    stack = ReferenceSerializer(read_only=True, allow_null=True)
    state = serializers.SerializerMethodField()
    oom_killed = serializers.BooleanField(source="is_oom_killed", read_only=True)

    class Meta:
        model = Container
        fields = (
            "id",
            "container_id",
            "name",
            "image",
            "image_digest",
            "host",
            "stack",
            "service",
            "state",
            "health",
            "exit_code",
            "oom_killed",
            "restart_count",
            "restart_policy",
            "is_oneoff",
            "stop_signal",
            "error",
            "created_at",
            "started_at",
            "finished_at",
            "changed_at",
        )

    def get_state(self, container: Container) -> ContainerState:
        """By now."""
        is_offline = container.host.heartbeat_state.last_seen_at < _offline_before(self)
        return ContainerState(shown_state(container.state, is_offline=is_offline))


class EnrollmentTokenCreateSerializer(StrictSerializer):
    """How long the token works, and for which host."""

    expires_in_seconds = Whole(
        required=False, default=3600, min_value=1, max_value=30 * 86400, help_text="1 hour if left out."
    )
    host = HostReference(
        source="host_id",
        required=False,
        allow_null=True,
        default=None,
        help_text="A known host that shall get a new agent token, by id or name, which needs `stacks.deploy` and"
        " `backups.manage` too; for a new host leave it out.",
    )


class EnrollmentTokenSerializer(serializers.ModelSerializer[EnrollmentToken]):
    """An enrollment token without its secret."""

    host = ReferenceSerializer(
        read_only=True,
        allow_null=True,
        help_text="The host that it let in; with `is_renewal` the one that it is for.",
    )
    is_renewal = serializers.BooleanField(
        read_only=True, help_text="It is for a known host, which gets a new agent token and stays what it is."
    )

    class Meta:
        model = EnrollmentToken
        fields: tuple[str, ...] = (
            "id",
            "public_id",
            "created_at",
            "created_by",
            "expires_at",
            "reached_at",
            "used_at",
            "host",
            "is_renewal",
        )


class EnrollmentTokenIssuedSerializer(IssuedMixin, EnrollmentTokenSerializer):
    """The one answer that has the token itself."""

    class Meta(EnrollmentTokenSerializer.Meta):
        fields: tuple[str, ...] = (*EnrollmentTokenSerializer.Meta.fields, "token")


class TargetSerializer(serializers.Serializer[Any]):
    """A target group of Prometheus's `http_sd_configs`."""

    targets = serializers.ListField(child=serializers.CharField())
    labels = serializers.DictField(child=serializers.CharField())
