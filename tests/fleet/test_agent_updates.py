"""Agents are brought up to date: one host, some, all; the first failure stops the rest."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import pytest
from django.test import Client

from dockmesh import __version__
from dockmesh.audit.models import AuditEntry
from dockmesh.fleet import agent_files, commands
from dockmesh.fleet.models import AgentRollout, AgentUpdate, HeartbeatState, Host
from dockmesh.fleet.services import agent_updates
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import heartbeat, make_host
from tests.fleet.test_api import Api
from tests.fleet.test_pages import signed_in, text, words

pytestmark = pytest.mark.django_db

_sequence = itertools.count(1)
OLD = {"version": "0.0.9", "capabilities": ["agent-update"], "repositories": [], "build": "0" * 16}


@pytest.fixture
def api() -> Api:
    return Api("operator")


def says(agent: AgentClient, **told: Any) -> Any:
    """A heartbeat of an agent that is behind, but for what is told."""
    return agent.beat(heartbeat(next(_sequence), agent={**OLD, **told})).json()


def fleet(count: int) -> list[AgentClient]:
    agents = [AgentClient(*make_host(f"h{number:02}")) for number in range(count)]
    for agent in agents:
        says(agent)
    return agents


def offered(agent: AgentClient) -> dict[str, Any] | None:
    found = says(agent)["commands"]
    return dict(found[0]) if found else None


def report(agent: AgentClient, offer: dict[str, Any] | None, error: str = "") -> None:
    assert offer is not None
    body = {"result": "failure" if error else "success", "duration_seconds": 2.5, "error": error}
    assert agent.post(f"commands/{offer['id']}/result", body).status_code == 200


def statuses() -> dict[str, str]:
    return dict(AgentUpdate.objects.values_list("host__name", "status"))


def actions() -> list[str]:
    rows = AuditEntry.objects.filter(action__startswith="agent.").order_by("sequence")
    return [f"{row.actor_kind} {row.action} {row.target_name}" for row in rows]


def test_one_host_is_updated_with_the_file_that_this_server_hands_out(api: Api) -> None:
    [agent] = fleet(1)
    answer = api("POST", f"hosts/{agent.host.pk}/update-agent")
    assert answer.status_code == 202, answer.content
    asked = answer.json()
    assert answer["Location"] == f"/api/v1/agent-updates/{asked['id']}"
    assert (asked["host"]["name"], asked["status"], asked["version_before"]) == ("h00", "running", "0.0.9")
    offer = offered(agent)
    assert offer is not None
    assert offer["kind"] == "agent-update"
    assert offer["payload"]["sha256"] == agent_files.pyz().sha256
    report(agent, offer)
    told = api.get(f"agent-updates/{asked['id']}")
    assert (told["status"], told["error"]) == ("success", "")
    assert told["finished_at"]
    assert actions() == ["token agent.update_requested h00", "agent agent.update_succeeded h00"]


def test_a_failure_is_told_with_its_reason(api: Api) -> None:
    [agent] = fleet(1)
    asked = api("POST", f"hosts/{agent.host.pk}/update-agent").json()
    why = "the server did not hear the new version within 60 s"
    report(agent, offered(agent), why)
    told = api.get(f"agent-updates/{asked['id']}")
    assert (told["status"], told["error"]) == ("failure", why)
    assert actions()[-1] == "agent agent.update_failed h00"
    assert why in words(text(signed_in("viewer"), f"/hosts/{agent.host.pk}/"))
    # And may be asked for again.
    assert api("POST", f"hosts/{agent.host.pk}/update-agent").status_code == 202


def test_an_agent_that_never_reports_has_failed(api: Api) -> None:
    [agent] = fleet(1)
    api("POST", f"hosts/{agent.host.pk}/update-agent")
    commands.end_all(commands.NO_RESULT)
    assert AgentUpdate.objects.get().error == commands.NO_RESULT
    assert statuses() == {"h00": "failure"}


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"build": agent_files.build()}, "The agent of h00 is up to date."),
        ({"capabilities": ["deploy"]}, "too old to update itself: run the install script"),
        (
            {"capabilities": ["deploy"], "cannot_update": "it runs in a container: build its image anew"},
            "can't update itself: it runs in a container: build its image anew.",
        ),
        ({"capabilities": [], "is_monitor_only": True}, "was started with --monitor-only."),
    ],
)
def test_who_can_not_is_told_why(api: Api, told: dict[str, Any], reason: str) -> None:
    [agent] = fleet(1)
    says(agent, **told)
    answer = api("POST", f"hosts/{agent.host.pk}/update-agent")
    assert answer.status_code == 409
    assert reason in answer.json()["detail"]
    several = api("POST", "hosts/update-agents", {"hosts": [agent.host.pk]})
    assert several.status_code == 409
    assert reason in several.json()["errors"]["hosts"][0]
    assert not AgentRollout.objects.exists()


@pytest.mark.parametrize(
    ("version", "is_behind"),
    [("0.0.1", True), ("0.0.99", True), (__version__, False), ("99.1", False), ("", True), ("mine", True)],
)
def test_who_does_not_say_which_file_it_is_is_judged_by_the_version(version: str, is_behind: bool) -> None:
    agent = AgentClient(*make_host("h00"))
    agent.beat(heartbeat(next(_sequence), agent={"version": version}))
    assert agent_updates.is_behind(Host.objects.select_related("heartbeat_state").get()) == is_behind


def test_what_ended_long_ago_is_forgotten(api: Api) -> None:
    agents = fleet(2)
    for agent in agents:
        api("POST", f"hosts/{agent.host.pk}/update-agent")
    report(agents[0], offered(agents[0]))
    agent_updates.forget_updates()
    assert AgentUpdate.objects.count() == 2
    AgentRollout.objects.update(created_at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
    agent_updates.forget_updates()
    assert statuses() == {"h01": "running"}


def test_an_agent_of_before_says_nothing_of_it_and_is_refused(api: Api) -> None:
    agent = AgentClient(*make_host("h00"))
    agent.beat(heartbeat(next(_sequence), agent={"version": "0.0.1"}))
    answer = api("POST", f"hosts/{agent.host.pk}/update-agent")
    assert (answer.status_code, "too old" in answer.json()["detail"]) == (409, True)


def test_an_offline_or_silent_or_unknown_host_is_refused(api: Api) -> None:
    [agent] = fleet(1)
    new, _ = make_host("new")
    assert api("POST", f"hosts/{new.pk}/update-agent").json()["detail"] == "new has not reported yet."
    HeartbeatState.objects.filter(pk=agent.host.pk).update(
        last_seen_at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    )
    assert "is offline" in api("POST", f"hosts/{agent.host.pk}/update-agent").json()["detail"]
    assert api("POST", "hosts/999999/update-agent").status_code == 404


def test_what_is_under_way_is_not_asked_for_twice(api: Api) -> None:
    [agent] = fleet(1)
    assert api("POST", f"hosts/{agent.host.pk}/update-agent").status_code == 202
    again = api("POST", f"hosts/{agent.host.pk}/update-agent")
    assert (again.status_code, again.json()["detail"]) == (
        409, "The agent of h00 is about to be updated already.",
    )  # fmt: skip


def test_it_takes_fleet_manage() -> None:
    [agent] = fleet(1)
    viewer = Api("viewer")
    assert viewer("POST", f"hosts/{agent.host.pk}/update-agent").status_code == 403
    assert viewer("POST", "hosts/update-agents", {"all": True}).status_code == 403
    assert viewer("GET", "agent-updates").status_code == 200
    onlooker = signed_in("viewer")
    assert onlooker.post(f"/hosts/{agent.host.pk}/update-agent/").status_code == 403
    assert onlooker.get("/hosts/agents/update/").status_code == 403
    assert not AgentRollout.objects.exists()


def test_all_are_updated_one_first_then_five_at_a_time(api: Api) -> None:
    agents = fleet(9)
    says(agents[8], build=agent_files.build())
    answer = api("POST", "hosts/update-agents", {"all": True})
    assert answer.status_code == 202, answer.content
    assert [each["host"]["name"] for each in answer.json()["updates"]] == [f"h{n:02}" for n in range(8)]
    assert set(statuses().values()) == {"waiting"}
    agent_updates.advance()
    agent_updates.advance()
    assert [name for name, status in statuses().items() if status == "running"] == ["h00"]
    report(agents[0], offered(agents[0]))
    agent_updates.advance()
    assert sorted(name for name, status in statuses().items() if status == "running") == [
        "h01", "h02", "h03", "h04", "h05",
    ]  # fmt: skip
    report(agents[3], offered(agents[3]))
    agent_updates.advance()
    assert statuses()["h06"] == "running"
    assert statuses()["h07"] == "waiting"


def test_the_first_failure_stops_those_that_have_not_begun(api: Api) -> None:
    agents = fleet(4)
    api("POST", "hosts/update-agents", {"all": True})
    agent_updates.advance()
    report(agents[0], offered(agents[0]), "it does not start")
    agent_updates.advance()
    assert statuses() == {"h00": "failure", "h01": "stopped", "h02": "stopped", "h03": "stopped"}
    assert offered(agents[1]) is None
    stopped = api.get("agent-updates?status=stopped&host=h01")["results"]
    assert [each["error"] for each in stopped] == ["Another agent of the rollout failed first."]


def test_a_host_that_went_offline_meanwhile_is_passed_over(api: Api) -> None:
    agents = fleet(2)
    api("POST", "hosts/update-agents", {"all": True})
    HeartbeatState.objects.filter(pk=agents[0].host.pk).update(
        last_seen_at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    )
    agent_updates.advance()
    assert statuses() == {"h00": "stopped", "h01": "running"}


def test_a_host_that_is_removed_meanwhile_holds_nobody_up(api: Api) -> None:
    agents = fleet(2)
    api("POST", "hosts/update-agents", {"all": True})
    agent_updates.advance()
    assert api("DELETE", f"hosts/{agents[0].host.pk}").status_code == 204
    agent_updates.advance()
    assert statuses() == {"h01": "running"}


def test_hosts_are_chosen_by_a_label_or_by_their_ids(api: Api) -> None:
    agents = fleet(3)
    Host.objects.filter(name__in=["h00", "h01"]).update(labels={"env": "prod"})
    assert len(api("POST", "hosts/update-agents", {"label": "env=prod"}).json()["updates"]) == 2
    answer = api("POST", "hosts/update-agents", {"hosts": [agent.host.pk for agent in agents]}).json()
    assert [each["host"]["name"] for each in answer["updates"]] == ["h02"]
    assert [each["name"] for each in answer["refused"]] == ["h00", "h01"]
    assert len(api.get(f"agent-updates?rollout={answer['rollout']}")["results"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        {}, {"all": False}, {"hosts": []}, {"label": "a=b"}, {"label": "=b"}, {"hosts": [0]}, {"hosts": "all"},
        {"all": True, "label": "env"}, {"all": "yes"}, {"hosts": [1.5]}, {"which": "all"},
    ],
)  # fmt: skip
def test_a_choice_that_names_nobody_is_refused(api: Api, body: dict[str, Any]) -> None:
    fleet(1)
    answer = api("POST", "hosts/update-agents", body)
    assert answer.status_code == 400, answer.content
    assert not AgentRollout.objects.exists()
    assert api("GET", "agent-updates?rollout=x").status_code == 400


def test_the_pages_show_who_is_behind_and_what_became_of_it() -> None:
    agents = fleet(3)
    says(agents[2], build=agent_files.build(), version=__version__)
    browser = signed_in("operator")
    assert words(text(browser, "/hosts/")).count("update available") == 2
    page = words(text(browser, f"/hosts/{agents[0].host.pk}/"))
    assert f"0.0.9 update available The server hands out {__version__}." in page
    assert "Update agent" in page
    assert "Update agent" not in words(text(browser, f"/hosts/{agents[2].host.pk}/"))
    asked = browser.post(f"/hosts/{agents[0].host.pk}/update-agent/", follow=True).content.decode()
    assert "is asked to update itself" in words(asked)
    assert "updating asked for" in words(asked)
    assert f'action="/hosts/{agents[0].host.pk}/update-agent/"' not in asked
    form = text(browser, "/hosts/agents/update/")
    assert "checked" not in form
    assert "h01" in form
    assert "h02" not in form


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ({}, 400),
        ({"which": "hosts"}, 400),
        ({"which": "label"}, 400),
        ({"which": "label", "label": "="}, 400),
        ({"which": "label", "label": "env=test"}, 400),
        ({"which": "label", "label": "env=prod"}, 302),
        ({"which": "all"}, 302),
    ],
)
def test_the_form_takes_one_choice(typed: dict[str, str], code: int) -> None:
    fleet(2)
    Host.objects.filter(name="h01").update(labels={"env": "prod"})
    browser: Client = signed_in("operator")
    answer = browser.post("/hosts/agents/update/", typed)
    assert answer.status_code == code
    assert AgentRollout.objects.exists() == (code == 302)
    if code == 302:
        assert "waits for its update" in words(text(browser, "/hosts/agents/"))
