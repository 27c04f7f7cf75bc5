"""The forms of signing in and setting up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

if TYPE_CHECKING:
    from tokens.models import User


class SignInForm(forms.Form):
    username = forms.CharField(
        label="Name",
        max_length=150,
        widget=forms.TextInput(
            attrs={
                "autocomplete": "username",
                "autocapitalize": "none",
                "spellcheck": "false",
                "autofocus": True,
            }
        ),
    )
    password = forms.CharField(
        label="Password",
        max_length=4096,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class NewPasswordMixin(forms.Form):
    """Twice the same new password, which the server finds good enough."""

    password = forms.CharField(
        label="Password",
        max_length=4096,
        strip=False,
        help_text="At least 12 characters, and not one that others often choose.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    again = forms.CharField(
        label="Password again",
        max_length=4096,
        strip=False,
        help_text="The same once more, so that a slip doesn't lock you out.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        first, second = data.get("password"), data.get("again")
        if first and second and first != second:
            self.add_error("again", "The two passwords differ.")
        elif first:
            try:
                validate_password(first, self.password_owner(data))
            except ValidationError as error:
                self.add_error("password", error)
        return data

    def password_owner(self, data: dict[str, Any]) -> User:
        """Whose password it becomes: it must not resemble their name."""
        return get_user_model()(username=str(data.get("username", "")))


class SetupForm(NewPasswordMixin):
    field_order = ("username", "password", "again")

    username = forms.CharField(
        label="Your name",
        max_length=150,
        help_text="The name you sign in with: letters, digits and @ . + - _",
        widget=forms.TextInput(
            attrs={
                "autocomplete": "username",
                "autocapitalize": "none",
                "spellcheck": "false",
                "autofocus": True,
            }
        ),
    )


class PasswordForm(NewPasswordMixin):
    field_order = ("current", "password", "again")

    current = forms.CharField(
        label="Current password",
        max_length=4096,
        strip=False,
        help_text="So that nobody else changes it at your open screen.",
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._user = user
        self.is_current_wrong = False
        self.fields["password"].label = "New password"
        self.fields["again"].label = "New password again"

    def clean_current(self) -> str:
        current: str = self.cleaned_data["current"]
        if not self._user.check_password(current):
            self.is_current_wrong = True
            raise ValidationError("This is not your current password.")
        return current

    def password_owner(self, data: dict[str, Any]) -> User:
        return self._user
