"""The forms of the alert pages; the services check the values."""

import datetime
from typing import Any

from django import forms

from dockmesh.alerts import kinds, services
from dockmesh.alerts.models import AlertRule, Channel
from dockmesh.core.errors import InvalidInput
from dockmesh.core.forms import ChangeForm
from dockmesh.fleet.states import ContainerState
from tokens.forms import MomentField


class RuleForm(ChangeForm):
    """A rule. Fields that the chosen kind does not take are left out of what is stored."""

    name = forms.CharField(
        label="Name", max_length=200, help_text="Unique; it is the label rule on /metrics."
    )
    kind = forms.ChoiceField(label="What to look at", choices=AlertRule.Kind.choices)
    severity = forms.ChoiceField(
        label="Severity",
        choices=AlertRule.Severity.choices,
        initial=AlertRule.Severity.WARNING,
        help_text="Channels can ask for a least severity.",
    )
    for_seconds = forms.IntegerField(
        label="Must hold for (seconds)",
        min_value=0,
        max_value=services.MOST_SECONDS,
        initial=0,
        help_text="The alert fires when its cause has held that long.",
    )
    cooldown_seconds = forms.IntegerField(
        label="Cool-down (seconds)",
        min_value=0,
        max_value=services.MOST_SECONDS,
        initial=0,
        help_text="After it has resolved, the same subject stays silent for that long.",
    )
    match_host = forms.CharField(
        label="Hosts", required=False, max_length=200, help_text="A glob, like web-*. Empty: all hosts."
    )
    host_labels = forms.CharField(
        label="Host labels",
        required=False,
        max_length=1000,
        help_text="Only hosts with all of these, like env=prod, region=eu.",
    )
    match_stack = forms.CharField(
        label="Stacks", required=False, max_length=200, help_text="A glob. Empty: all stacks."
    )
    match_name = forms.CharField(
        label="Names",
        required=False,
        max_length=200,
        help_text="A glob for the container, backup job or token. Empty: all.",
    )
    states = forms.MultipleChoiceField(
        label="Container states",
        required=False,
        choices=[(state.value, state.value) for state in ContainerState],
        widget=forms.CheckboxSelectMultiple,
        help_text="For container state or health: in one of these states, if any is chosen.",
    )
    healths = forms.MultipleChoiceField(
        label="Container healths",
        required=False,
        initial=["unhealthy"],
        choices=[(health, health) for health in kinds.HEALTHS],
        widget=forms.CheckboxSelectMultiple,
        help_text="For container state or health: of one of these healths, if any is chosen.",
    )
    restarts = forms.IntegerField(
        label="Restarts", required=False, initial=3, help_text="For container restarts: at least so many …"
    )
    window_seconds = forms.IntegerField(
        label="Window (seconds)", required=False, initial=600, help_text="… within that time."
    )
    overdue_seconds = forms.IntegerField(
        label="Overdue after (seconds)",
        required=False,
        initial=93600,
        help_text="For backup overdue: time since the last success; 93600 is 26 hours.",
    )
    within_seconds = forms.IntegerField(
        label="Expires within (seconds)",
        required=False,
        initial=1209600,
        help_text="For token expiry: 1209600 is 14 days.",
    )
    is_enabled = forms.BooleanField(
        label="Enabled", required=False, initial=True, help_text="A disabled rule resolves its alerts."
    )

    @classmethod
    def initial_of(cls, stored: AlertRule) -> dict[str, Any]:
        """With the labels as text, and the parameters of its kind."""
        labels = ", ".join(f"{name}={value}" for name, value in stored.host_labels.items())
        return {**super().initial_of(stored), "host_labels": labels, **stored.parameters}

    def rule_input(self) -> services.RuleInput:
        """What the service takes; raises `InvalidInput` for labels that aren't `key=value`."""
        data = self.cleaned_data
        names = kinds.parameter_names(data["kind"])
        return services.RuleInput(
            name=data["name"],
            kind=data["kind"],
            severity=data["severity"],
            is_enabled=data["is_enabled"],
            for_seconds=data["for_seconds"],
            cooldown_seconds=data["cooldown_seconds"],
            match_host=data["match_host"],
            match_stack=data["match_stack"],
            match_name=data["match_name"],
            host_labels=_labels(data["host_labels"]),
            parameters={name: data[name] for name in names if data[name] is not None},
        )

    def rule_changes(self) -> dict[str, Any]:
        """What the user changed of a rule, as the service takes it."""
        wanted, names = self.rule_input(), set(self.changed_data)
        if names & {"kind", *kinds.parameter_names(wanted.kind)}:
            names.add("parameters")
        return {
            name: getattr(wanted, name) for name in names if name in services.RuleInput.__dataclass_fields__
        }


