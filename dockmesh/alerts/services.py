"""Writing alert rules, alerts and channels."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.db import IntegrityError, models, transaction

from dockmesh.alerts import kinds, messages, receivers, restarts, silences
from dockmesh.alerts.messages import SEVERITIES
from dockmesh.alerts.models import Alert, AlertRule, Channel
from dockmesh.alerts.receivers import URL_PURPOSE
from dockmesh.audit import selectors as audit
from dockmesh.audit.actions import Action
from dockmesh.audit.services import SYSTEM, Actor, record
from dockmesh.core import clock, schedule
from dockmesh.core.encrypted import encrypt
from dockmesh.core.errors import Conflict, InvalidInput, NotFound
from dockmesh.core.text import clean_labels, clean_name, clean_number
from dockmesh.fleet import causes

MOST_SECONDS = 30 * 86_400
# Alerts of one rule about one host; one more tells how many there would be besides.
MOST_OF_A_HOST = 20
# Alerts that are written in one transaction.
AT_ONCE = 20
KEY_LENGTH = 255
ALERTMANAGER_PATHS = ("", "/alertmanager")


R = TypeVar("R", AlertRule, Channel)


@dataclass(frozen=True)
class RuleInput:
    """A rule as somebody asks for it; see `AlertRule` for the meanings."""

    name: str
    kind: str
    severity: str = AlertRule.Severity.WARNING
    is_enabled: bool = True
    for_seconds: int = 0
    cooldown_seconds: int = 0
    muted_until: datetime.datetime | None = None
    match_host: str = ""
    match_stack: str = ""
    match_name: str = ""
    host_labels: Mapping[str, str] | None = None
    parameters: Mapping[str, Any] | None = None


RECOMMENDED = (
    RuleInput(name="Host offline", kind="host_offline", severity="critical", for_seconds=60),
    RuleInput(name="Host degraded", kind="host_degraded", severity="warning", for_seconds=120),
    RuleInput(name="Stack in error", kind="stack_error", severity="critical", for_seconds=30),
    RuleInput(name="Container unhealthy", kind="container_state", severity="warning", for_seconds=60),
    RuleInput(name="Container restart loop", kind="container_restarts", severity="warning"),
    RuleInput(name="Deploy failed", kind="deploy_failed", severity="warning"),
    RuleInput(name="Backup failed", kind="backup_failed", severity="warning"),
    RuleInput(name="Backup overdue", kind="backup_overdue", severity="critical"),
    RuleInput(name="API token about to expire", kind="token_expiring", severity="info"),
    RuleInput(name="Channel failing", kind="channel_failing", severity="warning", for_seconds=300),
)


@transaction.atomic
def create_rule(*, actor: Actor, rule: RuleInput) -> AlertRule:
    """Make a rule; its counter is born at 0. Raises `InvalidInput`, or `Conflict` for a name in use."""
    values = _clean(rule)
    created = _save(AlertRule(**values))
    _audit(actor, Action.ALERT_RULE_CREATED, created, values)
    return created


@transaction.atomic
def change_rule(*, actor: Actor, rule_id: int, **changes: Any) -> AlertRule:
    """Change fields of `RuleInput`; the others stay. Where what it looks at changes, its open alerts start over.

    Raises `InvalidInput`, or `Conflict` for a name in use.
    """
    stored = _locked(AlertRule, rule_id)
    if changes.get("kind", stored.kind) != stored.kind:
        changes.setdefault("parameters", {})
    values = _clean(replace(rule_input(stored), **changes))
    changed = {name: value for name, value in values.items() if getattr(stored, name) != value}
    if not changed:
        return stored
    for name, value in changed.items():
        setattr(stored, name, value)
    _save(stored, list(changed))
    if set(changed) - {"name", "severity", "muted_until", "cooldown_seconds", "is_enabled"}:
        stored.alerts.filter(status=Alert.Status.PENDING).delete()
    _audit(actor, Action.ALERT_RULE_CHANGED, stored, changed)
    return stored


@transaction.atomic
def remove_rule(*, actor: Actor, rule_id: int) -> None:
    """Remove a rule, its alerts and its series."""
    stored = _locked(AlertRule, rule_id)
    rule_name = stored.name
    for alert in stored.alerts.filter(status=Alert.Status.FIRING):
        alert.cause = "The rule was removed."
        _resolve(stored, alert, clock.now())
    stored.delete()
    record(
        actor=actor,
        action=Action.ALERT_RULE_REMOVED,
        target_kind="alert_rule",
        target_id=rule_id,
        target_name=rule_name,
    )


@transaction.atomic
def create_recommended_rules(*, actor: Actor) -> int:
    """Make those recommended rules whose names are not in use yet; answers how many."""
    present = set(AlertRule.objects.values_list("name", flat=True))
    missing = [rule for rule in RECOMMENDED if rule.name not in present]
    for rule in missing:
        create_rule(actor=actor, rule=rule)
    return len(missing)


def has_recommended_rules() -> bool:
    """Whether a rule with each recommended name exists."""
    names = [rule.name for rule in RECOMMENDED]
    return AlertRule.objects.filter(name__in=names).count() == len(names)


def rule_input(rule: AlertRule) -> RuleInput:
    """A stored rule as an input."""
    return RuleInput(**{name: getattr(rule, name) for name in RuleInput.__dataclass_fields__})


def preview(*, rule: RuleInput) -> list[kinds.Match]:
    """What the rule would match now, without storing anything; raises `InvalidInput`."""
    return kinds.find(AlertRule(**_clean(rule)), kinds.Facts(clock.now()))


def evaluate() -> None:
    """Evaluate every rule once: pending, firing, resolved. Called by the scheduler every 15 s."""
    now = clock.now()
    facts = kinds.Facts(now)
    is_marked = False

    def evaluate_one(rule: AlertRule) -> None:
        nonlocal is_marked
        if rule.kind == AlertRule.Kind.CONTAINER_RESTARTS and rule.is_enabled and not is_marked:
            # Here, so that what goes wrong with the marks is the trouble of those rules alone.
            restarts.mark(containers=facts.restarted, hosts=facts.hosts, now=now)
            is_marked = True
        evaluate_rule(rule, facts)

    schedule.one_by_one(AlertRule.objects.order_by("id"), evaluate_one, what="The alert rule")
    silences.tell_untold({host.id: host.labels for host in facts.hosts.values()}, now)


def watch_audit_log() -> None:
    """Make the rule that tells of a changed audit log as soon as there is one to tell of, if nobody has made it yet."""
    if AlertRule.objects.filter(kind=AlertRule.Kind.AUDIT_CHANGED).exists() or not audit.trouble():
        return
    create_rule(
        actor=SYSTEM, rule=RuleInput(name="Audit log changed", kind="audit_changed", severity="critical")
    )


def evaluate_rule(rule: AlertRule, facts: kinds.Facts) -> None:
    """Bring a rule's alerts to what matches now, a few in each transaction: nobody waits long for those."""
    open_alerts = {alert.key: alert for alert in rule.alerts.exclude(status=Alert.Status.RESOLVED)}
    matches = _bounded(kinds.find(rule, facts), open_alerts) if rule.is_enabled else {}
    due = [match for key, match in matches.items() if _is_due(rule, open_alerts.get(key), match, facts)]
    over = [
        alert
        for key, alert in open_alerts.items()
        if key not in matches and not _is_unknown(rule, alert, facts)
    ]
    for start in range(0, max(len(due), len(over)), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        if not _bring_to(rule.pk, due[part], over[part], facts):
            return


@transaction.atomic
def _bring_to(rule_id: int, due: list[kinds.Match], over: list[Alert], facts: kinds.Facts) -> bool:
    """False if the rule is gone. Only an evaluation fires and resolves, so the rule's lock guards its alerts."""
    rule = AlertRule.objects.select_for_update().filter(pk=rule_id).first()
    if rule is None:
        return False
    keys = [match.key[:KEY_LENGTH] for match in due]
    found = rule.alerts.filter(key__in=keys).exclude(status=Alert.Status.RESOLVED)
    open_alerts = {alert.key: alert for alert in found}
    for match in due if rule.is_enabled else ():
        alert = open_alerts.get(match.key[:KEY_LENGTH]) or _open(rule, match, facts.now)
        if alert.status == Alert.Status.FIRING:
            Alert.objects.filter(pk=alert.pk).update(cause=match.cause[:1000])
        elif match.is_held_back:
            continue
        elif _has_held(rule, alert, facts) and not _is_cooling_down(rule, alert.key, facts.now):
            _fire(rule, alert, match, facts.now)
    for alert in over:
        if alert.status == Alert.Status.PENDING:
            alert.delete()
        else:
            _resolve(rule, alert, facts.now)
    return True


def _is_due(rule: AlertRule, alert: Alert | None, match: kinds.Match, facts: kinds.Facts) -> bool:
    """Whether there is anything to write of a subject that matches."""
    if alert is None:
        return True
    if alert.status == Alert.Status.FIRING:
        return match.is_rest and alert.cause != match.cause[:1000]
    return not match.is_held_back and _has_held(rule, alert, facts)


def _has_held(rule: AlertRule, alert: Alert, facts: kinds.Facts) -> bool:
    """While nobody listened nobody knows whether it held."""
    return alert.active_since <= facts.listened.before(rule.for_seconds)


def _is_unknown(rule: AlertRule, alert: Alert, facts: kinds.Facts) -> bool:
    """Whether nobody knows if the alert's cause is over."""
    is_about_host = rule.kind in (AlertRule.Kind.HOST_OFFLINE, AlertRule.Kind.HOST_DEGRADED)
    return rule.is_enabled and not is_about_host and facts.is_unknown(alert.host_id)


def _bounded(matches: list[kinds.Match], open_alerts: Mapping[str, Alert]) -> dict[str, kinds.Match]:
    """By key; of one host `MOST_OF_A_HOST` at most, those first that are open already, and one for the rest."""
    of_host: dict[int, list[kinds.Match]] = {}
    bounded: dict[str, kinds.Match] = {}
    for match in matches:
        if match.host is None:
            bounded[match.key[:KEY_LENGTH]] = match
        else:
            of_host.setdefault(match.host.id, []).append(match)
    for found in of_host.values():
        found.sort(key=lambda match: match.key[:KEY_LENGTH] not in open_alerts)
        bounded |= {match.key[:KEY_LENGTH]: match for match in found[:MOST_OF_A_HOST]}
        rest = found[MOST_OF_A_HOST:]
        if rest and rest[0].host is not None:
            bounded |= {match.key: match for match in [kinds.rest_of(rest[0].host, len(rest))]}
    return bounded


def _open(rule: AlertRule, match: kinds.Match, now: datetime.datetime) -> Alert:
    return Alert.objects.create(
        rule=rule,
        key=match.key[:KEY_LENGTH],
        subject=match.subject[:2400],
        cause=match.cause[:1000],
        host_id=match.host.id if match.host else None,
        host_name=match.host.name if match.host else "",
        stack_name=match.stack,
        severity=rule.severity,
        active_since=now,
    )


def _is_cooling_down(rule: AlertRule, key: str, now: datetime.datetime) -> bool:
    if not rule.cooldown_seconds:
        return False
    limit = now - datetime.timedelta(seconds=rule.cooldown_seconds)
    return rule.alerts.filter(key=key, resolved_at__gt=limit).exists()


def _fire(rule: AlertRule, alert: Alert, match: kinds.Match, now: datetime.datetime) -> None:
    alert.status = Alert.Status.FIRING
    alert.fired_at = now
    alert.cause = _counted(rule, match, now)[:1000]
    alert.severity = rule.severity
    labels = match.host.labels if match.host else {}
    alert.is_untold = silences.is_silenced(silences.active(now), alert.host_name, labels, alert.stack_name)
    alert.save()
    AlertRule.objects.filter(pk=rule.pk).update(fired_count=models.F("fired_count") + 1)
    if alert.is_untold:
        pass  # It is told when its silence is over.
    elif rule.muted_until is None or rule.muted_until <= now:
        messages.tell_firing(rule, alert, now)
    _audit_alert(Action.ALERT_FIRED, rule, alert)


def _counted(rule: AlertRule, match: kinds.Match, now: datetime.datetime) -> str:
    """The match's cause, and of a container, which often is another one of the same name, how often today (in UTC)."""
    if not match.key.startswith("container:"):
        return match.cause
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    before = rule.alerts.filter(subject=match.subject[:2400], fired_at__gte=midnight).count()
    return f"{match.cause.rstrip('.')}, {causes.ordinal(before + 1)} time today." if before else match.cause


def _resolve(rule: AlertRule, alert: Alert, now: datetime.datetime) -> None:
    alert.status = Alert.Status.RESOLVED
    alert.resolved_at = now
    alert.is_untold = False
    alert.save()
    messages.tell_resolved(rule, alert, now)
    _audit_alert(Action.ALERT_RESOLVED, rule, alert)


def _audit_alert(action: Action, rule: AlertRule, alert: Alert) -> None:
    record(
        actor=SYSTEM,
        action=action,
        target_kind="alert",
        target_id=alert.pk,
        target_name=alert.subject,
        changes={"rule": rule.name, "severity": alert.severity, "cause": alert.cause},
    )


def create_channel(
    *, actor: Actor, name: str, kind: str, url: str, minimum_severity: str = "info", is_enabled: bool = True
) -> Channel:
    """Make a channel; its address is encrypted at rest. Raises `InvalidInput` or `Conflict`."""
    channel = Channel(
        name=clean_name("name", name),
        kind=_one_of("kind", kind, Channel.Kind.values),
        encrypted_url=encrypt(_clean_url(kind, url), purpose=URL_PURPOSE),
        minimum_severity=_one_of("minimum_severity", minimum_severity, SEVERITIES),
        is_enabled=is_enabled,
    )
    with transaction.atomic():
        _save(channel)
        _audit_channel(actor, Action.CHANNEL_CREATED, channel)
    return channel


def change_channel(
    *,
    actor: Actor,
    channel_id: int,
    name: str | None = None,
    minimum_severity: str | None = None,
    is_enabled: bool | None = None,
    url: str = "",
) -> Channel:
    """Change what is given of a channel; its kind stays. Raises `InvalidInput` or `Conflict`."""
    # Looked at before the row is locked: that takes a while.
    kind = Channel.objects.filter(pk=channel_id).values_list("kind", flat=True).first()
    address = _clean_url(kind, url) if url and kind else ""
    with transaction.atomic():
        channel = _locked(Channel, channel_id)
        changed = []
        if name is not None:
            channel.name = clean_name("name", name)
            changed.append("name")
        if minimum_severity is not None:
            channel.minimum_severity = _one_of("minimum_severity", minimum_severity, SEVERITIES)
            changed.append("minimum_severity")
        if is_enabled is not None:
            channel.is_enabled = is_enabled
            changed.append("is_enabled")
        if address:
            channel.encrypted_url = encrypt(address, purpose=URL_PURPOSE)
            changed.append("encrypted_url")
        _save(channel, changed)
        _audit_channel(actor, Action.CHANNEL_CHANGED, channel)
    return channel


@transaction.atomic
def remove_channel(*, actor: Actor, channel_id: int) -> None:
    """Remove a channel and what was queued for it."""
    channel = _locked(Channel, channel_id)
    _audit_channel(actor, Action.CHANNEL_REMOVED, channel)
    channel.delete()


@transaction.atomic
def request_test(*, actor: Actor, channel_id: int) -> int:
    """Queue a test message, which the scheduler sends at once; the message's id. One at a time for each channel."""
    channel = _locked(Channel, channel_id)
    _audit_channel(actor, Action.CHANNEL_TESTED, channel)
    return messages.tell_test(channel, clock.now())


def _locked(model: type[R], pk: int) -> R:
    """The row, locked; it may have been removed since somebody looked at it."""
    row = model._default_manager.select_for_update().filter(pk=pk).first()
    if row is None:
        raise NotFound(f"There is no such {model._meta.verbose_name}.")
    return row


def _clean(rule: RuleInput) -> dict[str, Any]:
    kind = _one_of("kind", rule.kind, AlertRule.Kind.values)
    return {
        "name": clean_name("name", rule.name),
        "kind": kind,
        "severity": _one_of("severity", rule.severity, SEVERITIES),
        "is_enabled": rule.is_enabled,
        "for_seconds": clean_number(
            "for_seconds", rule.for_seconds, least=0, most=MOST_SECONDS, unit="seconds"
        ),
        "cooldown_seconds": clean_number(
            "cooldown_seconds", rule.cooldown_seconds, least=0, most=MOST_SECONDS, unit="seconds"
        ),
        "muted_until": rule.muted_until,
        "match_host": _glob("match_host", rule.match_host),
        "match_stack": _glob("match_stack", rule.match_stack),
        "match_name": _glob("match_name", rule.match_name),
        "host_labels": clean_labels("host_labels", rule.host_labels or {}),
        "parameters": kinds.clean_parameters(kind, rule.parameters or {}),
    }


def _one_of(field: str, value: str, choices: list[str]) -> str:
    if value not in choices:
        raise InvalidInput(field, f"must be one of: {', '.join(choices)}.")
    return value


def _glob(field: str, value: str) -> str:
    return clean_name(field, value) if value.strip() else ""


def _clean_url(kind: str, url: str) -> str:
    """Looked at by a process of its own, so that the web process neither loads Apprise nor waits for a name."""
    address = clean_name("url", url, most=1000)
    if kind == Channel.Kind.ALERTMANAGER:
        _check_base(address)
    if error := receivers.check(kind, address):
        raise InvalidInput("url", f"{error}.")
    return address


def _check_base(address: str) -> None:
    """Only where an Alertmanager is; the path of its API is ours to add."""
    try:
        parts = urlsplit(address)
        is_base = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_base = False
    if not is_base or parts.path.rstrip("/") not in ALERTMANAGER_PATHS or {"?", "#"} & set(address):
        raise InvalidInput(
            "url",
            "must be the Alertmanager's base, like http://alertmanager:9093: without a query, and without a path"
            " (but /alertmanager, if that is its route prefix).",
        )


def _save(row: R, fields: Sequence[str] | None = None) -> R:
    try:
        with transaction.atomic():
            row.save(update_fields=fields)
    except IntegrityError:
        raise Conflict(f"The name {row.name!r} is in use.", errors={"name": ["is in use already."]}) from None
    return row


def _audit(actor: Actor, action: Action, rule: AlertRule, changes: Mapping[str, Any]) -> None:
    shown = {
        name: value.isoformat() if isinstance(value, datetime.datetime) else value
        for name, value in changes.items()
    }
    record(
        actor=actor,
        action=action,
        target_kind="alert_rule",
        target_id=rule.pk,
        target_name=rule.name,
        changes=shown,
    )


def _audit_channel(actor: Actor, action: Action, channel: Channel) -> None:
    record(
        actor=actor,
        action=action,
        target_kind="channel",
        target_id=channel.pk,
        target_name=channel.name,
        changes={
            "kind": channel.kind,
            "minimum_severity": channel.minimum_severity,
            "is_enabled": channel.is_enabled,
        },
    )
