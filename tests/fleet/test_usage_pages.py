"""What hosts and containers use, on the pages: as told, unknown where nobody knows, and nothing that is old."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from dockmesh.core import clock
from dockmesh.fleet.figures import LONGEST_SPAN_SECONDS, busy, read_figures
from dockmesh.fleet.models import Container, HeartbeatState, HostUsage
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import container, heartbeat, make_host
from tests.fleet.test_pages import signed_in, text, words
from tests.fleet.test_usage import DISK, MACHINE, accepted

MEBIBYTE = 2**20
SENT_AT = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)
INVENTORY = [container(letter * 64, name=f"web-{letter}") for letter in "abc"]


@pytest.fixture
def browser(db: None) -> Client:
    return signed_in("viewer")


def entry(letter: str, cpu: float | None = 1.0, memory: int | None = MEBIBYTE, **more: Any) -> list[Any]:
    """Of a container: half of `cpu` is the user's; all else has numbers of its own."""
    half = None if cpu is None else cpu / 2
    limit = more.get("limit", 4 * MEBIBYTE)
    return [letter * 64, half, half, 0.0, memory, limit, 2048, 3072, 0, 0, 5120, 6144, more.get("pids", 7)]


def tell(agent: AgentClient, sequence: int, *entries: Any, seconds: float = 0.0, **more: Any) -> None:
    """A heartbeat of so many seconds after the first."""
    machine = more.pop("machine", MACHINE)
    accepted(
        agent,
        heartbeat(
            sequence,
            sent_at=(SENT_AT + datetime.timedelta(seconds=seconds)).isoformat(),
            containers=more.pop("inventory", INVENTORY),
            usage={"host": machine, "containers": list(entries), **more},
        ),
    )


def told_twice(agent: AgentClient) -> None:
    """web-a has kept 2 processors busy, web-b a fortieth of one, and of web-c nothing is known but that it is measured."""
    tell(
        agent, 1, entry("a", 10.0), entry("b", 10.0), entry("c", None, None, limit=None, pids=None), disk=DISK
    )
    tell(
        agent,
        2,
        entry("a", 40.0, 3 * MEBIBYTE),
        entry("b", 10.375, 900 * MEBIBYTE, limit=None),
        entry("c", None, None, limit=None, pids=None),
        seconds=15.0,
        machine={
            **MACHINE,
            "cpu_seconds": MACHINE["cpu_seconds"] + 22.5,
            "memory_available_bytes": 6442450944,
        },
    )


def of(name: str) -> Container:
    return Container.objects.get(name=name)


def card(client: Client, path: str, identity: str) -> str:
    """The words of the card with this head."""
    found = re.search(
        rf'<section class="card" aria-labelledby="{identity}">(.*?)</section>', text(client, path)
    )
    assert found is not None
    return words(found[1]).replace(" ,", ",")


def listed(client: Client, query: str = "") -> list[str]:
    """The names in the list of containers."""
    return re.findall(
        r'id="container-\d+" class="break" href="[^"]*">([^<]*)<', text(client, f"/containers/{query}")
    )


def figures(client: Client, name: str) -> list[str]:
    """CPU and memory in the list."""
    page = text(client, "/containers/")
    row = next(row for row in page.split("<tr") if f">{name}<" in row)
    return [words(re.search(rf'data-label="{label}"[^>]*>(.*?)</td>', row)[1]) for label in ("CPU", "Memory")]  # type: ignore[index]


def test_a_container_shows_what_it_uses(browser: Client, agent: AgentClient) -> None:
    told_twice(agent)
    said = card(browser, f"/containers/{of('web-a').pk}/", "container-usage")
    assert "CPU 200.0 % of a core" in said
    assert "Memory 3 MiB of 4 MiB, 75 %" in said
    assert "Processes 7" in said
    assert "Network 2 KiB received, 3 KiB sent since it was started" in said
    assert "Disk 5 KiB read, 6 KiB written since it was started" in said
    assert 'aria-label="Memory: 75 % used"' in text(browser, f"/containers/{of('web-a').pk}/")


def test_a_container_without_a_limit_has_no_bar(browser: Client, agent: AgentClient) -> None:
    told_twice(agent)
    path = f"/containers/{of('web-b').pk}/"
    assert "CPU 2.5 % of a core Memory 900 MiB without a limit" in card(browser, path, "container-usage")
    assert "% used" not in text(browser, path)


def test_unknown_is_said_and_never_nought(browser: Client, agent: AgentClient) -> None:
    told_twice(agent)
    said = card(browser, f"/containers/{of('web-c').pk}/", "container-usage")
    assert "CPU unknown until two samples in a row are here Memory unknown Processes unknown" in said
    assert "0 %" not in said
    assert figures(browser, "web-c") == ["unknown", "unknown"]
    tell(agent, 3, entry("a"), machine=dict.fromkeys(MACHINE), seconds=30.0)
    HostUsage.objects.update(disk="", disk_at=None)
    said = card(browser, f"/hosts/{agent.host.pk}/", "host-usage")
    assert "CPU unknown Load unknown Memory unknown Docker's file system unknown" in said
    assert "What of it Docker keeps, and what is reclaimable, is not known." in said
    assert figures(browser, "web-b") == ["unknown", "unknown"]


