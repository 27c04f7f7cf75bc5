"""The lease."""

from django.db import models

LEASE = "scheduler"


class Lease(models.Model):
    """Who may run the periodic jobs, and until when by the database's clock."""

    name = models.CharField(max_length=64, primary_key=True)
    holder = models.CharField(max_length=128)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} of {self.holder}"


class PeriodicTask(models.Model):
    """How a periodic job has fared, for /metrics; of all replicas together."""

    name = models.CharField(max_length=64, primary_key=True)
    # By the database's clock: the end of the last run in which nothing failed.
    last_success_at = models.DateTimeField(null=True)
    failures = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class LiveMark(models.Model):
    """One row in a database that is in use, and none in a copy that dockmesh makes of it.

    So a server that starts without the row knows that its database was restored.
    """

    def __str__(self) -> str:
        return "live"
