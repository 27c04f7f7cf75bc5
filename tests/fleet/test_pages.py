"""The pages of hosts and containers."""

from __future__ import annotations

import datetime
import html
import json
import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from dockmesh.audit.models import AuditEntry
from dockmesh.core import clock
from dockmesh.fleet.models import EnrollmentToken, HeartbeatState, Host
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import container, heartbeat, make_host
from tokens.models import Role, User

pytestmark = pytest.mark.django_db


def signed_in(role: str, name: str = "") -> Client:
    client = Client()
    client.force_login(User.objects.create(username=name or role, role=Role.objects.get(name=role)))
    return client


@pytest.fixture
def browser() -> Client:
    return signed_in("operator")


@pytest.fixture
def onlooker() -> Client:
    return signed_in("viewer")


def text(browser: Client, path: str, code: int = 200) -> str:
    answer = browser.get(path)
    assert answer.status_code == code, answer.content
    return " ".join(answer.content.decode().split())


def words(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_without_hosts_the_pages_say_what_belongs_there(browser: Client, onlooker: Client) -> None:
    assert "Add host" in text(browser, "/hosts/")
    assert 'href="/hosts/add/"' not in text(onlooker, "/hosts/")
    assert "No containers yet" in text(browser, "/containers/")


def test_a_host_shows_its_status_and_what_it_runs(browser: Client, agent: AgentClient) -> None:
    agent.beat(heartbeat(1, containers=[container("a"), container("b", state="exited", exit_code=3)]))
    page = words(text(browser, "/hosts/"))
    assert "web Online 1 of 2 running 1 1 error" in page
    page = words(text(browser, f"/hosts/{agent.host.pk}/"))
    for part in ("24.0.7", "linux x86_64, kernel 6.1", "24 GiB", "shop", "web-a", "code 3", "nginx:1.27"):
        assert part in page, part


@pytest.mark.parametrize(
    ("said", "shown", "told"),
    [
        (
            {"capabilities": ["deploy"], "compose_version": "2.40.3", "restic_version": "0.18.1"},
            "Compose 2.40.3 restic 0.18.1 System",
            ("2.40.3", "0.18.1"),
        ),
        (
            {"capabilities": [], "compose_version": "1.29.2", "restic_version": ""},
            "Compose 1.29.2 too old: this host takes no deploys restic not installed System",
            ("1.29.2", ""),
        ),
        (
            {"capabilities": [], "compose_version": "", "restic_version": "0.14.0"},
            "Compose not installed: this host takes no deploys restic 0.14.0 System",
            ("", "0.14.0"),
        ),
        ({"capabilities": ["deploy"], "repositories": []}, "Compose – restic – System", (None, None)),
        ({}, "Compose – restic – System", (None, None)),
    ],
    ids=["new", "old compose", "no compose", "agent of the version before", "agent that says nothing"],
)
def test_a_host_shows_its_compose_and_its_restic(
    said: dict[str, Any], shown: str, told: tuple[str | None, str | None], browser: Client, agent: AgentClient
) -> None:
    agent.beat(heartbeat(1, containers=[], agent={"version": "0.1.0", **said}))
    assert shown in words(text(browser, f"/hosts/{agent.host.pk}/"))
    host = browser.get(f"/api/v1/hosts/{agent.host.pk}").json()
    assert (host["compose_version"], host["restic_version"]) == told
    assert host["capabilities"] == said.get("capabilities", [])


def test_what_an_offline_host_has_is_unknown(browser: Client, agent: AgentClient) -> None:
    agent.beat(heartbeat(1, containers=[container("a")]))
    HeartbeatState.objects.update(last_seen_at=clock.now() - datetime.timedelta(minutes=5))
    assert "web Offline 1 unknown 1 unknown" in words(text(browser, "/hosts/"))
    page = words(text(browser, f"/hosts/{agent.host.pk}/"))
    assert "The agent was last heard" in page
    assert "Running" not in page
    assert "Unknown" in words(text(browser, "/containers/?state=unknown"))
    assert "web-a" not in text(browser, "/containers/?state=running")


def test_a_host_that_never_reported_is_not_given_a_time_at_which_it_did(
    browser: Client, agent: AgentClient
) -> None:
    path = f"/hosts/{agent.host.pk}/"
    assert "never reported" in words(text(browser, "/hosts/"))
    page = words(text(browser, path))
    assert "Waiting for its first heartbeat" in page
    assert "Last seen never reported" in page
    assert "Containers show here with the first heartbeat." in page
    assert "never reported" in text(browser, "/")
    HeartbeatState.objects.update(last_seen_at=clock.now() - datetime.timedelta(minutes=5))
    assert "has not reported since" in words(text(browser, path))
    assert "its agent has not reported yet" in words(text(browser, "/"))
    agent.beat(heartbeat(1))
    for each in ("/hosts/", path, "/"):
        assert "never reported" not in text(browser, each)


def test_a_degraded_host_says_what_docker_said(browser: Client, agent: AgentClient) -> None:
    agent.beat(heartbeat(1, docker={"reachable": False, "error": "no socket <here>"}, inventory=None))
    page = text(browser, f"/hosts/{agent.host.pk}/")
    assert "no socket &lt;here&gt;" in page


def test_a_host_whose_docker_forbids_something_is_online_and_says_what(
    browser: Client, agent: AgentClient
) -> None:
    said = "Docker is read without what is not allowed or fails: GET /info: 403 Forbidden"
    docker = {"reachable": True, "version": "29.0.1", "error": said}
    agent.beat(heartbeat(1, docker=docker, containers=[container("a")]))
    page = words(text(browser, f"/hosts/{agent.host.pk}/"))
    assert said in page
    assert "Online" in page
    assert "does not answer" not in page


def test_a_container_says_why_it_could_not_be_started(browser: Client, agent: AgentClient) -> None:
    why = "Bind for 0.0.0.0:80 failed: port is already allocated"
    failed = container("a", state="created", exit_code=128, health="", error=why)
    agent.beat(heartbeat(1, containers=[failed, container("b", is_oneoff=True)]))
    for path in (f"/hosts/{agent.host.pk}/", "/containers/"):
        page = words(text(browser, path))
        assert why in page
        assert "Running one-off" in page


def test_hosts_are_found_by_name_label_and_status(browser: Client) -> None:
    for name, labels, is_degraded in (("alpha", {"env": "prod"}, False), ("beta", {"env": "test"}, True)):
        host, _ = make_host(name)
        Host.objects.filter(pk=host.pk).update(labels=labels)
        HeartbeatState.objects.filter(pk=host.pk).update(is_degraded=is_degraded)
    for query, found in (
        ("q=ALP", ["alpha"]),
        ("q=env%3Dtest", ["beta"]),
        ("q=PROD", ["alpha"]),
        ("q=env", ["alpha", "beta"]),
        ("status=degraded", ["beta"]),
        ("status=offline", []),
        ("sort=-name", ["beta", "alpha"]),
        ("q=%25", []),
    ):
        assert re.findall(r'href="/hosts/\d+/">(\w+)<', text(browser, f"/hosts/?{query}")) == found, query


def test_the_table_refreshes_itself_where_it_is(browser: Client, agent: AgentClient) -> None:
    page = text(browser, "/hosts/?q=we&sort=-name")
    live = html.unescape(re.findall(r'hx-get="([^"]+)"', page)[0])
    answer = browser.get("/hosts/" + live)
    assert answer["X-Dockmesh-Part"] == "live"
    assert b"<html" not in answer.content
    assert b">web<" in answer.content
    for path in (f"/hosts/{agent.host.pk}/", "/containers/"):
        assert browser.get(f"{path}?part=live")["X-Dockmesh-Part"] == "live"


def test_adding_a_host_waits_and_turns_green(browser: Client) -> None:
    assert not EnrollmentToken.objects.exists()
    assert "Make the command" in text(browser, "/hosts/add/")
    assert not EnrollmentToken.objects.exists()
    answer = browser.post("/hosts/add/", {"lifetime": "86400"})
    page = answer.content.decode()
    assert answer["Cache-Control"] == "no-store"
    [token] = set(re.findall(r"dme_\w{60}", page))
    made = EnrollmentToken.objects.get()
    assert (made.expires_at - made.created_at).total_seconds() == pytest.approx(86400, abs=5)
    assert f"--server http://testserver --enrollment-token {token}" in html.unescape(page)
    waits = f"/hosts/add/{made.pk}/?part=live"
    assert f'hx-get="{waits}"' in page
    assert "Waiting for the agent" in text(browser, waits)
    enrolled = (
        Client()
        .post(
            "/api/v1/agents/enroll",
            data=json.dumps({"hostname": "new"}),
            content_type="application/json",
            headers={"Authorization": f"Bearer {token}"},
        )
        .json()
    )
    assert "new has enrolled" in text(browser, waits)
    AgentClient(Host.objects.get(), enrolled["agent_token"]).beat(heartbeat(0))
    assert "The first heartbeat is here" in text(browser, waits)
    assert token not in text(browser, f"/hosts/add/{made.pk}/")


def test_a_lifetime_that_is_not_offered_is_refused(browser: Client) -> None:
    assert browser.post("/hosts/add/", {"lifetime": "5"}).status_code == 400
    assert not EnrollmentToken.objects.exists()


FORM = {"name": "web", "labels": "", "address": "", "node_exporter_port": "9100", "cadvisor_port": ""}


def test_a_host_is_changed(browser: Client, agent: AgentClient) -> None:
    path = f"/hosts/{agent.host.pk}/change/"
    form = {**FORM, "name": "new", "labels": "env=prod\n\n team = a=b ", "address": "10.0.0.5"}
    assert browser.post(path, form)["Location"] == f"/hosts/{agent.host.pk}/"
    host = Host.objects.get()
    assert (host.name, host.labels, host.cadvisor_port) == ("new", {"env": "prod", "team": "a=b"}, None)
    assert "env=prod\nteam=a=b" in browser.get(path).content.decode()
    assert AuditEntry.objects.get(action="host.changed").actor_name == "operator"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "  "}, "Must not be empty"),
        ({"name": "x" * 201}, "At most 200"),
        ({"name": "db"}, "Another host has this name"),
        ({"labels": "prod"}, "has no “=”"),
        ({"labels": "a=1\na=2"}, "is there twice"),
        ({"labels": "1x=a"}, "label&#x27;s name"),
        ({"labels": f"a={'x' * 1025}"}, "1 KiB"),
        ({"address": "a b"}, "Must be a host name"),
        ({"node_exporter_port": "70000"}, "Must be a port"),
        ({"node_exporter_port": "x"}, "whole number"),
        ({"name": "a\x00b"}, "ull characters"),
    ],
)
def test_a_bad_change_is_shown_and_nothing_typed_is_lost(
    browser: Client, agent: AgentClient, other_agent: AgentClient, changes: dict[str, str], message: str
) -> None:
    before = Host.objects.values().get(pk=agent.host.pk)
    answer = browser.post(f"/hosts/{agent.host.pk}/change/", {**FORM, "address": "kept.example", **changes})
    assert answer.status_code == (409 if changes == {"name": "db"} else 400)
    page = answer.content.decode()
    assert message.lower() in page.lower(), words(page)
    if "address" not in changes:
        assert "kept.example" in page
    assert Host.objects.values().get(pk=agent.host.pk) == before


