"""The forms of the Settings pages. They ask; what is allowed is decided by the services."""

import datetime
import re
from typing import Any

from django import forms
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from dockmesh.core import clock
from dockmesh.core.forms import ChangeForm
from tokens import services
from tokens.models import ApiToken, Role
from tokens.permissions import DESCRIPTIONS, Permission
from tokens.principals import Principal

NEW_ROLE = "new"
ON_A_DATE = "date"
LIFETIMES = {"7": "7 days", "30": "30 days", "90": "90 days", "365": "1 year"}
OVERLAPS = {"0": "Not at all", "3600": "1 hour", "86400": "1 day", "604800": "7 days"}

CODE = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


def permission_choices(permissions: frozenset[str]) -> list[tuple[str, SafeString]]:
    """The permissions that may be handed out, each with what it is for."""
    return [
        (
            each.value,
            render_to_string(
                "tokens/parts/permission.html", {"name": each.value, "description": DESCRIPTIONS[each]}
            ),
        )
        for each in Permission
        if each.value in permissions
    ]


def permissions_field(principal: Principal, *, help_text: str) -> forms.MultipleChoiceField:
    """Checkboxes for what the principal holds, and so may hand out."""
    return forms.MultipleChoiceField(
        label="Permissions",
        required=False,
        choices=permission_choices(principal.permissions),
        widget=forms.CheckboxSelectMultiple,
        help_text=help_text,
    )


class NetworksField(forms.CharField):
    """One network a line, or separated by commas."""

    def __init__(self) -> None:
        super().__init__(
            label="Allowed networks",
            required=False,
            widget=forms.Textarea(attrs={"rows": 3, "placeholder": "10.0.0.0/8", **CODE, "class": "code"}),
            help_text="Where it may be used from: one network or address a line. Empty: from everywhere.",
        )

    def clean(self, value: Any) -> Any:
        return [part for part in re.split(r"[\s,]+", super().clean(value)) if part]


class MomentField(forms.DateTimeField):
    """A date and time in UTC."""

    def __init__(self, label: str, help_text: str) -> None:
        super().__init__(
            label=label,
            required=False,
            help_text=help_text,
            widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        )