def test_the_host_shows_the_machine_and_docker_s_disk(browser: Client, agent: AgentClient) -> None:
    told_twice(agent)
    said = card(browser, f"/hosts/{agent.host.pk}/", "host-usage")
    assert "CPU 75 % of 2 processors" in said
    assert "Load 0.75 over the last minute" in said
    assert "Memory 18 GiB of 24 GiB, 75 %" in said
    assert "Docker's file system 380 B of 500 B, 76 %" in said
    assert "Images 900 B 400 B Containers 10 B 0 B Volumes 70 B unknown Build cache unknown unknown" in said


def test_the_top_ten_of_a_host(browser: Client, agent: AgentClient) -> None:
    told_twice(agent)
    path = f"/hosts/{agent.host.pk}/"
    assert card(browser, path, "top-1").endswith("web-a 200.0 % 3 MiB web-b 2.5 % 900 MiB")
    assert card(browser, path, "top-2").endswith("web-b 2.5 % 900 MiB web-a 200.0 % 3 MiB")
    many = [container(f"{number:064x}", name=f"job-{number:02}") for number in range(30)]
    entries = [[f"{number:064x}", *entry("a", memory=number * MEBIBYTE)[1:]] for number in range(30)]
    tell(agent, 3, *entries, inventory=many, seconds=30.0)
    assert re.findall(r"job-\d+", card(browser, path, "top-2")) == [f"job-{n}" for n in range(29, 19, -1)]
    assert "takes two samples in a row" in card(browser, path, "top-1")


def test_the_list_is_sorted_by_usage_in_the_database(browser: Client, agent: AgentClient) -> None:
    told_twice(agent)
    assert figures(browser, "web-a") == ["200.0 %", "3 MiB"]
    assert figures(browser, "web-b") == ["2.5 %", "900 MiB"]
    other = AgentClient(*make_host("db"))
    tell(other, 1, entry("a", 10.0, 5 * MEBIBYTE), inventory=[container("a" * 64, name="db-a")])
    tell(other, 2, entry("a", 25.0, 5 * MEBIBYTE), inventory=[container("a" * 64, name="db-a")], seconds=15.0)
    assert listed(browser, "?sort=-cpu") == ["web-a", "db-a", "web-b", "web-c"]
    assert listed(browser, "?sort=cpu") == ["web-c", "web-b", "db-a", "web-a"]
    assert listed(browser, "?sort=-memory") == ["web-b", "db-a", "web-a", "web-c"]
    assert listed(browser, "?sort=-memory&q=web-") == ["web-b", "web-a", "web-c"]
    assert listed(browser, "?sort=-memory&state=exited") == []
    assert listed(browser, "?sort=-cpu&page=9") == ["web-a", "db-a", "web-b", "web-c"]
    page = text(browser, "/containers/")
    assert "sort=-cpu" in page
    assert "sort=-memory" in page


def test_a_sorted_list_has_pages(browser: Client, agent: AgentClient) -> None:
    many = [container(f"{number:064x}", name=f"job-{number:02}") for number in range(60)]
    entries = [[f"{number:064x}", *entry("a", memory=number * MEBIBYTE)[1:]] for number in range(60)]
    tell(agent, 1, *entries, inventory=many)
    found = [*listed(browser, "?sort=-memory"), *listed(browser, "?sort=-memory&page=2")]
    assert found == [f"job-{number:02}" for number in range(59, -1, -1)]


def test_a_host_that_is_not_heard_shows_nothing(browser: Client, agent: AgentClient) -> None:
    told_twice(agent)
    HeartbeatState.objects.update(last_seen_at=clock.now() - datetime.timedelta(hours=1))
    for path, name in ((f"/hosts/{agent.host.pk}/", "host"), (f"/containers/{of('web-a').pk}/", "container")):
        said = card(browser, path, f"{name}-usage")
        assert said == "Usage Not known The host is not heard: nobody knows what is used there."
        assert "Top ten" not in text(browser, path)
    assert figures(browser, "web-a") == ["unknown", "unknown"]
    assert listed(browser, "?sort=-cpu") == ["web-a", "web-b", "web-c"]


def test_what_was_told_long_ago_is_not_shown(browser: Client, agent: AgentClient) -> None:
    told_twice(agent)
    HostUsage.objects.update(measured_at=clock.now() - datetime.timedelta(minutes=5))
    said = card(browser, f"/containers/{of('web-a').pk}/", "container-usage")
    assert "The agent has not told it lately." in said
    assert figures(browser, "web-a") == ["unknown", "unknown"]


def test_an_older_agent_is_named_as_a_cause(browser: Client, agent: AgentClient) -> None:
    accepted(agent, heartbeat(1, containers=INVENTORY))
    assert "One of an older version never does" in card(browser, f"/hosts/{agent.host.pk}/", "host-usage")


