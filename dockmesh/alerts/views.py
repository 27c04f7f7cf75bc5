"""The pages of alerts, rules and channels."""

import datetime

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from dockmesh.alerts import deliveries, services
from dockmesh.alerts.api import rules_with_firing
from dockmesh.alerts.forms import ChannelForm, MuteForm, RuleForm, initial_of
from dockmesh.alerts.models import Alert, AlertRule, Channel, Notification
from dockmesh.audit.services import Actor
from dockmesh.core import clock
from dockmesh.core.errors import DomainError
from dockmesh.core.forms import ConfirmForm, add_refusal
from dockmesh.core.tables import Choice, Column, Filter, Table
from tokens.decorators import page_permission
from tokens.permissions import Permission
from tokens.principals import principal_of

FORM_METHODS = require_http_methods(["GET", "HEAD", "POST"])

SEVERITY_FILTER = Filter(
    "severity",
    "Severity",
    [
        Choice("critical", "Critical", "bad"),
        Choice("warning", "Warning", "warning"),
        Choice("info", "Info", "info"),
    ],
)


def _actor(request: HttpRequest) -> Actor:
    principal = principal_of(request)
    assert principal is not None
    return principal.actor


def _may_manage(request: HttpRequest) -> bool:
    principal = principal_of(request)
    return principal is not None and principal.has(Permission.ALERTS_MANAGE)


@require_GET
@page_permission(Permission.FLEET_READ)
def alerts(request: HttpRequest) -> HttpResponse:
    """What fires now and what did."""
    table = Table(
        request.GET,
        columns=[
            Column("subject", "Subject", ("subject",)),
            Column("rule", "Rule", ("rule__name",)),
            Column("severity", "Severity", ("severity",)),
            Column("status", "Status", ("status",)),
            Column("fired", "Fired", ("fired_at",)),
            Column("resolved", "Resolved", ("resolved_at",)),
        ],
        default_sort="-fired",
        filters=[
            Filter(
                "status",
                "Status",
                [
                    Choice("firing", "Firing", "bad"),
                    Choice("pending", "Pending", "working"),
                    Choice("resolved", "Resolved", "well"),
                ],
            ),
            SEVERITY_FILTER,
        ],
    )
    rows = table.ordered(Alert.objects.select_related("rule"))
    if table.query:
        rows = rows.filter(subject__icontains=table.query)
    if status := table.filter_value("status"):
        rows = rows.filter(status=status)
    if severity := table.filter_value("severity"):
        rows = rows.filter(severity=severity)
    return render(
        request,
        "alerts/alerts.html",
        {
            "table": table.show(rows),
            "has_rules": AlertRule.objects.exists(),
            "may_manage": _may_manage(request),
        },
    )


@require_GET
@page_permission(Permission.FLEET_READ)
def alert(request: HttpRequest, pk: int) -> HttpResponse:
    """One alert: its cause, its times, who was told."""
    found = get_object_or_404(Alert.objects.select_related("rule"), pk=pk)
    told = found.notifications.select_related("channel").order_by("id")
    return render(request, "alerts/alert.html", {"alert": found, "notifications": told})


@require_GET
@page_permission(Permission.FLEET_READ)
def rules(request: HttpRequest) -> HttpResponse:
    """All rules."""
    table = Table(
        request.GET,
        columns=[
            Column("name", "Name", ("name",)),
            Column("kind", "Looks at", ("kind",)),
            Column("severity", "Severity", ("severity",)),
            Column("firing", "Firing", ("firing",), css="num"),
            Column("fired", "Fired ever", ("fired_count",), css="num"),
            Column("state", "State", ("is_enabled",)),
        ],
        default_sort="name",
        filters=[SEVERITY_FILTER],
    )
    rows = table.ordered(rules_with_firing())
    if table.query:
        rows = rows.filter(name__icontains=table.query)
    if severity := table.filter_value("severity"):
        rows = rows.filter(severity=severity)
    return render(
        request,
        "alerts/rules.html",
        {
            "table": table.show(rows),
            "may_manage": _may_manage(request),
            "now": clock.now(),
            "has_recommended": services.has_recommended_rules(),
        },
    )


@require_POST
@page_permission(Permission.ALERTS_MANAGE)
def recommended(request: HttpRequest) -> HttpResponse:
    """Make the recommended rules."""
    try:
        made = services.create_recommended_rules(actor=_actor(request))
    except DomainError as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, f"{made} rules were made.")
    return redirect("alerts:rules")


@FORM_METHODS
@page_permission(Permission.ALERTS_MANAGE)
def new_rule(request: HttpRequest) -> HttpResponse:
    """Make a rule, with a look at what it would match now."""
    return _rule_form(request, None)


