"""Writing stacks and deploys.

The order of locks is the fleet's: the host's heartbeat state first, then rows of that host (stack, files, deploy), then
the series, then the audit log's head.
"""

from __future__ import annotations

import dataclasses
import difflib
import uuid
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q

from dockmesh.audit.actions import Action
from dockmesh.audit.services import SYSTEM, Actor, record
from dockmesh.core import clock
from dockmesh.core.encrypted import DecryptError
from dockmesh.core.errors import Conflict, InvalidInput, NotFound
from dockmesh.core.text import clean_number
from dockmesh.deploys import adoption, surveys
from dockmesh.deploys.compose import clean_compose_file, clean_env_file, clean_stack_name, env_names
from dockmesh.deploys.envfiles import decrypted, encrypted
from dockmesh.deploys.models import DEFAULT_TIMEOUT_SECONDS, LOOKS, READ_FILES, Deploy, StackFiles
from dockmesh.deploys.places import clean_directory, clean_override_files
from dockmesh.fleet import commands
from dockmesh.fleet import services as fleet
from dockmesh.fleet.abilities import why_not

if TYPE_CHECKING:
    from dockmesh.fleet.models import Stack

LEAST_TIMEOUT_SECONDS, MOST_TIMEOUT_SECONDS = 10, 24 * 3600
MOST_REMOVED, LONGEST_SERVICE = 500, 200

Operation = Deploy.Operation
Status = Deploy.Status


@dataclasses.dataclass(frozen=True)
class Files:
    """What a managed stack is made of, checked."""

    compose_file: str
    encrypted_env_file: str
    timeout_seconds: int
    auto_rollback: bool


def create_stack(
    *,
    actor: Actor,
    host_id: int,
    name: object,
    compose_file: object,
    env_file: object = "",
    timeout_seconds: object = DEFAULT_TIMEOUT_SECONDS,
    auto_rollback: object = False,
) -> Stack:
    """Store a new managed stack of the host; nothing is deployed yet.

    Raises `InvalidInput` that names the field, `Conflict` where the host has a stack of that name, `NotFound`.
    """
    name = clean_stack_name(name)
    # Before the transaction: a large file takes a while to read, and on SQLite a transaction keeps all writers out.
    files = _checked(compose_file, env_file, timeout_seconds, auto_rollback)
    with transaction.atomic():
        stack = fleet.add_managed_stack(host_id=host_id, name=name)
        StackFiles.objects.create(stack=stack, updated_at=clock.now(), **dataclasses.asdict(files))
        _record(actor, Action.STACK_CREATED, stack, _described(files, env_file))
    return stack


