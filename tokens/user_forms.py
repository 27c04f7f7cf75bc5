"""The forms of Settings → Users."""

from __future__ import annotations

from typing import Any

from django import forms

from tokens.models import Role
from tokens.principals import Principal


class RoleChoiceField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """A role; a small custom one with what it allows beside its name."""

    def label_from_instance(self, role: Role) -> str:
        if role.is_builtin or len(role.permissions) > 3:
            return role.name
        return f"{role.name} ({', '.join(role.permissions) or 'nothing'})"


class RoleForm(forms.Form):
    """Which role a user has; roles above the principal's own are not offered."""

    role = RoleChoiceField(
        label="Role",
        queryset=Role.objects.none(),
        empty_label=None,
        help_text="What they may do. You can't give what you don't hold yourself.",
    )

    def __init__(self, *args: Any, principal: Principal, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        grantable = [role.pk for role in Role.objects.all() if set(role.permissions) <= principal.permissions]
        field = self.fields["role"]
        assert isinstance(field, RoleChoiceField)
        field.queryset = Role.objects.filter(pk__in=grantable).order_by("-is_builtin", "name")


class PasswordForm(forms.Form):
    """A password that somebody else chooses for the user."""

    password = forms.CharField(
        label="Password",
        max_length=4096,
        strip=False,
        help_text="At least 12 characters. Tell it to them safely; they can change it after signing in.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


class NewUserForm(PasswordForm, RoleForm):
    """All of a new user; no role is chosen beforehand."""

    field_order = ("username", "role", "password")

    username = forms.CharField(
        label="Name",
        max_length=150,
        help_text="The name they sign in with: letters, digits and @ . + - _",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].empty_label = "Choose a role"  # type: ignore[attr-defined]