def test_a_host_is_removed_once_its_name_is_typed(browser: Client, agent: AgentClient) -> None:
    path = f"/hosts/{agent.host.pk}/remove/"
    assert "web" in text(browser, path)
    assert browser.post(path, {"name": "db"}).status_code == 400
    assert Host.objects.count() == 1
    assert browser.post(path, {"name": "web"})["Location"] == "/hosts/"
    assert not Host.objects.exists()
    text(browser, path, 404)


@pytest.mark.parametrize("path", ["/hosts/add/", "/hosts/{}/change/", "/hosts/{}/remove/", "/hosts/add/1/"])
def test_an_onlooker_may_only_look(onlooker: Client, agent: AgentClient, path: str) -> None:
    path = path.format(agent.host.pk)
    assert onlooker.get(path).status_code == 403
    assert onlooker.post(path, {"name": "web"}).status_code in (403, 405)
    assert Host.objects.count() == 1
    page = text(onlooker, f"/hosts/{agent.host.pk}/")
    assert "Remove" not in page


@pytest.mark.parametrize("path", ["/hosts/", "/hosts/add/", "/hosts/1/", "/containers/"])
def test_nobody_sees_anything_without_signing_in(client: Client, db: None, path: str) -> None:
    assert client.get(path)["Location"].startswith("/sign-in/")


