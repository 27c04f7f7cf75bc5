"""Managed stacks' files, and deploys: what was asked, by whom, with which files, and how it ended."""

from django.db import models
from django.db.models import JSONField, Q, Value

DEFAULT_TIMEOUT_SECONDS = 1800
# Known to the database too: an older replica writes rows without these columns.
NO_ITEMS = Value([], JSONField())


class Placed(models.Model):
    """Files that lie over the first one, and the folder that relative paths in all of them mean."""

    # [{"path": …, "content": …}], in their order. Known to the database too: an older replica writes rows without.
    override_files = JSONField(default=list, db_default=Value([], JSONField()), blank=True)
    # On the host; empty: the agent's own folder for the stack.
    project_directory = models.CharField(max_length=1024, default="", db_default="", blank=True)
    # The user said so: the agent deploys there also if bind mounts then differ from those that run.
    is_directory_decided = models.BooleanField(default=False, db_default=False)

    class Meta:
        abstract = True


class StackFiles(Placed):
    """What dockmesh holds of a managed stack: what the next deploy will use."""

    stack = models.OneToOneField(
        "fleet.Stack", on_delete=models.CASCADE, primary_key=True, related_name="files"
    )
    compose_file = models.TextField()
    # Encrypted, see dockmesh.core.encrypted; empty where there is none.
    encrypted_env_file = models.TextField(blank=True, editable=False, db_column="env_file_sealed")
    timeout_seconds = models.PositiveIntegerField(default=DEFAULT_TIMEOUT_SECONDS)
    # After a deploy that failed, go back to the last one that succeeded.
    auto_rollback = models.BooleanField(default=False, db_default=False)
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "stack files"

    def __str__(self) -> str:
        return f"files of stack {self.pk}"


class Survey(models.Model):
    """What an agent found of a discovered stack's files, by Compose's labels; the latest one of each stack."""

    stack = models.OneToOneField(
        "fleet.Stack", on_delete=models.CASCADE, primary_key=True, related_name="survey"
    )
    # Tells its command from an earlier one's.
    request_id = models.UUIDField()
    asked_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=2000, blank=True)
    # The files may hold secrets: encrypted, see dockmesh.core.encrypted.
    encrypted_answer = models.TextField(blank=True, editable=False, db_column="found_sealed")

    def __str__(self) -> str:
        return f"survey of stack {self.pk}"


class Deploy(Placed):
    """One operation on one stack. It outlives its stack: the history stays when a stack is removed."""

    class Status(models.TextChoices):
        """Where the deploy is."""

        QUEUED = "queued"
        RUNNING = "running"
        SUCCESS = "success"
        FAILURE = "failure"
        CANCELLED = "cancelled"

    class Operation(models.TextChoices):
        """What `docker compose` is asked to do; only `up` counts as a deploy on /metrics."""

        UP = "up"
        STOP = "stop"
        RESTART = "restart"
        DOWN = "down"
        # `config`: it touches nothing.
        VALIDATE = "validate"
        # What `up` would do; nothing is changed by it.
        PREVIEW = "preview"

    stack = models.ForeignKey("fleet.Stack", on_delete=models.SET_NULL, null=True, related_name="deploys")
    stack_name = models.CharField(max_length=1024)
    host_name = models.CharField(max_length=200)
    operation = models.CharField(max_length=16, choices=Operation.choices, default=Operation.UP)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.QUEUED)
    rollback_of = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="+")
    # As deployed, so that a later roll-back gets exactly these.
    compose_file = models.TextField(blank=True)
    encrypted_env_file = models.TextField(blank=True, editable=False, db_column="env_file_sealed")
    timeout_seconds = models.PositiveIntegerField(default=DEFAULT_TIMEOUT_SECONDS)
    # The services whose containers may be removed, as whoever asked for it has confirmed.
    remove = models.JSONField(default=list, db_default=NO_ITEMS)
    # Asked for by nobody: it goes back after a deploy that failed.
    is_automatic = models.BooleanField(default=False, db_default=False)
    requested_by = models.CharField(max_length=255)
    requested_at = models.DateTimeField()
    # The agent has it from here on.
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    # By the agent's monotonic clock; by the server's where the agent never reported.
    duration_seconds = models.FloatField(null=True)
    exit_code = models.IntegerField(null=True)
    output = models.TextField(blank=True)
    error = models.CharField(max_length=2000, blank=True)
    # What the agent says beside that, as dockmesh.deploys.outcomes reads it: the services of the files, the containers
    # that are removed or would be, the image of each service that ran in the end, whether a container was changed.
    services = models.JSONField(default=list, db_default=NO_ITEMS)
    removes = models.JSONField(default=list, db_default=NO_ITEMS)
    images = models.JSONField(default=list, db_default=NO_ITEMS)
    is_changed = models.BooleanField(null=True)
    # Of a preview: the Compose file's lines against the last deploy that succeeded.
    diff = models.TextField(blank=True, default="", db_default="")
    # Who wants it to end, from the moment in which that was asked.
    cancelled_by = models.CharField(max_length=255, blank=True, default="", db_default="")
    command_id = models.BigIntegerField(null=True, editable=False)

    class Meta:
        ordering = ("-id",)
        constraints = [
            # One at a time for each stack, however many ask at once. What only looks is in nobody's way.
            models.UniqueConstraint(
                fields=["stack"],
                condition=Q(status__in=["queued", "running"]) & ~Q(operation__in=["preview", "validate"]),
                name="one_open_change_of_a_stack",
            )
        ]
        indexes = [
            # The stack's page and the lists, newest first.
            models.Index("stack", models.F("id").desc(), name="deploy_by_stack"),
            models.Index("status", models.F("id").desc(), name="deploy_by_status"),
        ]

    def __str__(self) -> str:
        return f"deploy {self.pk}"

    @property
    def title(self) -> str:
        """What was asked for, in a word for people."""
        if self.rollback_of_id is not None:
            return "automatic roll-back" if self.is_automatic else "roll-back"
        words = {"up": "deploy", "down": "removal", "validate": "check"}
        return words.get(self.operation, self.operation)

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.status in (self.Status.QUEUED, self.Status.RUNNING)


# These read the files as they are saved; the others use what was deployed.
READ_FILES = (Deploy.Operation.UP, Deploy.Operation.PREVIEW, Deploy.Operation.VALIDATE)
# These only look.
LOOKS = (Deploy.Operation.PREVIEW, Deploy.Operation.VALIDATE)