def adopt_stack(
    *,
    actor: Actor,
    stack_id: int,
    compose_file: object = None,
    override_files: object = None,
    env_file: object = None,
    project_directory: object = None,
    accept_changes: bool = False,
    survey_id: uuid.UUID | None = None,
    timeout_seconds: object = DEFAULT_TIMEOUT_SECONDS,
    auto_rollback: object = False,
) -> Stack:
    """Manage a discovered stack from now on; its containers run on, and their mounts keep their meaning.

    Without a Compose file it is managed by the files that it was started from, as the latest survey found them
    (`survey_id`: this very one). An env file that is left out is the host's own too. `project_directory` and
    `accept_changes` are the user's decisions where that can't be kept.

    Raises `adoption.SurveyNeeded` where a survey has to say first what the files mean, `Conflict` where the stack
    is managed already, its name is none that Compose would take, or the user has to decide; then it names each
    path or mount whose meaning would change.
    """
    wish = adoption.clean_wish(
        compose_file=compose_file,
        override_files=override_files,
        env_file=env_file,
        project_directory=project_directory,
        accept_changes=accept_changes,
    )
    timeout = _clean_timeout(timeout_seconds)
    goes_back = _clean_flag("auto_rollback", auto_rollback)
    with transaction.atomic():
        stack = fleet.lock_stack(stack_id)
        if stack.is_managed:
            raise Conflict(f"The stack {stack.name} is managed already.")
        try:
            clean_stack_name(stack.name)
        except InvalidInput:
            raise Conflict(
                f"{stack.name} is no name of a Compose project, so it can't be deployed."
            ) from None
        survey = surveys.latest(stack_id)
        if survey_id is not None and (survey is None or survey.request_id != survey_id):
            raise Conflict(f"The files of {stack.name} were read anew meanwhile: look at them again.")
        plan = adoption.planned(wish, surveys.found(survey), stack=stack.name, host=stack.host.name)
        stack = fleet.adopt_stack(stack_id=stack_id)
        files = StackFiles.objects.create(
            stack=stack,
            compose_file=plan.compose_file,
            override_files=plan.override_files,
            encrypted_env_file=encrypted(plan.env_file),
            project_directory=plan.project_directory,
            is_directory_decided=plan.is_directory_decided,
            timeout_seconds=timeout,
            auto_rollback=goes_back,
            updated_at=clock.now(),
        )
        if survey is not None:
            survey.delete()
        described = _described(
            Files(files.compose_file, files.encrypted_env_file, timeout, goes_back), plan.env_file
        )
        if plan.override_files:
            described["override_files"] = [file["path"] for file in plan.override_files]
        if plan.project_directory:
            described["project_directory"] = plan.project_directory
        _record(actor, Action.STACK_ADOPTED, stack, described)
    return stack


def change_stack(
    *,
    actor: Actor,
    stack_id: int,
    compose_file: object = None,
    override_files: object = None,
    env_file: object = None,
    project_directory: object = None,
    timeout_seconds: object = None,
    auto_rollback: object = None,
) -> Stack:
    """Change what the next deploy will use; None leaves a part as it is, an empty env file removes it.

    A project directory that is given is the user's decision, also if bind mounts then mean other folders.
    """
    compose_text = None if compose_file is None else clean_compose_file(compose_file)
    env_text = None if env_file is None else clean_env_file(env_file)
    overrides = None if override_files is None else clean_override_files(override_files)
    directory = None if project_directory is None else clean_directory(project_directory)
    timeout = None if timeout_seconds is None else _clean_timeout(timeout_seconds)
    goes_back = None if auto_rollback is None else _clean_flag("auto_rollback", auto_rollback)
    with transaction.atomic():
        stack, files = _locked_files(stack_id)
        changes: dict[str, Any] = {}
        if compose_text is not None and compose_text != files.compose_file:
            files.compose_file = compose_text
            changes["compose_file"] = f"{len(compose_text.splitlines())} lines"
        if env_text is not None:
            files.encrypted_env_file = encrypted(env_text)
            changes["env_file"] = f"{len(env_names(env_text))} variables" if env_text else "removed"
        if overrides is not None and overrides != files.override_files:
            files.override_files = overrides
            changes["override_files"] = [file["path"] for file in overrides]
        if directory is not None and not (
            files.is_directory_decided and directory == files.project_directory
        ):
            files.project_directory = directory
            files.is_directory_decided = True
            changes["project_directory"] = directory or "the agent's own"
        if timeout is not None and timeout != files.timeout_seconds:
            files.timeout_seconds = timeout
            changes["timeout_seconds"] = timeout
        if goes_back is not None and goes_back != files.auto_rollback:
            files.auto_rollback = goes_back
            changes["auto_rollback"] = goes_back
        if changes:
            files.updated_at = clock.now()
            files.save()
            _record(actor, Action.STACK_CHANGED, stack, changes)
    return stack


