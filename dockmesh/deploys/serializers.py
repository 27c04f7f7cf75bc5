"""Shapes of the stacks' and deploys' endpoints. What the values must be is the services' business."""

from typing import Any

from rest_framework import serializers

from dockmesh.core.api import Flag, StrictSerializer, Text, Whole
from dockmesh.deploys.models import DEFAULT_TIMEOUT_SECONDS, Deploy
from dockmesh.fleet.serializers import HostReference, ReferenceSerializer
from dockmesh.fleet.states import StackState

COMPOSE_HELP = "The Compose file, as YAML."
ENV_HELP = "NAME=value lines. Encrypted at rest and never answered again, but for the names."
OVERRIDES_HELP = "Compose files that are laid over the first one, in their order (-f a -f b)."
DIRECTORY_HELP = (
    "The folder on the host that relative paths mean, as a whole path; empty: the agent's own for the stack."
)
ROLLBACK_HELP = "After a deploy that failed, deploy the last one that succeeded again: its files and images."
REMOVE_HELP = (
    "The services whose containers may be removed: those that the Compose file no longer has, or has fewer of."
    " Without it a deploy that would remove any ends before it changes anything, and names them in `removes`."
)
TIMEOUT_HELP = "Seconds after which an operation is stopped and counts as failed."


def _text(help_text: str, **options: Any) -> Text:
    return Text(help_text=help_text, trim_whitespace=False, **options)


class OverrideFileSerializer(StrictSerializer):
    """A Compose file that is laid over those before it."""

    path = Text(help_text="Its name, for people.")
    content = _text(COMPOSE_HELP)


class OverrideFilesField(serializers.ListField):
    """Several of them, in their order."""

    def __init__(self, **options: Any) -> None:
        super().__init__(child=OverrideFileSerializer(), help_text=OVERRIDES_HELP, **options)


class StackCreateSerializer(StrictSerializer):
    """A new managed stack."""

    host = HostReference(source="host_id")
    name = Text(help_text="The Compose project's name.")
    compose_file = _text(COMPOSE_HELP)
    env_file = _text(ENV_HELP, required=False, allow_blank=True, allow_null=True, default="")
    timeout_seconds = Whole(help_text=TIMEOUT_HELP, required=False, default=DEFAULT_TIMEOUT_SECONDS)
    auto_rollback = Flag(help_text=ROLLBACK_HELP, required=False, default=False)


class AdoptSerializer(StrictSerializer):
    """How a stack is to be adopted: by itself it is by the files that it was started from."""

    compose_file = _text("The Compose file, if not the host's own.", required=False, allow_null=True)
    override_files = OverrideFilesField(required=False)
    env_file = _text(
        "If not the host's own: NAME=value lines; empty for none.",
        required=False,
        allow_blank=True,
        allow_null=True,
    )
    project_directory = Text(
        help_text=f"{DIRECTORY_HELP} If not the one in which it was started.",
        required=False,
        allow_blank=True,
        allow_null=True,
    )
    accept_changes = Flag(
        help_text="Adopt it also if a deploy would mount something else.", required=False, default=False
    )
    timeout_seconds = Whole(help_text=TIMEOUT_HELP, required=False, default=DEFAULT_TIMEOUT_SECONDS)
    auto_rollback = Flag(help_text=ROLLBACK_HELP, required=False, default=False)


class FoundFileSerializer(serializers.Serializer[Any]):
    """A file that the labels name; `error` says why it could not be read."""

    path = serializers.CharField()
    content = serializers.CharField(allow_null=True)
    error = serializers.CharField()


class FoundEnvFileSerializer(serializers.Serializer[Any]):
    """An env file that was named or taken; of its text only the names."""

    path = serializers.CharField()
    env_names = serializers.ListField(child=serializers.CharField())
    error = serializers.CharField()


class FoundMountSerializer(serializers.Serializer[Any]):
    """A mount of what runs, and what a deploy would make of it."""

    service = serializers.CharField()
    target = serializers.CharField()
    before = serializers.CharField()
    after = serializers.CharField(allow_null=True, help_text="Null where it is not known.")
    is_kept = serializers.BooleanField()


class FoundSerializer(serializers.Serializer[Any]):
    """What the agent found."""

    project_directory = serializers.CharField()
    is_directory_visible = serializers.BooleanField()
    config_files = FoundFileSerializer(many=True)
    env_files = FoundEnvFileSerializer(many=True)
    mounts = FoundMountSerializer(many=True)
    others = serializers.ListField(
        child=serializers.CharField(), help_text="Containers started from other files than the newest."
    )
    compose_error = serializers.CharField()


