"""Runs Compose on a project's files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dockmesh.agent import compose, envvalues
from dockmesh.agent.commands import Run
from dockmesh.agent.document import JSON
from dockmesh.agent.process import Ended, environment, proxy_passwords, run
from dockmesh.agent.project import Project


@contextmanager
def written(project: Project, *, command: Run, docker_host: str, prefix: str = "") -> Iterator[list[str]]:
    """As `project.written`; and no value of its env files gets into the command's output."""

    def ask(arguments: Sequence[str]) -> str | None:
        printed: list[str] = []
        ended = run_compose(
            arguments,
            command=command,
            project=project,
            docker_host=docker_host,
            on_output=printed.append,
            on_stderr=lambda _: None,
        )
        return "".join(printed) if ended.exit_code == 0 else None

    with project.written(prefix=prefix) as options:
        command.output.hide(envvalues.values(project, options, ask) | proxy_passwords())
        yield options


def run_compose(
    arguments: Sequence[str],
    *,
    command: Run,
    project: Project,
    docker_host: str,
    on_output: Callable[[str], None] | None = None,
    on_stderr: Callable[[str], None] | None = None,
) -> Ended:
    """Run Compose, or raise CommandError where there is none; with `on_output` only its errors go into the command's output, or to `on_stderr`."""
    stacks = project.folder.parent
    stacks.mkdir(mode=0o700, parents=True, exist_ok=True)
    return run(
        [*compose.require().command, *arguments],
        # Files that say ${PWD} were written for their own folder.
        env=environment({"DOCKER_HOST": docker_host, "PWD": str(project.directory)}),
        cwd=stacks,
        on_output=on_output or command.output.write,
        on_stderr=(on_stderr or command.output.write) if on_output else None,
        deadline=command.deadline,
        cancelled=command.cancelled,
    )


def read_config(
    options: Sequence[str], *, command: Run, project: Project, docker_host: str
) -> tuple[JSON | None, str]:
    """What Compose makes of the files; None with its words where it takes them for none."""
    said: list[str] = []
    errors: list[str] = []
    ended = run_compose(
        [*options, "config", "--format", "json"],
        command=command,
        project=project,
        docker_host=docker_host,
        on_output=said.append,
        on_stderr=errors.append,
    )
    if ended.reason or ended.exit_code != 0:
        words = command.output.mask("".join(errors)).strip()
        return None, ended.reason or words or f"ended with exit code {ended.exit_code}"
    try:
        config = json.loads("".join(said))
    except ValueError:
        config = None
    return (config, "") if isinstance(config, dict) else (None, "docker compose config gave no JSON")
