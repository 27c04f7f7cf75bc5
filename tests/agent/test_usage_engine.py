"""Usage that only the Engine can tell: one that hangs, forbids, or sums up itself."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dockmesh.agent import usage as usage_module
from dockmesh.agent.cgroups import Cgroups
from dockmesh.agent.disk import DiskWatcher, disk
from dockmesh.agent.document import Snapshot, container
from dockmesh.agent.engine import local_system
from dockmesh.agent.usage import Usage
from tests.agent.engines import FORBIDDEN, StandIn, stand_in
from tests.agent.test_cgroups import ANSWER
from tests.integration.agent_process import AgentProcess
from tests.integration.stubserver import Reply, Request, StubServer
from tests.support import PATIENCE

STATISTICS = (200, "application/json", json.dumps(ANSWER).encode())


@pytest.fixture
def engine() -> Iterator[StandIn]:
    with stand_in() as engine:
        engine.answers[r"/containers/\w+/stats"] = STATISTICS
        yield engine


@pytest.fixture
def usage(engine: StandIn, tmp_path: object) -> Iterator[Usage]:
    def snapshot() -> Snapshot:
        containers = tuple(container(each) for each in engine.containers.values())
        return Snapshot(True, "", "", local_system(), containers)

    made = Usage(
        engine.host,
        snapshot=snapshot,
        interval=lambda: 15.0,
        measures_volumes=False,
        cgroups=Cgroups(f"{tmp_path}/none", f"{tmp_path}/none"),
    )
    yield made
    made.stop()


def told(usage: Usage) -> set[str]:
    """The ids of which it tells something."""
    usage.measure()
    said = usage.take(usage._snapshot().containers)
    assert said is not None
    usage.accepted()
    return {each[0] for each in said["containers"]}


def test_one_whose_statistics_hang_costs_only_its_own_and_is_left_alone_for_a_while(
    engine: StandIn, usage: Usage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "ANSWER_SECONDS", 0.5)
    ids = {engine.add(number, f"c{number}") for number in range(1, 31)}
    bad = min(ids)
    engine.hanging = [rf"/containers/{bad}/stats"]
    assert told(usage) == ids - {bad}
    engine.hanging = []
    assert told(usage) == ids - {bad}
    assert engine.count(rf"/containers/{bad}/stats") == 1
    usage._inspector._trouble[bad] = (time.monotonic(), 5.0)
    assert told(usage) == ids
    assert engine.count("/containers/json") == 1


def test_many_that_hang_take_a_bounded_number_of_threads(engine: StandIn, usage: Usage) -> None:
    for number in range(1, 301):
        engine.add(number, f"c{number}")
    engine.hanging = [r"/containers/\w+/stats"]
    asking = threading.Thread(target=usage.measure)
    asking.start()
    deadline = time.monotonic() + PATIENCE * 20
    while engine.count(r"/containers/\w+/stats") < 32:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert sum(each.name == "inspect" for each in threading.enumerate()) <= 32
    usage.stop()
    asking.join(PATIENCE * 20)
    assert not asking.is_alive()


def test_a_proxy_that_forbids_statistics_is_said_once_and_not_asked_on(
    engine: StandIn, usage: Usage, caplog: pytest.LogCaptureFixture
) -> None:
    engine.answers = {r"/containers/\w+/stats": FORBIDDEN}
    ids = {engine.add(number, f"c{number}") for number in range(1, 6)}
    with caplog.at_level(logging.INFO, "dockmesh.agent"):
        assert told(usage) == set()
        assert told(usage) == set()
    assert len(caplog.records) == 1
    assert "403 Forbidden" in caplog.text
    assert engine.count(r"/containers/\w+/stats") == 5
    usage._next_ask_at = 0.0
    engine.answers = {r"/containers/\w+/stats": STATISTICS}
    usage._inspector._trouble.clear()
    assert told(usage) == ids


def test_what_is_measured_is_told_once_and_not_when_it_is_old(
    engine: StandIn, usage: Usage, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers = usage._snapshot().containers
    assert usage.take(containers) is None
    usage.measure()
    usage._disk.latest = {"images": [1, 0]}
    said = usage.take(containers)
    assert said is not None
    assert said["disk"] == {"images": [1, 0]}
    # The heartbeat was lost.
    assert usage.take(containers) == said
    usage.accepted()
    assert usage.take(containers) is None
    # The server shows it no more, once there is a new inventory.
    again = usage.take(containers, is_told_again=True)
    assert again == {key: said[key] for key in ("host", "containers")}
    usage.measure()
    said = usage.take(containers)
    assert said is not None
    assert "disk" not in said
    now = time.monotonic()
    monkeypatch.setattr("dockmesh.agent.usage.time.monotonic", lambda: now + 31)
    assert usage.take(containers) is None


def test_an_engine_on_another_machine_tells_nothing_of_this_one(engine: StandIn, usage: Usage) -> None:
    engine.add(1, "web")
    usage._docker_host = "tcp://192.0.2.1:2375"
    assert not usage._is_own_machine(usage._snapshot(), ["1" * 64])
    usage._docker_host = engine.host
    assert usage._is_own_machine(usage._snapshot(), ["1" * 64])


def test_an_engine_that_does_not_answer_in_time_is_not_asked_for_ever(
    engine: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    engine.hanging = ["/system/df"]
    watcher = DiskWatcher(
        engine.host, measures_volumes=False, every_seconds=0.01, first_within_seconds=0, answer_seconds=0.02
    )
    watcher.start()
    watcher._thread.join(PATIENCE * 10)
    assert not watcher._thread.is_alive()
    assert engine.count("/system/df") == 3
    assert watcher.latest is None
    assert len(caplog.records) == 1
    assert "Docker's disk is not measured until the agent is started again" in caplog.text


def test_a_proxy_that_forbids_the_disk_is_asked_once(
    engine: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    engine.answers["/system/df"] = FORBIDDEN
    watcher = DiskWatcher(engine.host, measures_volumes=False, every_seconds=0.01, first_within_seconds=0)
    watcher.start()
    watcher._thread.join(PATIENCE * 10)
    assert engine.count("/system/df") == 1
    assert "403 Forbidden" in caplog.text


def test_newer_engines_sum_up_themselves() -> None:
    answer = {
        "ImageUsage": {"TotalCount": 2, "TotalSize": 900, "Reclaimable": 400},
        "ContainerUsage": {"TotalSize": 30},
        "VolumeUsage": {
            "TotalSize": 7000,
            "Reclaimable": 1,
            "Items": [
                {"Name": "rows", "UsageData": {"Size": 6999, "RefCount": 1}},
                {"Name": "elsewhere", "UsageData": {"Size": -1, "RefCount": 0}},
            ],
        },
        "BuildCacheUsage": {},
    }
    assert disk(answer, measures_volumes=True) == {
        "images": [900, 400],
        "containers": [30, 0],
        "volumes": [7000, 1],
        "build_cache": [0, 0],
        "each_volume": {"rows": 6999},
    }
    assert "each_volume" not in disk(answer, measures_volumes=False)


def test_what_is_shared_or_in_use_can_not_be_had_back() -> None:
    answer = {
        "LayersSize": 1000,
        "Images": [
            {"Size": 600, "SharedSize": 100, "Containers": 2},
            {"Size": 500, "SharedSize": 100, "Containers": 0},
            {"Size": 50, "SharedSize": -1, "Containers": 1},
        ],
        "Containers": [{"SizeRw": 5, "State": "running"}, {"SizeRw": 3, "State": "exited"}, {"State": "dead"}],
        "Volumes": [
            {"Name": "a", "UsageData": {"Size": 70, "RefCount": 1}},
            {"Name": "b", "UsageData": {"Size": 30, "RefCount": 0}},
            {"Name": "c", "UsageData": {"Size": -1, "RefCount": 0}},
            {"Name": "d"},
        ],
        "BuildCache": [
            {"Size": 10, "InUse": True, "Shared": False},
            {"Size": 20, "InUse": False, "Shared": False},
            {"Size": 40, "InUse": False, "Shared": True},
        ],
    }  # fmt: skip
    assert disk(answer, measures_volumes=False) == {
        "images": [1000, 500],
        "containers": [8, 3],
        "volumes": [100, 30],
        "build_cache": [30, 20],
    }
    assert disk({}, measures_volumes=False) == {
        "images": [None, None],
        "containers": [0, 0],
        "volumes": [0, 0],
        "build_cache": [0, 0],
    }


def test_a_server_that_refuses_what_is_used_gets_heartbeats_without_it(
    engine: StandIn, server: StubServer, start_agent: Callable[..., AgentProcess]
) -> None:
    engine.add(1, "web")

    def reply(request: Request) -> Reply | None:
        return (400, {"detail": "usage.host"}, {}) if "usage" in request.body else None

    server.reply = reply
    server.interval = 2.0
    start_agent(f"--docker-host={engine.host}")
    refused = server.wait_for(lambda request: "usage" in request.body, seconds=30)
    taken = server.wait_for(lambda request: request.path == "heartbeat", after=refused.at)
    assert "usage" not in taken.body
    assert taken.body["inventory"] is not None


def test_heartbeats_come_while_statistics_and_disk_hang(
    engine: StandIn, server: StubServer, start_agent: Callable[..., AgentProcess]
) -> None:
    engine.add(1, "web")
    engine.hanging = [r"/containers/\w+/stats", "/system/df"]
    server.interval = 1.0
    start_agent(f"--docker-host={engine.host}")
    server.wait_for(lambda request: request.path == "heartbeat" and request.body["sequence"] >= 5)
    assert engine.count(r"/containers/\w+/stats") == 1
    told = server.wait_for(lambda request: "usage" in request.body)
    assert told.body["usage"]["containers"] == []
    assert told.body["usage"]["host"]["cpu_seconds"] > 0
