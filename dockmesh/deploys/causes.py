"""Why a stack is in error, and which stacks are being deployed: for alerts and pages alike."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Right

from dockmesh.core import clock
from dockmesh.deploys.models import LOOKS, Deploy
from dockmesh.fleet import causes, selectors
from dockmesh.fleet.states import StackState

if TYPE_CHECKING:
    from dockmesh.fleet.models import Stack
    from dockmesh.fleet.selectors.subjects import ContainerFact

# Of a failed deploy's output.
MOST_LINES = 3
_MOST_OUTPUT = 600

# What the containers of a stack do so long after a deploy of it ended is taken for the deploy's doing.
SETTLING = datetime.timedelta(minutes=10)


@dataclass(frozen=True)
class StackTrouble:
    """Why a stack is in error: what failed of its last deploy, and its containers that aren't as they should be."""

    failure: str
    containers: tuple[ContainerFact, ...]

    @property
    def words(self) -> str:
        """In a sentence or two."""
        listed = causes.listed(self.containers) if self.containers else ""
        return " ".join(filter(None, (self.failure, listed)))


def troubles() -> dict[int, StackTrouble]:
    """By id, of the stacks whose stored state is error; two queries."""
    stacks = selectors.stacks().filter(state=StackState.ERROR)
    failed, broken = _failures(stacks), causes.failing(stacks)
    return {
        stack_id: StackTrouble(failed.get(stack_id, ""), tuple(broken.get(stack_id, ())))
        for stack_id in failed.keys() | broken.keys()
    }


def of_stacks_in_error() -> dict[int, str]:
    """By id, of those whose stored state is error: why; two queries."""
    return _of(selectors.stacks().filter(state=StackState.ERROR))


def of_failed_deploys() -> dict[int, str]:
    """By id, of those whose last deploy failed: its error and its time; one query."""
    return _failures(selectors.stacks())


def of_stack(stack_id: int) -> str:
    """Why this one is in error, in a sentence or two; empty if it isn't. Two queries."""
    return _of(selectors.stacks().filter(pk=stack_id, state=StackState.ERROR)).get(stack_id, "")


def _of(stacks: QuerySet[Stack]) -> dict[int, str]:
    """A stack is in error because its last deploy failed, or for its containers: these are named."""
    failed, broken = _failures(stacks), causes.of_containers(stacks)
    return {
        stack_id: " ".join(filter(None, (failed.get(stack_id), broken.get(stack_id))))
        for stack_id in failed.keys() | broken.keys()
    }


def last_lines(stack_ids: Collection[int]) -> dict[int, tuple[str, ...]]:
    """By id, of those of these stacks whose last deploy failed: the last lines of what it wrote. One query.

    They may hold secrets: they are for whoever has `stacks.read`.
    """
    failed = _newest_failed(selectors.stacks().filter(pk__in=stack_ids))
    rows = failed.values_list("stack_id", Right("output", _MOST_OUTPUT))
    found = {}
    for stack_id, output in rows:
        lines = [line.rstrip() for line in output.splitlines() if line.strip()]
        if stack_id is not None and lines:
            found[stack_id] = tuple(lines[-MOST_LINES:])
    return found


def _newest_failed(stacks: QuerySet[Stack]) -> QuerySet[Deploy]:
    """Of those whose last deploy failed: that deploy."""
    ended = Deploy.objects.filter(stack=OuterRef("pk"), finished_at__isnull=False)
    newest = Subquery(ended.exclude(operation__in=LOOKS).order_by("-pk").values("pk")[:1])
    rows = stacks.filter(has_failed_deploy=True).annotate(failure=newest).order_by()
    return Deploy.objects.filter(pk__in=rows.values("failure"))


def _failures(stacks: QuerySet[Stack]) -> dict[int, str]:
    columns = _newest_failed(stacks).values_list("stack_id", "pk", "status", "error", "finished_at")
    return {
        stack_id: _failure(pk, status, error, finished_at)
        for stack_id, pk, status, error, finished_at in columns
        if stack_id is not None
    }


def _failure(pk: int, status: str, error: str, finished_at: datetime.datetime | None) -> str:
    ended = "was cancelled half-way" if status == Deploy.Status.CANCELLED else "failed"
    words = f": {error[:500].strip()}" if error else ""
    return f"The last deploy ({pk}) {ended} {causes.when(finished_at)}{words}".rstrip(".") + "."


def settling() -> set[int]:
    """The ids of the stacks that are being deployed, or were within `SETTLING`; one query."""
    limit = clock.now() - SETTLING
    rows = Deploy.objects.filter(
        Q(status__in=[Deploy.Status.QUEUED, Deploy.Status.RUNNING]) | Q(finished_at__gte=limit),
        stack__isnull=False,
    ).exclude(operation__in=LOOKS)
    return {pk for pk in rows.values_list("stack_id", flat=True).distinct() if pk is not None}
