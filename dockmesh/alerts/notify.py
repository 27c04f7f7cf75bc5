"""Telling about alerts: Apprise messages with back-off, and the whole picture to an Alertmanager.

The scheduler calls both; neither is ever called by the evaluation, so a slow receiver delays nothing else.
"""

import datetime
import logging
from typing import Any

import requests
from django.conf import settings
from django.db.models import Q

from dockmesh.alerts.models import Alert, Channel, Notification
from dockmesh.alerts.services import SEVERITIES, URL_PURPOSE
from dockmesh.core import clock
from dockmesh.core.sealed import UnsealError, unseal

logger = logging.getLogger(__name__)

MOST_ATTEMPTS = 12
FIRST_RETRY_SECONDS = 10
LONGEST_RETRY_SECONDS = 3600
# Longer than any attempt: a claim whose process died is taken up again after that.
CLAIM = datetime.timedelta(minutes=2)
TIMEOUT_SECONDS = 10
AT_ONCE = 20

# An Alertmanager forgets an alert at `endsAt`, so it is told again well before.
STAYS = datetime.timedelta(minutes=4)
RESOLVED_FOR = datetime.timedelta(minutes=15)


class NotSent(Exception):
    """The receiver could not be told; the text says why and holds no address."""


def deliver_due() -> None:
    """Send the messages that are due, each claimed by a conditional update so that no other process sends it."""
    now = clock.now()
    due = Notification.objects.filter(status=Notification.Status.QUEUED, next_attempt_at__lte=now)
    for notification in due.select_related("alert__rule", "channel").order_by("next_attempt_at")[:AT_ONCE]:
        claimed = Notification.objects.filter(
            pk=notification.pk,
            status=Notification.Status.QUEUED,
            next_attempt_at=notification.next_attempt_at,
        ).update(next_attempt_at=now + CLAIM, attempts=notification.attempts + 1)
        if claimed:
            notification.attempts += 1
            _deliver(notification)


def _deliver(notification: Notification) -> None:
    error = ""
    try:
        send_by_apprise(notification.channel, *_message(notification.alert, notification.event))
    except NotSent as failure:
        error = str(failure)
    now = clock.now()
    if not error:
        notification.status = Notification.Status.SENT
        notification.sent_at = now
    elif notification.attempts >= MOST_ATTEMPTS:
        notification.status = Notification.Status.FAILED
    else:
        pause = min(FIRST_RETRY_SECONDS * 2 ** (notification.attempts - 1), LONGEST_RETRY_SECONDS)
        notification.next_attempt_at = now + datetime.timedelta(seconds=pause)
    notification.last_error = error[:500]
    notification.save()
    _note(notification.channel, error)


def _message(alert: Alert, event: str) -> tuple[str, str]:
    is_firing = event == Notification.Event.FIRING
    word = "Firing" if is_firing else "Resolved"
    title = f"[{alert.severity}] {word}: {alert.rule.name}"
    when = alert.fired_at if is_firing else alert.resolved_at
    lines = [alert.subject, alert.cause]
    if when is not None:
        lines.append(f"{word} since {when:%Y-%m-%d %H:%M:%S UTC}.")
    if settings.DOCKMESH_BASE_URL:
        lines.append(f"{settings.DOCKMESH_BASE_URL}/alerts/{alert.pk}/")
    return title, "\n".join(lines)


def send_by_apprise(channel: Channel, title: str, body: str) -> None:
    """Send one message; raises `NotSent`."""
    # Imported where it is needed: Apprise is slow to load, and only the scheduler and the test button send.
    from apprise import Apprise, AppriseAsset

    sender = Apprise(asset=AppriseAsset(app_id="dockmesh", async_mode=False))
    if not sender.add(_address(channel)):
        raise NotSent("Apprise does not know this address any more.")
    try:
        is_sent = sender.notify(title=title, body=body)
    except Exception as error:
        # Whatever a plug-in of Apprise raises must not stop the other messages.
        raise NotSent(f"Apprise failed: {type(error).__name__}.") from None
    if not is_sent:
        raise NotSent("The receiver did not take the message.")


