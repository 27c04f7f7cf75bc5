"""`python -m dockmesh.agent run`: puts the parts together."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence

from dockmesh.agent import VERSION, actions, compose, config, details, install, launcher, logs, restic
from dockmesh.agent.actions import Actions
from dockmesh.agent.backup import OPTIONS, Backups
from dockmesh.agent.client import ServerClient
from dockmesh.agent.commands import CommandRunner, Executor
from dockmesh.agent.config import Settings
from dockmesh.agent.deploy import Deployer
from dockmesh.agent.document import JSON, AgentInfo
from dockmesh.agent.enroll import first_enrollment
from dockmesh.agent.errors import StartError
from dockmesh.agent.exits import Exits
from dockmesh.agent.image_updates import ImageUpdates
from dockmesh.agent.journal import Journal
from dockmesh.agent.logs import Server as LogServer
from dockmesh.agent.loop import Heartbeats
from dockmesh.agent.reporter import Reporter
from dockmesh.agent.state import Credential, StateDir
from dockmesh.agent.stopping import Stopping
from dockmesh.agent.survey import Surveyor
from dockmesh.agent.tally import Tally
from dockmesh.agent.updates import KIND as UPDATE
from dockmesh.agent.updates import Launched, Updates
from dockmesh.agent.updates import build as own_build
from dockmesh.agent.usage import Usage
from dockmesh.agent.waiting import Waiting
from dockmesh.agent.watcher import EngineWatcher

log = logging.getLogger("dockmesh.agent")

FIRST_READ_SECONDS = 8.0
# A restic that is told to stop tidies up, and what was stopped for a backup is started again.
STOP_RUNNING_SECONDS = 25.0
STOP_REPORTING_SECONDS = 5.0


def main(arguments: Sequence[str]) -> int:
    try:
        if arguments and arguments[0] in install.COMMANDS:
            return install.main(arguments)
        return run(config.parse(arguments, os.environ))
    except StartError as error:
        print(f"dockmesh-agent: {error}", file=sys.stderr)
        return error.code


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT, then 0; raises StartError where the agent can't start."""
    _log_to_stderr(is_verbose=settings.is_verbose)
    # For Compose, which the agent starts, as much as for the agent itself.
    os.environ.update(settings.docker_env)
    stopping = Stopping()
    stopping.on_signals()
    state = StateDir(settings.state_dir)
    try:
        client = ServerClient(settings.server, ca_file=settings.ca_file)
        credential = state.load_credential()
        journal = Journal(state.path / "journal.sqlite3")
        tally = Tally(state.path / "counts.sqlite3")
        exits = Exits(state.path / "exits.sqlite3")

        def forget_all() -> None:
            journal.forget_all()
            tally.forget_all()

        if credential is None:
            credential = first_enrollment(settings, state, client, stopping, forget_all)
        code = 0
        if credential is not None:
            code = _work(settings, state, client, credential, journal, tally, exits, stopping)
        journal.close()
    finally:
        state.close()
    return code


