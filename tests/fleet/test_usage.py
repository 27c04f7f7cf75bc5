"""What agents tell of usage: taken in both ways, refused whole where it is wrong, and never under a wrong name."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from prometheus_client.parser import text_string_to_metric_families

from dockmesh.agent.client import encoded
from dockmesh.audit.services import SYSTEM
from dockmesh.core import clock
from dockmesh.fleet import services
from dockmesh.fleet.ingest import batch, documents
from dockmesh.fleet.ingest import budget as budgets
from dockmesh.fleet.ingest.usage import register_render
from dockmesh.fleet.models import HeartbeatState, Host, HostUsage
from metrics import rendering
from metrics.collectors import usage_text
from tests.fleet.conftest import AgentClient, both_ways, statements
from tests.fleet.factories import container, heartbeat, make_host

is_in_batch = both_ways

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
NUMBERS = [12.5, 3.25, 0.5, 1000, 2000, 10, 20, 1, 2, 30, 40, 7]
MACHINE = {
    "cpu_seconds": 86400.25,
    "memory_available_bytes": 6000,
    "load1": 0.75,
    "docker_root_bytes": 500,
    "docker_root_free_bytes": 120,
}
DISK = {
    "images": [900, 400],
    "containers": [10, 0],
    "volumes": [70, None],
    "build_cache": [None, None],
    "each_volume": {"data": 65},
}


@pytest.fixture(autouse=True)
def _public(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DOCKMESH_METRICS_AUTH = False
    monkeypatch.setattr(rendering, "renderer", rendering.Renderer())


def usage(*containers: Any, machine: Any = MACHINE, **more: Any) -> dict[str, Any]:
    return {"host": machine, "containers": list(containers), **more}


def named(identity: str, name: str, **changes: Any) -> dict[str, Any]:
    return container(identity, name=name, **changes)


def shown(prefix: str = "dockmesh_") -> dict[tuple[str, ...], float]:
    """(family, values of the labels but the host's) → value, of the group `usage`."""
    answer = Client().get("/metrics?collect[]=usage")
    text = b"".join(answer).decode()
    return {
        (sample.name.removeprefix("dockmesh_"), *(v for k, v in sample.labels.items() if k != "host")): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(prefix)
    }


def pids() -> dict[str, float]:
    """Container → its processes."""
    return {key[-1]: value for key, value in shown("dockmesh_container_pids").items()}


def accepted(agent: AgentClient, body: Any) -> None:
    answer = agent.beat(body)
    assert (answer.status_code, answer.json().get("status")) == (200, "accepted"), answer.content


def test_what_is_told_is_on_the_page_under_the_containers_names(agent: AgentClient) -> None:
    inventory = [
        named(A, "web-1"),
        named(B, "job", state="exited"),
        named(C, "by-hand", stack="", service=""),
    ]
    accepted(agent, heartbeat(1, containers=inventory))
    none = [None] * 12
    accepted(agent, heartbeat(2, usage=usage([A, *NUMBERS], [B, *NUMBERS], [C, *none], disk=DISK)))
    web = ("shop", "web", "web-1")
    assert shown() == {
        ("container_cpu_usage_seconds_total", *web, "user"): 12.5,
        ("container_cpu_usage_seconds_total", *web, "system"): 3.25,
        ("container_cpu_throttled_seconds_total", *web): 0.5,
        ("container_memory_working_set_bytes", *web): 1000,
        ("container_memory_limit_bytes", *web): 2000,
        ("container_network_receive_bytes_total", *web): 10,
        ("container_network_transmit_bytes_total", *web): 20,
        ("container_network_receive_errors_total", *web): 1,
        ("container_network_transmit_errors_total", *web): 2,
        ("container_block_read_bytes_total", *web): 30,
        ("container_block_written_bytes_total", *web): 40,
        ("container_pids", *web): 7,
        ("host_cpu_usage_seconds_total",): 86400.25,
        ("host_memory_available_bytes",): 6000,
        ("host_load1",): 0.75,
        ("host_docker_root_bytes",): 500,
        ("host_docker_root_free_bytes",): 120,
        ("host_docker_disk_bytes", "images"): 900,
        ("host_docker_disk_bytes", "containers"): 10,
        ("host_docker_disk_bytes", "volumes"): 70,
        ("host_docker_reclaimable_bytes", "images"): 400,
        ("host_docker_reclaimable_bytes", "containers"): 0,
        ("volume_size_bytes", "data"): 65,
    }


def test_it_has_the_quick_form_and_stays_in_the_batch() -> None:
    body = heartbeat(1, usage=usage([A, *NUMBERS], disk=DISK))
    assert documents.read_plain_heartbeat(encoded(body)) is not None
    body["usage"]["containers"][0][1] = 12  # a whole number of seconds
    assert documents.read_plain_heartbeat(encoded(body)) is not None
    del body["usage"]["disk"]["each_volume"]
    assert documents.read_plain_heartbeat(encoded(body)) is not None


def test_many_hosts_usage_costs_three_statements_whatever_their_number(
    db: None, connection_queries: CaptureQueriesContext
) -> None:
    agents = [AgentClient(*make_host()) for _ in range(8)]
    for agent in agents:
        accepted(agent, heartbeat(1, containers=[named(A, "web"), named(B, "db")]))
        accepted(agent, heartbeat(2, usage=usage([A, *NUMBERS])))

    def taken(sequence: int, count: int, **more: Any) -> list[str]:
        bodies = [agent.posted(heartbeat(sequence, **more)) for agent in agents[:count]]
        with connection_queries as made:
            assert None not in batch.answer(bodies)
        return statements(made.captured_queries)

    without = taken(3, 8)
    two = taken(4, 2, usage=usage([A, *NUMBERS], [B, *NUMBERS], disk=DISK))
    assert two == taken(5, 8, usage=usage([A, *NUMBERS], [B, *NUMBERS], disk=DISK))
    assert sorted(two) == sorted([*without, "SELECT", "INSERT", "UPDATE"])


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (usage([A, -0.5, *NUMBERS[1:]]), "usage.containers"),
        (usage([A, *NUMBERS[:3], -1, *NUMBERS[4:]]), "usage.containers"),
        (usage([A, *NUMBERS[:11], 2**63]), "usage.containers"),
        (usage([A, 1e19, *NUMBERS[1:]]), "usage.containers"),
        (usage([A, *NUMBERS[:11], 0.5]), "usage.containers"),
        (usage([A, *NUMBERS[:11], "7"]), "usage.containers"),
        (usage([A, *NUMBERS[:11], True]), "usage.containers"),
        (usage([A, *NUMBERS[:11]]), "usage.containers"),
        (usage([A]), "usage.containers"),
        (usage(["", *NUMBERS]), "usage.containers"),
        (usage([7, *NUMBERS]), "usage.containers"),
        (usage({"id": A}), "usage.containers"),
        (usage([A, *NUMBERS], [A, *NUMBERS]), "usage.containers[1]"),
        (usage([A, *NUMBERS], [B, *NUMBERS], [C, *NUMBERS]), "usage.containers"),
        (usage(*([f"{number:064}", *NUMBERS] for number in range(5001))), "usage.containers"),
        (usage(machine={**MACHINE, "load1": -1.0}), "usage.host.load1"),
        (usage(machine={**MACHINE, "cpu_seconds": "1"}), "usage.host.cpu_seconds"),
        (usage(machine={**MACHINE, "docker_root_bytes": 2**63}), "usage.host.docker_root_bytes"),
        (usage(machine=[]), "usage.host"),
        (usage(disk={**DISK, "images": [1]}), "usage.disk.images"),
        (usage(disk={**DISK, "images": [1, 2, 3]}), "usage.disk.images"),
        (usage(disk={**DISK, "volumes": [-1, 0]}), "usage.disk.volumes"),
        (usage(disk={**DISK, "each_volume": {"data": -1}}), "usage.disk.each_volume"),
        (usage(disk={**DISK, "each_volume": {"x" * 1025: 1}}), "usage.disk.each_volume"),
        (usage(disk={**DISK, "each_volume": {"ä" * 600: 1}}), "usage.disk.each_volume"),
        (usage(disk={**DISK, "each_volume": {"a\nb": 1}}), "usage.disk.each_volume"),
        (usage(disk=[]), "usage.disk"),
        ([], "usage"),
    ],
)
def test_what_is_wrong_is_refused_whole(agent: AgentClient, wrong: Any, field: str) -> None:
    accepted(agent, heartbeat(1, containers=[named(A, "web"), named(B, "db")]))
    accepted(agent, heartbeat(2, usage=usage([A, *NUMBERS], disk=DISK)))
    before = list(HostUsage.objects.values())
    whole = heartbeat(3, containers=[named(A, "web"), named(B, "db", state="exited")])
    for body in (heartbeat(3), whole):
        answer = agent.beat({**body, "usage": wrong})
        assert answer.status_code == 400
        assert field in str(answer.json()["errors"])
        assert list(HostUsage.objects.values()) == before
        assert HeartbeatState.objects.get().sequence == 2


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-0.1", f"{2**63}.5e3"])
def test_numbers_that_are_none_are_refused(agent: AgentClient, number: str) -> None:
    accepted(agent, heartbeat(1, containers=[named(A, "web")]))
    text = json.dumps(heartbeat(2, usage=usage([A, *NUMBERS])), separators=(",", ":"))
    assert text.count("12.5") == text.count("0.75") == 1
    for place in ("12.5", "0.75"):
        answer = agent.beat(text.replace(place, number).encode())
        assert answer.status_code == 400
        assert HeartbeatState.objects.get().sequence == 1
    assert not HostUsage.objects.exists()