@FORM_METHODS
@page_permission(Permission.ALERTS_MANAGE)
def change_rule(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a rule."""
    return _rule_form(request, get_object_or_404(AlertRule, pk=pk))


def _rule_form(request: HttpRequest, stored: AlertRule | None) -> HttpResponse:
    form = RuleForm(request.POST or None, initial=initial_of(stored) if stored else None)
    matches = None
    if request.method == "POST" and form.is_valid():
        try:
            wanted = form.rule_input()
            if "preview" in request.POST:
                matches = services.preview(rule=wanted)
            else:
                if stored:
                    services.change_rule(actor=_actor(request), rule_id=stored.pk, **form.rule_changes())
                else:
                    services.create_rule(actor=_actor(request), rule=wanted)
                messages.success(request, f"The rule {wanted.name} is saved.")
                return redirect("alerts:rules")
        except DomainError as error:
            add_refusal(form, error)
    return render(request, "alerts/rule_form.html", {"form": form, "rule": stored, "matches": matches})


@FORM_METHODS
@page_permission(Permission.FLEET_READ)
def rule(request: HttpRequest, pk: int) -> HttpResponse:
    """One rule: what it looks at, what it found; muting it."""
    found = get_object_or_404(rules_with_firing(), pk=pk)
    may_manage = _may_manage(request)
    form = MuteForm(request.POST or None)
    if request.method == "POST" and may_manage and form.is_valid():
        hours = int(form.cleaned_data["hours"])
        until = clock.now() + datetime.timedelta(hours=hours) if hours else None
        try:
            services.change_rule(actor=_actor(request), rule_id=pk, muted_until=until)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, "The rule is muted." if hours else "The rule is not muted any more.")
            return redirect("alerts:rule", pk)
    return render(
        request,
        "alerts/rule.html",
        {
            "rule": found,
            "form": form,
            "may_manage": may_manage,
            "is_muted": found.muted_until is not None and found.muted_until > clock.now(),
            "parameters": [
                (name.replace("_", " "), ", ".join(value) or "any" if isinstance(value, list) else value)
                for name, value in found.parameters.items()
            ],
            "alerts": found.alerts.order_by("-id")[:20],
        },
    )


@FORM_METHODS
@page_permission(Permission.ALERTS_MANAGE)
def remove_rule(request: HttpRequest, pk: int) -> HttpResponse:
    """Remove a rule after its name was typed."""
    found = get_object_or_404(AlertRule, pk=pk)
    form = ConfirmForm(request.POST or None, expected=found.name)
    if request.method == "POST" and form.is_valid():
        try:
            services.remove_rule(actor=_actor(request), rule_id=pk)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"The rule {found.name} is removed.")
            return redirect("alerts:rules")
    return render(
        request,
        "web/confirm.html",
        {
            "title": "Remove alert rule",
            "object_kind": "rule",
            "object_name": found.name,
            "consequences": ["Its alerts and its series on /metrics go with it."],
            "action_label": "Remove rule",
            "back_url": reverse("alerts:rule", args=[pk]),
            "form": form,
        },
    )


@require_GET
@page_permission(Permission.ALERTS_MANAGE)
def channels(request: HttpRequest) -> HttpResponse:
    """Where alerts are told."""
    return render(request, "alerts/channels.html", {"channels": Channel.objects.order_by("name")})


@FORM_METHODS
@page_permission(Permission.ALERTS_MANAGE)
def new_channel(request: HttpRequest) -> HttpResponse:
    """Make a channel."""
    form = ChannelForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            channel = services.create_channel(actor=_actor(request), **form.cleaned_data)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"The channel {channel.name} is made. Send it a test.")
            return redirect("alerts:channels")
    return render(request, "alerts/channel_form.html", {"form": form, "channel": None})


@FORM_METHODS
@page_permission(Permission.ALERTS_MANAGE)
def change_channel(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a channel."""
    stored = get_object_or_404(Channel, pk=pk)
    initial = {
        "name": stored.name,
        "minimum_severity": stored.minimum_severity,
        "is_enabled": stored.is_enabled,
    }
    form = ChannelForm(request.POST or None, stored=stored, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            services.change_channel(actor=_actor(request), channel_id=pk, **form.changes())
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, "The channel is saved.")
            return redirect("alerts:channels")
    return render(request, "alerts/channel_form.html", {"form": form, "channel": stored})


@require_POST
@page_permission(Permission.ALERTS_MANAGE)
def test_channel(request: HttpRequest, pk: int) -> HttpResponse:
    """Send a test message."""
    channel = get_object_or_404(Channel, pk=pk)
    try:
        message_id = services.request_test(actor=_actor(request), channel_id=pk)
    except DomainError as error:
        messages.error(request, error.detail)
        return redirect("alerts:channels")
    message = deliveries.outcome(message_id)
    if message is None:
        messages.info(request, f"The test to {channel.name} is on its way; how it went is shown here then.")
    elif message.status == Notification.Status.SENT:
        messages.success(request, f"The test was sent to {channel.name}.")
    else:
        messages.error(request, f"{channel.name}: {message.last_error}")
    return redirect("alerts:channels")


@FORM_METHODS
@page_permission(Permission.ALERTS_MANAGE)
def remove_channel(request: HttpRequest, pk: int) -> HttpResponse:
    """Remove a channel after its name was typed."""
    found = get_object_or_404(Channel, pk=pk)
    form = ConfirmForm(request.POST or None, expected=found.name)
    if request.method == "POST" and form.is_valid():
        try:
            services.remove_channel(actor=_actor(request), channel_id=pk)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"The channel {found.name} is removed.")
            return redirect("alerts:channels")
    return render(
        request,
        "web/confirm.html",
        {
            "title": "Remove channel",
            "object_kind": "channel",
            "object_name": found.name,
            "consequences": ["Alerts are told there no more; what waits to be sent is dropped."],
            "action_label": "Remove channel",
            "back_url": reverse("alerts:channels"),
            "form": form,
        },
    )