def _work(
    settings: Settings,
    state: StateDir,
    client: ServerClient,
    credential: Credential,
    journal: Journal,
    tally: Tally,
    exits: Exits,
    stopping: Stopping,
) -> int:
    """Until it is stopped; gives the exit code."""
    log.info("dockmesh-agent %s: host %r, server %s", VERSION, credential.host_name, settings.server)

    def on_result() -> None:
        reporter.wake()
        stopping.wake()

    updates = Updates(
        Launched.of(os.environ),
        client,
        journal,
        pause_others=lambda command_id: runner.pause_others(command_id),  # noqa: PLW0108 - made below
        stop=stopping.stop,
        on_result=on_result,
    )
    for command_id in journal.fail_interrupted(but=updates.begin()):
        log.warning("Command %s was interrupted by a restart; it ends as a failure", command_id)

    def send_log(session: str, piece: JSON) -> JSON:
        return client.post(f"logs/{session}", piece, token=heartbeats.token).body

    executors, agent = _abilities(settings, state, credential, updates, send_log, exits)
    watcher = EngineWatcher(settings.docker_host, tally, on_change=stopping.wake, on_event=exits.event)
    image_updates = ImageUpdates(
        settings.docker_host,
        state.path / "images.json",
        containers=lambda: watcher.snapshot.containers,
        on_change=stopping.wake,
    )
    usage = Usage(
        settings.docker_host,
        snapshot=lambda: watcher.snapshot,
        interval=lambda: heartbeats.interval_seconds,
        measures_volumes=settings.measures_volumes,
    )
    reporter = Reporter(client, journal, token=lambda: heartbeats.token)
    runner = CommandRunner(executors, journal, on_change=on_result)
    heartbeats = Heartbeats(
        settings=settings,
        state=state,
        credential=credential,
        client=client,
        watcher=watcher,
        runner=runner,
        reporter=reporter,
        stopping=stopping,
        agent=agent,
        on_accepted=updates.accepted,
        images=lambda: image_updates.found if settings.looks_for_images else (),
        usage=usage if settings.measures_usage else None,
    )

    def submit(command: object) -> None:
        runner.submit(command)
        # The next heartbeat names it, and so acknowledges it.
        stopping.wake()

    waiting = Waiting(client, token=lambda: heartbeats.token, submit=submit)
    watcher.start()
    watcher.wait_first(FIRST_READ_SECONDS)
    reporter.start()
    # An agent that carries out nothing has nothing to wait for.
    if executors:
        waiting.start()
    if settings.looks_for_images:
        image_updates.start()
    if settings.measures_usage:
        usage.start()
    heartbeats.run()
    log.info("Stopping")
    image_updates.stop()
    usage.stop()
    waiting.stop()
    runner.stop(STOP_RUNNING_SECONDS)
    reporter.stop(STOP_REPORTING_SECONDS)
    watcher.stop()
    return launcher.EXIT_UPDATE if updates.is_handing_over else 0


def _abilities(
    settings: Settings,
    state: StateDir,
    credential: Credential,
    updates: Updates,
    send_log: LogServer,
    exits: Exits,
) -> tuple[dict[str, Executor], Callable[[], AgentInfo]]:
    """What this agent can carry out, and what it says of that in its next heartbeat."""
    executors: dict[str, Executor] = {}
    build, cannot_update = own_build(), updates.why_not
    if settings.is_monitor_only:
        return executors, lambda: AgentInfo(is_monitor_only=True, build=build)
    lookout, restic_version = compose.Lookout(), restic.version()
    stacks = state.path / "stacks"
    executors[actions.KIND] = Actions(settings.docker_host)
    executors[details.KIND] = details.Details(settings.docker_host, exits)
    executors[logs.KIND] = logs.Logs(settings.docker_host, send_log)
    # Also where it can't: it says why.
    executors[UPDATE] = updates.carry_out
    executors["survey"] = Surveyor(stacks, docker_host=settings.docker_host)
    # Also where there is no Compose: it says what is missing, or that has been installed since.
    executors["deploy"] = Deployer(stacks, docker_host=settings.docker_host)
    if settings.repositories and not restic_version:
        log.warning("restic is not installed: this agent makes no backups")
    elif settings.repositories:
        backups = Backups(
            settings.repositories,
            state_dir=state.path,
            docker_host=settings.docker_host,
            host=credential.host_name,
            may_run_commands=settings.may_run_commands,
        )
        backups.tidy_up()
        executors |= backups.executors()

    def info() -> AgentInfo:
        found = lookout.found
        is_able = {
            "deploy": found.compose is not None,
            "preview": found.compose is not None,
            "survey": True,
            "cancel": True,
            "containers": True,
            "logs": True,
            "inspect": True,
            "backup": "backup" in executors,
            OPTIONS: "backup" in executors,
            UPDATE: not cannot_update,
        }
        return AgentInfo(
            tuple(kind for kind, is_it in is_able.items() if is_it),
            tuple(sorted(settings.repositories)),
            compose_version=found.version,
            restic_version=restic_version,
            build=build,
            cannot_update=cannot_update,
        )

    return executors, info


def _log_to_stderr(*, is_verbose: bool) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    log.setLevel(logging.DEBUG if is_verbose else logging.INFO)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