def test_a_volume_that_is_named_twice_is_refused(agent: AgentClient) -> None:
    accepted(agent, heartbeat(1, containers=[]))
    text = json.dumps(heartbeat(2, usage=usage(disk=DISK)), separators=(",", ":"))
    assert agent.beat(text.replace('"data":65', '"data":65,"data":66').encode()).status_code == 400


def test_old_agents_tell_nothing_and_null_is_nothing(agent: AgentClient) -> None:
    accepted(agent, heartbeat(1, containers=[named(A, "web")]))
    accepted(agent, heartbeat(2, usage=None))
    assert not HostUsage.objects.exists()
    assert shown() == {}


def test_what_came_last_is_shown_while_a_heartbeat_says_nothing_of_it(agent: AgentClient) -> None:
    accepted(agent, heartbeat(1, containers=[named(A, "web")]))
    accepted(agent, heartbeat(2, usage=usage([A, *NUMBERS], disk=DISK)))
    accepted(agent, heartbeat(3))
    assert pids() == {"web": 7}
    accepted(agent, heartbeat(4, usage=usage()))
    assert pids() == {}
    assert shown()["volume_size_bytes", "data"] == 65
    without = {key: value for key, value in DISK.items() if key != "each_volume"}
    accepted(agent, heartbeat(5, usage=usage(disk=without)))
    assert ("volume_size_bytes", "data") not in shown()
    assert shown()["host_docker_disk_bytes", "images"] == 900


