"""The forms of hosts. What values must be is the services' business."""

import datetime
from collections.abc import Sequence
from typing import Any

from django import forms

from dockmesh.core.forms import ChangeForm
from dockmesh.fleet.models import Host

LIFETIMES = (("3600", "1 hour"), ("86400", "1 day"), ("604800", "7 days"))
EXPECTED_LABEL = "Write one label a line as key=value."


class AddHostForm(forms.Form):
    """How long the command for the new host works."""

    lifetime = forms.TypedChoiceField(
        label="The command works for",
        choices=LIFETIMES,
        initial=LIFETIMES[0][0],
        coerce=lambda value: datetime.timedelta(seconds=int(value)),
        help_text="It works once, for one host.",
    )


class UpdateAgentsForm(forms.Form):
    """Which agents are to be updated. Nothing is chosen beforehand."""

    which = forms.ChoiceField(
        label="Which",
        widget=forms.RadioSelect,
        choices=[
            ("all", "All that are behind this server"),
            ("label", "Those of hosts with a label"),
            ("hosts", "Those chosen below"),
        ],
    )
    label = forms.CharField(required=False, help_text="key=value, or a key alone for any value of it.")
    hosts = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="The hosts whose agents are behind and can update themselves.",
    )

    def __init__(self, *args: Any, hosts: Sequence[tuple[int, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["hosts"].choices = hosts  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """What belongs to the choice is there."""
        cleaned: dict[str, Any] = super().clean() or {}
        which = cleaned.get("which")
        if which in ("label", "hosts") and not cleaned.get(which) and which not in self.errors:
            self.add_error(which, "Say which label." if which == "label" else "Choose a host at least.")
        return cleaned


class HostForm(ChangeForm):
    """What of a host can be changed."""

    name = forms.CharField(
        help_text="Unique in the fleet: the label host on /metrics. After a change its series go on under the new"
        " name.",
        strip=False,
    )
    labels = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "class": "code"}),
        required=False,
        strip=False,
        help_text="Free labels, one a line as key=value. Alert rules choose hosts by them, and Prometheus's"
        " discovery shows them.",
    )
    address = forms.CharField(
        required=False, help_text="Host name or IP address at which Prometheus finds this host's exporters."
    )
    node_exporter_port = forms.IntegerField(
        label="Port of node_exporter", required=False, help_text="Empty where there is none."
    )
    cadvisor_port = forms.IntegerField(
        label="Port of cAdvisor", required=False, help_text="Empty where there is none."
    )

    def clean_labels(self) -> dict[str, str]:
        """The lines as a dictionary."""
        labels: dict[str, str] = {}
        for line in self.cleaned_data["labels"].splitlines():
            if not line.strip():
                continue
            key, is_given, value = line.partition("=")
            if not is_given:
                raise forms.ValidationError(f"{EXPECTED_LABEL} This line has no “=”: {line[:80]}")
            if key.strip() in labels:
                raise forms.ValidationError(f"The label {key.strip()} is there twice.")
            labels[key.strip()] = value.strip()
        return labels

    @classmethod
    def initial_of(cls, stored: Host) -> dict[str, Any]:
        """With the labels as lines."""
        lines = [f"{key}={value}" for key, value in sorted(stored.labels.items())]
        return {**super().initial_of(stored), "labels": "\n".join(lines)}
