"""Deploys: a stack's files are written into the state folder and given to Compose."""

import contextlib
import functools
import re
import shutil
import subprocess
from pathlib import Path

from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.document import JSON
from dockmesh.agent.output import Output, env_values
from dockmesh.agent.process import Ended, environment, run
from dockmesh.agent.state import write_private

COMPOSE_FILE = "compose.yaml"
ENV_FILE = ".env"
MAX_FILE_BYTES = 1024 * 1024

# What Compose takes for a project's name. It becomes a folder's name too, so nothing else may pass.
_STACK = re.compile(r"[a-z0-9][a-z0-9_-]{0,199}")

_OPERATIONS = {
    "up": ("up", "--detach", "--remove-orphans"),
    "stop": ("stop",),
    "down": ("down", "--remove-orphans"),
    "restart": ("restart",),
    "validate": ("config", "--quiet"),
}


class Deployer:
    """The executor of `deploy`. Payload: operation, stack, compose_file, env_file, timeout_seconds, lock."""

    def __init__(self, folder: Path, *, docker_host: str) -> None:
        self._folder = folder
        self._docker_host = docker_host
        # A run that was killed could not take its env file away.
        for left_behind in folder.glob(f"*/{ENV_FILE}"):
            left_behind.unlink()

    def __call__(self, command: Run) -> JSON:
        operation = command.text("operation", "up")
        if operation not in _OPERATIONS:
            raise CommandError(f"payload: operation is {operation!r}, not one of {', '.join(_OPERATIONS)}")
        stack = command.text("stack")
        if not _STACK.fullmatch(stack):
            raise CommandError(
                "payload: stack must be lower-case letters, digits, - and _, as Compose wants its projects"
            )
        compose_text, env_text = command.text("compose_file"), command.text("env_file", "") or ""
        if max(len(compose_text.encode()), len(env_text.encode())) > MAX_FILE_BYTES:
            raise CommandError("payload: compose_file and env_file may have at most 1 MiB each")
        command.output = Output(secrets=env_values(env_text))
        ended = self._run(command, operation, stack, compose_text, env_text)
        if ended.reason or ended.exit_code != 0:
            what = ended.reason or f"ended with exit code {ended.exit_code}"
            raise CommandError(f"{' '.join(compose())} {operation}: {what}", exit_code=ended.exit_code)
        if operation == "down":
            (self._folder / stack / COMPOSE_FILE).unlink(missing_ok=True)
        # Gone if nothing is left in it: what containers keep in relative paths must stay.
        with contextlib.suppress(OSError):
            (self._folder / stack).rmdir()
        return {"exit_code": 0}

    def _run(self, command: Run, operation: str, stack: str, compose_text: str, env_text: str) -> Ended:
        folder = self._folder / stack
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A validation must not touch the files of what runs, a relative path in it means the same though.
        file = folder / (f".validate-{command.command_id}.yaml" if operation == "validate" else COMPOSE_FILE)
        env_file = folder / ENV_FILE
        try:
            write_private(file, compose_text)
            write_private(env_file, env_text)
            return self._compose(command, operation, stack, file)
        finally:
            env_file.unlink(missing_ok=True)
            if operation == "validate":
                file.unlink(missing_ok=True)

    def _compose(self, command: Run, operation: str, stack: str, file: Path) -> Ended:
        arguments = [
            *compose(),
            "--project-name", stack,
            "--project-directory", str(file.parent),
            "--file", str(file),
            "--env-file", str(file.parent / ENV_FILE),
            "--ansi", "never",
            *_OPERATIONS[operation],
        ]  # fmt: skip
        return run(
            arguments,
            env=environment({"DOCKER_HOST": self._docker_host}),
            cwd=file.parent,
            on_output=command.output.write,
            deadline=command.deadline,
            cancelled=command.cancelled,
        )


@functools.cache
def compose() -> tuple[str, ...]:
    """The Compose of this host: the plugin `docker compose`, else the program `docker-compose`."""
    docker = shutil.which("docker")
    if docker:
        try:
            done = subprocess.run(  # noqa: S603 - a fixed list
                [docker, "compose", "version"], capture_output=True, timeout=30, check=False
            )
            if done.returncode == 0:
                return ("docker", "compose")
        except (OSError, subprocess.TimeoutExpired):
            pass
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    raise CommandError("Compose is not installed on this host: neither docker compose nor docker-compose")


def is_available() -> bool:
    try:
        return bool(compose())
    except CommandError:
        return False
