"""Telling about alerts: queued messages to Apprise, and the whole picture to an Alertmanager.

Channels have nothing to do with each other: each has a thread of its own while there is work for it, and one that
hangs or fails keeps nobody else from being told. In a channel one message is sent at a time, so none overtakes another.
"""

import datetime
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet

from dockmesh.alerts import messages, receivers
from dockmesh.alerts.messages import SEVERITIES
from dockmesh.alerts.models import Alert, Channel, Notification
from dockmesh.alerts.receivers import NotSent
from dockmesh.core import clock
from dockmesh.core.addresses import page_path

logger = logging.getLogger(__name__)

Event = Notification.Event
Status = Notification.Status

FIRST_RETRY_SECONDS = 10
LONGEST_RETRY_SECONDS = 300
GIVE_UP = datetime.timedelta(hours=24)
# Longer than any attempt: a claim whose process died ends by then.
CLAIM = datetime.timedelta(seconds=90)
AT_ONCE = 20
# So many of one rule that are due at the same time are one message; and what comes within that time after so many, too.
LEAST_TOGETHER = 5
MOST_TOGETHER = 500
DIGEST = datetime.timedelta(seconds=60)
LOOKED_BACK = 5000

# Channels that are told at the same time; of those that failed last, so many: they may take their whole time again.
MOST_CHANNELS = 12
MOST_FAILING = 4

# An Alertmanager forgets an alert at `endsAt`, so it is told again well before.
STAYS = datetime.timedelta(minutes=4)
RESOLVED_FOR = datetime.timedelta(minutes=15)