@transaction.atomic
def request_deploy(
    *, actor: Actor, stack_id: int, operation: str = Operation.UP, remove: object = ()
) -> Deploy:
    """Ask the host's agent for an operation on a managed stack.

    `remove` are the services whose containers a deploy may remove. Raises `Conflict` while another one runs, where
    the stack isn't managed, its env file can't be decrypted, or its host can't do it.
    """
    confirmed = _clean_services(list(remove) if isinstance(remove, tuple) else remove)
    stack, files = _locked_files(stack_id)
    return _request(actor, stack, files, Operation(operation), confirmed=confirmed)


@transaction.atomic
def request_preview(*, actor: Actor, stack_id: int) -> Deploy:
    """Ask the host's agent what a deploy would do; raises as `request_deploy`."""
    stack, files = _locked_files(stack_id)
    for ability in ("deploy", "preview"):
        _refuse_unable(stack, ability)
    return _request(actor, stack, files, Operation.PREVIEW)


@transaction.atomic
def roll_back(*, actor: Actor, deploy_id: int, remove: object = ()) -> Deploy:
    """Deploy the files and images of an earlier successful deploy again; from now on they are the stack's files."""
    confirmed = _clean_services(list(remove) if isinstance(remove, tuple) else remove)
    earlier = Deploy.objects.filter(pk=deploy_id).first()
    if earlier is None:
        raise NotFound("There is no such deploy.")
    if earlier.stack_id is None:
        raise Conflict("Its stack has been removed.")
    if earlier.operation != Operation.UP or earlier.status != Status.SUCCESS:
        raise Conflict("Only a deploy that succeeded can be rolled back to.")
    stack, files = _locked_files(earlier.stack_id)
    _refuse_second(stack)
    # Where the stack lives is no part of what is rolled back: its data has not moved.
    files.compose_file = earlier.compose_file
    files.override_files = earlier.override_files
    files.encrypted_env_file = earlier.encrypted_env_file
    files.updated_at = clock.now()
    files.save()
    return _request(actor, stack, files, Operation.UP, confirmed=confirmed, rollback_of=earlier)


def roll_back_automatically(failed: Deploy) -> Deploy | None:
    """After a deploy that failed: bring back the last one that succeeded, where the stack is to have that.

    Never after an automatic one, so that it ends, nor where the failed one changed nothing. The stack's files stay
    as they are, to be mended. Raises `Conflict` where it is not possible. The caller holds the host's lock.
    """
    if failed.stack_id is None or failed.operation != Operation.UP:
        return None
    if failed.is_automatic or failed.is_changed is False:
        return None
    stack, files = _locked_files(failed.stack_id)
    good = stack.deploys.filter(operation=Operation.UP, status=Status.SUCCESS, pk__lt=failed.pk).first()
    if not files.auto_rollback or good is None:
        return None
    # Where the stack lives is no part of what is rolled back.
    good.project_directory, good.is_directory_decided = files.project_directory, files.is_directory_decided
    # What the failed one brought may go again, that is what was asked for.
    return _request(
        SYSTEM, stack, good, Operation.UP, confirmed=failed.services, rollback_of=good, is_automatic=True
    )


@transaction.atomic
def cancel_deploy(*, actor: Actor, deploy_id: int) -> Deploy:
    """Take a queued deploy back, or have the agent end the one that it has begun, in an orderly way.

    The first ends at once. The second ends when the agent reports it: before a container was touched nothing has
    changed, after that the stack stays as far as it got. Raises `Conflict` where it has ended, or where the agent
    can't end what it has begun.
    """
    found = Deploy.objects.filter(pk=deploy_id).first()
    if found is None:
        raise NotFound("There is no such deploy.")
    if found.stack_id is None:
        raise Conflict("Its stack has been removed.")
    stack = fleet.lock_stack(found.stack_id)
    deploy = Deploy.objects.select_for_update().get(pk=deploy_id)
    if not deploy.is_open:
        raise Conflict(f"Deploy {deploy.pk} has ended already.")
    if deploy.cancelled_by:
        return deploy
    command_id = deploy.command_id or 0
    is_taken_back = commands.cancel(command_id)
    if not is_taken_back:
        _refuse_unable(stack, "cancel")
        commands.ask_to_end(host_id=stack.host_id, command_id=command_id)
    deploy.cancelled_by = actor.name
    if is_taken_back:
        deploy.status = Status.CANCELLED
        deploy.error = f"Cancelled by {actor.name} before the agent had it; nothing was changed."[:2000]
        deploy.is_changed = False
        deploy.finished_at = clock.now()
        if deploy.operation == Operation.UP:
            fleet.set_deploy_state(stack_id=stack.pk, is_deploying=False)
    deploy.save()
    changes = {"deploy": deploy.pk, "operation": deploy.operation}
    _record(
        actor, Action.DEPLOY_CANCELLED, stack, {**changes, "was": "queued" if is_taken_back else "running"}
    )
    return deploy