def test_what_agents_send_is_text_and_nothing_else(browser: Client, agent: AgentClient) -> None:
    evil = "<script>alert(1)</script>"
    Host.objects.update(name=evil, labels={"a": evil})
    agent.beat(heartbeat(1, containers=[container("a", name=evil, image=evil, stack=evil, service=evil)]))
    for path in ("/hosts/", f"/hosts/{agent.host.pk}/", f"/hosts/{agent.host.pk}/change/", "/containers/"):
        page = text(browser, path)
        assert evil not in page
        assert "&lt;script&gt;" in page


def test_pages_need_the_same_queries_whatever_the_fleet(
    browser: Client, django_assert_max_num_queries: Any
) -> None:
    for index in range(60):
        host, token = make_host(f"h{index:02d}")
        AgentClient(host, token).beat(heartbeat(1, containers=[container("a"), container("b", stack="blog")]))
    for path, most in (("/hosts/", 9), ("/containers/", 10), (f"/hosts/{host.pk}/", 10)):
        with django_assert_max_num_queries(most):
            text(browser, path)


def test_the_admin_shows_no_secret(agent: AgentClient) -> None:
    client = Client()
    client.force_login(User.objects.create(username="root", is_superuser=True, is_staff=True))
    host = Host.objects.get()
    for path in ("host", f"host/{host.pk}/change", "container", "stack", "agentcommand", "enrollmenttoken"):
        page = text(client, f"/admin/fleet/{path}/")
        assert host.agent_digest not in page


