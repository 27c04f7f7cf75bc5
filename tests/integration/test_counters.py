"""The counters of containers on /metrics, against what is done to a real Engine's containers: whatever restarts meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api import until
from tests.integration.dockerd import DockerEngine, compose_file
from tests.integration.test_deploys import Place

pytestmark = pytest.mark.integration

CRASHES = "trap 'exit 3' USR1; trap 'exit 0' TERM; while true; do sleep 0.1; done"
WEB = "shop-web-1"

Numbers = tuple[int, int, int, int]
"""Restarts, harmless exits, errors, kills for memory."""


class Counters:
    """What /metrics says of each container; none may ever fall."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._last: dict[str, Numbers] = {}

    def of(self, name: str) -> Numbers | None:
        found = {
            (sample.removeprefix("dockmesh_container_"), dict(labels).get("result", "")): int(value)
            for (sample, labels), value in self._place.api.samples().items()
            if dict(labels).get("container") == name
        }
        keys = (
            ("restarts_total", ""),
            ("exits_total", "success"),
            ("exits_total", "error"),
            ("oom_kills_total", ""),
        )
        if keys[0] not in found:
            return None
        restarts, successes, errors, kills = (found[key] for key in keys)
        numbers = (restarts, successes, errors, kills)
        last = self._last.get(name, (0, 0, 0, 0))
        assert all(new >= old for new, old in zip(numbers, last, strict=True)), (name, last, numbers)
        self._last[name] = numbers
        return numbers

    def become(self, name: str, wanted: Numbers) -> None:
        until(
            lambda: self.of(name) == wanted,
            seconds=30,
            what=lambda: f"{name}: {self.of(name)}, wanted {wanted}\n{self._place.agent.log}",
        )


@pytest.fixture
def place(tmp_path: Path, docker_engine: DockerEngine) -> Iterator[Place]:
    made = Place(tmp_path, docker_engine)
    try:
        made.agent.wait_log("nrolled", seconds=30)
        yield made
    finally:
        made.close()


def crash(engine: DockerEngine) -> None:
    """The web container ends by itself with 3, and Docker starts it again."""
    with engine.client() as client:
        # Between two runs it has no process, and 0 would be all of ours.
        before = until(
            lambda: found if (found := client.containers.get(WEB).attrs)["State"]["Pid"] > 1 else None,
            seconds=30,
            what=lambda: f"{WEB} to run: {client.containers.get(WEB).attrs['State']}",
        )
        os.kill(before["State"]["Pid"], signal.SIGUSR1)

        def is_again() -> bool:
            now = client.containers.get(WEB).attrs
            return bool(
                now["RestartCount"] == before["RestartCount"] + 1
                and now["State"]["Pid"] not in (0, before["State"]["Pid"])
            )

        until(is_again, seconds=30, what=lambda: "Docker to start it again")


def test_counters_are_right_whatever_restarts_meanwhile(place: Place, tmp_path: Path) -> None:
    engine, counters = place.engine, Counters(place)
    file = tmp_path / "docker-compose.yml"
    file.write_text(compose_file({"web": CRASHES}).replace("    image:", "    restart: always\n    image:"))
    engine.compose("shop", file, "up", "-d")
    engine.run("tail", "/dev/zero", name="greedy", mem_limit="16m", memswap_limit="16m")
    counters.become(WEB, (0, 0, 0, 0))
    crash(engine)
    counters.become(WEB, (1, 0, 1, 0))
    counters.become("greedy", (0, 0, 1, 1))

    # The server is away.
    place.server.stop()
    crash(engine)
    crash(engine)
    place.server.start()
    counters.become(WEB, (3, 0, 3, 0))

    # Docker is: it ends what runs, and starts it when it is back, which is no restart by policy.
    engine.stop()
    engine.start()
    until(lambda: ends(counters) == 4, seconds=30, what=lambda: str(counters.of(WEB)))
    crash(engine)
    until(lambda: ends(counters) == 5, seconds=30, what=lambda: str(counters.of(WEB)))
    restarts, successes, errors, _ = counters.of(WEB) or (0, 0, 0, 0)
    assert restarts == 4

    # The server and the agent are.
    place.server.stop()
    place.agent.stop()
    crash(engine)
    place.agent.start()
    place.server.start()
    counters.become(WEB, (5, successes, errors + 1, 0))

    # All three are. How it ended is not known then.
    place.server.stop()
    place.agent.stop()
    engine.stop()
    engine.start()
    place.agent.start()
    place.server.start()
    until(lambda: ends(counters) == 7, seconds=30, what=lambda: str(counters.of(WEB)))
    crash(engine)
    until(lambda: ends(counters) == 8, seconds=30, what=lambda: str(counters.of(WEB)))
    assert (counters.of(WEB) or (0,))[0] == 6
    counters.become("greedy", (0, 0, 1, 1))


def ends(counters: Counters) -> int:
    """How often the web container has ended, however."""
    numbers = counters.of(WEB)
    return numbers[1] + numbers[2] if numbers else -1
