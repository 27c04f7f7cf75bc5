"""Deploys and backups with a server on PostgreSQL; tests/integration has those with one on SQLite."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.end_to_end.conftest import Scrape
from tests.integration.agent_process import AgentProcess
from tests.integration.dockerd import DockerEngine, compose_file
from tests.integration.postgres import PostgresServer
from tests.integration.prometheus import wait_for
from tests.integration.server import DockmeshServer
from tests.support import require

pytestmark = pytest.mark.integration

Api = Callable[..., Any]
# A service that does not heed SIGTERM: stopping it takes as long as its stop_grace_period.
STUBBORN = compose_file({"web": "trap '' TERM; while :; do sleep 1; done"}).replace("0s", "8s")


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> str:
    return postgres_server.create_database()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A restic repository, named `local` in the agent's configuration."""
    require("restic")
    (tmp_path / "password").write_text("correct-horse-battery\n")
    (tmp_path / "agent.toml").write_text(
        f'[repositories.local]\nrepository = "{tmp_path}/repository"\npassword_file = "{tmp_path}/password"\n'
    )
    return tmp_path / "repository"


@pytest.fixture
def agent(
    dockmesh: DockmeshServer, docker_engine: DockerEngine, repository: Path, tmp_path: Path
) -> Iterator[AgentProcess]:
    """An agent of the real Engine, enrolled as node-1."""
    started = AgentProcess(
        tmp_path / "agent",
        f"--server={dockmesh.url}",
        f"--enrollment-token={dockmesh.enrollmenttoken()}",
        "--name=node-1",
        f"--docker-host={docker_engine.host}",
        f"--config={tmp_path}/agent.toml",
        "--verbose",
    ).start()
    started.wait_log("Heartbeat 1: accepted")
    yield started
    started.close()


