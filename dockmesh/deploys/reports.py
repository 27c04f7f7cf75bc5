"""What the agents say of their deploys: handlers of the command queue, which calls them with the host locked."""

import datetime
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from dockmesh.audit.actions import Action
from dockmesh.audit.services import SYSTEM, Actor, record
from dockmesh.core import clock, schedule
from dockmesh.core.encrypted import DecryptError
from dockmesh.core.errors import DomainError
from dockmesh.core.output import appended
from dockmesh.deploys import outcomes, services
from dockmesh.deploys.envfiles import decrypted
from dockmesh.deploys.models import READ_FILES, Deploy, StackFiles
from dockmesh.fleet import commands
from dockmesh.fleet import services as fleet
from dockmesh.fleet.commands import Command, CommandProgress, CommandResult

MAX_ERROR = 2000
OPEN = [Deploy.Status.QUEUED, Deploy.Status.RUNNING]
STACK_GONE = "The stack or its host was removed while this was under way."


def prepare(command: Command) -> Mapping[str, Any]:
    """The command as the agent gets it, with the files; the deploy counts as running from here on."""
    deploy = _open_deploy(command)
    if deploy is None:
        # It has ended meanwhile, or never was: the agent finds nothing to do in this and refuses it.
        return command.payload
    if deploy.status == Deploy.Status.QUEUED:
        deploy.status = Deploy.Status.RUNNING
        deploy.started_at = clock.now()
        deploy.save(update_fields=["status", "started_at"])
    try:
        env_file = decrypted(deploy.encrypted_env_file)
    except DecryptError:
        if deploy.operation not in READ_FILES:
            # The agent stops and removes by labels as well.
            return {"operation": deploy.operation, "stack": deploy.stack_name}
        # The agent refuses this, so the deploy ends as a failure that says why.
        return {"operation": "env file unreadable: DOCKMESH_SECRET_KEY has changed"}
    return {
        "operation": deploy.operation,
        "stack": deploy.stack_name,
        "env_file": env_file,
        **_files(deploy),
        "remove": deploy.remove,
        "images": deploy.rollback_of.images if deploy.rollback_of else [],
    }


def _files(deploy: Deploy) -> dict[str, Any]:
    """The Compose files and where they lie. What is more than one file in the agent's folder an older agent refuses."""
    payload: dict[str, Any] = {}
    if deploy.override_files or deploy.project_directory:
        payload["files"] = [
            {"path": "compose.yaml", "content": deploy.compose_file},
            *deploy.override_files,
        ]
        payload["project_directory"] = deploy.project_directory
    elif deploy.compose_file:
        payload["compose_file"] = deploy.compose_file
    if deploy.is_directory_decided:
        payload["is_directory_decided"] = True
    return payload


def take_progress(command: Command, progress: CommandProgress) -> None:
    """Add what the deploy wrote meanwhile."""
    deploy = _open_deploy(command)
    if deploy is not None and progress.output:
        deploy.output = appended(deploy.output, progress.output)
        deploy.save(update_fields=["output"])


def take_result(command: Command, result: CommandResult) -> None:
    """End the deploy as the agent says."""
    deploy = _open_deploy(command)
    if deploy is None:
        return
    deploy.duration_seconds = result.duration_seconds
    deploy.exit_code = result.exit_code
    deploy.output = appended("", result.output)
    deploy.services = outcomes.services(result.document)
    deploy.removes = outcomes.removes(result.document)
    deploy.images = outcomes.images(result.document)
    deploy.is_changed = outcomes.is_changed(result.document)
    error = "" if result.is_success else (result.error or "The agent gave no reason.")
    actor = Actor("agent", str(command.host_id), deploy.host_name)
    _finish(deploy, actor, is_success=result.is_success, error=error)
    if deploy.status == Deploy.Status.FAILURE:
        _roll_back(deploy)
    elif deploy.operation == Deploy.Operation.UP and deploy.is_directory_decided:
        # It runs from there now. Should somebody start it elsewhere later, that is to be decided anew.
        decided = StackFiles.objects.filter(stack=deploy.stack_id, project_directory=deploy.project_directory)
        decided.update(is_directory_decided=False)