def test_a_docker_that_does_not_answer_shows_nothing(browser: Client, agent: AgentClient) -> None:
    told_twice(agent)
    accepted(agent, heartbeat(3, docker={"reachable": False, "version": "24.0.7", "error": "no"}))
    said = card(browser, f"/hosts/{agent.host.pk}/", "host-usage")
    assert said == "Usage Not known Docker does not answer: nobody knows what is used there."


def test_what_does_not_run_uses_nothing_that_could_be_unknown(browser: Client, agent: AgentClient) -> None:
    told_twice(agent)
    stopped = [container("a" * 64, name="web-a", state="exited"), *INVENTORY[1:]]
    accepted(agent, heartbeat(3, digest="2", containers=stopped))
    assert figures(browser, "web-a") == ["–", "–"]
    assert card(browser, f"/containers/{of('web-a').pk}/", "container-usage").endswith(
        "The container does not run."
    )
    assert listed(browser, "?sort=-cpu")[0] == "web-b"
    assert "web-a" not in card(browser, f"/hosts/{agent.host.pk}/", "top-1")


@pytest.mark.parametrize(
    ("cpu", "seconds", "expected"),
    [
        (25.0, 15.0, 1.0),
        (10.0, 15.0, 0.0),  # it has been idle: that is known
        (4.0, 15.0, None),  # started anew
        (25.0, 0.0, None),
        (25.0, -30.0, None),  # the host's clock was set back
        (25.0, LONGEST_SPAN_SECONDS + 1, None),  # nobody would call that now
        (None, 15.0, None),
    ],
)
def test_how_busy_it_is_comes_from_two_samples(
    agent: AgentClient, cpu: float | None, seconds: float, expected: float | None
) -> None:
    tell(agent, 1, entry("a", 10.0))
    assert [each.cpu for each in read_figures(HostUsage.objects.get().figures)] == [None]
    tell(agent, 2, entry("a", cpu), seconds=seconds)
    assert [each.cpu for each in read_figures(HostUsage.objects.get().figures)] == [expected]
    tell(agent, 3, entry("a", 60.0), seconds=seconds + 20.0)
    again = None if cpu is None else round((60.0 - cpu) / 20.0, 6)
    assert [each.cpu for each in read_figures(HostUsage.objects.get().figures)] == [again]


def test_the_largest_counters_give_numbers() -> None:
    assert busy(2.0**63, 0.0, 1e-6) == round(2.0**63 / 1e-6, 6)


def test_the_largest_numbers_that_are_taken_are_shown(browser: Client, agent: AgentClient) -> None:
    most = 2**63 - 1
    tell(agent, 1, ["a" * 64, 0.0, 0.0, 0.0, *[most] * 9])
    tell(agent, 2, ["a" * 64, 2.0**63, 2.0**63, 0.0, *[most] * 9], seconds=0.001)
    assert listed(browser, "?sort=-memory")[0] == listed(browser, "?sort=-cpu")[0] == "web-a"
    for path in ("/containers/", f"/containers/{of('web-a').pk}/", f"/hosts/{agent.host.pk}/"):
        text(browser, path)


def test_limits_of_nought_break_no_page(browser: Client, agent: AgentClient) -> None:
    tell(agent, 1, entry("a", limit=0), machine={**MACHINE, "docker_root_bytes": 0})
    assert "Memory 1 MiB without a limit" in card(
        browser, f"/containers/{of('web-a').pk}/", "container-usage"
    )
    assert "Docker's file system unknown" in card(browser, f"/hosts/{agent.host.pk}/", "host-usage")


def test_usage_costs_the_same_queries_whatever_the_fleet(
    browser: Client, django_assert_max_num_queries: Any
) -> None:
    agents = [AgentClient(*make_host(f"h{index:02d}")) for index in range(60)]
    for agent in agents:
        tell(agent, 1, entry("a"), entry("b"), disk=DISK)
        tell(agent, 2, entry("a", 5.0), entry("b", 2.0), seconds=15.0)
    paths = (("/containers/", 10), ("/containers/?sort=-cpu", 11), (f"/hosts/{agents[0].host.pk}/", 11))
    for path, most in paths:
        with django_assert_max_num_queries(most):
            text(browser, path)


def test_sorting_by_usage_unfolds_it_once(browser: Client, agent: AgentClient) -> None:
    agent.beat(heartbeat(1, containers=[container("a")]))
    with CaptureQueriesContext(connection) as queries:
        text(browser, "/containers/?sort=cpu")
    (statement,) = [
        each["sql"] for each in queries if "fleet_hostusage" in each["sql"] and "LIMIT" in each["sql"]
    ]
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with connection.cursor() as cursor:
        cursor.execute(explain + statement.replace("%", "%%"))
        plan = str(cursor.fetchall())
    assert ("MATERIALIZE f" if connection.vendor == "sqlite" else "CTE f") in plan
