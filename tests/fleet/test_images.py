"""What agents tell of newer images: taken whole, refused whole, and never in anybody's way."""

from __future__ import annotations

from typing import Any

import pytest

from dockmesh.agent.client import encoded
from dockmesh.fleet.ingest import documents
from dockmesh.fleet.models import HeartbeatState, ImageCheck
from tests.fleet.conftest import AgentClient, both_ways
from tests.fleet.factories import container, heartbeat

is_in_batch = both_ways

CHECKED = "2026-11-22T12:00:00Z"


def told(image: str = "nginx:1", available: bool | None = True, **more: Any) -> dict[str, Any]:
    return {"image": image, "is_update_available": available, "checked_at": CHECKED, "error": "", **more}


def known() -> dict[str, bool | None]:
    return dict(ImageCheck.objects.values_list("image", "is_update_available"))


def test_the_last_that_was_told_is_what_is_known(agent: AgentClient) -> None:
    agent.beat(heartbeat(1, containers=[container()]))
    version = HeartbeatState.objects.get().version
    answer = agent.beat(heartbeat(2, images=[told(), told("redis:7", None, error="toomanyrequests")]))
    assert answer.json()["status"] == "accepted"
    assert known() == {"nginx:1": True, "redis:7": None}
    assert ImageCheck.objects.get(image="redis:7").error == "toomanyrequests"
    assert HeartbeatState.objects.get().version == version + 1
    # Nothing is said of them: nothing is changed.
    agent.beat(heartbeat(3))
    agent.beat(heartbeat(4, images=[told(), told("redis:7", None, error="toomanyrequests")]))
    assert HeartbeatState.objects.get().version == version + 1
    agent.beat(heartbeat(5, images=[told(available=False)]))
    assert known() == {"nginx:1": False}
    agent.beat(heartbeat(6, images=[]))
    assert known() == {}
    assert HeartbeatState.objects.get().version == version + 3


def test_hosts_do_not_see_each_other(agent: AgentClient, other_agent: AgentClient) -> None:
    agent.beat(heartbeat(1, images=[told()]))
    other_agent.beat(heartbeat(1, images=[]))
    assert known() == {"nginx:1": True}


@pytest.mark.parametrize(
    ("images", "field"),
    [
        ([told(), told()], "images[1].image"),
        ([told("")], "images[0].image"),
        ([told("x" * 1025)], "images[0].image"),
        ([told("ä" * 600)], "images[0].image"),
        ([told("a\nb")], "images[0].image"),
        ([told(error="x" * 1025)], "images[0].error"),
        ([told(checked_at="yesterday")], "images[0].checked_at"),
        ([told(checked_at="2026-11-22T12:00:00")], "images[0].checked_at"),
        ([told(available="yes")], "images[0].is_update_available"),  # type: ignore[arg-type]
        ([{"image": "nginx:1"}], "images[0].checked_at"),
        ([told(str(number)) for number in range(201)], "images"),
        ("nginx:1", "images"),
    ],
)
def test_what_is_wrong_is_refused_whole(agent: AgentClient, images: Any, field: str) -> None:
    agent.beat(heartbeat(1, images=[told()]))
    answer = agent.beat(heartbeat(2, images=images))
    assert answer.status_code == 400
    assert field in str(answer.json()["errors"])
    assert known() == {"nginx:1": True}
    assert HeartbeatState.objects.get().sequence == 1


def test_it_has_the_quick_form() -> None:
    assert documents.read_plain_heartbeat(encoded(heartbeat(1, images=[told()]))) is not None
