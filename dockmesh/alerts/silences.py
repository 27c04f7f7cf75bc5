"""Silences: for a while nobody is told of the alerts on some hosts or stacks. They fire, show and count all the same.

Whether an alert is silenced is looked up when it fires. What fired so, and still does when the silence is over, is told then.
The end of what was told is told in a silence too, so that the last message is the true state.
"""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from django.db import transaction

from dockmesh.alerts import messages
from dockmesh.alerts.models import Alert, AlertRule, Silence
from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor, record
from dockmesh.core import clock
from dockmesh.core.errors import Conflict, InvalidInput, NotFound
from dockmesh.core.text import clean_labels, clean_name

LONGEST = datetime.timedelta(days=366)
MOST_COMMENT = 500


@dataclass(frozen=True)
class Scope:
    """What an active silence is about."""

    match_host: str
    match_stack: str
    host_labels: Mapping[str, str]

    def covers(self, host_name: str, labels: Mapping[str, str], stack_name: str) -> bool:
        """Whether it is about this stack on this host; an empty stack is the host itself, or what is of no stack."""
        return (
            bool(host_name)
            and fnmatchcase(host_name, self.match_host or "*")
            and (not self.match_stack or fnmatchcase(stack_name, self.match_stack))
            and all(labels.get(name) == value for name, value in self.host_labels.items())
        )


def active(now: datetime.datetime) -> list[Scope]:
    """What is silenced now; one query."""
    rows = Silence.objects.filter(starts_at__lte=now, ends_at__gt=now)
    return [Scope(*row) for row in rows.values_list("match_host", "match_stack", "host_labels")]


def is_silenced(scopes: Iterable[Scope], host_name: str, labels: Mapping[str, str], stack_name: str) -> bool:
    """Whether any of them is about it."""
    return any(scope.covers(host_name, labels, stack_name) for scope in scopes)


@transaction.atomic
def create_silence(
    *,
    actor: Actor,
    ends_at: datetime.datetime,
    starts_at: datetime.datetime | None = None,
    match_host: str = "",
    match_stack: str = "",
    host_labels: Mapping[str, str] | None = None,
    comment: str = "",
) -> Silence:
    """Make one, from now or from a time to come. Raises `InvalidInput`; a silence of everything says so: `match_host` is `*`."""
    now = clock.now()
    begins = starts_at or now
    if ends_at <= max(begins, now):
        raise InvalidInput("ends_at", "must be later than the begin, and than now.")
    if ends_at - begins > LONGEST:
        raise InvalidInput("ends_at", f"must be at most {LONGEST.days} days after the begin.")
    if not (match_host.strip() or match_stack.strip() or host_labels):
        raise InvalidInput("match_host", "say which hosts, stacks or labels; * is every host.")
    silence = Silence.objects.create(
        match_host=clean_name("match_host", match_host) if match_host.strip() else "",
        match_stack=clean_name("match_stack", match_stack) if match_stack.strip() else "",
        host_labels=clean_labels("host_labels", host_labels or {}),
        comment=clean_name("comment", comment, most=MOST_COMMENT) if comment.strip() else "",
        starts_at=begins,
        ends_at=ends_at,
        created_by=actor.name,
    )
    _audit(actor, Action.SILENCE_CREATED, silence)
    return silence


@transaction.atomic
def end_silence(*, actor: Actor, silence_id: int) -> Silence:
    """End one now, or one that has not begun. Raises `NotFound`, or `Conflict` if it is over."""
    silence = Silence.objects.select_for_update().filter(pk=silence_id).first()
    if silence is None:
        raise NotFound("There is no such silence.")
    now = clock.now()
    if silence.ends_at <= now:
        raise Conflict("The silence is over already.")
    silence.ends_at = now
    silence.starts_at = min(silence.starts_at, now)
    silence.save(update_fields=["starts_at", "ends_at"])
    _audit(actor, Action.SILENCE_ENDED, silence)
    return silence


def tell_untold(labels: Mapping[int, Mapping[str, str]], now: datetime.datetime) -> None:
    """Tell of the alerts that fired in a silence which is over, and still fire. `labels` are the hosts'."""
    untold = Alert.objects.filter(status=Alert.Status.FIRING, is_untold=True)
    scopes: list[Scope] | None = None
    for rule_id in untold.order_by("rule_id").values_list("rule_id", flat=True).distinct():
        scopes = active(now) if scopes is None else scopes
        with transaction.atomic():
            # Only whoever has the rule's lock fires, resolves and tells.
            rule = AlertRule.objects.select_for_update().filter(pk=rule_id).first()
            if rule is None or (rule.muted_until is not None and rule.muted_until > now):
                continue
            for alert in untold.filter(rule=rule).order_by("id"):
                if not covers(scopes, alert, labels):
                    Alert.objects.filter(pk=alert.pk).update(is_untold=False)
                    messages.tell_firing(rule, alert, now)


def covers(scopes: Iterable[Scope], alert: Alert, labels: Mapping[int, Mapping[str, str]]) -> bool:
    """Whether the alert is silenced."""
    return is_silenced(scopes, alert.host_name, labels.get(alert.host_id or 0, {}), alert.stack_name)


def _audit(actor: Actor, action: Action, silence: Silence) -> None:
    record(
        actor=actor,
        action=action,
        target_kind="silence",
        target_id=silence.pk,
        target_name=silence.subject,
        changes={
            "starts_at": silence.starts_at.isoformat(),
            "ends_at": silence.ends_at.isoformat(),
            "comment": silence.comment,
        },
    )
