"""Stacks and deploys by REST."""

import json
from typing import Any

import pytest
from django.test import Client

from dockmesh.audit.models import AuditEntry
from dockmesh.deploys.models import Deploy
from dockmesh.fleet.models import HeartbeatState, Host, Stack
from tests.deploys.conftest import COMPOSE
from tests.deploys.support import fetch, progress, report

pytestmark = pytest.mark.django_db
Headers = dict[str, str]


def post(path: str, headers: Headers, body: Any = None, method: str = "post") -> Any:
    send = getattr(Client(), method)
    return send(
        f"/api/v1/{path}",
        data=json.dumps(body) if body is not None else "",
        content_type="application/json",
        headers=headers,
    )


def get(path: str, headers: Headers) -> Any:
    return Client().get(f"/api/v1/{path}", headers=headers)


def make(on: Host, headers: Headers, **changes: Any) -> dict[str, Any]:
    body = {"host": on.pk, "name": "shop", "compose_file": COMPOSE, "env_file": "KEY=hunter2", **changes}
    answer = post("stacks", headers, body)
    assert answer.status_code == 201, answer.content
    return answer.json()


def test_the_way_of_a_stack(host: Host, may_deploy: Headers) -> None:
    stack = make(host, may_deploy)
    assert stack["host"] == {"id": host.pk, "name": "alpha"}
    assert (stack["state"], stack["is_managed"], stack["last_deploy"]) == ("stopped", True, None)
    assert (stack["compose_file"], stack["env_names"]) == (COMPOSE, ["KEY"])

    answer = post(f"stacks/{stack['id']}/deploy", may_deploy)
    assert answer.status_code == 202
    deploy = answer.json()
    assert answer["Location"] == f"/api/v1/deploys/{deploy['id']}"
    assert (deploy["operation"], deploy["status"], deploy["requested_by"]) == ("up", "queued", "deployer")
    second = post(f"stacks/{stack['id']}/restart", may_deploy)
    assert second.status_code == 409
    assert second["Content-Type"] == "application/problem+json"

    [command] = fetch(host)
    progress(host, command["id"], "pulling\n")
    shown = get(f"deploys/{deploy['id']}", may_deploy).json()
    assert (shown["status"], shown["output"]) == ("running", "pulling\n")
    report(host, command["id"], output="pulled\n", seconds=3.25)
    shown = get(f"deploys/{deploy['id']}", may_deploy).json()
    assert (shown["status"], shown["output"], shown["duration_seconds"]) == ("success", "pulled\n", 3.25)
    assert shown["compose_file"] == COMPOSE
    stack = get(f"stacks/{stack['id']}", may_deploy).json()
    assert (stack["last_deploy"]["id"], stack["last_deploy"]["status"]) == (deploy["id"], "success")

    changed = post(f"stacks/{stack['id']}", may_deploy, {"env_file": None, "timeout_seconds": 60}, "patch")
    assert (changed.json()["env_names"], changed.json()["timeout_seconds"]) == ([], 60)

    answer = post(f"deploys/{deploy['id']}/rollback", may_deploy)
    assert (answer.status_code, answer.json()["rollback_of"]) == (202, deploy["id"])
    report(host, fetch(host)[0]["id"], result="failure", error="exited with 17")
    listed = get("deploys?status=failure", may_deploy).json()
    assert [(row["error"], row["stack_name"]) for row in listed["results"]] == [("exited with 17", "shop")]
    assert "output" not in listed["results"][0]

    answer = post(f"stacks/{stack['id']}", may_deploy, method="delete")
    assert (answer.status_code, answer.json()["operation"]) == (202, "down")
    report(host, fetch(host)[0]["id"])
    assert get(f"stacks/{stack['id']}", may_deploy).status_code == 404
    assert get("deploys?stack=shop", may_deploy).json()["count"] == 3


def test_a_stack_is_forgotten_on_request(host: Host, may_deploy: Headers) -> None:
    stack = make(host, may_deploy)
    assert post(f"stacks/{stack['id']}?forget=maybe", may_deploy, method="delete").status_code == 400
    assert post(f"stacks/{stack['id']}?forget=true", may_deploy, method="delete").status_code == 204
    assert get(f"stacks/{stack['id']}", may_deploy).status_code == 404


def test_secrets_are_never_answered(host: Host, may_deploy: Headers) -> None:
    stack = make(host, may_deploy)
    deploy = post(f"stacks/{stack['id']}/deploy", may_deploy)
    bodies = [deploy.content]
    for path in ("stacks", f"stacks/{stack['id']}", "deploys", f"deploys/{deploy.json()['id']}"):
        answer = get(path, may_deploy)
        assert answer.status_code == 200
        bodies.append(answer.content)
    assert b"hunter2" not in b"".join(bodies)


def test_a_check_gives_composes_words(host: Host, may_deploy: Headers, may_read: Headers) -> None:
    stack = make(host, may_deploy)
    assert post(f"stacks/{stack['id']}/validate", may_read).status_code == 403
    asked = post(f"stacks/{stack['id']}/validate", may_deploy)
    assert (asked.status_code, asked.json()["operation"]) == (202, "validate")
    [command] = fetch(host)
    report(host, command["id"], output='level=warning msg="the attribute `version` is obsolete"')
    check = get(f"deploys/{asked.json()['id']}", may_deploy).json()
    assert (check["status"], check["output"]) == (
        "success",
        'level=warning msg="the attribute `version` is obsolete"',
    )