def test_a_renamed_container_has_no_line_until_it_is_told_of_again(agent: AgentClient) -> None:
    accepted(agent, heartbeat(1, containers=[named(A, "old")]))
    accepted(agent, heartbeat(2, usage=usage([A, *NUMBERS])))
    assert pids() == {"old": 7}
    accepted(agent, heartbeat(3, digest="2", containers=[named(A, "new")]))
    assert pids() == {}
    accepted(agent, heartbeat(4, digest="2", usage=usage([A, *NUMBERS])))
    assert pids() == {"new": 7}
    accepted(agent, heartbeat(5, digest="3", containers=[named(A, "newest")], usage=usage([A, *NUMBERS])))
    assert pids() == {"newest": 7}
    accepted(agent, heartbeat(6, digest="3", containers=[named(A, "newest")]))
    assert pids() == {"newest": 7}


def test_a_container_that_stopped_has_no_line(agent: AgentClient) -> None:
    accepted(agent, heartbeat(1, containers=[named(A, "web")], usage=usage([A, *NUMBERS])))
    assert pids() == {"web": 7}
    stopped = named(A, "web", state="exited")
    accepted(agent, heartbeat(2, digest="2", containers=[stopped], usage=usage([A, *NUMBERS])))
    assert pids() == {}


def test_a_renamed_host_has_its_new_name_or_none(agent: AgentClient) -> None:
    accepted(agent, heartbeat(1, containers=[named(A, "web")]))
    accepted(agent, heartbeat(2, usage=usage([A, *NUMBERS], disk=DISK)))
    services.change_host(actor=SYSTEM, host_id=agent.host.pk, name="renamed")
    text = Client().get("/metrics?collect[]=usage").content.decode()
    assert 'host="web"' not in text
    assert 'dockmesh_volume_size_bytes{host="renamed",volume="data"} 65\n' in text
    accepted(agent, heartbeat(3, usage=usage([A, *NUMBERS])))
    text = Client().get("/metrics?collect[]=usage").content.decode()
    assert 'dockmesh_container_pids{host="renamed",stack="shop",service="web",container="web"} 7\n' in text


