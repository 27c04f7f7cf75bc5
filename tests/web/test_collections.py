"""What every collection of the REST API has in common: pages, filters, methods, and how they refuse."""

import json
import re
from typing import Any

import pytest
from django.test import Client

from dockmesh.audit.services import SYSTEM
from dockmesh.core import clock
from dockmesh.fleet.models import HeartbeatState, Host
from dockmesh.fleet.services import create_enrollment_token
from dockmesh.web.apidocs import openapi
from tests.fleet.factories import make_host
from tests.tokens.support import bearer, role_with, token_with
from tokens.permissions import Permission

pytestmark = pytest.mark.django_db

COLLECTIONS = sorted(
    path
    for path, methods in openapi()["paths"].items()
    if "page_size" in {each["name"] for each in methods.get("get", {}).get("parameters", [])}
)
# Filters that are names or texts: whatever is given, something may be called that.
NAMES = {"name", "host", "stack", "job", "rule", "role", "actor", "actor_id", "target", "target_id"}


@pytest.fixture
def headers() -> dict[str, str]:
    """Of a token that may do everything."""
    return bearer(token_with(*Permission)[1])


def parameters(path: str) -> dict[str, Any]:
    return {each["name"]: each for each in openapi()["paths"][path]["get"]["parameters"]}


def refused(path: str, query: str, headers: dict[str, str]) -> list[str]:
    answer = Client().get(f"{path}?{query}", headers=headers)
    assert answer.status_code == 400, (path, query, answer.content)
    assert answer["Content-Type"] == "application/problem+json"
    return list(answer.json()["errors"])


def test_the_collections_are_those_of_the_contract() -> None:
    assert [
        f"/api/v1/{name}"
        for name in (
            "agent-updates",
            "alert-channels",
            "alert-rules",
            "alerts",
            "audit",
            "backup-jobs",
            "backup-runs",
            "containers",
            "deploys",
            "enrollment-tokens",
            "hosts",
            "roles",
            "silences",
            "stacks",
            "tokens",
        )
    ] == COLLECTIONS


@pytest.mark.parametrize("path", COLLECTIONS)
def test_a_page_or_a_size_that_is_none_is_400_by_its_name(path: str, headers: dict[str, str]) -> None:
    for bad in ("0", "-1", "many", "1.5", "", "%2B1", "1_0", "%D9%A1", "00"):
        assert refused(path, f"page_size={bad}", headers) == ["page_size"], bad
    for bad in ("0", "-1", "last", "1.5", "", "%D9%A1", "00"):
        assert refused(path, f"page={bad}", headers) == ["page"], bad
    answer = Client().get(f"{path}?page=1&page_size=500", headers=headers)
    assert answer.status_code == 200
    assert set(answer.json()) == {"count", "next", "previous", "results"}


@pytest.mark.parametrize("path", COLLECTIONS)
def test_a_page_after_the_last_is_404(path: str, headers: dict[str, str]) -> None:
    for number, told in (("99", "99"), ("099", "99"), ("9" * 5000, "9" * 20)):
        answer = Client().get(f"{path}?page={number}", headers=headers)
        assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
        assert answer.json()["detail"] == f"There is no page {told}."
    assert Client().get(f"{path}?page=0001", headers=headers).status_code == 200


@pytest.mark.parametrize("path", COLLECTIONS)
def test_a_size_above_the_maximum_is_the_maximum(path: str, headers: dict[str, str]) -> None:
    for size in ("501", "9" * 30):
        assert Client().get(f"{path}?page=1&page_size={size}", headers=headers).status_code == 200
    assert parameters(path)["page_size"]["schema"]["maximum"] == 500


def test_of_more_rows_than_the_maximum_a_page_has_the_maximum(headers: dict[str, str]) -> None:
    Host.objects.bulk_create(
        Host(name=f"h{number}", agent_token_id=f"t{number}", agent_pepper=1) for number in range(510)
    )
    HeartbeatState.objects.bulk_create(
        HeartbeatState(host=host, last_seen_at=clock.now()) for host in Host.objects.all()
    )
    first = Client().get("/api/v1/hosts?page_size=10000", headers=headers).json()
    assert (first["count"], len(first["results"])) == (510, 500)
    second = Client().get(re.sub(r"^http://testserver", "", first["next"]), headers=headers).json()
    assert (len(second["results"]), second["next"]) == (10, None)


@pytest.mark.parametrize("path", COLLECTIONS)
def test_a_filter_or_a_value_that_nobody_knows_is_400_by_its_name(path: str, headers: dict[str, str]) -> None:
    assert refused(path, "nonsense=1", headers) == ["nonsense"]
    for name in parameters(path).keys() - NAMES - {"page", "page_size"}:
        assert refused(path, f"{name}=%20nonsense", headers) == [name]
    for name in parameters(path).keys() & NAMES:
        assert Client().get(f"{path}?{name}=nonsense", headers=headers).json()["results"] == [], name
        assert refused(path, f"{name}=a%00b", headers) == [name]
        assert Client().get(f"{path}?{name}={'9' * 18}", headers=headers).status_code == 200
        assert Client().get(f"{path}?{name}={'9' * 40}", headers=headers).status_code == 200


