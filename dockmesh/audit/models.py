"""The audit log: a chain of entries, its head, and a durable count for each action."""

from django.db import models


class AuditEntry(models.Model):
    """One thing that happened. Never changed; pruned only from the old end."""

    sequence = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=64, blank=True)
    actor_name = models.CharField(max_length=255)
    action = models.CharField(max_length=64)
    target_kind = models.CharField(max_length=32, blank=True)
    target_id = models.CharField(max_length=64, blank=True)
    # As wide as the widest name there is; cut by bytes, since PostgreSQL's indexes take no more than 2.7 KB.
    target_name = models.CharField(max_length=1024, blank=True)
    address = models.CharField(max_length=64, blank=True)
    changes = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64)
    entry_hash = models.CharField(max_length=64)

    class Meta:
        ordering = ("-sequence",)
        verbose_name_plural = "audit entries"
        indexes = [
            # The audit page's and the API's filters, newest first; the time finds where to begin and end.
            models.Index("at", name="audit_by_time"),
            models.Index("actor_name", models.F("sequence").desc(), name="audit_by_actor_name"),
            models.Index("target_name", models.F("sequence").desc(), name="audit_by_target_name"),
            models.Index("action", models.F("sequence").desc(), name="audit_by_action"),
            models.Index("target_kind", "target_id", models.F("sequence").desc(), name="audit_by_target"),
            models.Index("actor_kind", "actor_id", models.F("sequence").desc(), name="audit_by_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.sequence} {self.action}"


class AuditHead(models.Model):
    """The newest entry's place and hash: one row, locked by every writer."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    sequence = models.BigIntegerField(default=0)
    entry_hash = models.CharField(max_length=64)
    signature = models.CharField(max_length=64, default="")

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="audit_head_is_one_row")]

    def __str__(self) -> str:
        return f"head at {self.sequence}"


class AuditCheckpoint(models.Model):
    """Where the chain begins now: the last entry that retention pruned. One row, signed; none before the first."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    sequence = models.BigIntegerField()
    entry_hash = models.CharField(max_length=64)
    signature = models.CharField(max_length=64)
    pruned_at = models.DateTimeField()
    # The time of that entry: what follows can't be much older.
    at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="audit_checkpoint_is_one_row")]

    def __str__(self) -> str:
        return f"checkpoint at {self.sequence}"


class AuditTrouble(models.Model):
    """What was found wrong with the chain when it was walked; one row while something is."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    what = models.CharField(max_length=500)
    found_at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="audit_trouble_is_one_row")]

    def __str__(self) -> str:
        return self.what


class AuditCount(models.Model):
    """How many entries of an action were ever written; pruning leaves it alone."""

    action = models.CharField(max_length=64, primary_key=True)
    count = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.action} {self.count}"
