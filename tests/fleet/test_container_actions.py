"""Starting, stopping, restarting and killing containers, by REST and at the agent's side of the protocol."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import pytest

from dockmesh.audit.models import AuditEntry
from dockmesh.core import clock
from dockmesh.fleet import commands
from dockmesh.fleet.models import AgentCommand, Container, HeartbeatState
from dockmesh.fleet.services import containers
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import container, heartbeat
from tests.fleet.test_api import Api
from tests.fleet.test_heartbeat import whole

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> Api:
    return Api("operator")


@pytest.fixture
def web(agent: AgentClient) -> Container:
    """A container of a host whose agent can."""
    agent.beat(whole(1, container("a" * 64, name="web-1"), container("b" * 64, name="web-2")))
    able(agent, "containers")
    return Container.objects.get(name="web-1")


_sequence = itertools.count(2)


def able(agent: AgentClient, *abilities: str, **more: Any) -> None:
    told = {"version": "0.2.0", "capabilities": list(abilities), "repositories": [], **more}
    agent.beat(heartbeat(next(_sequence), agent=told))


def fetched(agent: AgentClient) -> dict[str, Any]:
    (offer,) = agent.post("wait", b"").json()["commands"]
    return dict(offer)


def report(agent: AgentClient, command_id: str, **result: Any) -> None:
    body = {"result": "success", "duration_seconds": 0.2, **result}
    assert agent.post(f"commands/{command_id}/result", body).status_code == 200


@pytest.mark.parametrize("action", ["start", "stop", "restart", "kill"])
def test_an_action_reaches_the_agent_at_once_and_its_outcome_can_be_read(
    api: Api, agent: AgentClient, web: Container, action: str
) -> None:
    answer = api("POST", f"containers/{web.pk}/{action}")
    assert answer.status_code == 202, answer.content
    asked = answer.json()
    assert (asked["action"], asked["container"], asked["status"]) == (action, "web-1", "queued")
    assert answer["Location"] == f"/api/v1/commands/{asked['id']}"
    offer = fetched(agent)
    assert offer["id"] == asked["id"]
    assert offer["kind"] == "container-action"
    assert offer["payload"]["action"] == action
    assert offer["payload"]["container"] == web.container_id
    report(agent, offer["id"], outcome=f"{action}ed")
    told = api.get(f"commands/{asked['id']}")
    assert (told["status"], told["result"], told["outcome"], told["error"]) == (
        "done", "success", f"{action}ed", "",
    )  # fmt: skip
    assert entries() == [
        ("container.action_requested", "token", {"action": action, "host": "web"}),
        ("container.action_succeeded", "agent", {"action": action, "host": "web", "outcome": f"{action}ed"}),
    ]


def entries() -> list[tuple[str, str, Any]]:
    rows = AuditEntry.objects.filter(target_kind="container").order_by("sequence")
    assert {row.target_name for row in rows} <= {"web-1", "web-2"}
    return [(row.action, row.actor_kind, row.changes) for row in rows]


def test_a_failure_is_told_with_its_reason(api: Api, agent: AgentClient, web: Container) -> None:
    asked = api("POST", f"containers/{web.pk}/restart").json()
    report(agent, fetched(agent)["id"], result="failure", error="web-1 is gone")
    told = api.get(f"commands/{asked['id']}")
    assert (told["status"], told["result"], told["error"]) == ("done", "failure", "web-1 is gone")
    assert entries()[-1][0] == "container.action_failed"
    assert entries()[-1][2]["error"] == "web-1 is gone"


def test_a_host_that_never_fetches_it_is_told_as_a_failure(
    api: Api, agent: AgentClient, web: Container
) -> None:
    asked = api("POST", f"containers/{web.pk}/restart").json()
    commands.end_all("The host did not fetch the command in time.")
    told = api.get(f"commands/{asked['id']}")
    assert (told["status"], told["result"]) == ("expired", "failure")
    assert told["error"] == "The host did not fetch the command in time."


def test_of_two_people_who_restart_it_the_second_is_told(
    api: Api, agent: AgentClient, web: Container
) -> None:
    assert api("POST", f"containers/{web.pk}/restart").status_code == 202
    second = api("POST", f"containers/{web.pk}/stop")
    assert second.status_code == 409
    detail = second.json()["detail"]
    assert detail.startswith("web-1 is being restarted already: test operator asked for that ")
    assert AgentCommand.objects.count() == 1
    report(agent, fetched(agent)["id"])
    assert api("POST", f"containers/{web.pk}/stop").status_code == 202


def test_it_takes_its_own_permission(agent: AgentClient, web: Container) -> None:
    viewer = Api("viewer")
    assert viewer("POST", f"containers/{web.pk}/kill").status_code == 403
    assert viewer("POST", "containers/actions", {"action": "kill", "containers": [web.pk]}).status_code == 403
    assert not AgentCommand.objects.exists()


def test_an_offline_host_is_named_with_its_silence(api: Api, agent: AgentClient, web: Container) -> None:
    long_ago = clock.now() - datetime.timedelta(hours=1)
    HeartbeatState.objects.update(last_seen_at=long_ago)
    answer = api("POST", f"containers/{web.pk}/start")
    assert answer.status_code == 409
    assert answer.json()["detail"] == f"web is offline: no heartbeat since {long_ago:%Y-%m-%d %H:%M:%S} UTC."


@pytest.mark.parametrize(
    ("abilities", "more", "words"),
    [
        (["deploy", "backup", "cancel"], {}, "is too old to start and stop containers: update it"),
        ([], {"is_monitor_only": True}, "only watches"),
    ],
)
def test_an_agent_that_can_not_is_asked_for_nothing(
    api: Api, agent: AgentClient, web: Container, abilities: list[str], more: Any, words: str
) -> None:
    able(agent, *abilities, **more)
    answer = api("POST", f"containers/{web.pk}/start")
    assert (answer.status_code, words in answer.json()["detail"]) == (409, True)


def test_a_container_that_is_gone_is_not_found(api: Api, agent: AgentClient, web: Container) -> None:
    agent.beat(whole(next(_sequence)))
    assert api("POST", f"containers/{web.pk}/start").status_code == 404
    assert api("POST", f"containers/{2**70}/start").status_code == 404
    assert api("POST", f"containers/{web.pk}/pause").status_code == 404


def test_several_at_once_each_by_itself(api: Api, agent: AgentClient, web: Container) -> None:
    other = Container.objects.get(name="web-2")
    assert api("POST", f"containers/{other.pk}/stop").status_code == 202
    answer = api(
        "POST", "containers/actions", {"action": "restart", "containers": [web.pk, other.pk, 999_999, web.pk]}
    )
    assert answer.status_code == 202
    told = answer.json()
    assert [(each["container"], each["action"]) for each in told["commands"]] == [("web-1", "restart")]
    assert [(each["container"], each["name"]) for each in told["refused"]] == [
        (other.pk, "web-2"),
        (999_999, ""),
    ]
    assert "is being stopped already" in told["refused"][0]["detail"]
    assert told["refused"][1]["detail"] == "There is no such container."
    # Each host's agent does eight side by side; none waits for a deploy.
    assert len(agent.post("wait", b"").json()["commands"]) == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": "pause", "containers": [1]}, "action"),
        ({"action": "stop", "containers": []}, "containers"),
        ({"action": "stop", "containers": ["1"]}, "containers[0]"),
        ({"action": "stop", "containers": [0]}, "containers[0]"),
        ({"action": "stop", "containers": list(range(1, containers.MOST_AT_ONCE + 2))}, "containers"),
        ({"action": "stop"}, "containers"),
        ({"containers": [1]}, "action"),
        ({"action": "stop", "containers": [1], "force": True}, "force"),
    ],
)
def test_a_bad_body_is_refused_by_the_fields_name(api: Api, body: Any, field: str) -> None:
    answer = api("POST", "containers/actions", body)
    assert answer.status_code == 400
    assert field in answer.json()["errors"]


def test_if_none_can_be_asked_for_it_is_a_conflict_that_names_each(
    api: Api, agent: AgentClient, web: Container
) -> None:
    able(agent, "deploy")
    answer = api("POST", "containers/actions", {"action": "stop", "containers": [web.pk]})
    assert answer.status_code == 409
    assert "web-1: The agent of web is too old" in answer.json()["errors"]["containers"][0]


def test_a_command_can_be_read_by_who_sees_the_fleet_alone(
    api: Api, agent: AgentClient, web: Container
) -> None:
    asked = api("POST", f"containers/{web.pk}/kill").json()
    viewer = Api("viewer")
    assert viewer.get(f"commands/{asked['id']}")["action"] == "kill"
    nothing = viewer("GET", "commands/00000000-0000-0000-0000-000000000000")
    assert nothing.status_code == 404