@transaction.atomic
def remove_stack(*, actor: Actor, stack_id: int) -> Deploy:
    """Take the stack down (containers and networks; volumes stay); once that succeeded it is removed here too."""
    return request_deploy(actor=actor, stack_id=stack_id, operation=Operation.DOWN)


@transaction.atomic
def forget_stack(*, actor: Actor, stack_id: int) -> None:
    """Remove a managed stack here and leave its host alone; what runs of it is shown as discovered."""
    stack, files = _locked_files(stack_id)
    _refuse_second(stack)
    files.delete()
    fleet.remove_stack(stack_id=stack_id)
    _record(actor, Action.STACK_REMOVED, stack, {"containers": "left alone"})


def _checked(compose_file: object, env_file: object, timeout_seconds: object, auto_rollback: object) -> Files:
    return Files(
        clean_compose_file(compose_file),
        encrypted(clean_env_file("" if env_file is None else env_file)),
        _clean_timeout(timeout_seconds),
        _clean_flag("auto_rollback", auto_rollback),
    )


def _clean_flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(field, "must be true or false.")
    return value


def _clean_services(value: object) -> list[str]:
    """Names of services, as the agent named them; they are compared and nothing else."""
    if not isinstance(value, list) or len(value) > MOST_REMOVED:
        raise InvalidInput("remove", f"must be a list of at most {MOST_REMOVED} services.")
    if not all(isinstance(name, str) and 0 < len(name) <= LONGEST_SERVICE for name in value):
        raise InvalidInput("remove", "must be names of services.")
    return sorted(set(value))


def _clean_timeout(value: object) -> int:
    return clean_number(
        "timeout_seconds", value, least=LEAST_TIMEOUT_SECONDS, most=MOST_TIMEOUT_SECONDS, unit="seconds"
    )


def _described(files: Files, env_file: object) -> dict[str, Any]:
    described: dict[str, Any] = {"compose_file": f"{len(files.compose_file.splitlines())} lines"}
    if isinstance(env_file, str) and files.encrypted_env_file:
        described["env_file"] = f"{len(env_names(env_file))} variables"
    return described


def _locked_files(stack_id: int) -> tuple[Stack, StackFiles]:
    stack = fleet.lock_stack(stack_id)
    files = StackFiles.objects.select_for_update().filter(stack_id=stack_id).first()
    if files is None:
        raise Conflict(f"The stack {stack.name} is not managed by dockmesh: adopt it first.")
    return stack, files


def _refuse_second(stack: Stack, operation: Operation = Operation.UP) -> None:
    """One change at a time, and one look: a preview or a check neither waits for a deploy's end nor stands in its way."""
    are_open = stack.deploys.filter(status__in=[Status.QUEUED, Status.RUNNING])
    is_look = Q(operation__in=LOOKS)
    running = are_open.filter(is_look if operation in LOOKS else ~is_look).first()
    if running is not None:
        raise Conflict(f"Deploy {running.pk} of the stack {stack.name} has not ended yet.")


