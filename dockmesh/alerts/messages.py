"""Queueing messages, in the transaction in which an alert changes. Sending them is `deliveries.py`.

Of the messages about one subject to one channel only the newest holds. So an older one that was not sent yet is
dropped, and an end is told only where the beginning may have been heard.
"""

import datetime
from collections.abc import Sequence

from django.conf import settings
from django.db.models import F, QuerySet

from dockmesh.alerts.models import Alert, AlertRule, Channel, Notification
from dockmesh.core.addresses import page_path

SEVERITIES = [severity.value for severity in AlertRule.Severity]

Event = Notification.Event
Status = Notification.Status

# Of many that are told as one.
MOST_LINES = 30
MOST_OF_A_LINE = 300

_TYPES = {"info": "info", "warning": "warning", "critical": "failure"}


def tell_firing(rule: AlertRule, alert: Alert, now: datetime.datetime) -> None:
    """Queue a message to every Apprise channel whose severity is reached; an Alertmanager is told of all at once."""
    reached = SEVERITIES[: SEVERITIES.index(alert.severity) + 1]
    channels = Channel.objects.filter(
        kind=Channel.Kind.APPRISE, is_enabled=True, minimum_severity__in=reached
    )
    _queue(rule, alert, list(channels.order_by("id").values_list("pk", flat=True)), Event.FIRING, now)


def tell_resolved(rule: AlertRule, alert: Alert, now: datetime.datetime) -> None:
    """Queue a message to whoever may have heard that the alert fired; an attempt that failed may have been heard."""
    told = Notification.objects.filter(alert=alert, event=Event.FIRING)
    heard = told.exclude(status=Status.DROPPED).exclude(status=Status.QUEUED, attempts=0)
    channel_ids = list(heard.order_by("channel_id").values_list("channel_id", flat=True))
    _drop(told)
    _queue(rule, alert, channel_ids, Event.RESOLVED, now)


def tell_test(channel: Channel, now: datetime.datetime) -> int:
    """Queue a test message, if none is waiting; its id."""
    waiting = Notification.objects.filter(channel=channel, event=Event.TEST, status=Status.QUEUED).first()
    if waiting is not None:
        return waiting.pk
    return Notification.objects.create(
        channel=channel,
        event=Event.TEST,
        title="dockmesh: test",
        body="This channel works.",
        type="info",
        next_attempt_at=now,
    ).pk


def give_words(message: Notification) -> None:
    """What a message of an older replica says; it has only its alert and event."""
    if message.body or message.alert is None:
        return
    message.title, message.body = _words(message.alert.rule, message.alert, Event(message.event))
    message.type = _type(message.alert, Event(message.event))
    message.save(update_fields=["title", "body", "type"])


def as_one(group: Sequence[Notification]) -> Notification:
    """The message that tells of all of these, which are of one rule and one event; not stored. Of one, that itself."""
    first = group[0]
    worst = max(group, key=lambda each: SEVERITIES.index(each.alert.severity) if each.alert else -1)
    if len(group) == 1 or worst.alert is None:
        return first
    told = [": ".join(each.body.splitlines()[:2])[:MOST_OF_A_LINE] for each in group[:MOST_LINES]]
    if len(group) > MOST_LINES:
        told.append(f"and {len(group) - MOST_LINES} more.")
    if settings.DOCKMESH_BASE_URL:
        told.append(settings.DOCKMESH_BASE_URL + page_path("alerts:alerts"))
    return Notification(
        channel=first.channel,
        event=first.event,
        title=f"{worst.title[:290]} ({len(group)})",
        body="\n".join(told),
        type=worst.type,
    )


def _drop(messages: QuerySet[Notification]) -> None:
    """Those of them that wait, and count them in the caller's transaction."""
    waiting = messages.filter(status=Status.QUEUED).values_list("pk", "channel_id")
    for pk, channel_id in list(waiting.order_by("channel_id", "pk")):
        if Notification.objects.filter(pk=pk, status=Status.QUEUED).update(status=Status.DROPPED):
            Channel.objects.filter(pk=channel_id).update(dropped_count=F("dropped_count") + 1)


def _queue(
    rule: AlertRule, alert: Alert, channel_ids: list[int], event: Notification.Event, now: datetime.datetime
) -> None:
    subject_key = f"{rule.pk}:{alert.key}"
    title, body = _words(rule, alert, event)
    _drop(Notification.objects.filter(channel_id__in=channel_ids, subject_key=subject_key))
    Notification.objects.bulk_create(
        Notification(
            alert=alert,
            channel_id=channel_id,
            event=event,
            subject_key=subject_key,
            title=title,
            body=body,
            type=_type(alert, event),
            next_attempt_at=now,
        )
        for channel_id in channel_ids
    )


def _type(alert: Alert, event: Notification.Event) -> str:
    return "success" if event == Event.RESOLVED else _TYPES[alert.severity]


def _words(rule: AlertRule, alert: Alert, event: Notification.Event) -> tuple[str, str]:
    is_firing = event == Event.FIRING
    word = "Firing" if is_firing else "Resolved"
    when = alert.fired_at if is_firing else alert.resolved_at
    lines = [alert.subject, alert.cause]
    if when is not None:
        lines.append(f"{word} since {when:%Y-%m-%d %H:%M:%S UTC}.")
    if settings.DOCKMESH_BASE_URL:
        lines.append(settings.DOCKMESH_BASE_URL + page_path("alerts:alert", alert.pk))
    return f"[{alert.severity}] {word}: {rule.name}"[:300], "\n".join(lines)