@pytest.fixture
def api(dockmesh: DockmeshServer) -> Api:
    """Calls the REST API as an operator; gives the answer's JSON."""
    headers = {"Authorization": f"Bearer {dockmesh.createtoken('operator', role='operator')}"}

    def call(method: str, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        answer = requests.request(
            method, f"{dockmesh.url}/api/v1/{path}", json=body, headers=headers, timeout=20
        )
        assert answer.status_code == expect if expect else answer.ok, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    return call


def composing(project: str) -> bool:
    """Whether a Compose process of this project runs."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = file.read_bytes().split(b"\0")
            if b"--project-name" in words and project.encode() in words:
                return True
    return False


def asked(api: Api, collection: str, thing: dict[str, Any], what: str, body: Any = None) -> str:
    """Ask for a deploy or a run; gives its path."""
    answer = api("POST", f"{collection}/{thing['id']}/{what}", body)
    return f"{'backup-runs' if collection == 'backup-jobs' else 'deploys'}/{answer['id']}"


def ended(api: Api, path: str, *, seconds: float = 60) -> dict[str, Any]:
    """The deploy or run, once it has ended."""
    return wait_for(
        lambda: found if (found := api("GET", path))["status"] in ("success", "failure") else None,
        seconds=seconds,
        what=f"the end of {path}",
    )


def running(api: Api, path: str) -> dict[str, Any]:
    return wait_for(
        lambda: found if (found := api("GET", path))["output"] else None, seconds=20, what=f"output of {path}"
    )


def deploys(stack: str, result: str, what: str = "count") -> str:
    return f'dockmesh_deploy_duration_seconds_{what}{{stack="{stack}",result="{result}"}}'


def test_a_good_and_a_broken_deploy_are_carried_out_and_counted(
    docker_engine: DockerEngine, agent: AgentProcess, api: Api, scrape: Scrape
) -> None:
    good = compose_file({"web": "sleep 600"}) + "    environment:\n      PASSWORD: ${PASSWORD}\n"
    stack = api(
        "POST",
        "stacks",
        {"host": "node-1", "name": "shop", "compose_file": good, "env_file": "PASSWORD=hunter2-hunter2\n"},
        expect=201,
    )
    assert "hunter2" not in str(stack)
    page = scrape()
    assert page[deploys("shop", "success")] == page[deploys("shop", "failure")] == 0

    first = ended(api, asked(api, "stacks", stack, "deploy"))
    assert (first["status"], first["error"], first["exit_code"]) == ("success", "", 0)
    with docker_engine.client() as client:
        (container,) = client.containers.list()
        assert "PASSWORD=hunter2-hunter2" in container.attrs["Config"]["Env"]
    page = wait_for(
        lambda: p if (p := scrape())[deploys("shop", "success")] == 1 else None, seconds=5, what="the count"
    )
    assert page[deploys("shop", "success", "sum")] == pytest.approx(first["duration_seconds"])
    assert 0 < first["duration_seconds"] < 60

    broken = good.replace("busybox:latest", "busybox:no-such-tag")
    api("PATCH", f"stacks/{stack['id']}", {"compose_file": broken})
    second = ended(api, asked(api, "stacks", stack, "deploy"))
    assert second["status"] == "failure"
    # Without a registry to ask, Compose names the service and not the image.
    assert "web Error" in second["output"]
    assert "exit code" in second["error"]
    page = scrape()
    assert (page[deploys("shop", "success")], page[deploys("shop", "failure")]) == (1, 1)
    assert page['dockmesh_stacks_total{host="node-1",state="error"}'] == 1

    back = ended(api, asked(api, "deploys", first, "rollback"))
    assert back["status"] == "success"
    wait_for(
        lambda: scrape()['dockmesh_stacks_total{host="node-1",state="running"}'] == 1,
        seconds=5,
        what="the stack to run again",
    )


def test_an_agent_killed_in_mid_deploy_ends_it_once_as_a_failure(
    docker_engine: DockerEngine, agent: AgentProcess, api: Api, scrape: Scrape
) -> None:
    stack = api("POST", "stacks", {"host": "node-1", "name": "slow", "compose_file": STUBBORN})
    assert ended(api, asked(api, "stacks", stack, "deploy"))["status"] == "success"
    # Another command makes Compose replace the container, which takes its whole grace period.
    api("PATCH", f"stacks/{stack['id']}", {"compose_file": STUBBORN.replace("sleep 1;", "sleep 2;")})
    deploy = asked(api, "stacks", stack, "deploy")
    running(api, deploy)
    agent.kill()
    agent.start()
    found = ended(api, deploy)
    assert (found["status"], found["error"]) == ("failure", "agent restarted while it ran")
    page = scrape()
    assert (page[deploys("slow", "success")], page[deploys("slow", "failure")]) == (1, 1)
    # Compose outlives the killed agent; what it still makes must not reach the next test.
    wait_for(lambda: not composing("slow"), seconds=60, what="the end of Compose")


def test_a_server_killed_in_mid_deploy_gets_the_result_once(
    dockmesh: DockmeshServer, docker_engine: DockerEngine, agent: AgentProcess, api: Api, scrape: Scrape
) -> None:
    stack = api("POST", "stacks", {"host": "node-1", "name": "slow", "compose_file": STUBBORN})
    assert ended(api, asked(api, "stacks", stack, "deploy"))["status"] == "success"
    deploy = asked(api, "stacks", stack, "stop")
    running(api, deploy)
    dockmesh.kill()
    wait_for(
        lambda: agent.log.count("(deploy) ended as success") == 2, seconds=30, what="the end of the stop"
    )
    dockmesh.start()
    assert ended(api, deploy)["status"] == "success"
    last = ended(api, asked(api, "stacks", stack, "deploy"))
    assert last["status"] == "success"
    page = scrape()
    assert (page[deploys("slow", "success")], page[deploys("slow", "failure")]) == (2, 0)


def test_a_volume_is_backed_up_changed_restored_and_verified(
    docker_engine: DockerEngine, agent: AgentProcess, api: Api, scrape: Scrape, tmp_path: Path
) -> None:
    file = tmp_path / "docker-compose.yml"
    file.write_text(compose_file({"db": "echo one > /data/row; sleep 600"}, volumes={"db": "rows"}))
    docker_engine.compose("shop", file, "up", "-d")
    job = api(
        "POST",
        "backup-jobs",
        {
            "host": "node-1",
            "name": "nightly",
            "source_kind": "volumes",
            "stack_name": "shop",
            "volumes": ["rows"],
            "repository": "local",
            "is_verified": True,
        },
        expect=201,
    )
    assert scrape()['dockmesh_backup_last_run_timestamp{job="nightly"}'] == 0
    begun = time.time()
    first = ended(api, asked(api, "backup-jobs", job, "run"), seconds=90)
    assert (first["status"], first["error"]) == ("success", "")
    assert (first["files"], first["bytes_processed"]) == (1, 4)
    page = scrape()
    assert begun <= page['dockmesh_backup_last_run_timestamp{job="nightly"}'] <= time.time()
    assert page['dockmesh_backup_last_duration_seconds{job="nightly"}'] == pytest.approx(
        first["duration_seconds"]
    )

    with docker_engine.client() as client:
        volume = Path(client.volumes.get("shop_rows").attrs["Mountpoint"])
        client.containers.get("shop-db-1").exec_run(["sh", "-c", "echo two > /data/row"])
    target = tmp_path / "restored"
    order = {"snapshot_id": first["snapshot_id"], "target_path": str(target)}
    restored = ended(api, asked(api, "backup-jobs", job, "restore", order))
    assert (restored["status"], restored["error"]) == ("success", "")
    assert (target / str(volume / "row").lstrip("/")).read_text() == "one\n"
    assert (volume / "row").read_text() == "two\n"
    verified = ended(api, asked(api, "backup-jobs", job, "verify", {}))
    assert (verified["status"], verified["error"]) == ("success", "")

    good = scrape()['dockmesh_backup_last_run_timestamp{job="nightly"}']
    os.rename(tmp_path / "repository", tmp_path / "elsewhere")
    (tmp_path / "repository").write_text("in the way")
    failed = ended(api, asked(api, "backup-jobs", job, "run"))
    assert failed["status"] == "failure"
    assert "restic" in failed["error"]
    assert scrape()['dockmesh_backup_last_run_timestamp{job="nightly"}'] == good
