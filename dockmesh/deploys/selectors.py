"""Reading stacks with their deploys, and deploys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from django.db.models import Count, OuterRef, QuerySet, Subquery

from dockmesh.core import clock
from dockmesh.core.compiled import CompiledQuery
from dockmesh.deploys.envfiles import names_in
from dockmesh.deploys.models import LOOKS, Deploy, StackFiles
from dockmesh.fleet import selectors as fleet
from dockmesh.fleet.listening import offline_before
from dockmesh.fleet.selectors.images import with_newer_images
from dockmesh.fleet.states import StackState, shown_state
from tokens.permissions import Permission
from tokens.principals import Principal

if TYPE_CHECKING:
    from dockmesh.fleet.models import Stack

# What a list of deploys doesn't show.
LARGE = (
    "output", "compose_file", "override_files", "encrypted_env_file", "diff", "images", "services", "removes", "remove"
)  # fmt: skip


_OPEN = (Deploy.Status.QUEUED, Deploy.Status.RUNNING)
OPEN_DEPLOYS = CompiledQuery(
    lambda: (
        Deploy.objects.filter(status__in=_OPEN, operation=Deploy.Operation.UP)
        .order_by()
        .values_list("status")
        .annotate(Count("pk"))
    )
)


def open_deploys() -> dict[str, int]:
    """How many deploys are queued and how many are running, both also at 0; one query."""
    return dict.fromkeys(map(str, _OPEN), 0) | dict(OPEN_DEPLOYS.rows())


@dataclass(frozen=True)
class StackView:
    """A stack as pages and answers show it; those from the file on are None where it is not managed (or not asked for)."""

    stack: Stack
    state: StackState
    last_deploy: Deploy | None
    has_newer_images: bool = False
    compose_file: str | None = None
    env_names: list[str] | None = None
    timeout_seconds: int | None = None
    override_files: list[dict[str, str]] | None = None
    project_directory: str | None = None
    auto_rollback: bool | None = None

    def without_files(self) -> StackView:
        """For those who may not deploy: Compose files may hold secrets."""
        return replace(self, compose_file=None, override_files=None)


def stacks() -> QuerySet[Stack]:
    """All stacks with their hosts; give a page of them to `complete`."""
    return fleet.stacks()


def complaint(stack_id: int) -> Deploy | None:
    """The check in which the host's Compose refused the stack's files as they are now; None where none did."""
    checks = Deploy.objects.filter(stack=stack_id, operation=Deploy.Operation.VALIDATE)
    newest = checks.exclude(status=Deploy.Status.CANCELLED).order_by("-pk").first()
    if newest is None or newest.status != Deploy.Status.FAILURE:
        return None
    files = StackFiles.objects.filter(stack=stack_id, updated_at__lte=newest.requested_at)
    return newest if files.exists() else None


def complete(rows: Iterable[Stack]) -> list[StackView]:
    """The stacks of a page as they are shown; three queries however many they are."""
    found = list(rows)
    before = offline_before(clock.now())
    done = Deploy.objects.exclude(operation__in=LOOKS)
    newest_id = done.filter(stack=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    ids = stacks().filter(pk__in=[stack.pk for stack in found]).values_list(Subquery(newest_id))
    newest = {deploy.stack_id: deploy for deploy in Deploy.objects.filter(pk__in=[pk for (pk,) in ids if pk])}
    newer = with_newer_images([stack.pk for stack in found])
    return [
        StackView(
            stack,
            StackState(shown_state(stack.state, is_offline=stack.host.heartbeat_state.last_seen_at < before)),
            newest.get(stack.pk),
            stack.pk in newer,
        )
        for stack in found
    ]


def detailed(stack_id: int) -> StackView | None:
    """One stack with its files; None where there is no such stack."""
    stack = stacks().filter(pk=stack_id).first()
    if stack is None:
        return None
    view = complete([stack])[0]
    files = StackFiles.objects.filter(stack=stack).first()
    if files is None:
        return view
    return replace(
        view,
        compose_file=files.compose_file,
        env_names=names_in(files.encrypted_env_file),
        timeout_seconds=files.timeout_seconds,
        override_files=files.override_files,
        project_directory=files.project_directory,
        auto_rollback=files.auto_rollback,
    )


def may_read(principal: Principal | None) -> bool:
    """Whether Compose files and outputs are shown: who may change them has them anyway."""
    return principal is not None and (
        principal.has(Permission.STACKS_READ) or principal.has(Permission.STACKS_DEPLOY)
    )