class NewTokenForm(forms.Form):
    """A token, and where wanted its own role."""

    name = forms.CharField(
        label="Name",
        max_length=200,
        widget=forms.TextInput(attrs={**CODE, "class": "code", "autofocus": True}),
        help_text="What uses it, like prometheus-scraper: you will know it by this name here and in the audit log.",
    )
    role = forms.ChoiceField(
        label="Role",
        help_text="What it may do. Give it no more than it needs: metrics.read is enough to scrape.",
    )
    role_name = forms.CharField(
        label="Name of the role",
        max_length=200,
        required=False,
        widget=forms.TextInput(attrs=CODE),
        help_text="What the custom role is called. Empty: it is called after its permissions.",
    )
    lifetime = forms.ChoiceField(
        label="Expiry",
        required=False,
        choices=[("", "Never"), *LIFETIMES.items(), (ON_A_DATE, "On a date")],
        help_text="From then on it is refused. dockmesh can alert before.",
    )
    expires_at = MomentField("Until (UTC)", "The last moment that it works.")
    allowed_cidrs = NetworksField()

    def __init__(self, *args: Any, principal: Principal, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        may_make_roles = principal.has(Permission.ROLES_MANAGE)
        choices = [("", "Choose a role"), *grantable_roles(principal)]
        if may_make_roles:
            choices.append((NEW_ROLE, "New custom role"))
            self.fields["permissions"] = permissions_field(
                principal, help_text="What the custom role holds: only what you hold yourself can be given."
            )
            # Shown for the custom role alone, where one has to be chosen.
            self.fields["permissions"].required = not self.is_bound or self.data.get("role") == NEW_ROLE
            self.fields["permissions"].error_messages["required"] = "Choose at least one permission."
        else:
            del self.fields["role_name"]
        self.fields["role"].choices = choices  # type: ignore[attr-defined]

    @property
    def wants_new_role(self) -> bool:
        """Whether the custom role was chosen."""
        return bool(self.cleaned_data["role"] == NEW_ROLE)

    def clean(self) -> dict[str, Any]:
        """What depends on another field."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if (
            data.get("lifetime") == ON_A_DATE
            and not data.get("expires_at")
            and "expires_at" not in self.errors
        ):
            self.add_error("expires_at", "Say until when.")
        return data

    def expiry(self) -> datetime.datetime | None:
        """The chosen moment; None for never."""
        lifetime = self.cleaned_data["lifetime"]
        if lifetime == ON_A_DATE:
            moment: datetime.datetime = self.cleaned_data["expires_at"]
            return moment
        return clock.now() + datetime.timedelta(days=int(lifetime)) if lifetime else None

    def issue(self, principal: Principal) -> services.Issued:
        """Has the token made that was asked for, with its role; raises `DomainError`."""
        data: dict[str, Any] = {
            "principal": principal,
            "name": self.cleaned_data["name"],
            "expires_at": self.expiry(),
            "allowed_cidrs": self.cleaned_data["allowed_cidrs"],
        }
        if not self.wants_new_role:
            return services.create_token(role=int(self.cleaned_data["role"]), **data)
        return services.create_token_with_new_role(
            role_name=self.cleaned_data["role_name"], permissions=self.cleaned_data["permissions"], **data
        )


class TokenForm(ChangeForm):
    """What of a token can be changed."""

    name = forms.CharField(
        label="Name",
        max_length=200,
        widget=forms.TextInput(attrs={**CODE, "class": "code"}),
        help_text="What uses it. The secret stays the same.",
    )
    role = forms.ChoiceField(label="Role", help_text="What it may do, from its next request on.")
    expires_at = MomentField("Expires (UTC)", "From then on it is refused. Empty: never.")
    allowed_cidrs = NetworksField()
    is_enabled = forms.BooleanField(
        label="Enabled",
        required=False,
        help_text="A disabled token is refused until it is enabled again. To end it for good, revoke it.",
    )

    def __init__(self, *args: Any, principal: Principal, token: ApiToken, **kwargs: Any) -> None:
        expires_at = token.expires_at
        kwargs["initial"] = {
            "name": token.name,
            "role": str(token.role_id),
            "expires_at": expires_at.replace(second=0, microsecond=0) if expires_at else None,
            "allowed_cidrs": "\n".join(token.allowed_cidrs),
            "is_enabled": token.is_enabled,
        }
        super().__init__(*args, **kwargs)
        choices = dict(grantable_roles(principal))
        choices.setdefault(str(token.role_id), token.role.name)
        self.fields["role"].choices = list(choices.items())  # type: ignore[attr-defined]

    def changes(self) -> dict[str, Any]:
        """What the user changed, as the service takes it."""
        changed = super().changes()
        if "role" in changed:
            changed["role"] = int(changed["role"])
        return changed


class RotateForm(forms.Form):
    """How long the old secret stays valid; `seen` tells which secret the user saw."""

    overlap_seconds = forms.TypedChoiceField(
        label="Keep the old secret valid for",
        coerce=int,
        choices=list(OVERLAPS.items()),
        initial="86400",
        help_text="Time to bring the new secret to everything that uses the token. Not at all, if the old one leaked.",
    )
    seen = forms.CharField(widget=forms.HiddenInput, required=False, max_length=64)


class RoleForm(ChangeForm):
    """A custom role."""

    name = forms.CharField(
        label="Name",
        max_length=200,
        widget=forms.TextInput(attrs={**CODE, "autofocus": True}),
        help_text="What tokens and users are given it for.",
    )
    description = forms.CharField(
        label="Description",
        max_length=500,
        required=False,
        help_text="For whoever finds this role in a year.",
    )

    def __init__(self, *args: Any, principal: Principal, role: Role | None = None, **kwargs: Any) -> None:
        if role is not None:
            kwargs["initial"] = {
                "name": role.name,
                "description": role.description,
                "permissions": role.permissions,
            }
        super().__init__(*args, **kwargs)
        self.fields["permissions"] = permissions_field(
            principal, help_text="What it allows: only what you hold yourself can be given."
        )


def grantable_roles(principal: Principal) -> list[tuple[str, str]]:
    """(id, name) of the roles that the principal may hand out."""
    return [
        (str(role.pk), role.name)
        for role in Role.objects.order_by("-is_builtin", "name")
        if set(role.permissions) <= principal.permissions
    ]
