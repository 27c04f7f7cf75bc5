"""The pages of containers: the list, one of them, what is done with them, their logs."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from django.test import Client

from dockmesh.audit.models import AuditEntry
from dockmesh.core import clock
from dockmesh.fleet import commands
from dockmesh.fleet.models import AgentCommand, Container, ContainerDetails, HeartbeatState, LogSession
from dockmesh.fleet.services import details
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import container, heartbeat
from tests.fleet.test_container_actions import fetched, report
from tests.fleet.test_heartbeat import whole
from tests.fleet.test_pages import signed_in, text, words

pytestmark = pytest.mark.django_db
FOUND: dict[str, Any] = {
    "exits": [],
    "health": None,
    "environment": ["PATH", "PASSWORD"],
    "labels": [["team", "<b>shop"]],
    "mounts": [{"type": "volume", "source": "data", "target": "/data", "is_writable": False}],
    "networks": [{"name": "shop_default", "address": "172.18.0.2"}],
    "ports": ["0.0.0.0:8080 → 80/tcp"],
    "image_digests": ["nginx@sha256:" + "ab" * 32],
    "restart_policy": "always",
    "log_driver": "json-file",
}
NOW = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)


@pytest.fixture
def operator() -> Client:
    return signed_in("operator")


@pytest.fixture
def web(agent: AgentClient) -> Container:
    agent.beat(whole(1, container("a" * 64, name="web-1"), container("b" * 64, name="web-2")))
    able = ["containers", "logs", "inspect"]
    agent.beat(heartbeat(2, agent={"version": "0.2.0", "capabilities": able}))
    return Container.objects.get(name="web-1")


def page(client: Client, found: Container, query: str = "") -> str:
    """Its words; those that a tag parts from what follows stand close to it."""
    return re.sub(r" ([,.])", r"\1", words(text(client, f"/containers/{found.pk}/{query}")))


def tell(agent: AgentClient, **changes: Any) -> None:
    """The agent answers what it was asked when the page was looked at."""
    offer = fetched(agent)
    assert offer["kind"] == "container-inspect"
    report(agent, offer["id"], found={**FOUND, **changes})


def test_to_look_at_a_container_asks_its_agent_once_and_shows_what_it_tells(
    operator: Client, agent: AgentClient, web: Container
) -> None:
    assert "The host is asked for more" in page(operator, web)
    page(operator, web, "?part=live")
    tell(agent)
    shown = page(operator, web)
    for word in (
        "PASSWORD", "team=<b>shop", "/data", "172.18.0.2", "8080", "nginx@sha256:abab", "json-file",
    ):  # fmt: skip
        assert word in shown, word
    assert AgentCommand.objects.count() == 1, "what was just told is not asked for again"
    ContainerDetails.objects.update(told_at=clock.now() - datetime.timedelta(minutes=1))
    page(operator, web, "?part=live")
    assert AgentCommand.objects.count() == 2
    # The command keeps none of it.
    assert "found" not in (AgentCommand.objects.earliest("id").result or {})


def test_why_no_more_is_known_is_told(operator: Client, agent: AgentClient, web: Container) -> None:
    page(operator, web)
    report(agent, fetched(agent)["id"], result="failure", error="web-1 is gone")
    assert "web-1 is gone" in page(operator, web)
    agent.beat(heartbeat(3, agent={"version": "0.1.0", "capabilities": ["deploy"]}))
    assert "is too old to tell more of a container: update it" in page(operator, web)


def test_details_go_with_the_container(operator: Client, agent: AgentClient, web: Container) -> None:
    page(operator, web)
    tell(agent)
    details.forget_details()
    assert ContainerDetails.objects.exists()
    agent.beat(whole(4))
    details.forget_details()
    assert not ContainerDetails.objects.exists()
    assert operator.get(f"/containers/{web.pk}/").status_code == 404


def an_exit(minutes: int, code: int | None = 137, *, oom: bool = True) -> dict[str, Any]:
    at = NOW - datetime.timedelta(minutes=minutes)
    return {"at": at.isoformat(), "exit_code": code, "oom_killed": oom}


@pytest.mark.parametrize(
    ("changes", "exits", "said"),
    [
        (
            {"state": "exited", "exit_code": 137, "oom_killed": True, "finished_at": "2026-11-22T11:57:00Z"},
            [an_exit(3), an_exit(60), an_exit(200), an_exit(60 * 24)],
            "Killed for memory 3 min ago, third time today",
        ),
        (
            {"state": "exited", "exit_code": 0, "finished_at": "2026-11-22T11:57:00Z"},
            [an_exit(3, 0, oom=False), an_exit(5, 0, oom=False)],
            "Exited with 0 3 min ago",
        ),
        (
            {
                "state": "exited", "exit_code": 1,
                "started_at": "2026-11-22T11:57:00Z", "finished_at": "2026-11-22T11:57:01Z",
            },
            [],
            "Exited with 1 right after its start, 2 min ago",
        ),
        (
            {"state": "restarting", "exit_code": 139, "finished_at": "2026-11-22T11:59:30Z"},
            [an_exit(0, 139, oom=False), an_exit(1, 139, oom=False)],
            "Keeps restarting: exited with 139 (SIGSEGV) 30 s ago, second time today",
        ),
        (
            {"state": "running", "health": "unhealthy", "started_at": "2026-11-22T11:50:00Z"},
            [an_exit(11), an_exit(30)],
            "Unhealthy, running since 10 min ago Before that killed for memory 11 min ago, second time today.",
        ),
        ({"state": "running", "health": "", "started_at": "2026-11-22T11:50:00Z"}, [], "Running since 10 min ago"),
        ({"state": "created", "exit_code": 127, "error": "no such file"}, [], "Docker could not start it: no such file"),
        ({"state": "created", "created_at": "2026-11-22T11:50:00Z"}, [], "Made, and never started 10 min ago"),
    ],
)  # fmt: skip
def test_the_state_is_told_in_words(
    operator: Client,
    agent: AgentClient,
    web: Container,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    exits: Any,
    said: str,
) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    agent.beat(heartbeat(3, digest="sha256:new", containers=[container("a" * 64, name="web-1", **changes)]))
    ContainerDetails.objects.create(
        host=agent.host, container_id="a" * 64, found={**FOUND, "exits": exits}, told_at=NOW
    )
    assert said in page(operator, Container.objects.get())


def test_a_container_of_a_silent_host_is_not_known(
    operator: Client, agent: AgentClient, web: Container
) -> None:
    HeartbeatState.objects.update(last_seen_at=clock.now() - datetime.timedelta(hours=1))
    shown = page(operator, web)
    assert "Not known: its host is not heard since" in shown
    assert "web is offline: no heartbeat since" in shown


def test_what_is_done_is_asked_first_by_name_then_done_and_told(
    operator: Client, agent: AgentClient, web: Container
) -> None:
    asked = text(operator, f"/containers/act/?action=restart&container={web.pk}")
    assert "Restart web-1" in asked
    assert "on web" in words(asked)
    assert not AgentCommand.objects.exists()
    answer = operator.post("/containers/act/", {"action": "restart", "container": [web.pk]})
    assert (answer.status_code, answer["Location"]) == (302, f"/containers/{web.pk}/")
    assert "Restart: queued for the host" in page(operator, web)
    offers = {each["kind"]: each for each in agent.post("wait", b"").json()["commands"]}
    assert "Restart: the host is at it" in page(operator, web)
    report(agent, offers["container-action"]["id"], result="failure", error="web-1 is gone")
    shown = page(operator, web)
    assert "Restart: failed" in shown
    assert "web-1 is gone" in shown
    assert AuditEntry.objects.filter(action="container.action_requested", actor_kind="user").count() == 1


def test_many_are_chosen_in_the_list_and_named_before_anything_happens(
    operator: Client, agent: AgentClient, web: Container
) -> None:
    other = Container.objects.get(name="web-2")
    listed = text(operator, "/containers/")
    assert f'value="{web.pk}"' in listed
    assert 'action="/containers/act/"' in listed
    asked = words(text(operator, f"/containers/act/?container={web.pk}&container={other.pk}&action=stop"))
    assert "Stop 2 containers" in asked
    assert "web-1" in asked
    assert "web-2" in asked
    commands.enqueue(
        host_id=agent.host.pk,
        kind="container-action",
        payload={"action": "kill"},
        lock=f"container:{'b' * 64}",
    )
    answer = operator.post(
        "/containers/act/", {"action": "stop", "container": [web.pk, other.pk]}, follow=True
    )
    told = words(answer.content.decode())
    assert "Stop: web-1." in told
    assert "web-2: web-2 is being killed already" in told


@pytest.mark.parametrize(
    "query",
    [
        "action=stop",
        "action=stop&container=999999",
        "action=stop&container=x",
        f"action=stop&container={2**63}",
        f"action=stop&container={'9' * 5000}",
    ],
)
def test_nothing_chosen_leads_back_with_a_word(operator: Client, web: Container, query: str) -> None:
    answer = operator.get(f"/containers/act/?{query}", follow=True)
    assert "Choose a container first." in answer.content.decode()
    assert operator.get("/containers/act/?action=pause&container=1").status_code == 404


def test_an_agent_of_our_own_is_warned_of(operator: Client, agent: AgentClient) -> None:
    agent.beat(whole(1, container("c" * 64, name="dockmesh-agent", image="dockmesh-agent:1")))
    own = Container.objects.get()
    asked = words(text(operator, f"/containers/act/?action=stop&container={own.pk}"))
    assert "looks like dockmesh's own agent" in asked.replace("&#x27;", "'")


def test_who_may_only_look_sees_no_buttons_and_no_log(agent: AgentClient, web: Container) -> None:
    viewer = signed_in("viewer")
    shown = text(viewer, f"/containers/{web.pk}/")
    assert "data-log" not in shown
    assert "/containers/act/" not in shown
    assert "/containers/act/" not in text(viewer, "/containers/")
    for path in (f"/containers/act/?action=stop&container={web.pk}", f"/containers/{web.pk}/log/"):
        assert viewer.get(path).status_code == 403
    assert viewer.post(f"/containers/{web.pk}/log/open/").status_code == 403
    assert viewer.post("/containers/act/", {"action": "stop", "container": web.pk}).status_code == 403


def test_the_script_reads_a_log_a_piece_at_a_time(
    operator: Client, agent: AgentClient, web: Container
) -> None:
    opened = operator.post(
        f"/containers/{web.pk}/log/open/", {"tail": "7", "follow": "true", "stream": "stderr"}
    )
    assert opened.status_code == 201
    url = opened.json()["url"]
    offer = fetched(agent)
    payload = offer["payload"]
    assert (payload["tail"], payload["is_following"], payload["stdout"]) == (7, True, False)
    assert operator.get(url).json() == {"text": "", "next": 0, "is_ended": False, "error": ""}
    agent.post(f"logs/{payload['session']}", {"number": 0, "text": "one\n"})
    assert operator.get(f"{url}?after=0").json()["text"] == "one\n"
    assert signed_in("operator", "somebody else").get(f"{url}?after=0").status_code == 404
    report(agent, offer["id"], result="failure", error="10 MB are read")
    found = operator.get(f"{url}?after=1").json()
    assert (found["is_ended"], found["error"]) == (True, "10 MB are read")
    assert operator.get(f"{url}?after=1").status_code == 404
    assert not LogSession.objects.exists()


def test_a_log_that_can_not_be_asked_for_says_why(
    operator: Client, agent: AgentClient, web: Container
) -> None:
    answer = operator.post(f"/containers/{web.pk}/log/open/", {"since": "yesterday"})
    assert answer.status_code == 400
    assert "since: must be a time" in answer.json()["error"]
    agent.beat(heartbeat(3, agent={"version": "0.1.0", "capabilities": ["deploy"]}))
    answer = operator.post(f"/containers/{web.pk}/log/open/")
    assert (answer.status_code, "too old to send logs" in answer.json()["error"]) == (409, True)


def test_without_a_script_the_last_lines_are_a_page_and_a_file(
    operator: Client, agent: AgentClient, web: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_log(_: float) -> None:
        offer = fetched(agent)
        agent.post(f"logs/{offer['payload']['session']}", {"number": 0, "text": "<one>\n"})
        report(agent, offer["id"])

    monkeypatch.setattr("dockmesh.fleet.services.logs.time.sleep", answer_log)
    shown = text(operator, f"/containers/{web.pk}/log/?tail=500&search=one")
    assert "&lt;one&gt;" in shown
    assert 'value="one"' in shown
    file: Any = operator.get(f"/containers/{web.pk}/log/?as=file")
    assert b"".join(file.streaming_content) == b"<one>\n"
    assert file["Content-Disposition"] == 'attachment; filename="web-1.log"'
    bad = operator.get(f"/containers/{web.pk}/log/?tail=x")
    assert bad.status_code == 400
    assert "tail: must be a number" in bad.content.decode()


def test_pills_of_the_list_say_how_many_there_are(
    operator: Client, agent: AgentClient, web: Container
) -> None:
    listed = words(text(operator, "/containers/?state=running"))
    assert re.search(r"All 2\b", listed)
    assert re.search(r"Running 2\b", listed)
    assert re.search(r"Dead 0\b", listed)


def test_a_host_whose_docker_does_not_answer_is_not_said_to_run_nothing(
    operator: Client, agent: AgentClient
) -> None:
    agent.beat(heartbeat(1, docker={"reachable": False, "version": "", "error": "no socket"}, inventory=None))
    shown = words(text(operator, f"/hosts/{agent.host.pk}/"))
    assert "Docker runs nothing" not in shown
    assert "Docker does not answer: nobody knows what runs there." in shown
    assert "0 of 0 running" not in words(text(operator, "/hosts/"))
