"""Alert rules, what they fired, and where that is told."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class AlertRule(models.Model):
    """When to alert. `fired_count` rises in the transaction in which an alert fires."""

    class Severity(models.TextChoices):
        """How bad it is."""

        INFO = "info"
        WARNING = "warning"
        CRITICAL = "critical"

    class Kind(models.TextChoices):
        """What the rule looks at."""

        HOST_OFFLINE = "host_offline", "Host offline"
        HOST_DEGRADED = "host_degraded", "Host degraded"
        STACK_ERROR = "stack_error", "Stack in error"
        CONTAINER_STATE = "container_state", "Container state or health"
        CONTAINER_RESTARTS = "container_restarts", "Container restarts"
        DEPLOY_FAILED = "deploy_failed", "Deploy failed"
        BACKUP_OVERDUE = "backup_overdue", "Backup overdue"
        BACKUP_FAILED = "backup_failed", "Backup failed"
        TOKEN_EXPIRING = "token_expiring", "API token about to expire"
        CHANNEL_FAILING = "channel_failing", "Notification channel failing"
        AUDIT_CHANGED = "audit_changed", "Audit log changed"

    name = models.CharField(max_length=200, unique=True)
    severity = models.CharField(max_length=16, choices=Severity.choices, default=Severity.WARNING)
    kind = models.CharField(max_length=32, choices=Kind.choices)
    is_enabled = models.BooleanField(default=True)
    # How long the cause must hold before the alert fires.
    for_seconds = models.PositiveIntegerField(default=0)
    # After an alert has resolved, the same subject doesn't fire again for that long.
    cooldown_seconds = models.PositiveIntegerField(default=0)
    muted_until = models.DateTimeField(null=True, blank=True)
    # Globs; an empty one matches everything.
    match_host = models.CharField(max_length=200, blank=True)
    match_stack = models.CharField(max_length=200, blank=True)
    match_name = models.CharField(max_length=200, blank=True)
    # Only hosts that have all of these labels.
    host_labels = models.JSONField(default=dict, blank=True)
    # What only some kinds need; see `dockmesh.alerts.kinds`.
    parameters = models.JSONField(default=dict, blank=True)
    fired_count = models.BigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Alert(models.Model):
    """One subject that a rule has found: pending until it has held long enough, firing, then resolved."""

    class Status(models.TextChoices):
        """Where the alert is."""

        PENDING = "pending"
        FIRING = "firing"
        RESOLVED = "resolved"

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="alerts")
    # The subject's identity, as `host:7` or `container:7:4f0c…`.
    key = models.CharField(max_length=255)
    subject = models.CharField(max_length=2400)
    cause = models.CharField(max_length=1000)
    host_id = models.BigIntegerField(null=True)
    host_name = models.CharField(max_length=200, blank=True)
    stack_name = models.CharField(max_length=1024, blank=True)
    severity = models.CharField(max_length=16)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PENDING)
    active_since = models.DateTimeField()
    fired_at = models.DateTimeField(null=True)
    resolved_at = models.DateTimeField(null=True)
    # It fired in a silence, and nobody was told of it yet.
    is_untold = models.BooleanField(default=False, db_default=False)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "key"], condition=~Q(status="resolved"), name="alert_is_open_once"
            )
        ]
        indexes = [
            # The cool-down's look back, and the pages' "firing now".
            models.Index("rule", "key", models.F("resolved_at").desc(), name="alert_by_subject"),
            models.Index("status", models.F("id").desc(), name="alert_by_status"),
        ]

    def __str__(self) -> str:
        return f"{self.subject} ({self.status})"


class Silence(models.Model):
    """For that time nobody is told of what fires there. What is over stays, to be read."""

    # Globs; an empty one matches everything. One of the three at least is given.
    match_host = models.CharField(max_length=200, blank=True)
    match_stack = models.CharField(max_length=200, blank=True)
    host_labels = models.JSONField(default=dict, blank=True)
    comment = models.CharField(max_length=500, blank=True)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-id",)
        indexes = [models.Index("ends_at", name="silence_by_end")]

    def __str__(self) -> str:
        return self.subject

    @property
    def subject(self) -> str:
        """What is silenced, in words."""
        labels = ", ".join(f"{name}={value}" for name, value in self.host_labels.items())
        hosts = f"hosts {self.match_host}" if self.match_host else "all hosts"
        parts = [
            f"stack {self.match_stack} on" if self.match_stack else "",
            hosts,
            f"with {labels}" if labels else "",
        ]
        return " ".join(filter(None, parts))


class RestartMark(models.Model):
    """A container's restart count when it was seen to have risen; kept for the longest window of any rule."""

    host_id = models.BigIntegerField()
    container_id = models.CharField(max_length=64)
    restart_count = models.PositiveIntegerField()
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index("host_id", "container_id", "at", name="restart_mark_by_container")]

    def __str__(self) -> str:
        return f"{self.container_id[:12]} {self.restart_count}"


class Channel(models.Model):
    """Where alerts are told: an Apprise address, or a real Alertmanager."""

    class Kind(models.TextChoices):
        """How the address is spoken to."""

        APPRISE = "apprise", "Apprise"
        ALERTMANAGER = "alertmanager", "Alertmanager"

    name = models.CharField(max_length=200, unique=True)
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.APPRISE)
    # The address often holds a password: encrypted at rest, never shown again.
    encrypted_url = models.TextField(editable=False, db_column="sealed_url")
    minimum_severity = models.CharField(
        max_length=16, choices=AlertRule.Severity.choices, default=AlertRule.Severity.INFO
    )
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_success_at = models.DateTimeField(null=True, editable=False)
    last_error = models.CharField(max_length=500, blank=True, editable=False)
    # Ever, for /metrics. Known to the database too: an older replica makes channels without them.
    sent_count = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
    failed_count = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
    dropped_count = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
    # One message at a time: until then a process is sending.
    claimed_until = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Notification(models.Model):
    """One message to one channel, tried again with back-off until it is sent; or dropped, when it no longer holds.

    It has all its words, so that it outlives its alert. An older replica queues messages without them, which is why
    the database knows defaults; those get their words when they are sent.
    """

    class Event(models.TextChoices):
        """What is told."""

        FIRING = "firing"
        RESOLVED = "resolved"
        TEST = "test"

    class Status(models.TextChoices):
        """Where the message is."""

        QUEUED = "queued"
        SENT = "sent"
        FAILED = "failed"
        DROPPED = "dropped"

    alert = models.ForeignKey(Alert, on_delete=models.SET_NULL, null=True, related_name="notifications")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="notifications")
    event = models.CharField(max_length=16, choices=Event.choices)
    # The rule and the alert's key: of the unsent messages about one subject only the newest holds.
    subject_key = models.CharField(max_length=300, blank=True, default="", db_default="")
    title = models.CharField(max_length=300, db_default="")
    body = models.TextField(db_default="")
    # Apprise's type of the message.
    type = models.CharField(max_length=16, db_default="info")
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True, db_default=Now())
    next_attempt_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ("id",)
        constraints = [
            models.UniqueConstraint(fields=["alert", "channel", "event"], name="alert_is_told_once")
        ]
        indexes = [
            models.Index("next_attempt_at", name="notification_due", condition=Q(status="queued")),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.channel_id}"
