"""Which Compose the agent finds, and what it says where there is none that it can use."""

import subprocess
from pathlib import Path

import pytest

from dockmesh.agent import __main__ as agent_program
from dockmesh.agent import compose, config, process, restic
from dockmesh.agent.client import ServerClient
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.exits import Exits
from dockmesh.agent.journal import Journal
from dockmesh.agent.process import Cancellation
from dockmesh.agent.state import Credential, StateDir
from dockmesh.agent.updates import Launched, Updates
from tests.integration.api import until
from tests.integration.versions import require_version

NEW = 'echo "2.40.3"'
OLD = 'echo "1.29.2"'
BROKEN = "echo 'exec format error' >&2; exit 1"


def programs(folder: Path, **scripts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in scripts.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without any Compose; its programs go into `bin`, the user's own plugins into `docker/cli-plugins`."""
    monkeypatch.setattr(compose, "_PLUGIN_FOLDERS", (str(tmp_path / "plugins"),))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("PATH", str(programs(tmp_path / "bin")))
    return tmp_path


def command(name: str, answer: str = NEW) -> str:
    """A `docker` whose Compose answers so."""
    return f'[ "$1" = {name} ] || exit 125\n{answer}'


def test_the_clis_plugin_comes_first(host: Path) -> None:
    programs(host / "bin", docker=command("compose"), docker_compose='echo "2.26.1-4"')
    found = compose.find()
    assert found.compose == compose.Compose(("docker", "compose"), "2.40.3")
    assert (found.version, found.error) == ("2.40.3", "")


@pytest.mark.parametrize("docker", [None, command("none"), command("compose", OLD), "sleep 60", BROKEN])
def test_the_program_is_used_where_the_cli_has_none_that_works(
    docker: str | None, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_VERSION_SECONDS", 2.0)
    programs(host / "bin", **({"docker": docker} if docker else {}), docker_compose='echo "v2.26.1-4"')
    found = compose.find()
    assert found.compose == compose.Compose(("docker-compose",), "2.26.1-4")


def test_the_plugins_file_is_used_without_a_cli(host: Path) -> None:
    programs(host / "plugins", docker_compose=NEW)
    assert compose.require().command == (str(host / "plugins" / "docker-compose"),)


def test_a_users_broken_plugin_does_not_hide_the_systems(host: Path) -> None:
    programs(host / "docker" / "cli-plugins", docker_compose=BROKEN)
    programs(host / "plugins", docker_compose=NEW)
    programs(host / "bin", docker=command("compose", BROKEN))
    assert compose.require().command == (str(host / "plugins" / "docker-compose"),)


@pytest.mark.parametrize("answer", ["2.20.0", "2.20.3-rc1", "v2.40.3+ds1", "3.0.0", "5.0.1"])
def test_what_is_new_enough(answer: str, host: Path) -> None:
    programs(host / "bin", docker_compose=f'echo "{answer}"')
    assert compose.require().version == answer.removeprefix("v")


@pytest.mark.parametrize("answer", ["1.29.2", "1.25.0", "2.0.0", "2.19.1"])
def test_what_is_too_old_is_named(answer: str, host: Path) -> None:
    programs(host / "bin", docker_compose=f'echo "{answer}"')
    found = compose.find()
    wanted = f"Compose {answer} (docker-compose) is too old: dockmesh needs Compose 2.20 or newer"
    assert (found.compose, found.version, found.error) == (None, answer, wanted)
    with pytest.raises(CommandError, match="too old"):
        compose.require()


@pytest.mark.parametrize("answer", ["echo dev", "echo", BROKEN])
def test_what_does_not_say_its_version_is_no_compose(answer: str, host: Path) -> None:
    programs(host / "bin", docker_compose=answer)
    found = compose.find()
    assert (found.compose, found.version) == (None, "")
    assert found.error.startswith(
        "Compose is not installed on this host: dockmesh needs Compose 2.20 or newer"
    )


def test_it_is_looked_for_anew_each_time(host: Path) -> None:
    assert compose.find().compose is None
    programs(host / "bin", docker_compose=NEW)
    assert compose.find().compose is not None


def test_what_is_installed_or_removed_later_is_known_after_a_while(
    host: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    lookout = compose.Lookout()
    program = programs(host / "bin", docker_compose=NEW) / "docker-compose"
    assert lookout.found.compose is None  # not looked for again yet
    monkeypatch.setattr(compose, "LOOK_SECONDS", 0.0)
    until(lambda: lookout.found.version == "2.40.3", seconds=30, what="it is not found")
    program.unlink()
    until(lambda: lookout.found.compose is None, seconds=30, what="it is still there")
    assert "Compose 2.40.3 is there: this agent takes deploys" in caplog.messages


@pytest.mark.parametrize("suite", ["trixie", "sid"])
def test_the_real_ones_say_their_version(suite: str, host: Path) -> None:
    program = require_version("docker-compose", suite)
    (host / "bin" / "docker-compose").symlink_to(program)
    version = compose.require().version
    said = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    assert version in said
    assert version.startswith("2.")


def test_restics_version(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert restic.version() == ""
    programs(host / "bin", restic="echo 'restic 0.18.1 compiled with go1.24.4 on linux/amd64'")
    assert restic.version() == "0.18.1"
    programs(host / "bin", restic=BROKEN)
    assert restic.version() == ""


def test_a_host_with_an_old_one_alone_says_so_in_one_line_and_takes_no_deploys(
    host: Path, caplog: pytest.LogCaptureFixture
) -> None:
    programs(host / "bin", docker_compose=OLD)
    settings = config.parse(["run", "--server=http://127.0.0.1", f"--state-dir={host}/state"], {})
    credential = Credential(host_id=1, host_name="node-1", agent_token="dma_x", server=settings.server)
    state = StateDir(settings.state_dir)
    updates = Updates(
        Launched(None, is_trial=False, error=""),
        ServerClient(settings.server),
        Journal(state.path / "journal.sqlite3"),
        pause_others=lambda _: False,
        stop=lambda: None,
        on_result=lambda: None,
    )
    executors, info = agent_program._abilities(
        settings, state, credential, updates, lambda session, piece: {}, Exits(state.path / "exits.sqlite3")
    )
    state.close()
    agent = info()
    assert "deploy" not in agent.capabilities
    assert (agent.compose_version, agent.restic_version) == ("1.29.2", "")
    wanted = "Compose 1.29.2 (docker-compose) is too old: dockmesh needs Compose 2.20 or newer"
    assert caplog.messages == [f"{wanted}: this agent takes no deploys"]
    asked = Run("1", "deploy", {"stack": "shop", "compose_file": "services: {}"}, Cancellation())
    with pytest.raises(CommandError, match="too old"):
        executors["deploy"](asked)