class SurveySerializer(serializers.Serializer[Any]):
    """A survey of a discovered stack; `found` is null while it has no answer, or failed."""

    asked_at = serializers.DateTimeField()
    answered_at = serializers.DateTimeField(allow_null=True)
    error = serializers.CharField()
    found = FoundSerializer(allow_null=True)


class StackChangeSerializer(StrictSerializer):
    """What the next deploy will use; what is left out stays, an empty or null env file removes it."""

    compose_file = _text(COMPOSE_HELP, required=False)
    override_files = OverrideFilesField(required=False)
    project_directory = Text(help_text=DIRECTORY_HELP, required=False, allow_blank=True)
    env_file = _text(ENV_HELP, required=False, allow_blank=True, allow_null=True)
    timeout_seconds = Whole(help_text=TIMEOUT_HELP, required=False)
    auto_rollback = Flag(help_text=ROLLBACK_HELP, required=False)


class ConfirmedSerializer(StrictSerializer):
    """What a deploy may remove."""

    remove = serializers.ListField(
        child=Text(), help_text=REMOVE_HELP, required=False, default=list, max_length=500
    )


class DeployReferenceSerializer(serializers.ModelSerializer[Deploy]):
    """A deploy within a stack's answer."""

    class Meta:
        model = Deploy
        fields = ("id", "operation", "status", "requested_at", "finished_at", "error")


class StackSerializer(serializers.Serializer[Any]):
    """A stack, managed or discovered."""

    id = serializers.IntegerField(source="stack.pk")
    name = serializers.CharField(source="stack.name")
    host = ReferenceSerializer(source="stack.host")
    state = serializers.ChoiceField(choices=[(state.value, state.name) for state in StackState])
    state_changed_at = serializers.DateTimeField(source="stack.state_changed_at")
    is_managed = serializers.BooleanField(source="stack.is_managed")
    created_at = serializers.DateTimeField(source="stack.created_at")
    last_deploy = DeployReferenceSerializer(allow_null=True)
    has_newer_images = serializers.BooleanField(
        help_text="Whether a registry has another image under the name of one that runs."
    )


class StackDetailSerializer(StackSerializer):
    """A stack with the names in its env file and, for whoever has `stacks.read`, its Compose files.

    Null is what dockmesh doesn't hold of a stack that is only discovered.
    """

    compose_file = serializers.CharField(allow_null=True)
    override_files = serializers.ListField(child=serializers.DictField(), allow_null=True)
    project_directory = serializers.CharField(allow_null=True)
    env_names = serializers.ListField(child=serializers.CharField(), allow_null=True)
    timeout_seconds = serializers.IntegerField(allow_null=True)
    auto_rollback = serializers.BooleanField(allow_null=True)


class RemovalSerializer(serializers.Serializer[Any]):
    """Containers of one service that go without being replaced."""

    service = serializers.CharField()
    containers = serializers.ListField(child=serializers.CharField())
    count = serializers.IntegerField(help_text="Of how many of them.")


class ImageSerializer(serializers.Serializer[Any]):
    """What ran for a service."""

    service = serializers.CharField()
    image = serializers.CharField(help_text="As the Compose file names it.")
    image_id = serializers.CharField()
    digest = serializers.CharField(
        help_text="`repository@sha256:…`; empty for an image that was built or loaded."
    )


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
            "is_automatic",
            "cancelled_by",
            "requested_by",
            "requested_at",
            "started_at",
            "finished_at",
            "duration_seconds",
            "exit_code",
            "error",
        )


class DeployDetailSerializer(DeploySerializer):
    """A deploy with its output, the Compose files as deployed, and what the agent says of it.

    The output, the files and their difference are null without `stacks.read` or `stacks.deploy`.
    """

    output = serializers.CharField(allow_null=True)
    compose_file = serializers.CharField(allow_null=True)
    override_files = serializers.ListField(child=serializers.DictField(), allow_null=True)
    removes = RemovalSerializer(many=True, help_text="What it removed, or would remove.")
    images = ImageSerializer(many=True, help_text="What ran in the end; empty unless it succeeded.")
    services = serializers.ListField(child=serializers.CharField(), help_text="Of the Compose files.")
    is_changed = serializers.BooleanField(
        allow_null=True, help_text="Whether any container was changed; null where the agent does not say."
    )
    diff = serializers.CharField(
        allow_null=True,
        help_text="Of a preview: the Compose file's lines against the last deploy that succeeded.",
    )
    remove = serializers.ListField(
        child=serializers.CharField(), help_text="The services whose removal was confirmed."
    )

    class Meta(DeploySerializer.Meta):
        fields = (  # type: ignore[assignment]
            *DeploySerializer.Meta.fields,
            "timeout_seconds",
            "remove",
            "removes",
            "services",
            "images",
            "is_changed",
            "diff",
            "output",
            "compose_file",
            "override_files",
            "project_directory",
        )