def test_a_full_page_of_containers_stays_small(browser: Client, agent: AgentClient) -> None:
    agent.beat(heartbeat(1, containers=[container(f"{index:064x}") for index in range(200)]))
    for path in ("/containers/", f"/hosts/{agent.host.pk}/"):
        answer = browser.get(path, headers={"Accept-Encoding": "gzip"})
        assert len(answer.content) < 15_000, (path, len(answer.content))


def steps(page: str) -> dict[str, str]:
    found = re.findall(r'<li class="check check-(\w+)">(.*?)</li>', page, re.DOTALL)
    return {words(text).partition(" :")[0].partition(":")[0]: state for state, text in found}


def test_to_fetch_the_agent_writes_nothing_for_an_id_that_is_no_tokens(db: None) -> None:
    with CaptureQueriesContext(connection) as seen:
        assert Client().get("/agent/dockmesh-agent.pyz?for=zzzzzzzzzzzz").status_code == 200
    assert [query["sql"] for query in seen if not query["sql"].startswith("SELECT")] == []


def test_the_list_ticks_step_by_step(browser: Client) -> None:
    page = browser.post("/hosts/add/", {"lifetime": "3600"}).content.decode()
    [token] = set(re.findall(r"dme_\w{60}", page))
    waits = f"/hosts/add/{EnrollmentToken.objects.get().pk}/?part=live"

    def ticked() -> list[str]:
        return [label for label, state in steps(text(browser, waits)).items() if state == "well"]

    assert (len(steps(page)), ticked()) == (6, [])
    for other in ("", "?for=", "?for=zzzzzzzzzzzz", f"?for={token}", "?for=%00"):
        assert Client().get(f"/agent/dockmesh-agent.pyz{other}").status_code == 200
    assert ticked() == []
    Client().get(f"/agent/dockmesh-agent.pyz?for={token[4:16]}")
    assert ticked() == ["This server is reached from there"]
    answer = Client().post(
        "/api/v1/agents/enroll",
        data=json.dumps({"hostname": "new"}),
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert ticked()[1:] == ["The host is enrolled"]
    agent = AgentClient(Host.objects.get(), answer.json()["agent_token"])
    document = heartbeat(0)
    document["inventory"] = None
    document["docker"] = {"reachable": False, "version": "", "error": "Docker is not running"}
    document["agent"] |= {"capabilities": ["deploy"], "compose_version": "2.40.3", "repositories": ["vault"]}
    agent.beat(document)
    assert ticked()[2:] == ["Compose is found", "Backup repositories are found"]
    assert "Docker answers : no Docker is not running" in words(text(browser, waits))
    document = heartbeat(1, containers=[container("a")])
    document["agent"] |= {"capabilities": [], "compose_version": "1.29.2", "repositories": []}
    agent.beat(document)
    assert ticked()[2:] == ["Docker answers", "The first inventory is here"]
    assert "Compose 1.29.2 is too old: deploys need 2.20 or newer." in words(text(browser, waits))


@pytest.mark.parametrize(
    ("base_url", "is_loopback"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://127.9.9.9", True),
        ("http://localhost:8080", True),
        ("http://fleet.localhost", True),
        ("http://[::1]:8080", True),
        ("http://0.0.0.0:8080", True),
        ("http://192.0.2.7:8080", False),
        ("https://fleet.example.org/mesh", False),
        ("http://[2001:db8::1]", False),
    ],
)
def test_an_address_that_leads_others_to_themselves_is_told(
    browser: Client, settings: Any, base_url: str, is_loopback: bool
) -> None:
    settings.DOCKMESH_BASE_URL = base_url
    page = words(browser.post("/hosts/add/", {"lifetime": "3600"}).content.decode())
    assert ("leads every other machine to itself" in page) == is_loopback
    # A container has a loopback of its own.
    assert ("--network host" in page) == is_loopback
    assert f"curl -fsS {base_url}/agent/install | sh -s -- dme_" in page
