"""What the exposition keeps itself: durable counts of API requests."""

from django.db import models


class ApiRequestCount(models.Model):
    """How many API requests had this method, route template and status."""

    method = models.CharField(max_length=16)
    path = models.CharField(max_length=200)
    status = models.PositiveSmallIntegerField()
    count = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["method", "path", "status"], name="request_count_is_one_series")
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"
