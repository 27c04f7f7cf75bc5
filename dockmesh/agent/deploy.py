"""Deploys: a stack's files are written into the state folder and given to Compose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from dockmesh.agent import leftovers
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.document import JSON
from dockmesh.agent.envvalues import PROBE_FILE
from dockmesh.agent.place import expect_same_place
from dockmesh.agent.process import Ended
from dockmesh.agent.project import ENV_FILE, Project, project_of
from dockmesh.agent.rollout import Rollout, untouched, wait_until_up
from dockmesh.agent.run_compose import read_config, run_compose, written

# What is not in here, `up` and `preview`, takes more than one call.
_OPERATIONS = {
    "stop": ("stop",),
    "down": ("down", "--remove-orphans"),
    "restart": ("restart",),
    "validate": ("config", "--quiet"),
}
OPERATIONS = ("up", *_OPERATIONS, "preview")
# These read the files. The others find what was deployed by its labels where the files don't help.
_NEEDS_FILES = ("up", "validate", "preview")


class Deployer:
    """The executor of `deploy`.

    Payload: operation, stack, compose_file or files, env_file, project_directory, timeout_seconds, lock; of `up` also
    remove (the services whose containers may go) and images (what ran at the deploy that is rolled back to).
    """

    def __init__(self, folder: Path, *, docker_host: str) -> None:
        self._folder = folder
        self._docker_host = docker_host
        # A run that was killed could not take these away.
        for name in (ENV_FILE, PROBE_FILE):
            for left_behind in folder.glob(f"*/{name}"):
                left_behind.unlink()

    def __call__(self, command: Run) -> JSON:
        operation = command.text("operation", "up")
        if operation not in OPERATIONS:
            raise CommandError(f"payload: operation is {operation!r}, not one of {', '.join(OPERATIONS)}")
        project = project_of(command, self._folder, needs_files=operation in _NEEDS_FILES)
        result: JSON = {}
        if operation == "restart":
            services = self._restart(command, project)
            wait_until_up(command, project.name, docker_host=self._docker_host, services=services)
        elif operation in ("stop", "down"):
            self._take_down(command, project, operation)
        else:
            result = self._with_files(command, project, operation)
        if operation == "down":
            project.forget()
        project.tidy()
        return result

    def _with_files(self, command: Run, project: Project, operation: str) -> JSON:
        """Bring the stack up, preview that, or have its files validated."""
        # What only looks must not touch the files of what runs; a relative path in them means the same though.
        prefix = "" if operation == "up" else f".{operation}-{command.command_id}-"
        with self._written(command, project, prefix=prefix) as options:
            if operation == "validate":
                _expect(operation, self._compose(command, project, [*options, *_OPERATIONS[operation]]))
                return {}
            with untouched({}):
                expect_same_place(
                    project,
                    is_decided=command.payload.get("is_directory_decided") is True,
                    docker_host=self._docker_host,
                    read=lambda: read_config(
                        options, command=command, project=project, docker_host=self._docker_host
                    )[0],
                )
            rollout = Rollout(
                command,
                lambda arguments, on_output: self._compose(
                    command, project, [*options, *arguments], on_output
                ),
                stack=project.name,
                docker_host=self._docker_host,
                lay_over=lambda text: options.extend(project.lay_over(text)),
            )
            if operation == "preview":
                return rollout.preview()
            project.lay_bare()
            return rollout.run()

    def _restart(self, command: Run, project: Project) -> set[str] | None:
        """Restart what was deployed: with the files, which know of hooks, if they know each service that is there.

        Gives the services that were restarted; None for all. What a profile that is not active left is let be.
        """
        there = leftovers.services(self._docker_host, project.name)
        if project.files:
            with self._written(command, project) as options:
                known = self._services(command, project, [*options, "--profile", "*"])
                if known and there <= known:
                    _expect("restart", self._compose(command, project, [*options, "restart"]))
                    return self._services(command, project, options)
            command.output.line("The files don't fit what is there: it is found by its labels.")
        _expect("restart", self._compose(command, project, [*project.named, "restart"]))
        return None

    def _services(self, command: Run, project: Project, options: Sequence[str]) -> set[str]:
        """The services that the files have by these options; none where Compose can't read them."""
        names: list[str] = []
        ended = self._compose(command, project, [*options, "config", "--services"], names.append)
        return set("".join(names).split()) if ended.exit_code == 0 else set()

    def _take_down(self, command: Run, project: Project, operation: str) -> None:
        """Stop or remove all of the project, whatever its files say.

        With the files first, since only they know of hooks and providers; then, by the labels, whatever of the
        project is still there: containers of a service that was renamed, of a deploy that broke off half-way.
        """
        if project.files:
            with self._written(command, project) as options:
                ended = self._compose(command, project, [*options, *_OPERATIONS[operation]])
            if ended.reason:
                _expect(operation, ended)
            if ended.exit_code == 0 and not self._left(project, operation):
                return
            command.output.line("What is left is found by its labels.")
        _expect(operation, self._compose(command, project, [*project.named, *_OPERATIONS[operation]]))
        if names := self._left(project, operation):
            raise CommandError(f"{operation}: still there: {', '.join(names[:20])}")

    def _left(self, project: Project, operation: str) -> list[str]:
        left = leftovers.running if operation == "stop" else leftovers.anything
        return left(self._docker_host, project.name)

    def _written(
        self, command: Run, project: Project, *, prefix: str = ""
    ) -> AbstractContextManager[list[str]]:
        return written(project, command=command, docker_host=self._docker_host, prefix=prefix)

    def _compose(
        self,
        command: Run,
        project: Project,
        arguments: Sequence[str],
        on_output: Callable[[str], None] | None = None,
    ) -> Ended:
        """Run Compose; with `on_output` only its errors go into the command's output."""
        return run_compose(
            arguments,
            command=command,
            project=project,
            docker_host=self._docker_host,
            on_output=on_output,
        )


def _expect(operation: str, ended: Ended) -> None:
    if ended.reason or ended.exit_code != 0:
        what = ended.reason or f"ended with exit code {ended.exit_code}"
        raise CommandError(f"compose {operation}: {what}", exit_code=ended.exit_code)
