"""Users, roles and API tokens."""

import datetime

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.urls import reverse


class Role(models.Model):
    """A named set of permissions. The built-in ones can't be changed."""

    name = models.CharField(max_length=200, unique=True)
    description = models.CharField(max_length=500, blank=True)
    permissions = models.JSONField(default=list)
    is_builtin = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Its page in Settings."""
        return reverse("tokens:role", args=[self.pk])


class User(AbstractUser):
    """A person who signs in. What they may do comes from their role; a superuser may do all."""

    role = models.ForeignKey(Role, on_delete=models.PROTECT, null=True, blank=True, related_name="users")

    def __str__(self) -> str:
        return self.username

    def get_absolute_url(self) -> str:
        """Its page in Settings."""
        return reverse("tokens:user", args=[self.pk])


class TokenState(models.TextChoices):
    """Whether a token works, and if not, why."""

    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ApiToken(models.Model):
    """A bearer token for machines. Only digests of its secret are stored."""

    name = models.CharField(max_length=200)
    public_id = models.CharField(max_length=12, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    pepper = models.PositiveSmallIntegerField(editable=False)
    previous_digest = models.CharField(max_length=64, blank=True, editable=False)
    previous_pepper = models.PositiveSmallIntegerField(default=0, editable=False)
    previous_valid_until = models.DateTimeField(null=True, blank=True, editable=False)
    # [digest, pepper] of the secrets before that one, the newest first: who still comes with them is no guesser.
    ended_digests = models.JSONField(default=list, editable=False)
    role = models.ForeignKey(Role, on_delete=models.PROTECT, related_name="tokens")
    allowed_cidrs = models.JSONField(default=list, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    is_enabled = models.BooleanField(default=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=255, editable=False)
    rotated_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_address = models.CharField(max_length=64, blank=True, editable=False)
    last_used_user_agent = models.CharField(max_length=200, blank=True, editable=False)

    class Meta:
        ordering = ("name", "id")
        verbose_name = "API token"
        constraints = [
            # A revoked token's name may be used again; /metrics needs the others' names to differ.
            models.UniqueConstraint("name", condition=Q(revoked_at=None), name="live_token_name_is_unique"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Its page in Settings."""
        return reverse("tokens:token", args=[self.pk])

    def is_overlapping_at(self, now: datetime.datetime) -> bool:
        """Whether two secrets work at that moment."""
        return self.previous_valid_until is not None and now < self.previous_valid_until

    @property
    def prefix(self) -> str:
        """How the token's text begins: enough to tell tokens apart, useless for getting in."""
        return f"dmt_{self.public_id}"

    def state_at(self, now: datetime.datetime) -> TokenState:
        """Its state at that moment."""
        if self.revoked_at is not None:
            return TokenState.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return TokenState.EXPIRED
        return TokenState.ACTIVE if self.is_enabled else TokenState.DISABLED


class SecretUse(models.Model):
    """Who came with which of a token's secrets since its last rotation; written while the old one works."""

    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="secret_uses")
    is_previous = models.BooleanField()
    address = models.CharField(max_length=64)
    user_agent = models.CharField(max_length=200, blank=True)
    last_used_at = models.DateTimeField()

    class Meta:
        ordering = ("-is_previous", "-last_used_at")
        constraints = [
            models.UniqueConstraint(
                fields=["token", "is_previous", "address", "user_agent"], name="secret_use_is_one_row"
            )
        ]

    def __str__(self) -> str:
        return f"{self.token_id} {self.address}"
