"""Forms that every room shares."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
from typing import Any

from django import forms
from django.utils.functional import cached_property

from dockmesh.core.errors import DomainError

SEEN = "seen_values"


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


def lead_to_fault(form: forms.BaseForm) -> None:
    """Puts the focus on the first field that is wrong, and says of each password that it has to be typed again."""
    typed_again = [
        name
        for name, field in form.fields.items()
        if isinstance(field.widget, forms.PasswordInput) and not field.widget.render_value and form[name].data
    ]
    for name in typed_again:
        again = f"Type it again: what was typed is not sent back. {form[name].help_text}"
        form[name].help_text = again.strip()
    wrong = [name for name in form.fields if name in form.errors] or typed_again
    if not wrong:
        return
    for field in form.fields.values():
        field.widget.attrs.pop("autofocus", None)
    form.fields[wrong[0]].widget.attrs["autofocus"] = True


class ChangeForm(forms.Form):
    """A form that changes something: `changes` is what the user changed of what they saw, and nothing else.

    What was shown goes along with the form as one short mark for each field (the tag `form_errors` writes it). So what
    somebody else has changed in the meantime is not put back by a form that was opened before.
    """

    @classmethod
    def initial_of(cls, stored: Any) -> dict[str, Any]:
        """What the form shows of the object that it changes: the attributes that its fields are named for."""
        return {name: getattr(stored, name) for name in cls.base_fields if hasattr(stored, name)}

    @property
    def seen(self) -> str:
        """The marks of what the fields showed when the form was opened."""
        if self.is_bound:
            return str(self.data.get(self.add_prefix(SEEN), ""))
        return json.dumps({name: self._mark(field, self._shown(name)) for name, field in self.fields.items()})

    @cached_property
    def changed_data(self) -> list[str]:
        """The names of the fields that the user changed; by what is stored where the form does not say what it showed."""
        try:
            marks = json.loads(self.seen)
        except ValueError:
            marks = None
        if not isinstance(marks, dict):
            return [name for name, bound in self._bound_items() if bound._has_changed()]  # type: ignore[attr-defined]
        return [
            name
            for name, field in self.fields.items()
            if marks.get(name) != self._mark(field, self[name].data)
        ]

    def changes(self) -> dict[str, Any]:
        """What the user changed, by field."""
        return {name: self.cleaned_data[name] for name in self.changed_data if name in self.cleaned_data}

    def _shown(self, name: str) -> Any:
        """The field's first value as a browser would send it back."""
        field, value = self.fields[name], self[name].value()
        if isinstance(field, forms.BooleanField):
            return bool(value)
        if isinstance(field, forms.MultipleChoiceField):
            return [str(each) for each in value or []]
        if isinstance(field, forms.ChoiceField):
            return "" if value is None else str(value)
        return field.widget.format_value(value)

    @staticmethod
    def _mark(field: forms.Field, value: Any) -> str:
        with contextlib.suppress(forms.ValidationError):
            value = field.clean(value)
        if isinstance(value, list):
            value = sorted(map(str, value))
        text = repr("" if value is None else value).replace("\\r\\n", "\\n")
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class ConfirmForm(forms.Form):
    """Asks for the object's name before something that can't be undone (shown by web/confirm.html)."""

    name = forms.CharField(
        label="Type the name to go on",
        help_text="Exactly as shown above.",
        strip=True,
        widget=forms.TextInput(attrs={"autocomplete": "off", "class": "code", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._expected = expected
        self._wrong = f"This is not the name. Type: {expected}"
        self.fields["name"].error_messages["required"] = self._wrong

    def clean_name(self) -> str:
        typed: str = self.cleaned_data["name"]
        if not hmac.compare_digest(typed.encode(), self._expected.strip().encode()):
            raise forms.ValidationError(self._wrong)
        return typed