def _refuse_unable(stack: Stack, ability: str) -> None:
    if reason := why_not(stack.host, ability):
        raise Conflict(reason)


def _request(
    actor: Actor,
    stack: Stack,
    files: StackFiles | Deploy,
    operation: Operation,
    *,
    confirmed: list[str] | None = None,
    rollback_of: Deploy | None = None,
    is_automatic: bool = False,
) -> Deploy:
    _refuse_second(stack, operation)
    _refuse_unable(stack, "deploy")
    used: StackFiles | Deploy | None = files
    if operation in READ_FILES:
        try:
            decrypted(files.encrypted_env_file)
        except DecryptError as error:
            raise Conflict(f"The env file can't be read: {error}") from None
    else:
        used = _deployed(stack, files)
    deploy = Deploy.objects.create(
        stack=stack,
        stack_name=stack.name,
        host_name=stack.host.name,
        operation=operation,
        rollback_of=rollback_of,
        compose_file=used.compose_file if used else "",
        override_files=used.override_files if used else [],
        encrypted_env_file=used.encrypted_env_file if used else "",
        project_directory=used.project_directory if used else "",
        is_directory_decided=used.is_directory_decided if used else False,
        timeout_seconds=files.timeout_seconds,
        remove=confirmed or [],
        is_automatic=is_automatic,
        diff=_diff(stack, files) if operation == Operation.PREVIEW else "",
        requested_by=actor.name,
        requested_at=clock.now(),
    )
    # The files themselves are added when the agent fetches the command: the queue holds no secret.
    deploy.command_id = commands.enqueue(
        host_id=stack.host_id,
        kind="deploy",
        payload={"deploy": deploy.pk},
        lock=f"stack:{stack.name}",
        timeout_seconds=files.timeout_seconds,
    )
    deploy.save(update_fields=["command_id"])
    if operation == Operation.UP:
        fleet.set_deploy_state(stack_id=stack.pk, is_deploying=True)
    changes: dict[str, Any] = {"operation": operation.value, "deploy": deploy.pk}
    if confirmed:
        changes["remove"] = confirmed
    if rollback_of is not None:
        changes["rollback_of"] = rollback_of.pk
    if is_automatic:
        changes["is_automatic"] = True
    _record(actor, Action.DEPLOY_REQUESTED, stack, changes)
    return deploy


def _deployed(stack: Stack, files: StackFiles | Deploy) -> StackFiles | Deploy | None:
    """The files that a stop, a restart or a removal uses: those that were deployed, whatever was saved since.

    None where nothing was deployed from here: the agent finds the containers by their labels. An agent that
    can't do that gets the stored files.
    """
    deployed = stack.deploys.filter(operation=Operation.UP, status=Status.SUCCESS).first()
    if deployed is None and surveys.CAPABILITY not in stack.host.agent_info.get("capabilities", ()):
        return files
    return deployed


def _lines(files: StackFiles | Deploy) -> list[str]:
    """All the Compose files, as they are laid over each other."""
    lines = files.compose_file.splitlines()
    for override in files.override_files:
        lines += [f"# {override['path']}", *override["content"].splitlines()]
    return lines


def _diff(stack: Stack, files: StackFiles | Deploy) -> str:
    """The lines that changed since the last deploy that succeeded; all of them where there was none."""
    last = stack.deploys.filter(operation=Operation.UP, status=Status.SUCCESS).first()
    lines = difflib.unified_diff(
        _lines(last) if last else [],
        _lines(files),
        f"deploy {last.pk}" if last else "nothing deployed yet",
        "files of the next deploy",
        lineterm="",
    )
    return "\n".join(lines)


def _record(actor: Actor, action: Action, stack: Stack, changes: dict[str, Any]) -> None:
    record(
        actor=actor,
        action=action,
        target_kind="stack",
        target_id=stack.pk,
        target_name=stack.name,
        changes={"host": stack.host.name, **changes},
    )
