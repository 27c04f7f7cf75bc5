"""`python -m tests.bench.usage`: what an agent costs that tells what 100 containers use, beside `docker stats`, in one run."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from dockmesh.agent import stats
from dockmesh.agent.cgroups import Cgroups
from dockmesh.agent.client import encoded
from dockmesh.agent.document import Snapshot
from dockmesh.agent.engine import Engine, local_system
from dockmesh.agent.usage import Usage
from tests.bench.client import processor_seconds, resident_bytes
from tests.integration.agent_process import AgentProcess
from tests.integration.dockerd import DockerEngine
from tests.integration.stubserver import ENROLLMENT_TOKEN, StubServer

# What is done once, at the start, is over by then: containers are found, and all are inspected.
WARM_UP_SECONDS = 40.0
INTERVAL_SECONDS = 15.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.usage", description=__doc__)
    parser.add_argument("--containers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=90.0, help="for which each is measured")
    options = parser.parse_args()
    engine = DockerEngine()
    try:
        engine.start()
        engine.import_busybox()
        for _ in range(options.containers):
            engine.run("sh", "-c", "while :; do sleep 1; done")
        report: dict[str, Any] = {"containers": options.containers, "seconds": options.seconds}
        report["milliseconds for a container"] = _ways(engine)
        report["by the Engine"] = _by_the_engine(engine)
        report["nothing"] = _cost(engine, options.seconds, {})
        with tempfile.TemporaryDirectory(prefix="dockmesh-bench-") as folder:
            report["agent, usage"] = _agent(engine, Path(folder), options.seconds, "")
            report["agent, usage off"] = _agent(engine, Path(folder), options.seconds, "usage = false\n")
        report["docker stats"] = _docker_stats(engine, options.seconds)
        print(json.dumps(report, indent=1))
    finally:
        engine.close()


def _ways(engine: DockerEngine, rounds: int = 5) -> dict[str, float]:
    """Of a processor, for one container read once: by the kernel's files, and by the Engine's one-shot statistics."""
    assert engine._process is not None
    dockerd = engine._process.pid
    with Engine.open(engine.host) as client:
        ids = [str(each["Id"]) for each in client.get("/containers/json")]
        cgroups = Cgroups()
        cgroups.look_for(ids)
        began = time.process_time()
        for identity in ids * rounds:
            assert cgroups.read(identity, has_own_network=True) is not None
        files = time.process_time() - began
        few = ids[:20]  # each takes a second where the Engine is old
        began, before, clock = time.process_time(), processor_seconds(dockerd), time.monotonic()
        for identity in few:
            stats.ask(client, identity)
        asked, answered = time.process_time() - began, processor_seconds(dockerd) - before
        took = time.monotonic() - clock
    return {
        "files": round(1000 * files / (len(ids) * rounds), 3),
        "the Engine's statistics, asked": round(1000 * asked / len(few), 3),
        "the Engine's statistics, in dockerd": round(1000 * answered / len(few), 3),
        "the Engine's statistics, until they are there": round(1000 * took / len(few)),
    }


def _by_the_engine(engine: DockerEngine, rounds: int = 3) -> dict[str, float]:
    """One measurement of all containers by an agent that sees no cgroup, as in a container."""
    assert engine._process is not None
    with Engine.open(engine.host) as client:
        containers = [{"id": each["Id"], "state": "running"} for each in client.get("/containers/json")]
    snapshot = Snapshot(True, "", "", local_system(), tuple(containers))
    usage = Usage(
        engine.host,
        snapshot=lambda: snapshot,
        interval=lambda: INTERVAL_SECONDS,
        measures_volumes=False,
        cgroups=Cgroups("/nowhere"),
    )
    usage.measure()
    began, before, clock = time.process_time(), processor_seconds(engine._process.pid), time.monotonic()
    for _ in range(rounds):
        usage.measure()
        said = usage.take(containers)
        assert said is not None
        assert len(said["containers"]) == len(containers)
    spent, took = time.process_time() - began, time.monotonic() - clock
    usage.stop()
    return {
        "agent, percent at 15 s": round(100 * spent / rounds / INTERVAL_SECONDS, 2),
        "dockerd, percent at 15 s": round(
            100 * (processor_seconds(engine._process.pid) - before) / rounds / INTERVAL_SECONDS, 2
        ),
        "seconds until all are there": round(took / rounds, 1),
    }


def _agent(engine: DockerEngine, folder: Path, seconds: float, text: str) -> dict[str, Any]:
    config = folder / "agent.toml"
    config.write_text(text)
    server = StubServer()
    server.interval = INTERVAL_SECONDS
    agent = AgentProcess(
        folder / f"state{len(text)}",
        f"--server={server.url}",
        f"--enrollment-token={ENROLLMENT_TOKEN}",
        f"--docker-host={engine.host}",
        f"--config={config}",
    ).start()
    try:
        time.sleep(WARM_UP_SECONDS)
        assert agent.process is not None
        seen = len(server.heartbeats())
        found = _cost(engine, seconds, {"agent": agent.process.pid})
        sizes = [len(encoded(beat)) for beat in server.heartbeats()[seen:]]
    finally:
        agent.close()
        server.close()
    return {**found, "heartbeats": len(sizes), "bytes of a heartbeat": sorted(sizes)}


def _docker_stats(engine: DockerEngine, seconds: float) -> dict[str, Any]:
    with subprocess.Popen(
        ["docker", "stats", "--format", "{{json .}}"], env=engine.env, stdout=subprocess.DEVNULL
    ) as process:
        try:
            time.sleep(10)
            return _cost(engine, seconds, {"docker stats": process.pid})
        finally:
            process.terminate()


def _cost(engine: DockerEngine, seconds: float, processes: dict[str, int]) -> dict[str, Any]:
    """Of each process and of the Engine: percent of one processor, and resident MiB at the end."""
    assert engine._process is not None
    processes = {**processes, "dockerd": engine._process.pid}

    def spent() -> dict[str, float]:
        return {name: processor_seconds(pid) for name, pid in processes.items()}

    before, began = spent(), time.monotonic()
    time.sleep(seconds)
    after, took = spent(), time.monotonic() - began
    return {
        name: {
            "percent": round(100 * (after[name] - before[name]) / took, 2),
            "MiB": round(resident_bytes(pid) / 2**20),
        }
        for name, pid in processes.items()
    }


if __name__ == "__main__":
    main()
