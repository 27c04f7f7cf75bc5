"""What the golden heartbeats are made from: containers as Docker's API says them."""

from datetime import UTC, datetime
from typing import Any

from dockmesh.agent import document
from dockmesh.agent.cgroups import Used

BOOT_ID = "7d9f0a52-3c1e-4a57-9a0e-2b8f6c1d4e90"
SENT_AT = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
SYSTEM = document.System(os="linux", arch="x86_64", kernel="6.1.0-28-amd64", cpus=2, memory_bytes=25769803776)
AGENT = document.AgentInfo(
    capabilities=("deploy", "backup"),
    repositories=("offsite",),
    version="0.1.0",
    compose_version="2.40.3",
    restic_version="0.18.1",
)


def inspected(number: int, **changes: Any) -> dict[str, Any]:
    """Docker's answer for one container; `changes` are named as in the heartbeat."""
    service = changes.get("service", "web")
    stack = changes.get("stack", "shop")
    labels = {"com.docker.compose.project": stack, "com.docker.compose.service": service} if stack else {}
    labels |= changes.get("labels", {})
    state: dict[str, Any] = {
        "Status": changes.get("state", "running"),
        "OOMKilled": changes.get("oom_killed", False),
        "ExitCode": changes.get("exit_code", 0),
        "Error": changes.get("error", ""),
        "StartedAt": changes.get("started_at", "2026-11-22T11:00:01.123456789Z"),
        "FinishedAt": changes.get("finished_at", "0001-01-01T00:00:00Z"),
    }
    if "health" in changes:
        state["Health"] = {"Status": changes["health"], "FailingStreak": 0}
    config = {"Image": changes.get("image", "nginx:1.27"), "Labels": labels}
    if "stop_signal" in changes:
        config["StopSignal"] = changes["stop_signal"]
    return {
        "Id": f"{number:064x}",
        "Name": changes.get("name", f"/{stack}-{service}-{number}"),
        "Created": changes.get("created_at", "2026-11-22T12:59:58.5+02:00"),
        "Image": "sha256:" + "ab" * 32,
        "RestartCount": changes.get("restart_count", 0),
        "State": state,
        "HostConfig": {
            "RestartPolicy": {"Name": changes.get("restart_policy", "no"), "MaximumRetryCount": 0}
        },
        "Config": config,
    }


FLEET = (
    inspected(1, health="healthy", restart_policy="unless-stopped", stop_signal="SIGQUIT"),
    inspected(2, service="worker", image="shop/worker:3", state="restarting", exit_code=1, restart_count=7),
    inspected(
        3,
        service="migrate",
        image="shop/worker:3",
        state="exited",
        exit_code=0,
        labels={"com.docker.compose.oneoff": "True"},
        finished_at="2026-11-22T11:00:04.5Z",
    ),
    inspected(
        4, stack="cache", service="redis", image="redis:7", state="exited", exit_code=137, oom_killed=True
    ),
    inspected(
        5,
        stack="",
        name="/tool",
        image="busybox",
        state="created",
        started_at="0001-01-01T00:00:00Z",
        exit_code=128,
        error="driver failed programming external connectivity: port is already allocated",
    ),
    inspected(6, stack="", name='/odd "quoted" \\ name', image="busybox:latest", state="paused"),
)


USAGE = {
    "host": {
        "cpu_seconds": 86400.25,
        "memory_available_bytes": 6442450944,
        "load1": 0.75,
        "docker_root_bytes": 500000000000,
        "docker_root_free_bytes": 123456789012,
    },
    "containers": [
        [f"{1:064x}", *Used(12.5, 3.25, 0.0, 734003200, 2147483648, 5000000, 40000, 0, 0, 4096, 8192, 17)],
        [f"{6:064x}", *Used(0.01, 0.0)],
    ],
    "disk": {
        "images": [9000000000, 4000000000],
        "containers": [1000000, 0],
        "volumes": [70000000000, 0],
        "build_cache": [0, 0],
        "each_volume": {"shop_data": 65000000000},
    },
}


def counted(container: document.JSON) -> document.JSON:
    """With what the agent has counted of its name: as much as Docker itself shows."""
    restarts, is_oom = container["restart_count"], container["oom_killed"]
    counts = {"epoch": "9b1d", "restarts": restarts, "successes": 0, "errors": restarts + is_oom}
    return {**container, "counts": {**counts, "oom_kills": int(is_oom)}}


def snapshot(*containers: dict[str, Any]) -> document.Snapshot:
    inventory = document.ordered(counted(document.container(item)) for item in containers)
    return document.Snapshot(
        reachable=True,
        version="24.0.7",
        error="",
        system=SYSTEM,
        containers=inventory,
        digest=document.digest(inventory),
    )


def state(**changes: Any) -> document.HeartbeatState:
    known: dict[str, Any] = {"boot_id": BOOT_ID, "sequence": 1, "sent_at": SENT_AT, "agent": AGENT}
    return document.HeartbeatState(**(known | changes))


def golden() -> dict[str, dict[str, Any]]:
    """Every golden file with the document it must hold."""
    full = snapshot(*FLEET)
    down = document.Snapshot(
        reachable=False,
        version="24.0.7",
        error="/var/run/docker.sock is not there: is Docker running on this host?",
        system=SYSTEM,
        containers=None,
    )
    running = document.Progress(
        command_id="5f1d7c7e-9a3b-4c1e-8d55-0c3a7be2f6a1",
        output="Creating network shop_default\nCreating shop-web-1\n",
        elapsed_seconds=2.5,
    )
    return {
        "heartbeat.json": document.heartbeat(full, state(sequence=42, rtt_seconds=(0.012, 0.0481))),
        "heartbeat-unchanged.json": document.heartbeat(full, state(sequence=43, known_digest=full.digest)),
        "heartbeat-progress.json": document.heartbeat(
            full, state(sequence=44, known_digest=full.digest, progress=(running,))
        ),
        "heartbeat-docker-down.json": document.heartbeat(down, state(sequence=45)),
        "heartbeat-usage.json": document.heartbeat(
            full, state(sequence=47, known_digest=full.digest, usage=USAGE)
        ),
        "heartbeat-utf8.json": document.heartbeat(
            snapshot(inspected(1, name="/büro-日本-🐳", stack="größe", service="wéb")), state(sequence=46)
        ),
    }
