"""What each kind of rule looks at: from the fleet's facts to the subjects that match now."""

import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from dockmesh.alerts import restarts
from dockmesh.alerts.models import AlertRule, Channel
from dockmesh.audit import selectors as audit
from dockmesh.backups import selectors as backups
from dockmesh.core.errors import InvalidInput
from dockmesh.core.text import clean_number
from dockmesh.deploys import causes as deploy_causes
from dockmesh.fleet import causes, listening
from dockmesh.fleet.selectors import subjects
from dockmesh.fleet.states import ContainerState, HostStatus
from tokens import selectors as tokens

HEALTHS = ("healthy", "unhealthy", "starting")
DAY = 86_400
# For the backups that were missed while the server was away.
CATCH_UP = datetime.timedelta(hours=1)

Kind = AlertRule.Kind


@dataclass(frozen=True)
class Match:
    """A subject that a rule has found. `key` stays the same for as long as it is the same subject."""

    key: str
    subject: str
    cause: str
    host: subjects.HostFact | None = None
    stack: str = ""
    is_rest: bool = False
    """Whether it stands for those that are too many; its cause then changes with their number."""
    is_held_back: bool = False
    """Whether it doesn't fire for now: its stack is being deployed. What fires already goes on."""


def rest_of(host: subjects.HostFact, count: int) -> Match:
    """The one match for all of a host's that are too many to be told one by one."""
    return Match(f"rest:{host.id}", f"More on {host.name}", f"and {count:,} more.", host, is_rest=True)


@dataclass
class Facts:
    """What is known at one moment; each part is read once, when the first rule asks for it."""

    now: datetime.datetime
    _restarts: dict[int, dict[tuple[int, str], int]] = field(default_factory=dict)

    @cached_property
    def hosts(self) -> dict[int, subjects.HostFact]:
        """All hosts by id."""
        return subjects.host_facts(self.now)

    @cached_property
    def stack_causes(self) -> dict[int, str]:
        """By id, of the stacks that are in error: why."""
        return deploy_causes.of_stacks_in_error()

    @cached_property
    def deploy_failures(self) -> dict[int, str]:
        """By id, of the stacks whose last deploy failed: its error."""
        return deploy_causes.of_failed_deploys()

    @cached_property
    def settling(self) -> set[int]:
        """The ids of the stacks that are being deployed or were until lately."""
        return deploy_causes.settling()

    @cached_property
    def failing_channels(self) -> list[Channel]:
        """Channels that are enabled and could not be told last."""
        rows = Channel.objects.filter(is_enabled=True).exclude(last_error="")
        return list(rows.order_by("name"))

    @cached_property
    def stacks_in_error(self) -> list[subjects.StackFact]:
        """Stacks whose state is error."""
        return subjects.stacks_in_error()

    @cached_property
    def failed_deploys(self) -> list[subjects.StackFact]:
        """Stacks whose last deploy failed."""
        return subjects.stacks_with_failed_deploy()

    @cached_property
    def backup_jobs(self) -> list[backups.JobHealth]:
        """Enabled backup jobs."""
        return backups.job_health()

    @cached_property
    def token_expiries(self) -> list[tuple[str, float]]:
        """Tokens that expire, with the moment in Unix seconds."""
        return tokens.token_expiries()

    @cached_property
    def audit_trouble(self) -> str:
        """What was done to the audit log behind the server's back."""
        return audit.trouble()

    @cached_property
    def restarted(self) -> list[subjects.ContainerFact]:
        """Containers that were restarted at least once."""
        return subjects.containers_that_restarted()

    def restarts_before(self, window_seconds: int) -> dict[tuple[int, str], int]:
        """The restart count of each container when the window began, as its marks have it."""
        known = self._restarts.get(window_seconds)
        if known is None:
            known = restarts.counts_at(self.now - datetime.timedelta(seconds=window_seconds))
            self._restarts[window_seconds] = known
        return known

    @cached_property
    def listened(self) -> listening.Record:
        """When a server listened."""
        return listening.record(self.now)

    def is_unknown(self, host_id: int | None) -> bool:
        """Whether nobody knows how the subjects on this host are, since it is offline."""
        host = self.hosts.get(host_id) if host_id is not None else None
        return host is not None and host.status is HostStatus.OFFLINE


Finder = Callable[[AlertRule, Facts], Iterator[Match]]


def find(rule: AlertRule, facts: Facts) -> list[Match]:
    """The subjects that match the rule now, one for each key."""
    return list({match.key: match for match in _FINDERS[Kind(rule.kind)](rule, facts)}.values())


