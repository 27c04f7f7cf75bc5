"""REST: `alert-rules`, `alerts`, `alert-channels`, `silences`."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from dockmesh.alerts import deliveries, selectors, services, silences
from dockmesh.alerts.kinds import Match
from dockmesh.alerts.models import Alert, AlertRule, Channel, Notification, Silence
from dockmesh.alerts.serializers import (
    AlertRuleChangeSerializer,
    AlertRuleCreateSerializer,
    AlertRuleSerializer,
    AlertSerializer,
    ChannelChangeSerializer,
    ChannelCreateSerializer,
    ChannelSerializer,
    MatchSerializer,
    SilenceCreateSerializer,
    SilenceSerializer,
)
from dockmesh.core.errors import DomainError
from dockmesh.core.filters import FilterSet, TextFilter
from dockmesh.core.viewsets import ServiceViewSet, operation
from tokens.permissions import Permission


class NotDelivered(DomainError):
    """The receiver did not take the test."""

    status = 502
    title = "Not delivered"


class AlertRuleFilter(FilterSet):
    """Filters of rules."""

    name = TextFilter()
    kind = TextFilter(choices=AlertRule.Kind.values)
    severity = TextFilter(choices=AlertRule.Severity.values)


class AlertRuleViewSet(ServiceViewSet[AlertRule]):
    """Alert rules by name."""

    noun = "alert rule"
    queryset = selectors.rules_with_firing()
    serializer_class = AlertRuleSerializer
    filterset_class = AlertRuleFilter
    read_permission = Permission.FLEET_READ

    @operation(Permission.ALERTS_MANAGE, body=AlertRuleCreateSerializer)
    def create(self, **values: Any) -> Any:
        """Make a rule; its counter is born at 0."""
        return self.one(services.create_rule(actor=self.actor, rule=services.RuleInput(**values)).pk)

    @operation(Permission.ALERTS_MANAGE, body=AlertRuleChangeSerializer)
    def change(self, id: int, **values: Any) -> Any:
        """Change what is sent; the rest stays."""
        services.change_rule(actor=self.actor, rule_id=id, **values)
        return self.one(id)

    @operation(Permission.ALERTS_MANAGE)
    def remove(self, id: int) -> None:
        """Remove a rule, its alerts and its series."""
        services.remove_rule(actor=self.actor, rule_id=id)

    @operation(
        Permission.FLEET_READ,
        body=AlertRuleCreateSerializer,
        answer=MatchSerializer,
        many=True,
        detail=False,
    )
    def preview(self, **values: Any) -> list[Match]:
        """The subjects that this rule would match now; nothing is stored."""
        return services.preview(rule=services.RuleInput(**values))


class AlertFilter(FilterSet):
    """Filters of alerts."""

    status = TextFilter(choices=Alert.Status.values)
    severity = TextFilter(choices=AlertRule.Severity.values)
    rule = TextFilter("rule__name", help_text="Name of a rule.")
    host = TextFilter("host_name", help_text="Name of a host.")
    stack = TextFilter("stack_name", help_text="Name of a stack.")


class AlertViewSet(ServiceViewSet[Alert]):
    """Alerts, the newest first."""

    noun = "alert"
    queryset = Alert.objects.select_related("rule").order_by("-id")
    serializer_class = AlertSerializer
    filterset_class = AlertFilter
    read_permission = Permission.FLEET_READ


class ChannelViewSet(ServiceViewSet[Channel]):
    """Channels by name, without their addresses."""

    noun = "alert channel"
    queryset = Channel.objects.order_by("name")
    serializer_class = ChannelSerializer
    read_permission = Permission.ALERTS_MANAGE

    @operation(Permission.ALERTS_MANAGE, body=ChannelCreateSerializer)
    def create(self, **values: Any) -> Channel:
        """Make a channel."""
        return services.create_channel(actor=self.actor, **values)

    @operation(Permission.ALERTS_MANAGE, body=ChannelChangeSerializer)
    def change(self, id: int, **values: Any) -> Channel:
        """Change what is sent; the address stays unless a new one is sent."""
        return services.change_channel(actor=self.actor, channel_id=id, **values)

    @operation(Permission.ALERTS_MANAGE)
    def remove(self, id: int) -> None:
        """Remove a channel."""
        services.remove_channel(actor=self.actor, channel_id=id)

    @extend_schema(responses={204: None, 202: None})
    @operation(Permission.ALERTS_MANAGE, status=204)
    def test(self, id: int) -> Response | None:
        """Send a test message; 502 with the reason if it can't be delivered, 202 if that takes longer than a moment:
        then `last_success_at` and `last_error` of the channel tell."""
        message = deliveries.outcome(services.request_test(actor=self.actor, channel_id=id))
        if message is None:
            return Response({"status": "queued"}, status=202)
        if message.status != Notification.Status.SENT:
            raise NotDelivered(message.last_error)
        return None


class SilenceViewSet(ServiceViewSet[Silence]):
    """Silences, the newest first; those that are over stay to be read."""

    noun = "silence"
    queryset = Silence.objects.order_by("-id")
    serializer_class = SilenceSerializer
    read_permission = Permission.FLEET_READ

    @operation(Permission.ALERTS_MANAGE, body=SilenceCreateSerializer)
    def create(self, **values: Any) -> Silence:
        """Make a silence, from now or from a time to come: a maintenance window."""
        return silences.create_silence(actor=self.actor, **values)

    @operation(Permission.ALERTS_MANAGE)
    def end(self, id: int) -> Silence:
        """End a silence now; 409 if it is over."""
        return silences.end_silence(actor=self.actor, silence_id=id)
