"""What signing in and setting up need to remember."""

from django.db import models


class SignInThrottle(models.Model):
    """Bad sign-ins of one address or for one name, within one window of time."""

    key = models.CharField(max_length=80, primary_key=True)
    failures = models.PositiveIntegerField(default=0)
    window_ends_at = models.DateTimeField()

    class Meta:
        indexes = [
            # The scheduler's daily sweep.
            models.Index("window_ends_at", name="throttle_by_window_end"),
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.failures}"


class SetupCode(models.Model):
    """From `nonce` and the secret key the code of the one-time set-up link is made: one row at most."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    nonce = models.CharField(max_length=64)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="setup_code_is_one_row")]

    def __str__(self) -> str:
        return f"set-up code of {self.created_at}"