def test_a_host_may_be_named(host: Host, may_deploy: Headers) -> None:
    assert make(host, may_deploy, host="alpha")["host"]["id"] == host.pk
    for bad in ("nobody", 999, True, None, 1.5, [1], 2**63 - 1):
        answer = post("stacks", may_deploy, {"host": bad, "name": "x", "compose_file": COMPOSE})
        assert answer.status_code == 400, bad
        assert list(answer.json()["errors"]) == ["host"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "Bad Name"}, "name"),
        ({"name": None}, "name"),
        ({"compose_file": ""}, "compose_file"),
        ({"compose_file": "services: ["}, "compose_file"),
        ({"compose_file": "a: 1\na: 2"}, "compose_file"),
        ({"compose_file": "\u0000"}, "compose_file"),
        ({"compose_file": 7.5}, "compose_file"),
        ({"env_file": "A=\u0007hunter2"}, "env_file"),
        ({"timeout_seconds": -1}, "timeout_seconds"),
        ({"timeout_seconds": "soon"}, "timeout_seconds"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_bad_input_names_its_field(host: Host, may_deploy: Headers, changes: Any, field: str) -> None:
    body = {"host": host.pk, "name": "shop", "compose_file": COMPOSE, **changes}
    answer = post("stacks", may_deploy, body)
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == [field]
    assert b"hunter2" not in answer.content
    assert not Stack.objects.exists()
    assert not AuditEntry.objects.filter(action="stack.created").exists()


def test_lists_are_filtered(host: Host, may_deploy: Headers, may_read: Headers) -> None:
    make(host, may_deploy)
    for query, count in {
        "host=alpha": 1,
        f"host={host.pk}": 1,
        "host=beta": 0,
        "state=stopped": 1,
        "state=unknown": 0,
        "is_managed=true": 1,
        "is_managed=false": 0,
        "name=shop&name=other": 1,
        "host=99999999999999999999999": 0,
        "host=" + "9" * 5000: 0,
    }.items():
        assert get(f"stacks?{query}", may_read).json()["count"] == count, query
    for query in ("state=fine", "is_managed=perhaps", "colour=red", "name=%00"):
        assert get(f"stacks?{query}", may_read).status_code == 400, query
    for query in ("status=done", "operation=upp"):
        assert get(f"deploys?{query}", may_read).status_code == 400, query


def test_the_stacks_of_an_offline_host_are_unknown(host: Host, may_deploy: Headers) -> None:
    stack = make(host, may_deploy)
    HeartbeatState.objects.update(last_seen_at="2020-01-01T00:00:00Z")
    assert get(f"stacks/{stack['id']}", may_deploy).json()["state"] == "unknown"
    assert get("stacks?state=unknown", may_deploy).json()["count"] == 1
    assert get("stacks?state=stopped", may_deploy).json()["count"] == 0


def test_who_may_only_read_changes_nothing(host: Host, may_deploy: Headers, may_read: Headers) -> None:
    stack = make(host, may_deploy)
    path = f"stacks/{stack['id']}"
    refused = [
        post("stacks", may_read, {"host": host.pk, "name": "x", "compose_file": COMPOSE}),
        post(path, may_read, {"timeout_seconds": 60}, "patch"),
        post(path, may_read, method="delete"),
        *(post(f"{path}/{verb}", may_read) for verb in ("deploy", "stop", "restart", "adopt")),
        post("deploys/1/rollback", may_read),
    ]
    assert {answer.status_code for answer in refused} == {403}
    assert not Deploy.objects.exists()
    assert {get(p, {}).status_code for p in ("stacks", path, "deploys", "deploys/1")} == {401}


def test_what_is_not_there_is_404(may_deploy: Headers) -> None:
    assert get("stacks/1", may_deploy).status_code == 404
    assert get(f"stacks/{10**30}", may_deploy).status_code == 404
    assert get(f"deploys/{10**30}", may_deploy).status_code == 404
    assert post("stacks/1/deploy", may_deploy).status_code == 404
    assert post(f"stacks/{10**30}/deploy", may_deploy).status_code == 404
    assert post("deploys/1/rollback", may_deploy).status_code == 404


@pytest.mark.parametrize("path", ["stacks", "deploys"])
def test_a_list_takes_the_same_queries_however_long_it_is(
    host: Host, may_read: Headers, may_deploy: Headers, path: str, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        stack = make(host, may_deploy, name=f"s{number}")
        post(f"stacks/{stack['id']}/deploy", may_deploy)
    get(path, may_read)
    with django_assert_max_num_queries(7):
        assert len(get(path, may_read).json()["results"]) == 12


def test_the_openapi_schema_of_these_endpoints_has_no_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    from drf_spectacular.generators import SchemaGenerator

    from dockmesh.deploys import api_urls

    schema = SchemaGenerator(patterns=api_urls.urlpatterns).get_schema(request=None, public=True)
    assert "/stacks/{id}/deploy" in schema["paths"]
    printed = [line for line in capsys.readouterr().err.splitlines() if "resolve authenticator" not in line]
    assert not [line for line in printed if "Warning" in line or "Error" in line]
