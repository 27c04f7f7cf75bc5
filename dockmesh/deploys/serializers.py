"""Shapes of the stacks' and deploys' endpoints. What the values must be is the services' business."""

from typing import Any

from rest_framework import serializers

from dockmesh.core.api import StrictSerializer, Text, Whole
from dockmesh.deploys.models import DEFAULT_TIMEOUT_SECONDS, Deploy
from dockmesh.fleet.references import HostReference, HostSerializer
from dockmesh.fleet.states import StackState

COMPOSE_HELP = "The Compose file, as YAML."
ENV_HELP = "NAME=value lines. Encrypted at rest and never answered again, but for the names."
TIMEOUT_HELP = "Seconds after which an operation is stopped and counts as failed."


def _text(help_text: str, **options: Any) -> Text:
    return Text(help_text=help_text, trim_whitespace=False, **options)


class FilesSerializer(StrictSerializer):
    """The files of a stack that is to be adopted."""

    compose_file = _text(COMPOSE_HELP)
    env_file = _text(ENV_HELP, required=False, allow_blank=True, allow_null=True, default="")
    timeout_seconds = Whole(help_text=TIMEOUT_HELP, required=False, default=DEFAULT_TIMEOUT_SECONDS)


class NewStackSerializer(FilesSerializer):
    """A new managed stack."""

    host = HostReference()
    name = Text(help_text="The Compose project's name.")


class StackChangeSerializer(StrictSerializer):
    """What the next deploy will use; what is left out stays, an empty or null env file removes it."""

    compose_file = _text(COMPOSE_HELP, required=False)
    env_file = _text(ENV_HELP, required=False, allow_blank=True, allow_null=True)
    timeout_seconds = Whole(help_text=TIMEOUT_HELP, required=False)


class DeployReferenceSerializer(serializers.ModelSerializer[Deploy]):
    """A deploy within a stack's answer."""

    class Meta:
        model = Deploy
        fields = ("id", "operation", "status", "requested_at", "finished_at", "error")


class StackSerializer(serializers.Serializer[Any]):
    """A stack, managed or discovered."""

    id = serializers.IntegerField(source="stack.pk")
    name = serializers.CharField(source="stack.name")
    host = HostSerializer(source="stack.host")
    state = serializers.ChoiceField(choices=[(state.value, state.name) for state in StackState])
    state_changed_at = serializers.DateTimeField(source="stack.state_changed_at")
    is_managed = serializers.BooleanField(source="stack.is_managed")
    created_at = serializers.DateTimeField(source="stack.created_at")
    last_deploy = DeployReferenceSerializer(allow_null=True)


class StackDetailSerializer(StackSerializer):
    """A stack with what dockmesh holds of it; null where it is only discovered."""

    compose_file = serializers.CharField(allow_null=True)
    env_names = serializers.ListField(child=serializers.CharField(), allow_null=True)
    timeout_seconds = serializers.IntegerField(allow_null=True)


class DeploySerializer(serializers.ModelSerializer[Deploy]):
    """A deploy in a list."""

    stack = serializers.IntegerField(source="stack_id", allow_null=True, help_text="Null once it is removed.")
    rollback_of = serializers.IntegerField(source="rollback_of_id", allow_null=True)

    class Meta:
        model = Deploy
        fields = (
            "id",
            "stack",
            "stack_name",
            "host_name",
            "operation",
            "status",
            "rollback_of",
            "requested_by",
            "requested_at",
            "started_at",
            "finished_at",
            "duration_seconds",
            "exit_code",
            "error",
        )


class DeployDetailSerializer(DeploySerializer):
    """A deploy with its output and the Compose file as deployed."""

    class Meta(DeploySerializer.Meta):
        fields = (*DeploySerializer.Meta.fields, "timeout_seconds", "output", "compose_file")  # type: ignore[assignment]
