"""REST: `alert-rules`, `alerts`, `alert-channels`."""

from typing import Any

from django.db.models import Count, Q, QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from dockmesh.alerts import deliveries, services
from dockmesh.alerts.models import Alert, AlertRule, Channel, Notification
from dockmesh.alerts.serializers import (
    AlertShape,
    ChannelBody,
    ChannelChange,
    ChannelShape,
    MatchShape,
    RuleBody,
    RuleChange,
    RuleShape,
)
from dockmesh.audit.services import Actor
from dockmesh.core.api import Lookup, filtered, one_of
from dockmesh.core.errors import DomainError
from tokens.permissions import Permission
from tokens.principals import principal_of

READ_AND_MANAGE = {
    "GET": Permission.FLEET_READ,
    "POST": Permission.ALERTS_MANAGE,
    "PATCH": Permission.ALERTS_MANAGE,
    "DELETE": Permission.ALERTS_MANAGE,
}


class NotDelivered(DomainError):
    """The receiver did not take the test."""

    status = 502
    title = "Not delivered"


def actor_of(request: Request) -> Actor:
    """Who asks, for the audit log."""
    principal = principal_of(request._request)
    assert principal is not None
    return principal.actor


def rules_with_firing() -> QuerySet[AlertRule]:
    """Rules with the number of their alerts that fire."""
    return AlertRule.objects.annotate(
        firing=Count("alerts", filter=Q(alerts__status=Alert.Status.FIRING))
    ).order_by("name")


def _page(view: GenericAPIView[Any], rows: QuerySet[Any], shape: Any) -> Response:
    return view.get_paginated_response(shape(view.paginate_queryset(rows), many=True).data)


class Rules(GenericAPIView[AlertRule]):
    """All rules."""

    required_permission = READ_AND_MANAGE

    @extend_schema(
        operation_id="alert_rules_list",
        parameters=[
            OpenApiParameter("name", str),
            OpenApiParameter("kind", str, enum=AlertRule.Kind.values),
            OpenApiParameter("severity", str, enum=AlertRule.Severity.values),
        ],
        responses=RuleShape(many=True),
    )
    def get(self, request: Request) -> Response:
        """List the rules."""
        lookups: dict[str, Lookup] = {
            "name": "name",
            "kind": one_of("kind", AlertRule.Kind.values),
            "severity": one_of("severity", AlertRule.Severity.values),
        }
        return _page(self, filtered(rules_with_firing(), request, lookups), RuleShape)

    @extend_schema(operation_id="alert_rules_create", request=RuleBody, responses={201: RuleShape})
    def post(self, request: Request) -> Response:
        """Make a rule; its counter is born at 0."""
        body = RuleBody(data=request.data)
        body.is_valid(raise_exception=True)
        rule = services.create_rule(actor=actor_of(request), rule=services.RuleInput(**body.validated_data))
        return Response(
            RuleShape(rules_with_firing().get(pk=rule.pk)).data,
            status=status.HTTP_201_CREATED,
            headers={"Location": f"/api/v1/alert-rules/{rule.pk}"},
        )


class RulePreview(APIView):
    """What a rule would match."""

    required_permission = {"POST": Permission.FLEET_READ}

    @extend_schema(operation_id="alert_rules_preview", request=RuleBody, responses=MatchShape(many=True))
    def post(self, request: Request) -> Response:
        """The subjects that this rule would match now; nothing is stored."""
        body = RuleBody(data=request.data)
        body.is_valid(raise_exception=True)
        matches = services.preview(rule=services.RuleInput(**body.validated_data))
        return Response(MatchShape(matches, many=True).data)