class Dispatcher:
    """Gives each channel that has work a thread, unless it has one."""

    def __init__(self, work: Callable[[int], None]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._busy: dict[int, bool] = {}

    def dispatch(self, channels: Iterable[tuple[int, bool]]) -> None:
        """Start what may start of these: ids, and whether the channel failed last. Does not wait for it."""
        for channel_id, is_failing in sorted(channels, key=lambda each: each[1]):
            with self._lock:
                is_full = len(self._busy) >= MOST_CHANNELS or (
                    is_failing and sum(self._busy.values()) >= MOST_FAILING
                )
                if channel_id in self._busy or is_full:
                    continue
                self._busy[channel_id] = is_failing
            threading.Thread(target=self._run, args=(channel_id,), name="channel", daemon=True).start()

    def _run(self, channel_id: int) -> None:
        try:
            self._work(channel_id)
        except Exception:
            logger.exception("channel %d: telling it failed", channel_id)
        finally:
            connection.close()
            with self._lock:
                del self._busy[channel_id]


def start_deliveries() -> None:
    """The scheduler's job: begin to send what is due."""
    _deliveries.dispatch(due_channels())


def start_pushes() -> None:
    """The scheduler's job: begin to tell every Alertmanager."""
    _pushes.dispatch(alertmanagers())


def due_channels() -> list[tuple[int, bool]]:
    """The channels for which a message is due, and whether each failed last."""
    rows = (
        _due(clock.now()).order_by("channel_id").values_list("channel_id", "channel__last_error").distinct()
    )
    return [(channel_id, bool(error)) for channel_id, error in rows]


def alertmanagers() -> list[tuple[int, bool]]:
    """The same of all Alertmanagers."""
    rows = Channel.objects.filter(kind=Channel.Kind.ALERTMANAGER, is_enabled=True)
    return [(pk, bool(error)) for pk, error in rows.order_by("pk").values_list("pk", "last_error")]


def deliver(channel_id: int) -> None:
    """Send a channel's messages that are due; after one that failed the others wait for the next time.

    Many of one rule are told as one. Of each subject one message waits at most, so that this changes no subject's order.
    """
    if not _claim(channel_id):
        return
    try:
        for _ in range(AT_ONCE):
            now = clock.now()
            message = (
                _due(now)
                .filter(channel_id=channel_id)
                .select_related("channel", "alert__rule")
                .order_by("id")
                .first()
            )
            if message is None:
                return
            if _hold_back(message, now):
                continue
            group = _begin(_same(message, now), now)
            if not group:
                return
            error = _attempt(group)
            _end(group, error)
            if error:
                return
    finally:
        Channel.objects.filter(pk=channel_id).update(claimed_until=None)


def _due(now: datetime.datetime) -> QuerySet[Notification]:
    """Messages whose time has come; a muted rule's wait, and a disabled channel's but a test of it."""
    is_muted = Q(event=Event.FIRING, alert__rule__muted_until__gt=now)
    return Notification.objects.filter(
        Q(channel__is_enabled=True) | Q(event=Event.TEST), status=Status.QUEUED, next_attempt_at__lte=now
    ).exclude(is_muted)


def _claim(channel_id: int) -> bool:
    """Of several processes that want to tell a channel, one does."""
    now = clock.now()
    is_free = Q(claimed_until=None) | Q(claimed_until__lt=now)
    return bool(Channel.objects.filter(is_free, pk=channel_id).update(claimed_until=now + CLAIM))


def _of_its_kind(message: Notification) -> QuerySet[Notification]:
    """What its channel is told of the same rule and the same event."""
    rule_id = message.alert.rule_id if message.alert is not None else None
    return Notification.objects.filter(
        channel_id=message.channel_id, event=message.event, alert__rule_id=rule_id
    )


def _same(message: Notification, now: datetime.datetime) -> list[Notification]:
    """The message, and where they are many those of its kind that are due as well."""
    if message.alert is None:
        return [message]
    due = _due(now).filter(pk__in=_of_its_kind(message)).select_related("channel", "alert__rule")
    found = list(due.order_by("id")[:MOST_TOGETHER])
    return found if len(found) >= LEAST_TOGETHER else [message]


def _hold_back(message: Notification, now: datetime.datetime) -> bool:
    """Whether its kind waits, to be told together: the channel was told of many just now."""
    if message.alert is None or message.attempts:
        return False
    kind = _of_its_kind(message)
    told = kind.filter(status=Status.SENT, pk__gt=message.pk - LOOKED_BACK).order_by("-sent_at")
    times = [moment for moment in told.values_list("sent_at", flat=True)[:LEAST_TOGETHER] if moment]
    if len(times) < LEAST_TOGETHER or times[-1] <= now - DIGEST:
        return False
    waiting = Notification.objects.filter(pk__in=kind, status=Status.QUEUED, attempts=0)
    waiting.update(next_attempt_at=times[0] + DIGEST)
    return True


def _begin(group: list[Notification], now: datetime.datetime) -> list[Notification]:
    """Count the attempt before it is made: from here on they may have been heard. Those that hold still."""
    Channel.objects.filter(pk=group[0].channel_id).update(claimed_until=now + CLAIM)
    waiting = Notification.objects.filter(pk__in=[message.pk for message in group], status=Status.QUEUED)
    waiting.update(attempts=F("attempts") + 1, next_attempt_at=now + CLAIM)
    return list(waiting.select_related("channel", "alert__rule").order_by("id"))


def _attempt(group: list[Notification]) -> str:
    """Send them, as one message; what went wrong."""
    message = group[0]
    try:
        if message.channel.kind == Channel.Kind.ALERTMANAGER:
            receivers.post(message.channel, [_test_document(clock.now())])
        else:
            for each in group:
                messages.give_words(each)
            receivers.send(message.channel, messages.as_one(group))
    except NotSent as failure:
        return str(failure)
    return ""


@transaction.atomic
def _end(group: list[Notification], error: str) -> None:
    """Write down how the attempt went; a message that was dropped meanwhile stays dropped, unless it was sent."""
    now = clock.now()
    channel = group[0].channel
    if not error:
        own = Notification.objects.filter(pk__in=[message.pk for message in group])
        own.update(status=Status.SENT, sent_at=now, last_error="")
        # Who takes this one takes what waits for its next attempt as well.
        Notification.objects.filter(channel_id=channel.pk, status=Status.QUEUED).update(next_attempt_at=now)
    for message in group if error else ():
        pause = min(FIRST_RETRY_SECONDS * 2 ** min(message.attempts - 1, 16), LONGEST_RETRY_SECONDS)
        is_over = message.event == Event.TEST or now - message.created_at > GIVE_UP
        Notification.objects.filter(pk=message.pk, status=Status.QUEUED).update(
            status=Status.FAILED if is_over else Status.QUEUED,
            next_attempt_at=now + datetime.timedelta(seconds=pause),
            last_error=error[:500],
        )
    _note(channel, error)


def push(channel_id: int) -> None:
    """Give an Alertmanager all firing and the lately resolved alerts (its v2 API)."""
    channel = Channel.objects.filter(pk=channel_id).first()
    now = clock.now()
    documents = alertmanager_documents(channel, now) if channel is not None else []
    if channel is None or not documents:
        return
    error = ""
    try:
        receivers.post(channel, documents)
    except NotSent as failure:
        error = str(failure)
    _note(channel, error)


def alertmanager_documents(channel: Channel, now: datetime.datetime) -> list[dict[str, Any]]:
    """What the channel's Alertmanager is told: one `postableAlert` for each set of labels.

    Of several alerts with the same labels the one that fires counts, else the last: an Alertmanager takes them for one
    alert that begins and ends, whatever their order.
    """
    alerts = (
        Alert.objects.filter(
            Q(status=Alert.Status.FIRING)
            | Q(status=Alert.Status.RESOLVED, resolved_at__gt=now - RESOLVED_FOR),
            severity__in=SEVERITIES[SEVERITIES.index(channel.minimum_severity) :],
        )
        .exclude(rule__muted_until__gt=now)
        .exclude(is_untold=True)
        .select_related("rule")
        .order_by("id")
    )
    chosen: dict[tuple[tuple[str, str], ...], Alert] = {}
    for alert in sorted(alerts, key=lambda each: (each.status == Alert.Status.FIRING, each.pk)):
        chosen[tuple(_labels(alert).items())] = alert
    return [_document(alert, now) for alert in sorted(chosen.values(), key=lambda each: each.pk)]


def _labels(alert: Alert) -> dict[str, str]:
    labels = {
        "alertname": alert.rule.name,
        "severity": alert.severity,
        "source": "dockmesh",
        "subject": alert.subject,
        "host": alert.host_name,
        "stack": alert.stack_name,
    }
    return {name: value for name, value in labels.items() if value}


def _document(alert: Alert, now: datetime.datetime) -> dict[str, Any]:
    ends_at = alert.resolved_at if alert.resolved_at is not None else now + STAYS
    return {
        "labels": _labels(alert),
        "annotations": {"summary": alert.subject, "description": alert.cause},
        "startsAt": (alert.fired_at or alert.active_since).isoformat(),
        "endsAt": ends_at.isoformat(),
        "generatorURL": settings.DOCKMESH_BASE_URL + page_path("alerts:alert", alert.pk),
    }


def _test_document(now: datetime.datetime) -> dict[str, Any]:
    return {
        "labels": {"alertname": "dockmesh test", "severity": "info", "source": "dockmesh"},
        "annotations": {"summary": "A test from dockmesh."},
        "startsAt": now.isoformat(),
        "endsAt": (now + datetime.timedelta(minutes=1)).isoformat(),
    }


def outcome(message_id: int, *, seconds: float = 2.0) -> Notification | None:
    """A test message once it was sent or has failed; None if it takes longer, or too many wait already.

    The scheduler sends it. Whoever asks waits a moment only, and few at a time do: the web process's threads are for
    its requests.
    """
    if not _waiting.acquire(blocking=False):
        return None
    try:
        deadline = time.monotonic() + seconds
        while True:
            message = Notification.objects.filter(pk=message_id).first()
            if message is None or message.status != Status.QUEUED:
                return message
            if time.monotonic() > deadline:
                return None
            time.sleep(0.1)
    finally:
        _waiting.release()


def _note(channel: Channel, error: str) -> None:
    """What the channel's page and /metrics show of its health, after each attempt."""
    own = Channel.objects.filter(pk=channel.pk)
    if error:
        logger.warning("channel %s: %s", channel.name, error)
        own.update(last_error=error[:500], failed_count=F("failed_count") + 1)
    else:
        own.update(last_error="", last_success_at=clock.now(), sent_count=F("sent_count") + 1)


_waiting = threading.BoundedSemaphore(2)
_deliveries = Dispatcher(deliver)
_pushes = Dispatcher(push)