def test_containers_with_the_same_names_are_one_series(agent: AgentClient) -> None:
    newer = named(B, "web", created_at="2026-11-22T11:59:58.500001Z")
    accepted(agent, heartbeat(1, containers=[named(A, "web"), newer]))
    accepted(agent, heartbeat(2, usage=usage([A, *NUMBERS], [B, *NUMBERS[:11], 9])))
    assert pids() == {"web": 9}


def test_a_host_that_is_not_online_shows_nothing(agent: AgentClient) -> None:
    accepted(agent, heartbeat(1, containers=[named(A, "web")]))
    accepted(agent, heartbeat(2, usage=usage([A, *NUMBERS], disk=DISK)))
    down = {"reachable": False, "version": "24.0.7", "error": "no"}
    accepted(agent, heartbeat(3, docker=down, usage=usage([A, *NUMBERS])))
    assert shown() == {}
    accepted(agent, heartbeat(4, usage=usage([A, *NUMBERS])))
    assert pids() == {"web": 7}


def test_nothing_is_old(agent: AgentClient) -> None:
    accepted(agent, heartbeat(1, containers=[named(A, "web")], usage=usage([A, *NUMBERS], disk=DISK)))
    HostUsage.objects.update(disk_at=clock.now() - datetime.timedelta(hours=2))
    assert ("volume_size_bytes", "data") not in shown()
    assert pids() == {"web": 7}
    HostUsage.objects.update(measured_at=clock.now() - datetime.timedelta(minutes=2))
    assert shown() == {}


def test_an_inventory_that_is_wanted_costs_the_usage_alone(agent: AgentClient) -> None:
    """The server may know fewer containers than the agent, as after an older copy of its database was put back."""
    accepted(agent, heartbeat(1, containers=[named(A, "web")]))
    told = heartbeat(2, digest="other", usage=usage([A, *NUMBERS], [B, *NUMBERS]))
    assert agent.beat(told).json()["status"] == "inventory_wanted"
    assert not HostUsage.objects.exists()


def test_it_goes_with_the_host(agent: AgentClient) -> None:
    accepted(agent, heartbeat(1, containers=[named(A, "web")], usage=usage([A, *NUMBERS])))
    services.remove_host(actor=SYSTEM, host_id=agent.host.pk)
    assert not HostUsage.objects.exists()
    assert not Host.objects.exists()


def test_long_lines_are_made_within_the_agents_budget_only(
    agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(budgets.budget, "_clock", lambda: now[0])
    monkeypatch.setattr(budgets.budget, "_used", {})
    made = []
    render = usage_text.render
    register_render(lambda *told: made.append(1) or render(*told))  # type: ignore[func-returns-value]
    try:
        long = [named(f"{n:064}", f"{n:01000}") for n in range(1500)]
        accepted(agent, heartbeat(1, containers=long))
        told = usage(*([each["id"], *NUMBERS] for each in long))
        for sequence in range(2, 20):
            accepted(agent, heartbeat(sequence, usage=told))
        before = len(made)
        assert 1 <= before <= 15
        now[0] += 60
        accepted(agent, heartbeat(20, usage=told))
        assert len(made) == before + 1
        assert len(pids()) == 1500
    finally:
        register_render(render)


def test_long_names_of_volumes_are_written_within_the_agents_budget_only(
    agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets.budget, "_clock", lambda: 0.0)
    monkeypatch.setattr(budgets.budget, "_used", {})
    accepted(agent, heartbeat(1, containers=[]))
    for sequence in range(2, 30):
        disk = {"each_volume": {f"{n:01000}": sequence for n in range(1500)}}
        accepted(agent, heartbeat(sequence, usage=usage(disk=disk)))
    written = json.loads(HostUsage.objects.get().disk)["each_volume"]
    assert 2 <= max(written.values()) <= 20


def test_an_ordinary_agent_tells_all_within_its_budget(
    agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets.budget, "_clock", lambda: 0.0)
    monkeypatch.setattr(budgets.budget, "_used", {})
    containers = [named(f"{n:064}", f"shop-web-{n}") for n in range(100)]
    accepted(agent, heartbeat(1, containers=containers))
    for sequence in range(2, 22):  # more than in a minute
        entries = ([each["id"], *NUMBERS[:11], sequence] for each in containers)
        accepted(agent, heartbeat(sequence, usage=usage(*entries)))
    assert pids()["shop-web-7"] == 21
