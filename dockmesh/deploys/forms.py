"""The forms of the stacks' pages; the services check the values."""

from typing import Any

from django import forms

from dockmesh.core.forms import ChangeForm, ConfirmForm
from dockmesh.deploys.compose import MAX_COMPOSE_CHARACTERS, MAX_ENV_CHARACTERS
from dockmesh.deploys.models import DEFAULT_TIMEOUT_SECONDS
from dockmesh.deploys.places import MAX_DIRECTORY_CHARACTERS
from dockmesh.fleet import selectors


def _code(rows: int, placeholder: str = "") -> forms.Textarea:
    attributes = {"class": "code", "rows": rows, "spellcheck": "false", "autocomplete": "off"}
    return forms.Textarea(attrs={**attributes, "placeholder": placeholder} if placeholder else attributes)


class FilesForm(ChangeForm):
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
    auto_rollback = forms.BooleanField(
        label="Roll back when a deploy fails",
        required=False,
        help_text="The last deploy that succeeded is then deployed again, with its files and images.",
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
        self.fields["host"].choices = [("", "Choose a host"), *selectors.host_choices()]  # type: ignore[attr-defined]


def _directory(help_text: str) -> forms.CharField:
    return forms.CharField(
        label="Project directory",
        required=False,
        max_length=MAX_DIRECTORY_CHARACTERS,
        widget=forms.TextInput(attrs={"class": "code", "autocomplete": "off", "spellcheck": "false"}),
        help_text=help_text,
    )


class AdoptForm(forms.Form):
    """Manage a stack by its own files, as the survey that is shown found them."""

    survey = forms.UUIDField(widget=forms.HiddenInput)
    accept_changes = forms.BooleanField(
        label="Adopt it although a deploy would change this",
        required=False,
        help_text="The next deploy does what is said above.",
    )
    timeout_seconds = FilesForm.base_fields["timeout_seconds"]

    def __init__(self, *args: Any, has_changes: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not has_changes:
            del self.fields["accept_changes"]


class PasteForm(FilesForm):
    """Manage a stack by files that are given."""

    project_directory = _directory(
        "The folder on the host that relative paths such as ./data mean. Empty: the one in which it was started."
    )
    is_own_folder = forms.BooleanField(
        label="Relative paths may mean the agent's own, empty folder",
        required=False,
        help_text="Only for a stack that keeps nothing in them.",
    )

    field_order = ("compose_file", "env_file", "project_directory", "is_own_folder")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[
            "env_file"
        ].help_text = "NAME=value lines. Empty: the one that it was started with. A line with # alone: none."

    def wish(self) -> dict[str, Any]:
        """What `services.adopt_stack` takes."""
        values = dict(self.cleaned_data)
        is_own = values.pop("is_own_folder")
        values["project_directory"] = "" if is_own else values["project_directory"].strip() or None
        values["env_file"] = values["env_file"] if values["env_file"].strip() else None
        return values


class ChangeStackForm(FilesForm):
    """New files for a managed stack. The stored env file is never in the form."""

    project_directory = _directory(
        "The folder on the host that relative paths such as ./data mean. Empty: the agent's own for this stack."
    )
    is_directory_decided = forms.BooleanField(
        label="Deploy there whatever is mounted now",
        required=False,
        help_text="Else a deploy that would mount other folders than those that run is refused.",
    )
    removes_env_file = forms.BooleanField(
        label="Remove the stored env file",
        required=False,
        help_text="For a stack that needs none any more.",
    )

    def __init__(
        self, *args: Any, env_names: list[str], override_files: list[dict[str, str]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._overrides = [file["path"] for file in override_files]
        for index, file in enumerate(override_files):
            self.fields[f"override_{index}"] = forms.CharField(
                label=f"Laid over it: {file['path']}",
                strip=False,
                required=False,
                initial=file["content"],
                max_length=MAX_COMPOSE_CHARACTERS,
                widget=_code(10),
                help_text="Empty: it is removed from the stack.",
            )
        self.order_fields(["compose_file", *(f"override_{index}" for index in range(len(override_files)))])
        if env_names:
            self.fields["env_file"].label = "New env file"
            self.fields["env_file"].help_text = (
                f"Stored now, and not shown: {', '.join(env_names[:20])}{' …' if len(env_names) > 20 else ''}."
                " Leave this empty to keep it; what you type replaces all of it."
            )
        else:
            del self.fields["removes_env_file"]

    def wish(self) -> dict[str, Any]:
        """What `services.change_stack` takes: the parts that the user changed."""
        values, now = self.changes(), self.cleaned_data
        if values.pop("removes_env_file", False):
            values["env_file"] = now["env_file"]
        elif not values.get("env_file", "").strip():
            values.pop("env_file", None)
        names = [f"override_{index}" for index in range(len(self._overrides))]
        if [values.pop(name) for name in names if name in values]:
            values["override_files"] = [
                {"path": path, "content": now[name]}
                for path, name in zip(self._overrides, names, strict=True)
                if now[name].strip()
            ]
        if values.pop("is_directory_decided", False):
            values["project_directory"] = now["project_directory"]
        return values


class RemoveStackForm(ConfirmForm):
    """Asks for the name, and what becomes of the containers: neither way is chosen beforehand."""

    how = forms.ChoiceField(
        label="Its containers",
        widget=forms.RadioSelect,
        choices=[
            ("down", "Remove them from the host first; volumes stay"),
            ("forget", "Leave them alone: dockmesh only forgets the files"),
        ],
        help_text="The host has to be online to remove them.",
    )

    field_order = ("how", "name")
