"""The lease."""

from django.db import models


class Lease(models.Model):
    """Who may run the periodic jobs, and until when by the database's clock."""

    name = models.CharField(max_length=64, primary_key=True)
    holder = models.CharField(max_length=128)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} of {self.holder}"
