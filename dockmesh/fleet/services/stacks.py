"""Stacks: their state, their host's summary of them, and the series of their names."""

from collections.abc import Collection

from django.db import transaction
from django.db.models import Exists, F, OuterRef

from dockmesh.core import clock
from dockmesh.core.errors import Conflict, NotFound
from dockmesh.core.text import clean_name
from dockmesh.fleet.commands import lock_host
from dockmesh.fleet.histograms import DEPLOY_BUCKETS, Exemplar, observe
from dockmesh.fleet.models import Container, HeartbeatState, Host, Stack, StackSeries
from dockmesh.fleet.states import stack_counts, stack_state


@transaction.atomic
def observe_deploy(
    *, stack_name: str, is_success: bool, seconds: float, deploy_id: int | None = None
) -> None:
    """Add one deploy's duration to the stack name's histogram; nothing if the last such stack has gone.

    The deploy is the histogram's exemplar until the next one with the same result.
    """
    series = StackSeries.objects.select_for_update().filter(name=stack_name).first()
    if series is None:
        return
    exemplar = "" if deploy_id is None else Exemplar(deploy_id, seconds, clock.now().timestamp()).text
    if is_success:
        series.success_counts = observe(series.success_counts, DEPLOY_BUCKETS, [seconds])
        series.success_sum += seconds
        series.success_exemplar = exemplar
    else:
        series.failure_counts = observe(series.failure_counts, DEPLOY_BUCKETS, [seconds])
        series.failure_sum += seconds
        series.failure_exemplar = exemplar
    series.version += 1
    series.save()


@transaction.atomic
def add_managed_stack(*, host_id: int, name: str) -> Stack:
    """A stack whose Compose file is kept here, with no containers yet; raises `Conflict` if its name is taken."""
    name = clean_name("name", name)
    lock_host(host_id)
    if Stack.objects.filter(host_id=host_id, name=name).exists():
        raise Conflict(f"There is a stack {name} on this host already.")
    stack = Stack.objects.create(
        host_id=host_id,
        name=name,
        is_managed=True,
        state=stack_state([], is_deploying=False, has_failed_deploy=False),
        state_changed_at=clock.now(),
    )
    lock_series([name])
    keep_stack_summary(host_id)
    return stack


@transaction.atomic
def adopt_stack(*, stack_id: int) -> Stack:
    """Keep a discovered stack from now on, with or without containers."""
    stack = _locked(stack_id)
    stack.is_managed = True
    stack.save(update_fields=["is_managed"])
    keep_stack_summary(stack.host_id)
    return stack


@transaction.atomic
def set_deploy_state(
    *, stack_id: int, is_deploying: bool, has_failed_deploy: bool | None = None, result: str = ""
) -> Stack:
    """Say that a deploy runs, or has ended and how (None leaves the last result as it is).

    `result` is `success` or `failure` of a deploy that nobody cancelled.
    """
    stack = _locked(stack_id)
    stack.is_deploying = is_deploying
    if result:
        stack.last_deploy_at, stack.last_deploy_result = clock.now(), result
    if has_failed_deploy is not None:
        stack.has_failed_deploy = has_failed_deploy
    state = stack_state(
        Container.objects.filter(stack_id=stack_id),
        is_deploying=stack.is_deploying,
        has_failed_deploy=stack.has_failed_deploy,
    )
    if state != stack.state:
        stack.state = state
        stack.state_changed_at = clock.now()
    stack.save(
        update_fields=[
            "is_deploying",
            "has_failed_deploy",
            "state",
            "state_changed_at",
            "last_deploy_at",
            "last_deploy_result",
        ]
    )
    keep_stack_summary(stack.host_id)
    return stack


@transaction.atomic
def remove_stack(*, stack_id: int) -> None:
    """Forget a managed stack. While containers of it run it stays, as a discovered one."""
    stack = _locked(stack_id)
    if Container.objects.filter(stack_id=stack_id).exists():
        stack.is_managed = stack.is_deploying = stack.has_failed_deploy = False
        stack.state = stack_state(
            Container.objects.filter(stack_id=stack_id), is_deploying=False, has_failed_deploy=False
        )
        stack.last_deploy_at, stack.last_deploy_result = None, ""
        stack.save(
            update_fields=[
                "is_managed",
                "is_deploying",
                "has_failed_deploy",
                "state",
                "last_deploy_at",
                "last_deploy_result",
            ]
        )
    else:
        stack.delete()
        lock_series([stack.name])
        drop_orphaned_series([stack.name])
    keep_stack_summary(stack.host_id)


def lock_stack(stack_id: int) -> Stack:
    """The stack with its host, both locked; raises `NotFound`."""
    host_id = Stack.objects.filter(pk=stack_id).values_list("host_id", flat=True).first()
    if host_id is None:
        raise NotFound("There is no such stack.")
    lock_host(host_id)
    rows = Stack.objects.select_for_update(of=("self",)).select_related("host__heartbeat_state")
    stack = rows.filter(pk=stack_id).first()
    if stack is None:
        raise NotFound("There is no such stack.")
    return stack


def lock_series(names: Collection[str]) -> None:
    """Lock the series of these stack names, making those that are missing at 0.

    In one statement and in the order of the names, so that heartbeats of two hosts can't lock each other out;
    and as an upsert, since only its lock makes a host that adds a name wait for one that drops it.
    """
    if names:
        StackSeries.objects.bulk_create(
            [StackSeries(name=name) for name in sorted(names)],
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["name"],
        )


def drop_orphaned_series(names: Collection[str]) -> None:
    """Delete the series of those names that no stack has any more; the caller has locked them."""
    if names:
        StackSeries.objects.filter(
            ~Exists(Stack.objects.filter(name=OuterRef("name"))), name__in=list(names)
        ).delete()


def keep_stack_summary(host_id: int) -> None:
    """After a change of the host's stacks: count them anew, and give its text on /metrics a new version."""
    counts = stack_counts(Stack.objects.filter(host_id=host_id).values_list("state", flat=True))
    Host.objects.filter(pk=host_id).exclude(stack_counts=counts).update(stack_counts=counts)
    HeartbeatState.objects.filter(host_id=host_id).update(version=F("version") + 1)


def _locked(stack_id: int) -> Stack:
    """The stack, its host locked."""
    host_id = Stack.objects.filter(pk=stack_id).values_list("host_id", flat=True).first()
    if host_id is None:
        raise NotFound("There is no such stack.")
    lock_host(host_id)
    stack = Stack.objects.select_for_update().filter(pk=stack_id).first()
    if stack is None:
        raise NotFound("There is no such stack.")
    return stack
