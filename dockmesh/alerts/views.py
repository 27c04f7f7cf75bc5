"""The pages of alerts, rules and channels."""

import datetime
from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from dockmesh.alerts import deliveries, selectors, services, silences
from dockmesh.alerts.forms import ChannelForm, MuteForm, RuleForm, SilenceForm
from dockmesh.alerts.models import Alert, AlertRule, Channel, Notification, Silence
from dockmesh.core import clock
from dockmesh.core.pages import Action, ConfirmPage, DetailPage, FormPage, ListPage, ObjectPage
from dockmesh.core.tables import Column, words
from tokens.permissions import Permission

ALERTS = (("Alerts", "alerts:alerts"),)
RULES = (*ALERTS, ("Rules", "alerts:rules"))
CHANNELS = (*ALERTS, ("Channels", "alerts:channels"))

SEVERITIES = words("severity", "Severity", {"critical": "bad", "warning": "warning", "info": "info"})


class AlertList(ListPage):
    """What fires now and what did."""

    required_permission = Permission.FLEET_READ
    template = part = "alerts/alerts.html"
    title = "Alerts"
    lead = "What is wrong now and what was, by your rules."
    search_hint = "Search subjects"
    queryset = Alert.objects.select_related("rule")
    columns = (
        Column("subject", "Subject", ("subject",)),
        Column("rule", "Rule", ("rule__name",)),
        Column("severity", "Severity", ("severity",)),
        Column("status", "Status", ("status",)),
        Column("fired", "Fired", ("fired_at",)),
        Column("resolved", "Resolved", ("resolved_at",), css="wide"),
    )
    default_sort = "-fired"
    filters = (
        words("status", "Status", {"firing": "bad", "pending": "working", "resolved": "well"}),
        SEVERITIES,
    )
    ties = ("host_name", "subject")
    search = ("subject",)

    def context(self) -> Mapping[str, Any]:
        return {
            "has_rules": AlertRule.objects.exists(),
            "may_manage": self.may(Permission.ALERTS_MANAGE),
        }


class AlertDetail(ObjectPage, DetailPage):
    """One alert: its cause, its times, who was told."""

    required_permission = Permission.FLEET_READ
    template = "alerts/alert.html"
    part = "alerts/parts/alert.html"
    object: Alert
    queryset = Alert.objects.select_related("rule")
    kind = "alert"
    parents = ALERTS

    @property
    def object_name(self) -> str:
        return self.object.subject

    def context(self) -> Mapping[str, Any]:
        return {"notifications": self.object.notifications.select_related("channel").order_by("id")}


class RuleList(ListPage):
    """All rules."""

    required_permission = Permission.FLEET_READ
    template = part = "alerts/rules.html"
    parents = ALERTS
    title = "Rules"
    heading = "Alert rules"
    lead = "Each rule is evaluated every 15 seconds."
    search_hint = "Search rules"
    columns = (
        Column("name", "Name", ("name",)),
        Column("kind", "Looks at", ("kind",)),
        Column("severity", "Severity", ("severity",)),
        Column("firing", "Firing", ("firing",), css="num"),
        Column("fired", "Fired ever", ("fired_count",), css="num wide"),
        Column("state", "State", ("is_enabled",)),
    )
    default_sort = "name"
    filters = (SEVERITIES,)
    search = ("name",)

    def rows(self) -> QuerySet[AlertRule]:
        return selectors.rules_with_firing()

    def context(self) -> Mapping[str, Any]:
        return {
            "may_manage": self.may(Permission.ALERTS_MANAGE),
            "now": clock.now(),
            "has_recommended": services.has_recommended_rules(),
        }


class RulesRecommended(Action):
    """Makes the recommended rules."""

    required_permission = Permission.ALERTS_MANAGE
    service = services.create_recommended_rules
    done = "{result} rules were made."
    next_route = "alerts:rules"


class RulePage(ObjectPage):
    """A page of one rule."""

    required_permission = Permission.ALERTS_MANAGE
    object: AlertRule
    queryset = selectors.rules_with_firing()
    kind = "rule"
    route = "alerts:rule"
    parents = RULES


class RuleFormPage(FormPage):
    """A rule's form, with a look at what it would match now."""

    required_permission = Permission.ALERTS_MANAGE
    template = "alerts/rule_form.html"
    form_class = RuleForm
    action_label = "Save rule"
    done = "The rule {result.name} is saved."
    next_route = "alerts:rules"

    def save(self, form: RuleForm) -> HttpResponseBase:
        if "preview" in self.request.POST:
            return self.show(form=form, matches=services.preview(rule=form.rule_input()))
        return super().save(form)


class RuleAdd(RuleFormPage):
    """Makes a rule."""

    parents = RULES
    title = "New alert rule"
    service = services.create_rule

    def arguments(self, form: RuleForm) -> Mapping[str, Any]:
        return {"rule": form.rule_input()}


class RuleChange(RulePage, RuleFormPage):
    """Changes a rule."""

    title = "Change"
    service = services.change_rule

    def arguments(self, form: RuleForm) -> Mapping[str, Any]:
        return form.rule_changes()


class RuleDetail(RulePage, FormPage):
    """One rule: what it looks at, what it found; muting it, for those who may."""

    required_permission = Permission.FLEET_READ
    template = "alerts/rule.html"
    form_class = MuteForm
    service = services.change_rule

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return self.authorise(Permission.ALERTS_MANAGE) or super().post(request, *args, **kwargs)

    def save(self, form: MuteForm) -> HttpResponseBase:
        hours = int(form.cleaned_data["hours"])
        self.call(muted_until=clock.now() + datetime.timedelta(hours=hours) if hours else None)
        messages.success(self.request, "The rule is muted." if hours else "The rule is not muted any more.")
        return redirect(self.url())

    def context(self) -> Mapping[str, Any]:
        until = self.object.muted_until
        return {
            "may_manage": self.may(Permission.ALERTS_MANAGE),
            "is_muted": until is not None and until > clock.now(),
            "parameters": [
                (name.replace("_", " "), ", ".join(value) or "any" if isinstance(value, list) else value)
                for name, value in self.object.parameters.items()
            ],
            "alerts": self.object.alerts.order_by("-id")[:20],
        }


