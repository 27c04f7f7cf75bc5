"""The REST API of the fleet."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from django.test import Client

from dockmesh.audit.models import AuditEntry
from dockmesh.audit.services import SYSTEM
from dockmesh.core import clock
from dockmesh.fleet import services
from dockmesh.fleet.models import Container, EnrollmentToken, HeartbeatState, Host, Stack, StackSeries
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import container, heartbeat, make_host
from tokens.principals import SYSTEM as ALL
from tokens.services import create_token

pytestmark = pytest.mark.django_db


class Api:
    """A client with a token of some role."""

    def __init__(self, role: str) -> None:
        self.token = create_token(principal=ALL, name=f"test {role}", role=role).text

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        return Client().generic(
            method,
            f"/api/v1/{path}",
            json.dumps(body) if body is not None else b"",
            content_type="application/json",
            headers={"Authorization": f"Bearer {self.token}"},
        )

    def get(self, path: str) -> Any:
        answer = self("GET", path)
        assert answer.status_code == 200, answer.content
        return answer.json()


@pytest.fixture
def api() -> Api:
    return Api("operator")


@pytest.fixture
def viewer() -> Api:
    return Api("viewer")


def age(host: Host, seconds: int) -> None:
    HeartbeatState.objects.filter(host=host).update(
        last_seen_at=clock.now() - datetime.timedelta(seconds=seconds)
    )


def names(answer: Any) -> list[str]:
    return [row["name"] for row in answer["results"]]


def test_a_host_that_never_reported_was_never_seen(viewer: Api, agent: AgentClient) -> None:
    [host] = viewer.get("hosts")["results"]
    assert (host["status"], host["last_seen_at"]) == ("online", None)
    agent.beat(heartbeat(1))
    assert viewer.get(f"hosts/{agent.host.pk}")["last_seen_at"] is not None


def test_hosts_are_listed_with_what_is_known_of_them(viewer: Api, agent: AgentClient) -> None:
    agent.beat(heartbeat(1, containers=[container("a"), container("b", state="exited", exit_code=3)]))
    answer = viewer.get("hosts")
    assert answer["count"] == 1
    [host] = answer["results"]
    assert host == viewer.get(f"hosts/{host['id']}")
    assert (host["name"], host["status"], host["docker_version"]) == ("web", "online", "24.0.7")
    assert host["containers"]["running"] == host["containers"]["exited"] == 1
    assert host["stacks"] == {
        "running": 0,
        "partial": 0,
        "stopped": 0,
        "error": 1,
        "deploying": 0,
        "unknown": 0,
    }
    assert not any("digest" in key or "token" in key for key in host)


def test_what_an_offline_host_has_is_unknown(viewer: Api, agent: AgentClient) -> None:
    agent.beat(heartbeat(1, containers=[container("a")]))
    age(agent.host, 61)
    [host] = viewer.get("hosts")["results"]
    assert host["status"] == "offline"
    assert host["containers"]["unknown"] == host["stacks"]["unknown"] == 1
    assert host["containers"]["running"] == 0
    assert [row["state"] for row in viewer.get("containers")["results"]] == ["unknown"]
    assert viewer.get("containers?state=running")["count"] == 0
    assert viewer.get("containers?state=unknown")["count"] == 1


def test_hosts_are_filtered(viewer: Api) -> None:
    for name, seconds, is_degraded, labels in (
        ("a", 0, False, {"env": "prod", "a.b/c": "x"}),
        ("b", 100, True, {"env": "test"}),
        ("c", 0, True, {}),
    ):
        host, _ = make_host(name)
        Host.objects.filter(pk=host.pk).update(labels=labels)
        HeartbeatState.objects.filter(pk=host.pk).update(is_degraded=is_degraded)
        age(host, seconds)
    for query, found in (
        ("status=online", ["a"]),
        ("status=offline", ["b"]),
        ("status=degraded", ["c"]),
        ("status=online&status=degraded", ["a", "c"]),
        ("name=b", ["b"]),
        ("label=env%3Dprod", ["a"]),
        ("label=env", ["a", "b"]),
        ("label=a.b/c%3Dx", ["a"]),
        ("label=nothing", []),
        ("page_size=2&page=2", ["c"]),
    ):
        assert names(viewer.get(f"hosts?{query}")) == found, query
    for query in ("status=fine", "nmae=a", "label=%00"):
        assert viewer("GET", f"hosts?{query}").status_code == 400, query


def test_a_host_is_renamed_and_labelled_and_that_is_audited(api: Api, agent: AgentClient) -> None:
    version = agent.heartbeat_state.version
    changes = {"name": "web-new", "labels": {"env": "prod"}, "address": "10.0.0.5", "cadvisor_port": None}
    answer = api("PATCH", f"hosts/{agent.host.pk}", changes)
    assert answer.status_code == 200, answer.content
    assert {key: answer.json()[key] for key in changes} == changes
    assert agent.heartbeat_state.version == version + 1
    entry = AuditEntry.objects.get(action="host.changed")
    assert entry.changes["name"] == {"from": "web", "to": "web-new"}
    assert api("PATCH", f"hosts/{agent.host.pk}", changes).status_code == 200
    assert AuditEntry.objects.filter(action="host.changed").count() == 1
    assert api("PATCH", f"hosts/{agent.host.pk}", {"address": "10.0.0.6"}).status_code == 200
    assert agent.heartbeat_state.version == version + 1  # an address is not on /metrics
    assert api("PATCH", f"hosts/{agent.host.pk}", {"labels": {"env": "test"}}).status_code == 200
    assert agent.heartbeat_state.version == version + 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": 5}, "name"),
        ({"labels": {"1": "a"}}, "labels"),
        ({"labels": {"a": 5}}, "labels.a"),
        ({"labels": []}, "labels"),
        ({"address": "http://x"}, "address"),
        ({"address": "x:9100"}, "address"),
        ({"address": "9999-12-31T23:59:59-14:00"}, "address"),
        ({"address": "[::1]"}, "address"),
        ({"address": 'fe80::1%e"th'}, "address"),
        ({"address": "a b"}, "address"),
        ({"node_exporter_port": 0}, "node_exporter_port"),
        ({"node_exporter_port": 65536}, "node_exporter_port"),
        ({"node_exporter_port": True}, "node_exporter_port"),
        ({"state": "online"}, "state"),
    ],
)
def test_a_bad_change_names_the_field_and_changes_nothing(
    api: Api, agent: AgentClient, body: Any, field: str
) -> None:
    before = Host.objects.values().get()
    answer = api("PATCH", f"hosts/{agent.host.pk}", body)
    assert answer.status_code == 400, answer.content
    assert field in answer.json()["errors"]
    assert Host.objects.values().get() == before


def test_a_name_that_another_host_has_is_a_conflict(
    api: Api, agent: AgentClient, other_agent: AgentClient
) -> None:
    answer = api("PATCH", f"hosts/{agent.host.pk}", {"name": "db"})
    assert answer.status_code == 409
    assert "name" in answer.json()["errors"]


def test_a_removed_host_leaves_nothing_behind(api: Api, agent: AgentClient, other_agent: AgentClient) -> None:
    agent.beat(heartbeat(1, containers=[container("a"), container("b", stack="blog")]))
    other_agent.beat(heartbeat(1, containers=[container("a")]))
    assert api("DELETE", f"hosts/{agent.host.pk}").status_code == 204
    assert [host.name for host in Host.objects.all()] == ["db"]
    assert Container.objects.count() == Stack.objects.count() == HeartbeatState.objects.count() == 1
    assert [series.name for series in StackSeries.objects.all()] == ["shop"]
    assert agent.beat(heartbeat(2)).status_code == 401
    assert AuditEntry.objects.get(action="host.removed").target_name == "web"
    assert api("DELETE", f"hosts/{agent.host.pk}").status_code == 404
    assert api("PATCH", f"hosts/{agent.host.pk}", {"name": "x"}).status_code == 404


def test_containers_are_filtered_and_shown(viewer: Api, agent: AgentClient) -> None:
    agent.beat(
        heartbeat(
            1,
            containers=[
                container("a"),
                container("b", stack="blog", state="paused"),
                container("c", stack=""),
            ],
        )
    )
    for query, found in (
        ("state=paused", ["web-b"]),
        ("stack=blog", ["web-b"]),
        ("host=web", ["web-a", "web-b", "web-c"]),
        (f"host={agent.host.pk}", ["web-a", "web-b", "web-c"]),
        ("host=db", []),
        ("name=web-c", ["web-c"]),
    ):
        assert names(viewer.get(f"containers?{query}")) == found, query
    row = viewer.get("containers?name=web-b")["results"][0]
    assert row["host"] == {"id": agent.host.pk, "name": "web"}
    assert row["stack"]["name"] == "blog"
    assert row == viewer.get(f"containers/{row['id']}")
    assert viewer.get("containers?name=web-c")["results"][0]["stack"] is None
    assert viewer("GET", "containers?state=happy").status_code == 400


def test_enrollment_tokens_are_made_shown_and_deleted(api: Api) -> None:
    answer = api("POST", "enrollment-tokens", {"expires_in_seconds": 60})
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    made = answer.json()
    enrolled = Client().post(
        "/api/v1/agents/enroll",
        data='{"hostname":"web"}',
        content_type="application/json",
        headers={"Authorization": f"bearer {made['token']}"},
    )
    assert enrolled.status_code == 201
    [listed] = api.get("enrollment-tokens")["results"]
    assert listed["host"]["name"] == "web"
    assert "token" not in listed
    assert made["token"] not in json.dumps(listed)
    assert api("DELETE", f"enrollment-tokens/{made['id']}").status_code == 204
    assert api("GET", f"enrollment-tokens/{made['id']}").status_code == 404
    assert api("POST", "enrollment-tokens").status_code == 201
    for bad in (
        {"expires_in_seconds": 0},
        {"expires_in_seconds": True},
        {"expires_in_seconds": 10**9},
        {"x": 1},
    ):
        assert api("POST", "enrollment-tokens", bad).status_code == 400
    assert EnrollmentToken.objects.count() == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", "hosts/1"), ("DELETE", "hosts/1"), ("POST", "enrollment-tokens"), ("GET", "enrollment-tokens"),
     ("DELETE", "enrollment-tokens/1"), ("GET", "discovery/prometheus?exporter=node")],
)  # fmt: skip
def test_a_viewer_may_only_look(viewer: Api, method: str, path: str) -> None:
    answer = viewer(method, path, {} if method in ("PATCH", "POST") else None)
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer["WWW-Authenticate"]


def test_discovery_lists_every_exporter(api: Api) -> None:
    assert api.get("discovery/prometheus?exporter=node") == []
    for name, address, node, labels in (
        ("b", "10.0.0.5", 9100, {"env": "prod", "a.b/c": "x", "a-b/c": "y"}),
        ("a", "2001:db8::1", 9200, {}),
        ("c", "c.example.net", None, {}),
        ("d", "", 9100, {}),
        ("e", "::ffff:10.0.0.6", 9100, {}),
    ):
        host, _ = make_host(name)
        Host.objects.filter(pk=host.pk).update(address=address, node_exporter_port=node, labels=labels)
    age(Host.objects.get(name="a"), 1000)
    answer = api("GET", "discovery/prometheus?exporter=node")
    assert answer["Content-Type"] == "application/json"
    groups = answer.json()
    assert [group["targets"] for group in groups] == [
        ["10.0.0.5:9100"],
        ["[2001:db8::1]:9200"],
        ["10.0.0.6:9100"],
    ]
    assert groups[0]["labels"] == {
        "__meta_dockmesh_host": "b",
        "__meta_dockmesh_host_id": str(Host.objects.get(name="b").pk),
        "__meta_dockmesh_status": "online",
        "__meta_dockmesh_exporter": "node",
        "__meta_dockmesh_label_env": "prod",
        "__meta_dockmesh_label_a_b_c": "y",
    }
    assert groups[1]["labels"]["__meta_dockmesh_status"] == "offline"
    assert len(api.get("discovery/prometheus?exporter=cadvisor")) == 4


@pytest.mark.parametrize(
    "query",
    ["", "?exporter=", "?exporter=windows", "?exporter=node&exporter=cadvisor", "?exporter=node&page=1"],
)
def test_discovery_of_an_exporter_that_nobody_knows_is_refused(api: Api, query: str) -> None:
    assert api("GET", f"discovery/prometheus{query}").status_code == 400


def test_many_hosts_are_discovered_at_once(api: Api, django_assert_max_num_queries: Any) -> None:
    for index in range(120):
        host, _ = make_host(f"h{index}")
        Host.objects.filter(pk=host.pk).update(address="10.0.0.1")
    with django_assert_max_num_queries(4):
        assert len(api.get("discovery/prometheus?exporter=node")) == 120


def test_lists_need_the_same_queries_whatever_the_fleet(
    viewer: Api, django_assert_max_num_queries: Any
) -> None:
    for index in range(30):
        host, token = make_host(f"h{index}")
        AgentClient(host, token).beat(heartbeat(1, containers=[container("a"), container("b", stack="blog")]))
    with django_assert_max_num_queries(5):
        assert viewer.get("hosts")["count"] == 30
    with django_assert_max_num_queries(5):
        assert viewer.get("containers")["count"] == 60


def test_a_renamed_host_is_the_same_host(agent: AgentClient) -> None:
    services.change_host(actor=SYSTEM, host_id=agent.host.pk, name="other", labels={"a": "b"})
    assert agent.beat(heartbeat(1, containers=[])).status_code == 200
    assert Host.objects.get().name == "other"