def push_to_alertmanagers() -> None:
    """Give every Alertmanager all firing and the lately resolved alerts (its v2 API)."""
    channels = list(Channel.objects.filter(kind=Channel.Kind.ALERTMANAGER, is_enabled=True))
    if not channels:
        return
    now = clock.now()
    alerts = list(
        Alert.objects.filter(
            Q(status=Alert.Status.FIRING)
            | Q(status=Alert.Status.RESOLVED, resolved_at__gt=now - RESOLVED_FOR)
        )
        .select_related("rule")
        .order_by("id")
    )
    for channel in channels:
        severities = _reaching(channel)
        documents = [
            alertmanager_document(alert, now)
            for alert in alerts
            if alert.severity in severities
            and not (alert.rule.muted_until is not None and alert.rule.muted_until > now)
        ]
        error = ""
        try:
            if documents:
                post_to_alertmanager(channel, documents)
        except NotSent as failure:
            error = str(failure)
        if documents:
            _note(channel, error)


def alertmanager_document(alert: Alert, now: datetime.datetime) -> dict[str, Any]:
    """One alert as Alertmanager's `postableAlert`."""
    labels = {
        "alertname": alert.rule.name,
        "severity": alert.severity,
        "source": "dockmesh",
        "subject": alert.subject,
        "host": alert.host_name,
        "stack": alert.stack_name,
    }
    ends_at = alert.resolved_at if alert.resolved_at is not None else now + STAYS
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {"summary": alert.subject, "description": alert.cause},
        "startsAt": (alert.fired_at or alert.active_since).isoformat(),
        "endsAt": ends_at.isoformat(),
        "generatorURL": f"{settings.DOCKMESH_BASE_URL}/alerts/{alert.pk}/",
    }


def post_to_alertmanager(channel: Channel, documents: list[dict[str, Any]]) -> None:
    """POST to `/api/v2/alerts`; raises `NotSent`."""
    address = _address(channel).rstrip("/") + "/api/v2/alerts"
    try:
        answer = requests.post(address, json=documents, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise NotSent(f"The Alertmanager can't be reached: {type(error).__name__}.") from None
    if answer.status_code != 200:
        raise NotSent(f"The Alertmanager answered {answer.status_code}.")


def send_test(channel: Channel) -> None:
    """Send a test message, at once; raises `NotSent`."""
    error = ""
    try:
        if channel.kind == Channel.Kind.ALERTMANAGER:
            now = clock.now()
            document: dict[str, Any] = {
                "labels": {"alertname": "dockmesh test", "severity": "info", "source": "dockmesh"},
                "annotations": {"summary": "A test from dockmesh."},
                "startsAt": now.isoformat(),
                "endsAt": (now + datetime.timedelta(minutes=1)).isoformat(),
            }
            post_to_alertmanager(channel, [document])
        else:
            send_by_apprise(channel, "dockmesh: test", "This channel works.")
    except NotSent as failure:
        error = str(failure)
        raise
    finally:
        _note(channel, error)


def _reaching(channel: Channel) -> list[str]:
    return SEVERITIES[SEVERITIES.index(channel.minimum_severity) :]


def _address(channel: Channel) -> str:
    try:
        return unseal(channel.sealed_url, purpose=URL_PURPOSE)
    except UnsealError as error:
        raise NotSent(str(error)) from None


def _note(channel: Channel, error: str) -> None:
    """What the channel's page shows of its health."""
    if error:
        logger.warning("channel %s: %s", channel.name, error)
        Channel.objects.filter(pk=channel.pk).update(last_error=error[:500])
    else:
        Channel.objects.filter(pk=channel.pk).update(last_error="", last_success_at=clock.now())
