"""The shapes of alert rules, alerts and channels in the REST API."""

from typing import Any

from rest_framework import serializers

from dockmesh.alerts.models import Alert, AlertRule, Channel, Silence
from dockmesh.core.api import Flag, StrictSerializer, Text, Whole


class AlertRuleCreateSerializer(StrictSerializer):
    """A rule as it is sent; the services check the values."""

    name = Text()
    kind = serializers.ChoiceField(AlertRule.Kind.choices)
    severity = serializers.ChoiceField(AlertRule.Severity.choices, default=AlertRule.Severity.WARNING)
    is_enabled = Flag(default=True)
    for_seconds = Whole(default=0, min_value=0, help_text="How long the cause must hold.")
    cooldown_seconds = Whole(
        default=0, min_value=0, help_text="How long the same subject stays silent after it has resolved."
    )
    muted_until = serializers.DateTimeField(default=None, allow_null=True)
    match_host = Text(default="", allow_blank=True, help_text="A glob, like web-*.")
    match_stack = Text(default="", allow_blank=True, help_text="A glob.")
    match_name = Text(default="", allow_blank=True, help_text="A glob.")
    host_labels = serializers.DictField(child=Text(allow_blank=True), default=dict)
    parameters: Any = serializers.DictField(default=dict, help_text="What only some kinds take.")


class AlertRuleChangeSerializer(AlertRuleCreateSerializer):
    """A part of a rule; what isn't sent stays."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "partial": True})


class AlertRuleSerializer(serializers.ModelSerializer[AlertRule]):
    """A rule, and how many of its alerts fire."""

    firing = serializers.IntegerField(read_only=True, help_text="How many of its alerts fire now.")

    class Meta:
        model = AlertRule
        fields = (
            "id",
            "name",
            "kind",
            "severity",
            "is_enabled",
            "for_seconds",
            "cooldown_seconds",
            "muted_until",
            "match_host",
            "match_stack",
            "match_name",
            "host_labels",
            "parameters",
            "fired_count",
            "firing",
            "created_at",
        )
        read_only_fields = fields


class MatchSerializer(serializers.Serializer[Any]):
    """A subject that a rule would match now."""

    subject = serializers.CharField()
    cause = serializers.CharField()
    host = serializers.CharField(source="host.name", default="")
    stack = serializers.CharField()


class AlertSerializer(serializers.ModelSerializer[Alert]):
    """An alert."""

    rule = serializers.CharField(source="rule.name")
    rule_id = serializers.IntegerField()
    host = serializers.CharField(source="host_name")
    stack = serializers.CharField(source="stack_name")

    class Meta:
        model = Alert
        fields = (
            "id",
            "rule",
            "rule_id",
            "severity",
            "status",
            "subject",
            "cause",
            "host",
            "stack",
            "active_since",
            "fired_at",
            "resolved_at",
        )
        read_only_fields = fields


class SilenceCreateSerializer(StrictSerializer):
    """A silence as it is sent; of hosts, stack and labels one at least."""

    match_host = Text(default="", allow_blank=True, help_text="A glob, like web-*; * is every host.")
    match_stack = Text(default="", allow_blank=True, help_text="A glob.")
    host_labels = serializers.DictField(child=Text(allow_blank=True), default=dict)
    comment = Text(default="", allow_blank=True, help_text="Why, for the others.")
    starts_at = serializers.DateTimeField(default=None, allow_null=True, help_text="Without: now.")
    ends_at = serializers.DateTimeField()


class SilenceSerializer(serializers.ModelSerializer[Silence]):
    """A silence."""

    class Meta:
        model = Silence
        fields = (
            "id",
            "match_host",
            "match_stack",
            "host_labels",
            "comment",
            "starts_at",
            "ends_at",
            "created_by",
            "created_at",
        )
        read_only_fields = fields


class ChannelCreateSerializer(StrictSerializer):
    """A channel as it is sent."""

    name = Text()
    kind = serializers.ChoiceField(Channel.Kind.choices, default=Channel.Kind.APPRISE)
    url = Text(help_text="Encrypted at rest and never answered.")
    minimum_severity = serializers.ChoiceField(AlertRule.Severity.choices, default=AlertRule.Severity.INFO)
    is_enabled = Flag(default=True)


class ChannelChangeSerializer(StrictSerializer):
    """A part of a channel; its kind stays."""

    name = Text(required=False)
    url = Text(required=False)
    minimum_severity = serializers.ChoiceField(AlertRule.Severity.choices, required=False)
    is_enabled = Flag(required=False)


class ChannelSerializer(serializers.ModelSerializer[Channel]):
    """A channel without its address."""

    class Meta:
        model = Channel
        fields = (
            "id",
            "name",
            "kind",
            "minimum_severity",
            "is_enabled",
            "last_success_at",
            "last_error",
            "created_at",
        )
        read_only_fields = fields
