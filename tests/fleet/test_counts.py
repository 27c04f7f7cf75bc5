"""Restarts, exits and kills for memory by a container's name: durable, and right whatever is lost or repeated."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from dockmesh.audit.services import SYSTEM
from dockmesh.core import clock
from dockmesh.fleet import services
from dockmesh.fleet.ingest.counts import forget_counts
from dockmesh.fleet.models import ContainerCounts, Host
from tests.fleet.conftest import AgentClient, statements
from tests.fleet.factories import container, heartbeat


@pytest.fixture
def is_in_batch(both_ways: bool) -> bool:
    return both_ways


class Story:
    """Sends one inventory after another, each with a sequence of its own."""

    def __init__(self, agent: AgentClient) -> None:
        self.agent = agent
        self.sequence = 0

    def tell(self, *containers: dict[str, Any], **changes: Any) -> str:
        self.sequence += 1
        digest = f"sha256:{self.sequence}"
        answer = self.agent.beat(heartbeat(self.sequence, containers=containers, digest=digest, **changes))
        assert answer.status_code == 200, answer.content
        return str(answer.json()["status"])


@pytest.fixture
def story(agent: AgentClient) -> Story:
    return Story(agent)


def counts(name: str = "web-a") -> tuple[int, int, int, int]:
    """(restarts, harmless exits, errors, kills for memory)."""
    row = ContainerCounts.objects.filter(name=name).first()
    return (row.restarts, row.successes, row.errors, row.oom_kills) if row else (0, 0, 0, 0)


def told(
    identity: str = "a", epoch: str = "one", numbers: tuple[int, ...] = (0, 0, 0, 0), **changes: Any
) -> Any:
    """A container of an agent that counts."""
    keys = ("restarts", "successes", "errors", "oom_kills")
    return container(identity, counts={"epoch": epoch, **dict(zip(keys, numbers, strict=True))}, **changes)


# An agent that counts.


def test_what_the_agent_counted_is_added(story: Story) -> None:
    story.tell(told())
    assert counts() == (0, 0, 0, 0)
    story.tell(told(numbers=(5, 0, 5, 1)))
    assert counts() == (5, 0, 5, 1)
    story.tell(told(numbers=(6, 2, 6, 1)))
    assert counts() == (6, 2, 6, 1)


def test_a_new_epoch_begins_a_new_difference(story: Story) -> None:
    story.tell(told(numbers=(5, 0, 5, 1)))
    story.tell(told(epoch="two", numbers=(1, 0, 1, 0)))
    assert counts() == (6, 0, 6, 1)
    # The same numbers as the last ones, and yet others.
    story.tell(told(epoch="three", numbers=(1, 0, 1, 0)))
    assert counts() == (7, 0, 7, 1)
    story.tell(told(epoch="three", numbers=(2, 0, 2, 0)))
    assert counts() == (8, 0, 8, 1)


def test_a_name_that_the_agent_had_forgotten_begins_anew(story: Story) -> None:
    story.tell(told(numbers=(5, 1, 5, 1)))
    story.tell(told(numbers=(2, 0, 2, 0)))
    assert counts() == (7, 1, 7, 1)


def test_heartbeats_that_are_repeated_or_late_change_nothing(story: Story) -> None:
    story.tell(told(numbers=(1, 0, 1, 0)))
    story.tell(told(numbers=(5, 0, 5, 0)))
    for sequence in (1, 2):
        story.sequence = sequence - 1
        assert story.tell(told(numbers=(1, 0, 1, 0))) == "stale"
    assert counts() == (5, 0, 5, 0)
    # Its answer was lost: the same again under a new number.
    story.sequence = 2
    assert story.tell(told(numbers=(5, 0, 5, 0))) == "accepted"
    assert counts() == (5, 0, 5, 0)


def test_a_container_that_is_made_anew_goes_on_where_the_last_one_was(story: Story) -> None:
    story.tell(told("a", numbers=(5, 0, 5, 0), name="web"))
    story.tell()
    story.tell(told("b", numbers=(7, 1, 6, 0), name="web"))
    assert counts("web") == (7, 1, 6, 0)


def test_two_of_the_same_name_are_counted_once(story: Story) -> None:
    story.tell(told("a", numbers=(5, 0, 5, 0), name="web"), told("b", numbers=(5, 0, 5, 0), name="web"))
    assert counts("web") == (5, 0, 5, 0)


def test_counts_end_with_their_host(story: Story) -> None:
    story.tell(told(numbers=(5, 0, 5, 0)))
    services.remove_host(actor=SYSTEM, host_id=Host.objects.get().pk)
    assert not ContainerCounts.objects.exists()


def test_hosts_have_counts_of_their_own(agent: AgentClient, other_agent: AgentClient) -> None:
    Story(agent).tell(told(numbers=(5, 0, 5, 0)))
    Story(other_agent).tell(told(numbers=(2, 0, 2, 0)))
    assert list(ContainerCounts.objects.order_by("host_id").values_list("restarts", flat=True)) == [5, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": "", "restarts": 0, "successes": 0, "errors": 0, "oom_kills": 0},
        {"epoch": "one", "restarts": -1, "successes": 0, "errors": 0, "oom_kills": 0},
        {"epoch": "one", "restarts": 2**53 + 1, "successes": 0, "errors": 0, "oom_kills": 0},
        {"epoch": "one", "restarts": 0.5, "successes": 0, "errors": 0, "oom_kills": 0},
        {"epoch": "one", "restarts": 0},
        {"epoch": "o\x00ne", "restarts": 0, "successes": 0, "errors": 0, "oom_kills": 0},
        None,
    ],
)
def test_what_is_no_count_is_refused_whole(agent: AgentClient, wrong: Any) -> None:
    answer = agent.beat(heartbeat(1, containers=[container("a", counts=wrong)]))
    assert answer.status_code == 400
    assert "counts" in answer.content.decode()
    assert not ContainerCounts.objects.exists()


# An agent of the version before.


def ended(code: int, second: int, **changes: Any) -> Any:
    """It has ended at this second."""
    at = f"2026-11-22T12:00:{second:02d}.000001Z"
    return container("a", state="exited", exit_code=code, finished_at=at, **changes)


def test_dockers_own_number_of_restarts_is_counted(story: Story) -> None:
    story.tell(container("a", restart_count=3))
    assert counts() == (0, 0, 0, 0), "what was before the first inventory"
    story.tell(container("a", restart_count=5))
    assert counts() == (2, 0, 2, 0)
    story.tell(container("a", restart_count=0))
    assert counts() == (2, 0, 2, 0), "somebody has started it: Docker begins anew"
    story.tell(container("a", restart_count=2))
    story.tell(container("a", restart_count=1))
    assert counts() == (5, 0, 5, 0)


def test_restarts_of_one_that_ended_well_are_no_errors(story: Story) -> None:
    story.tell(container("a"))
    story.tell(container("a", restart_count=2, state="restarting", exit_code=0))
    assert counts() == (2, 2, 0, 0)
    story.tell(ended(0, 5, restart_count=2))
    assert counts() == (2, 2, 0, 0), "it was stopped while it waited to be restarted"


@pytest.mark.parametrize(
    ("code", "oom_killed", "wanted"),
    [
        (0, False, (0, 1, 0, 0)),
        (143, False, (0, 1, 0, 0)),
        (137, False, (0, 1, 0, 0)),
        (130, False, (0, 1, 0, 0)),  # 128 and its own stop signal
        (3, False, (0, 0, 1, 0)),
        (129, False, (0, 0, 1, 0)),
        (137, True, (0, 0, 1, 1)),
    ],
)
def test_an_end_is_harmless_or_an_error(
    story: Story, code: int, oom_killed: bool, wanted: tuple[int, ...]
) -> None:
    story.tell(container("a", stop_signal="SIGINT"))
    story.tell(ended(code, 1, oom_killed=oom_killed, stop_signal="SIGINT"))
    assert counts() == wanted
    # Only what is new is counted.
    story.tell(ended(code, 1, oom_killed=oom_killed, stop_signal="SIGINT", health=""))
    assert counts() == wanted
    story.tell(ended(code, 2, oom_killed=oom_killed, stop_signal="SIGINT"))
    assert counts() == tuple(2 * number for number in wanted), "it ran and ended between two inventories"


def test_a_kill_for_memory_that_is_told_late_is_an_error(story: Story) -> None:
    """The end was told as harmless before, which is not taken back."""
    story.tell(container("a"))
    story.tell(ended(137, 1))
    assert counts() == (0, 1, 0, 0)
    for health in ("", "unhealthy"):
        story.tell(ended(137, 1, oom_killed=True, health=health))
        assert counts() == (0, 1, 1, 1)
    story.tell(ended(137, 2, oom_killed=True))
    assert counts() == (0, 1, 2, 2)


def test_one_made_since_the_last_inventory_is_counted_from_its_beginning(story: Story) -> None:
    story.tell()
    story.tell(container("a", restart_count=2, state="restarting", exit_code=1))
    assert counts() == (2, 0, 2, 0)
    story.tell(container("b", name="web-a", restart_count=1, state="restarting", exit_code=1))
    assert counts() == (3, 0, 3, 0), "Compose made it anew"


def test_two_that_swap_names_keep_their_counts(story: Story) -> None:
    story.tell(container("a", name="x"), container("b", name="y"))
    story.tell(container("a", name="x", restart_count=9), container("b", name="y", restart_count=2))
    story.tell(container("a", name="y", restart_count=9), container("b", name="x", restart_count=2))
    assert (counts("x"), counts("y")) == ((9, 0, 9, 0), (2, 0, 2, 0))
    story.tell(container("a", name="y", restart_count=10), container("b", name="x", restart_count=2))
    assert (counts("x"), counts("y")) == ((9, 0, 9, 0), (3, 0, 3, 0))


def test_an_agent_that_learns_to_count_goes_on(story: Story) -> None:
    story.tell(container("a"))
    story.tell(container("a", restart_count=3))
    story.tell(told("a", numbers=(0, 0, 0, 0), restart_count=3), boot_id="next")
    story.tell(told("a", numbers=(1, 0, 1, 0), restart_count=4), boot_id="next")
    assert counts() == (4, 0, 4, 0)


# How long, and how dear.


def test_counts_go_thirty_days_after_the_last_of_the_name(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = clock.now()

    def after(days: float) -> None:
        monkeypatch.setattr(clock, "now", lambda: start + datetime.timedelta(days=days))
        forget_counts()

    story.tell(told("a", numbers=(5, 0, 5, 0)))
    after(40)
    assert counts() == (5, 0, 5, 0), "there is one"
    story.tell()
    after(41)
    after(70)
    story.tell(told("b", numbers=(6, 0, 6, 0), name="web-a"))
    after(72)
    assert counts() == (6, 0, 6, 0), "there was none for less than thirty days"
    story.tell()
    after(73)
    after(102)
    assert counts() == (6, 0, 6, 0)
    after(103.5)
    assert not ContainerCounts.objects.exists()


def test_many_containers_are_counted_by_one_query_and_written_by_one(
    story: Story, django_assert_max_num_queries: Any, connection_queries: Any
) -> None:
    def inventory(number: int) -> list[dict[str, Any]]:
        return [told(f"{each:04d}", numbers=(number, 0, number, 0)) for each in range(300)]

    story.tell(*inventory(1))
    with connection_queries as queries:
        story.tell(*inventory(2))
    assert ContainerCounts.objects.filter(restarts=2).count() == 300
    about = [each for each in queries if "fleet_containercounts" in each["sql"]]
    assert len(statements(about)) <= 2
