"""Managed stacks' files, and deploys: what was asked, by whom, with which files, and how it ended."""

from django.db import models
from django.db.models import Q

from dockmesh.fleet.models import Stack

DEFAULT_TIMEOUT_SECONDS = 1800


class StackFiles(models.Model):
    """What dockmesh holds of a managed stack: what the next deploy will use."""

    stack = models.OneToOneField(Stack, on_delete=models.CASCADE, primary_key=True, related_name="files")
    compose_file = models.TextField()
    # Encrypted, see dockmesh.core.sealed; empty where there is none.
    env_file_sealed = models.TextField(blank=True, editable=False)
    timeout_seconds = models.PositiveIntegerField(default=DEFAULT_TIMEOUT_SECONDS)
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "stack files"

    def __str__(self) -> str:
        return f"files of stack {self.pk}"


class Deploy(models.Model):
    """One operation on one stack. It outlives its stack: the history stays when a stack is removed."""

    class Status(models.TextChoices):
        """Where the deploy is."""

        QUEUED = "queued"
        RUNNING = "running"
        SUCCESS = "success"
        FAILURE = "failure"

    class Operation(models.TextChoices):
        """What `docker compose` is asked to do; only `up` counts as a deploy on /metrics."""

        UP = "up"
        STOP = "stop"
        RESTART = "restart"
        DOWN = "down"

    stack = models.ForeignKey(Stack, on_delete=models.SET_NULL, null=True, related_name="deploys")
    stack_name = models.CharField(max_length=1024)
    host_name = models.CharField(max_length=200)
    operation = models.CharField(max_length=16, choices=Operation.choices, default=Operation.UP)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.QUEUED)
    rollback_of = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="+")
    # As deployed, so that a later roll-back gets exactly these.
    compose_file = models.TextField(blank=True)
    env_file_sealed = models.TextField(blank=True, editable=False)
    timeout_seconds = models.PositiveIntegerField(default=DEFAULT_TIMEOUT_SECONDS)
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
    command_id = models.BigIntegerField(null=True, editable=False)

    class Meta:
        ordering = ("-id",)
        constraints = [
            # One at a time for each stack, however many ask at once.
            models.UniqueConstraint(
                fields=["stack"],
                condition=Q(status__in=["queued", "running"]),
                name="one_open_deploy_of_a_stack",
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
            return "roll-back"
        return {self.Operation.UP.value: "deploy", self.Operation.DOWN.value: "removal"}.get(
            self.operation, self.operation
        )

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.status in (self.Status.QUEUED, self.Status.RUNNING)