def _roll_back(failed: Deploy) -> None:
    """Go back to the last good deploy where the stack is to have that; the failed one's output says so."""
    try:
        made = services.roll_back_automatically(failed)
    except DomainError as error:
        said = f"It could not be rolled back automatically: {error.detail}"
    else:
        if made is None:
            return
        said = f"Rolled back automatically to deploy {made.rollback_of_id}, by deploy {made.pk}."
    ending = "" if not failed.output or failed.output.endswith("\n") else "\n"
    failed.output = appended(failed.output, f"{ending}dockmesh: {said}\n")
    failed.error = f"{failed.error[: MAX_ERROR - len(said) - 2]}. {said}"[:MAX_ERROR]
    failed.save(update_fields=["output", "error"])


def take_timeout(command: Command, reason: str) -> None:
    """End the deploy as a failure: nobody will report it any more."""
    deploy = _open_deploy(command)
    if deploy is not None:
        _give_up(deploy, reason)


def close_lost() -> None:
    """The scheduler's job: end what has no command any more, since its host or stack was removed."""
    schedule.one_by_one(Deploy.objects.filter(status__in=OPEN), _close_if_lost, what="The look after")


@transaction.atomic
def _close_if_lost(found: Deploy) -> None:
    if commands.is_known(found.command_id):
        return
    deploy = Deploy.objects.select_for_update().filter(pk=found.pk, status__in=OPEN).first()
    if deploy is not None:
        _give_up(deploy, STACK_GONE)


def _open_deploy(command: Command) -> Deploy | None:
    return (
        Deploy.objects.select_for_update()
        .filter(pk=command.payload.get("deploy", 0), status__in=OPEN)
        .first()
    )


def _give_up(deploy: Deploy, reason: str) -> None:
    begun = deploy.started_at or deploy.requested_at
    deploy.duration_seconds = max(0.0, (clock.now() - begun) / datetime.timedelta(seconds=1))
    _finish(deploy, SYSTEM, is_success=False, error=reason)


def _finish(deploy: Deploy, actor: Actor, *, is_success: bool, error: str) -> None:
    """Once for each deploy: only open ones get here, and their row is locked."""
    ended_badly = Deploy.Status.CANCELLED if deploy.cancelled_by else Deploy.Status.FAILURE
    deploy.status = Deploy.Status.SUCCESS if is_success else ended_badly
    deploy.error = error[:MAX_ERROR]
    deploy.finished_at = clock.now()
    deploy.save()
    if deploy.stack_id is not None:
        _tell_fleet(deploy, is_success)
    if deploy.status == Deploy.Status.CANCELLED:
        return  # Audited when it was asked for.
    record(
        actor=actor,
        action=Action.DEPLOY_SUCCEEDED if is_success else Action.DEPLOY_FAILED,
        target_kind="stack",
        target_id=deploy.stack_id or "",
        target_name=deploy.stack_name,
        changes={
            "host": deploy.host_name,
            "operation": deploy.operation,
            "deploy": deploy.pk,
            "duration_seconds": round(deploy.duration_seconds or 0.0, 3),
        },
    )
    if is_success and deploy.operation == Deploy.Operation.DOWN:
        record(
            actor=actor,
            action=Action.STACK_REMOVED,
            target_kind="stack",
            target_id=deploy.stack_id or "",
            target_name=deploy.stack_name,
            changes={"host": deploy.host_name},
        )


def _tell_fleet(deploy: Deploy, is_success: bool) -> None:
    assert deploy.stack_id is not None
    if deploy.status == Deploy.Status.CANCELLED:
        # What broke off half-way is no good stack; one that nothing was done to is as good as it was.
        is_half_done = deploy.operation == Deploy.Operation.UP and deploy.is_changed is not False
        fleet.set_deploy_state(
            stack_id=deploy.stack_id, is_deploying=False, has_failed_deploy=True if is_half_done else None
        )
    elif deploy.operation == Deploy.Operation.UP:
        fleet.set_deploy_state(
            stack_id=deploy.stack_id,
            is_deploying=False,
            has_failed_deploy=not is_success,
            result=deploy.status,
        )
        fleet.observe_deploy(
            stack_name=deploy.stack_name,
            is_success=is_success,
            seconds=deploy.duration_seconds or 0.0,
            deploy_id=deploy.pk,
        )
    elif deploy.operation == Deploy.Operation.DOWN and is_success:
        StackFiles.objects.filter(stack_id=deploy.stack_id).delete()
        fleet.remove_stack(stack_id=deploy.stack_id)
