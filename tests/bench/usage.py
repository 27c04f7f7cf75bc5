"""`python -m tests.bench.usage`: what an agent costs that tells what 100 containers use, beside `docker stats`, in one run."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from dockmesh.agent.client import encoded
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
        report["nothing"] = _cost(engine, options.seconds, {})
        with tempfile.TemporaryDirectory(prefix="dockmesh-bench-") as folder:
            report["agent, usage"] = _agent(engine, Path(folder), options.seconds, "")
            report["agent, usage off"] = _agent(engine, Path(folder), options.seconds, "usage = false\n")
        report["docker stats"] = _docker_stats(engine, options.seconds)
        print(json.dumps(report, indent=1))
    finally:
        engine.close()


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