class RuleRemove(RulePage, ConfirmPage):
    """Removes a rule after its name was typed."""

    title = "Remove alert rule"
    action_label = "Remove rule"
    consequences = ("Its alerts and its series on /metrics go with it.",)
    service = services.remove_rule
    done = "The rule {object.name} is removed."
    next_route = "alerts:rules"


class ChannelList(ListPage):
    """Where alerts are told."""

    required_permission = Permission.ALERTS_MANAGE
    template = part = "alerts/channels.html"
    parents = ALERTS
    title = "Channels"
    heading = "Notification channels"
    lead = "Where alerts are told: by Apprise, or to an Alertmanager that keeps your routing."
    search_hint = "Search channels"
    queryset = Channel.objects.all()
    columns = (
        Column("name", "Name", ("name",)),
        Column("kind", "Kind", ("kind",)),
        Column("severity", "From severity", css="wide"),
        Column("state", "State", ("is_enabled",)),
        Column("success", "Last success", ("last_success_at",), css="wide"),
        Column("error", "Last error"),
        Column("actions", "Actions", is_hidden=True),
    )
    default_sort = "name"
    search = ("name",)


class ChannelPage(ObjectPage):
    """A page of one channel; its own is the one that changes it."""

    required_permission = Permission.ALERTS_MANAGE
    object: Channel
    queryset = Channel.objects.all()
    kind = "channel"
    route = "alerts:channel-change"
    parents = CHANNELS


class ChannelAdd(FormPage):
    """Makes a channel."""

    required_permission = Permission.ALERTS_MANAGE
    parents = CHANNELS
    title = "New channel"
    action_label = "Save channel"
    form_class = ChannelForm
    not_kept = ("url",)
    service = services.create_channel
    done = "The channel {result.name} is made. Send it a test."
    next_route = "alerts:channels"


class ChannelChange(ChannelPage, FormPage):
    """Changes a channel."""

    heading = "Change {object.name}"
    form_class = ChannelForm
    not_kept = ("url",)
    action_label = "Save channel"
    service = services.change_channel
    done = "The channel is saved."
    next_route = "alerts:channels"

    def form_options(self) -> Mapping[str, Any]:
        return {**super().form_options(), "stored": self.object}


class ChannelTest(ChannelPage, Action):
    """Sends a test message."""

    service = services.request_test
    next_route = "alerts:channels"

    def act(self) -> HttpResponseBase:
        name, message = self.object.name, deliveries.outcome(self.call())
        if message is None:
            messages.info(self.request, f"The test to {name} is on its way; how it went is shown here then.")
        elif message.status == Notification.Status.SENT:
            messages.success(self.request, f"The test was sent to {name}.")
        else:
            messages.error(self.request, f"{name}: {message.last_error}")
        return redirect(self.next_route)


class ChannelRemove(ChannelPage, ConfirmPage):
    """Removes a channel after its name was typed."""

    title = "Remove channel"
    consequences = ("Alerts are told there no more; what waits to be sent is dropped.",)
    service = services.remove_channel
    done = "The channel {object.name} is removed."
    next_route = "alerts:channels"


class SilenceList(ListPage):
    """All silences, those that are over too."""

    required_permission = Permission.FLEET_READ
    template = part = "alerts/silences.html"
    parents = ALERTS
    title = "Silences"
    lead = "Where nobody is told for a while. What fires there shows and counts all the same."
    search_hint = "Search hosts, stacks and comments"
    queryset = Silence.objects.all()
    columns = (
        Column("host", "Of", ("match_host",)),
        Column("state", "State"),
        Column("starts", "From", ("starts_at",)),
        Column("ends", "Until", ("ends_at",)),
        Column("comment", "Why", ("comment",)),
        Column("by", "By", ("created_by",)),
        Column("actions", "Actions", is_hidden=True),
    )
    default_sort = "-ends"
    search = ("match_host", "match_stack", "comment")

    def context(self) -> Mapping[str, Any]:
        return {"may_manage": self.may(Permission.ALERTS_MANAGE), "now": clock.now()}


class SilenceAdd(FormPage):
    """Makes a silence; the address may say of what: `?host=atlas&stack=shop`."""

    required_permission = Permission.ALERTS_MANAGE
    parents = (*ALERTS, ("Silences", "alerts:silences"))
    title = "New silence"
    action_label = "Silence"
    form_class = SilenceForm
    service = silences.create_silence
    done = "Silenced: {result.subject}."
    next_route = "alerts:silences"

    def form_options(self) -> Mapping[str, Any]:
        asked = self.request.GET
        return {"initial": {"match_host": asked.get("host", ""), "match_stack": asked.get("stack", "")}}

    def arguments(self, form: SilenceForm) -> Mapping[str, Any]:
        return form.wish(clock.now())


class SilenceEnd(ObjectPage, Action):
    """Ends a silence."""

    required_permission = Permission.ALERTS_MANAGE
    object: Silence
    queryset = Silence.objects.all()
    kind = "silence"
    parents = (*ALERTS, ("Silences", "alerts:silences"))
    service = silences.end_silence
    done = "The silence is over. What still fires is told within 15 seconds."
    next_route = "alerts:silences"
