"""Deploys of stacks: what was asked, by whom, and how it ended."""

from django.db import models

from dockmesh.fleet.models import Stack


class Deploy(models.Model):
    """One deploy of one stack."""

    class Status(models.TextChoices):
        """Where the deploy is."""

        QUEUED = "queued"
        RUNNING = "running"
        SUCCESS = "success"
        FAILURE = "failure"

    stack = models.ForeignKey(Stack, on_delete=models.CASCADE, related_name="deploys")
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.QUEUED)
    requested_by = models.CharField(max_length=255)
    requested_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)
    duration_seconds = models.FloatField(null=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"deploy {self.pk}"