def clean_parameters(kind: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that the kind takes, checked; raises `InvalidInput` for others."""
    allowed = _PARAMETERS.get(Kind(kind), {})
    for name in parameters:
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise InvalidInput(f"parameters.{name}", f"is not for this kind; it takes: {known}.")
    return {name: clean(f"parameters.{name}", parameters.get(name)) for name, clean in allowed.items()}


def parameter_names(kind: str) -> list[str]:
    """The names of the parameters that the kind takes."""
    return sorted(_PARAMETERS.get(Kind(kind), {}))


def _whole(default: int, least: int, most: int) -> Callable[[str, Any], int]:
    def clean(name: str, value: Any) -> int:
        return default if value is None else clean_number(name, value, least=least, most=most)

    return clean


def _some_of(choices: tuple[str, ...], default: tuple[str, ...]) -> Callable[[str, Any], list[str]]:
    def clean(name: str, value: Any) -> list[str]:
        if value is None:
            return list(default)
        if not isinstance(value, list) or not all(item in choices for item in value):
            raise InvalidInput(name, f"must be some of: {', '.join(choices)}.")
        return list(dict.fromkeys(value))

    return clean


_PARAMETERS: dict[Kind, dict[str, Callable[[str, Any], Any]]] = {
    Kind.CONTAINER_STATE: {
        "states": _some_of(tuple(state.value for state in ContainerState), ()),
        "healths": _some_of(HEALTHS, ("unhealthy",)),
    },
    Kind.CONTAINER_RESTARTS: {
        "restarts": _whole(3, 1, 1000),
        "window_seconds": _whole(600, 60, restarts.LONGEST_WINDOW_SECONDS),
    },
    Kind.BACKUP_OVERDUE: {"overdue_seconds": _whole(26 * 3600, 60, 366 * DAY)},
    Kind.TOKEN_EXPIRING: {"within_seconds": _whole(14 * DAY, 60, 366 * DAY)},
}


def _globs(pattern: str, text: str) -> bool:
    return not pattern or fnmatchcase(text, pattern)


def _in_scope(rule: AlertRule, host: subjects.HostFact | None) -> bool:
    if host is None:
        return not rule.match_host and not rule.host_labels
    labels: Mapping[str, str] = rule.host_labels
    return _globs(rule.match_host, host.name) and all(
        host.labels.get(name) == value for name, value in labels.items()
    )


def _hosts(rule: AlertRule, facts: Facts, status: HostStatus) -> Iterator[subjects.HostFact]:
    for host in facts.hosts.values():
        if host.status is status and _in_scope(rule, host) and _globs(rule.match_name, host.name):
            yield host


def _host_offline(rule: AlertRule, facts: Facts) -> Iterator[Match]:
    for host in _hosts(rule, facts, HostStatus.OFFLINE):
        yield Match(f"host:{host.id}", f"Host {host.name}", causes.of_host(host), host)


def _host_degraded(rule: AlertRule, facts: Facts) -> Iterator[Match]:
    for host in _hosts(rule, facts, HostStatus.DEGRADED):
        yield Match(f"host:{host.id}", f"Host {host.name}", causes.of_host(host), host)


def _stacks(
    rule: AlertRule,
    facts: Facts,
    stacks: list[subjects.StackFact],
    reasons: Mapping[int, str],
    otherwise: str,
) -> Iterator[Match]:
    for stack in stacks:
        host = facts.hosts.get(stack.host_id)
        if host is None or host.status is HostStatus.OFFLINE or not _in_scope(rule, host):
            continue
        if _globs(rule.match_stack, stack.name) and _globs(rule.match_name, stack.name):
            subject = f"Stack {stack.name} on {host.name}"
            cause = reasons.get(stack.id) or otherwise
            yield Match(f"stack:{stack.id}", subject, cause, host, stack.name)


def _stack_error(rule: AlertRule, facts: Facts) -> Iterator[Match]:
    yield from _stacks(rule, facts, facts.stacks_in_error, facts.stack_causes, "The stack is in error.")


def _deploy_failed(rule: AlertRule, facts: Facts) -> Iterator[Match]:
    yield from _stacks(rule, facts, facts.failed_deploys, facts.deploy_failures, "The last deploy failed.")


def _containers(
    rule: AlertRule, facts: Facts, containers: list[subjects.ContainerFact]
) -> Iterator[tuple[subjects.ContainerFact, subjects.HostFact]]:
    for container in containers:
        # What somebody runs once by `docker compose run` ends before their eyes, and says nothing of the stack.
        if container.is_oneoff:
            continue
        host = facts.hosts.get(container.host_id)
        if host is None or host.status is HostStatus.OFFLINE or not _in_scope(rule, host):
            continue
        if _globs(rule.match_stack, container.stack) and _globs(rule.match_name, container.name):
            yield container, host


def _container_match(
    container: subjects.ContainerFact, host: subjects.HostFact, facts: Facts, words: str = ""
) -> Match:
    cause = f"{causes.name_of(container, host.name)}: {words}{causes.of_container(container)}."
    return Match(
        f"container:{host.id}:{container.container_id}",
        f"Container {container.name} on {host.name}",
        cause,
        host,
        container.stack,
        is_held_back=container.stack_id in facts.settling,
    )


def _container_state(rule: AlertRule, facts: Facts) -> Iterator[Match]:
    states, healths = rule.parameters["states"], rule.parameters["healths"]
    found = subjects.containers_in(states=states, healths=healths) if states or healths else []
    for container, host in _containers(rule, facts, found):
        yield _container_match(container, host, facts)


def _container_restarts(rule: AlertRule, facts: Facts) -> Iterator[Match]:
    window, least = rule.parameters["window_seconds"], rule.parameters["restarts"]
    before = facts.restarts_before(window)
    for container, host in _containers(rule, facts, facts.restarted):
        start = before.get((container.host_id, container.container_id), container.restart_count)
        risen = container.restart_count - start
        if risen >= least:
            words = f"restarted {causes.times(risen)} within {window} seconds, "
            yield _container_match(container, host, facts, words)


def _backup_jobs(
    rule: AlertRule, facts: Facts
) -> Iterator[tuple[backups.JobHealth, subjects.HostFact | None]]:
    for job in facts.backup_jobs:
        host = facts.hosts.get(job.host_id)
        if _in_scope(rule, host) and _globs(rule.match_name, job.name):
            yield job, host


def _job_subject(job: backups.JobHealth, host: subjects.HostFact | None) -> str:
    return f"Backup job {job.name}" + (f" on {host.name}" if host else "")


def _backup_overdue(rule: AlertRule, facts: Facts) -> Iterator[Match]:
    longest = datetime.timedelta(seconds=rule.parameters["overdue_seconds"])
    for job, host in _backup_jobs(rule, facts):
        if facts.now >= _due(facts, (job.last_success_at or job.created_at) + longest):
            last = causes.when(job.last_success_at) if job.last_success_at else "never"
            cause = f"The last successful run was: {last}. {job.trouble}".rstrip()
            yield Match(f"backup:{job.id}", _job_subject(job, host), cause, host)


def _due(facts: Facts, moment: datetime.datetime) -> datetime.datetime:
    """The moment, or where the server was away then, some time after its return: what was missed runs then."""
    returned_at = facts.listened.returned_at(moment)
    return moment if returned_at is None else returned_at + CATCH_UP


def _backup_failed(rule: AlertRule, facts: Facts) -> Iterator[Match]:
    for job, host in _backup_jobs(rule, facts):
        if job.trouble:
            yield Match(f"backup:{job.id}", _job_subject(job, host), job.trouble, host)


def _token_expiring(rule: AlertRule, facts: Facts) -> Iterator[Match]:
    limit = facts.now.timestamp() + rule.parameters["within_seconds"]
    for name, expires in facts.token_expiries:
        if expires <= limit and _globs(rule.match_name, name):
            moment = datetime.datetime.fromtimestamp(expires, datetime.UTC)
            verb = "expired" if expires <= facts.now.timestamp() else "expires"
            cause = f"The token {verb} at {moment:%Y-%m-%d %H:%M:%S UTC}."
            yield Match(f"token:{name}", f"API token {name}", cause)


def _channel_failing(rule: AlertRule, facts: Facts) -> Iterator[Match]:
    if not _in_scope(rule, None):
        return
    for channel in facts.failing_channels:
        if _globs(rule.match_name, channel.name):
            last = (
                f"last told {causes.when(channel.last_success_at)}"
                if channel.last_success_at
                else "never told"
            )
            cause = f"{channel.name} could not be told ({last}): {channel.last_error}"
            yield Match(f"channel:{channel.pk}", f"Channel {channel.name}", cause)


def _audit_changed(rule: AlertRule, facts: Facts) -> Iterator[Match]:
    if facts.audit_trouble:
        cause = f"{facts.audit_trouble[:800]}. See manage.py verifyaudit and manage.py acceptaudit."
        yield Match("audit", "The audit log", cause)


_FINDERS: dict[Kind, Finder] = {
    Kind.HOST_OFFLINE: _host_offline,
    Kind.HOST_DEGRADED: _host_degraded,
    Kind.STACK_ERROR: _stack_error,
    Kind.CONTAINER_STATE: _container_state,
    Kind.CONTAINER_RESTARTS: _container_restarts,
    Kind.DEPLOY_FAILED: _deploy_failed,
    Kind.BACKUP_OVERDUE: _backup_overdue,
    Kind.BACKUP_FAILED: _backup_failed,
    Kind.TOKEN_EXPIRING: _token_expiring,
    Kind.CHANNEL_FAILING: _channel_failing,
    Kind.AUDIT_CHANGED: _audit_changed,
}
