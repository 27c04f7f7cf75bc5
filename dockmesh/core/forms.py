"""Forms that every room shares."""

from __future__ import annotations

import hmac
import re
from typing import Any

from django import forms

from dockmesh.core.errors import DomainError


def add_refusal(form: forms.BaseForm, error: DomainError) -> None:
    """Puts a service's refusal beside the field that it names, else above the form."""
    placed = False
    for path, messages in error.errors.items():
        # What is wrong with `networks[3]` is shown at the field `networks`.
        name = re.split(r"[.\[]", path, maxsplit=1)[0]
        for message in messages:
            text = message[:1].upper() + message[1:]
            form.add_error(name if name in form.fields else None, text)
            placed = True
    if not placed:
        form.add_error(None, error.detail)


class ConfirmForm(forms.Form):
    """Asks for the object's name before something that can't be undone (shown by web/confirm.html)."""

    name = forms.CharField(
        label="Type the name to go on",
        help_text="Exactly as shown above.",
        required=False,
        strip=True,
        widget=forms.TextInput(attrs={"autocomplete": "off", "class": "code", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._expected = expected

    def clean_name(self) -> str:
        typed: str = self.cleaned_data["name"]
        if not hmac.compare_digest(typed.encode(), self._expected.strip().encode()):
            raise forms.ValidationError(f"This is not the name. Type: {self._expected}")
        return typed