class ChannelForm(ChangeForm):
    """A channel. When one is changed its kind stays, and an empty address leaves the stored one."""

    name = forms.CharField(label="Name", max_length=200, help_text="How you call it, like ops-chat.")
    kind = forms.ChoiceField(
        label="Kind",
        choices=Channel.Kind.choices,
        help_text="Apprise speaks to e-mail, chat and a hundred services; Alertmanager keeps your routing.",
    )
    url = forms.CharField(
        label="Address",
        max_length=1000,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "class": "code"}),
        help_text="An Apprise URL, or http://alertmanager:9093. It is encrypted and never shown again.",
    )
    minimum_severity = forms.ChoiceField(
        label="Least severity", choices=AlertRule.Severity.choices, help_text="Nothing below it is told here."
    )
    is_enabled = forms.BooleanField(
        label="Enabled", required=False, initial=True, help_text="A disabled channel is told nothing."
    )

    def __init__(self, *args: Any, stored: Channel | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if stored is not None:
            del self.fields["kind"]
            self.fields["url"].required = False
            self.fields["url"].help_text = "Leave it empty to keep the stored address, which is never shown."


class MuteForm(forms.Form):
    """For how long a rule tells nobody."""

    hours = forms.ChoiceField(
        label="Mute",
        choices=[("0", "Not muted"), ("1", "1 hour"), ("8", "8 hours"), ("24", "1 day"), ("168", "7 days")],
        help_text="A muted rule still fires and counts, but tells nobody.",
    )


class SilenceForm(forms.Form):
    """Where nobody is told, from when and for how long."""

    match_host = forms.CharField(
        label="Hosts", required=False, max_length=200, help_text="A glob, like web-*; * is every host."
    )
    host_labels = forms.CharField(
        label="Host labels",
        required=False,
        max_length=1000,
        help_text="Only hosts with all of these, like env=prod, region=eu.",
    )
    match_stack = forms.CharField(
        label="Stack", required=False, max_length=200, help_text="A glob. Empty: all that is on the hosts."
    )
    minutes = forms.ChoiceField(
        label="For",
        choices=[
            ("60", "1 hour"),
            ("15", "15 minutes"),
            ("240", "4 hours"),
            ("480", "8 hours"),
            ("1440", "1 day"),
            ("10080", "7 days"),
        ],
        help_text="What still fires when it is over is told then.",
    )
    starts_at = MomentField("From (UTC)", "The begin of a maintenance window to come. Empty: now.")
    ends_at = MomentField("Until (UTC)", "Where it does not last one of the times above.")
    comment = forms.CharField(
        label="Why", required=False, max_length=500, help_text="For the others, like: kernel update."
    )

    def wish(self, now: datetime.datetime) -> dict[str, Any]:
        """What the service takes; raises `InvalidInput` for labels that aren't `key=value`."""
        data = dict(self.cleaned_data)
        lasts = datetime.timedelta(minutes=int(data.pop("minutes")))
        begins = data["starts_at"] or now
        return {
            **data,
            "host_labels": _labels(data["host_labels"]),
            "ends_at": data["ends_at"] or begins + lasts,
        }


def _labels(text: str) -> dict[str, str]:
    labels = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, value = part.partition("=")
        if not separator:
            raise InvalidInput("host_labels", "must be key=value, separated by commas.")
        labels[name.strip()] = value.strip()
    return labels