class Rule(APIView):
    """One rule."""

    required_permission = READ_AND_MANAGE

    @extend_schema(operation_id="alert_rules_read", responses=RuleShape)
    def get(self, request: Request, pk: int) -> Response:
        """One rule."""
        return Response(RuleShape(get_object_or_404(rules_with_firing(), pk=pk)).data)

    @extend_schema(operation_id="alert_rules_change", request=RuleChange, responses=RuleShape)
    def patch(self, request: Request, pk: int) -> Response:
        """Change what is sent; the rest stays."""
        get_object_or_404(AlertRule, pk=pk)
        body = RuleChange(data=request.data)
        body.is_valid(raise_exception=True)
        services.change_rule(actor=actor_of(request), rule_id=pk, **body.validated_data)
        return Response(RuleShape(rules_with_firing().get(pk=pk)).data)

    @extend_schema(operation_id="alert_rules_remove", responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Remove a rule, its alerts and its series."""
        get_object_or_404(AlertRule, pk=pk)
        services.remove_rule(actor=actor_of(request), rule_id=pk)
        return Response(status=status.HTTP_204_NO_CONTENT)


class Alerts(GenericAPIView[Alert]):
    """All alerts."""

    required_permission = {"GET": Permission.FLEET_READ}

    @extend_schema(
        operation_id="alerts_list",
        parameters=[
            OpenApiParameter("status", str, enum=Alert.Status.values),
            OpenApiParameter("severity", str, enum=AlertRule.Severity.values),
            OpenApiParameter("rule", str, description="Name of a rule."),
            OpenApiParameter("host", str, description="Name of a host."),
            OpenApiParameter("stack", str, description="Name of a stack."),
        ],
        responses=AlertShape(many=True),
    )
    def get(self, request: Request) -> Response:
        """List the alerts, newest first."""
        lookups: dict[str, Lookup] = {
            "status": one_of("status", Alert.Status.values),
            "severity": one_of("severity", AlertRule.Severity.values),
            "rule": "rule__name",
            "host": "host_name",
            "stack": "stack_name",
        }
        rows = Alert.objects.select_related("rule").order_by("-id")
        return _page(self, filtered(rows, request, lookups), AlertShape)


class AlertDetail(APIView):
    """One alert."""

    required_permission = {"GET": Permission.FLEET_READ}

    @extend_schema(operation_id="alerts_read", responses=AlertShape)
    def get(self, request: Request, pk: int) -> Response:
        """One alert."""
        return Response(AlertShape(get_object_or_404(Alert.objects.select_related("rule"), pk=pk)).data)


class Channels(GenericAPIView[Channel]):
    """All channels."""

    required_permission = {"GET": Permission.ALERTS_MANAGE, "POST": Permission.ALERTS_MANAGE}

    @extend_schema(operation_id="alert_channels_list", responses=ChannelShape(many=True))
    def get(self, request: Request) -> Response:
        """List the channels, without their addresses."""
        return _page(self, filtered(Channel.objects.order_by("name"), request, {}), ChannelShape)

    @extend_schema(operation_id="alert_channels_create", request=ChannelBody, responses={201: ChannelShape})
    def post(self, request: Request) -> Response:
        """Make a channel."""
        body = ChannelBody(data=request.data)
        body.is_valid(raise_exception=True)
        channel = services.create_channel(actor=actor_of(request), **body.validated_data)
        headers = {"Location": f"/api/v1/alert-channels/{channel.pk}"}
        return Response(ChannelShape(channel).data, status=status.HTTP_201_CREATED, headers=headers)


class ChannelDetail(APIView):
    """One channel."""

    required_permission = dict.fromkeys(("GET", "PATCH", "DELETE"), Permission.ALERTS_MANAGE)

    @extend_schema(operation_id="alert_channels_read", responses=ChannelShape)
    def get(self, request: Request, pk: int) -> Response:
        """One channel."""
        return Response(ChannelShape(get_object_or_404(Channel, pk=pk)).data)

    @extend_schema(operation_id="alert_channels_change", request=ChannelChange, responses=ChannelShape)
    def patch(self, request: Request, pk: int) -> Response:
        """Change what is sent; the address stays unless a new one is sent."""
        get_object_or_404(Channel, pk=pk)
        body = ChannelChange(data=request.data)
        body.is_valid(raise_exception=True)
        channel = services.change_channel(actor=actor_of(request), channel_id=pk, **body.validated_data)
        return Response(ChannelShape(channel).data)

    @extend_schema(operation_id="alert_channels_remove", responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Remove a channel."""
        get_object_or_404(Channel, pk=pk)
        services.remove_channel(actor=actor_of(request), channel_id=pk)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ChannelTest(APIView):
    """A test message."""

    required_permission = {"POST": Permission.ALERTS_MANAGE}

    @extend_schema(operation_id="alert_channels_test", request=None, responses={204: None, 202: None})
    def post(self, request: Request, pk: int) -> Response:
        """Send a test message; 502 with the reason if it can't be delivered, 202 if that takes longer than a moment:
        then `last_success_at` and `last_error` of the channel tell."""
        get_object_or_404(Channel, pk=pk)
        message_id = services.request_test(actor=actor_of(request), channel_id=pk)
        message = deliveries.outcome(message_id)
        if message is None:
            return Response({"status": "queued"}, status=status.HTTP_202_ACCEPTED)
        if message.status != Notification.Status.SENT:
            raise NotDelivered(message.last_error)
        return Response(status=status.HTTP_204_NO_CONTENT)