def test_every_value_that_the_schema_names_is_taken(headers: dict[str, str]) -> None:
    for path in COLLECTIONS:
        for name, parameter in parameters(path).items():
            schema = parameter["schema"].get("items", parameter["schema"])
            for value in schema.get("enum", []):
                assert Client().get(f"{path}?{name}={value}", headers=headers).status_code == 200


def test_links_lead_through_all_pages_and_back(headers: dict[str, str]) -> None:
    for number in range(5):
        role_with("fleet.read", name=f"r{number}")
        create_enrollment_token(actor=SYSTEM)
    for path, extra in (("roles", ""), ("enrollment-tokens", ""), ("audit", ""), ("audit", "&page=1")):
        whole = Client().get(f"/api/v1/{path}?page_size=500", headers=headers).json()["results"]
        seen, url, last = [], f"/api/v1/{path}?page_size=2{extra}", {}
        while url:
            last = Client().get(url, headers=headers).json()
            assert last["count"] == len(whole)
            seen += last["results"]
            url = re.sub(r"^http://testserver", "", last["next"] or "")
        assert seen == whole
        back = re.sub(r"^http://testserver", "", last["previous"])
        assert Client().get(back, headers=headers).status_code == 200


def test_every_address_tells_its_methods(headers: dict[str, str]) -> None:
    for path, methods in openapi()["paths"].items():
        told = (
            {method.upper() for method in methods} | {"OPTIONS"} | ({"HEAD"} if "get" in methods else set())
        )
        where = path.replace("{id}", "999999")
        answer = Client().options(where, headers=headers)
        assert answer.status_code == 200, path
        assert set(answer["Allow"].split(", ")) == told, path
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - told:
            answer = Client().generic(method, where, headers=headers)
            assert (answer.status_code, answer["Content-Type"]) == (405, "application/problem+json"), path
            assert set(answer["Allow"].split(", ")) == told, path


def test_an_address_tells_its_methods_to_whoever_may_use_one_of_them() -> None:
    for permission, status in (("stacks.deploy", 200), ("alerts.manage", 403)):
        one = bearer(token_with(permission, name=permission)[1])
        assert Client().options("/api/v1/stacks/1/deploy", headers=one).status_code == status
    assert Client().options("/api/v1/stacks/1/deploy").status_code == 401


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference leads to."""
    for part in schema.get("allOf", [schema]):
        if "$ref" in part:
            found: dict[str, Any] = openapi()["components"]["schemas"][part["$ref"].rpartition("/")[2]]
            return found
    return schema


WRONG: dict[str, list[Any]] = {
    "string": [0, 1.5, True, [], {}],
    "integer": ["5", True, 1.5, [], {}],
    "boolean": [0, 1, "true", [], {}],
    "array": [0, "x", True, {}],
    "object": [0, "x", True, []],
}


@pytest.mark.parametrize(
    ("path", "method"),
    [
        (path, method)
        for path, methods in sorted(openapi()["paths"].items())
        for method in ("post", "patch")
        if "requestBody" in methods.get(method, {})
    ],
)
def test_a_field_of_another_type_is_refused_by_its_name(
    path: str, method: str, headers: dict[str, str]
) -> None:
    """Neither a number for a text, nor a text for a number, nor 1 for true."""
    body = openapi()["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    for name, schema in resolved(body)["properties"].items():
        for value in WRONG.get(str(resolved(schema).get("type")), []):
            answer = Client().generic(
                method.upper(),
                path.replace("{id}", "999999"),
                json.dumps({name: value}),
                content_type="application/json",
                headers=headers,
            )
            if answer.status_code != 404:  # the object is looked for before the body is read
                assert answer.status_code == 400, (name, value, answer.content)
                assert any(field.startswith(name) for field in answer.json()["errors"]), (name, value)


def test_what_was_made_is_where_the_answer_says_and_no_cache_keeps_it(headers: dict[str, str]) -> None:
    host, _ = make_host()
    for path, body in (
        ("alert-channels", {"name": "a", "url": "json://192.0.2.1/"}),
        ("alert-rules", {"name": "a", "kind": "host_offline"}),
        (
            "backup-jobs",
            {"name": "a", "host": host.pk, "source_kind": "path", "path": "/a", "repository": "r"},
        ),
        ("enrollment-tokens", {}),
        ("roles", {"name": "a", "permissions": []}),
        (
            "silences",
            {"match_host": "web-*", "ends_at": "2100-01-01T00:00:00Z", "starts_at": "2099-12-31T00:00:00Z"},
        ),
        ("stacks", {"name": "a", "host": host.pk, "compose_file": "services: {a: {image: b}}"}),
        ("tokens", {"name": "a", "role": "viewer"}),
    ):
        made = Client().post(f"/api/v1/{path}", json.dumps(body), "application/json", headers=headers)
        assert made.status_code == 201, (path, made.content)
        assert made["Location"] == f"/api/v1/{path}/{made.json()['id']}"
        shown = Client().get(made["Location"], headers=headers)
        assert shown.json()["id"] == made.json()["id"]
        for answer in (made, shown, Client().get(f"/api/v1/{path}", headers=headers)):
            assert answer["Cache-Control"] == "no-store"
            assert "ETag" not in answer
    assert Client().get("/api/v1/hosts")["Cache-Control"] == "no-store"
