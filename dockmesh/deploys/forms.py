"""The forms of the stacks' pages; the services check the values."""

from typing import Any

from django import forms

from dockmesh.core.forms import ConfirmForm
from dockmesh.deploys.compose import MAX_COMPOSE_CHARACTERS, MAX_ENV_CHARACTERS
from dockmesh.deploys.models import DEFAULT_TIMEOUT_SECONDS
from dockmesh.fleet.models import Host


def _code(rows: int, placeholder: str = "") -> forms.Textarea:
    attributes = {"class": "code", "rows": rows, "spellcheck": "false", "autocomplete": "off"}
    return forms.Textarea(attrs={**attributes, "placeholder": placeholder} if placeholder else attributes)


class FilesForm(forms.Form):
    """The files of a stack."""

    compose_file = forms.CharField(
        label="Compose file",
        strip=False,
        max_length=MAX_COMPOSE_CHARACTERS,
        widget=_code(18, "services:\n  web:\n    image: nginx:1.27\n"),
        help_text="As YAML. It is checked before it is stored, and kept with every deploy.",
    )
    env_file = forms.CharField(
        label="Env file",
        strip=False,
        required=False,
        max_length=MAX_ENV_CHARACTERS,
        widget=_code(5, "DB_PASSWORD=…"),
        help_text="NAME=value lines, for what the Compose file takes as ${NAME}. Encrypted, and never shown again.",
    )
    timeout_seconds = forms.IntegerField(
        label="Time limit (seconds)",
        initial=DEFAULT_TIMEOUT_SECONDS,
        help_text="What takes longer is stopped and counts as failed. Downloading images counts too.",
    )


class NewStackForm(FilesForm):
    """A new managed stack."""

    host = forms.TypedChoiceField(
        label="Host", coerce=int, help_text="The machine on which it will run. It can't be moved later."
    )
    name = forms.CharField(
        label="Name",
        max_length=63,
        widget=forms.TextInput(attrs={"class": "code", "autocomplete": "off", "spellcheck": "false"}),
        help_text="The Compose project's name: lower-case letters, digits, - and _. It is the label stack on /metrics.",
    )
    is_deployed = forms.BooleanField(
        label="Deploy it now",
        required=False,
        initial=True,
        help_text="Else it is only stored, and waits for its first deploy.",
    )

    field_order = ("host", "name")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["host"].choices = Host.objects.order_by("name").values_list("pk", "name")  # type: ignore[attr-defined]


class ChangeStackForm(FilesForm):
    """New files for a managed stack. The stored env file is never in the form."""

    removes_env_file = forms.BooleanField(
        label="Remove the stored env file",
        required=False,
        help_text="For a stack that needs none any more.",
    )

    def __init__(self, *args: Any, env_names: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if env_names:
            self.fields["env_file"].label = "New env file"
            self.fields["env_file"].help_text = (
                f"Stored now, and not shown: {', '.join(env_names[:20])}{' …' if len(env_names) > 20 else ''}."
                " Leave this empty to keep it; what you type replaces all of it."
            )
        else:
            del self.fields["removes_env_file"]


class RemoveStackForm(ConfirmForm):
    """Asks for the name, and what becomes of the containers."""

    how = forms.ChoiceField(
        label="Its containers",
        widget=forms.RadioSelect,
        initial="down",
        choices=[
            ("down", "Remove them from the host first; volumes stay"),
            ("forget", "Leave them alone: dockmesh only forgets the files"),
        ],
        help_text="The host has to be online to remove them.",
    )

    field_order = ("how", "name")
