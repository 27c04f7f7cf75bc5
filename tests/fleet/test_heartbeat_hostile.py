"""Bad heartbeats: refused whole, with the field's name, and nothing of them stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from dockmesh.core.errors import DomainError
from dockmesh.fleet.ingest.documents import read_heartbeat
from dockmesh.fleet.models import Container, HeartbeatState, Host, Stack
from tests.fleet.conftest import AgentClient, both_ways
from tests.fleet.factories import container, heartbeat
from tokens import secret

is_in_batch = both_ways


def everything() -> Any:
    return [list(model.objects.order_by("pk").values()) for model in (Host, HeartbeatState, Stack, Container)]


def text(changes: dict[str, Any] | None = None, **fields: Any) -> str:
    document = heartbeat(2, digest="sha256:2", containers=[container("a", **(changes or {}))], **fields)
    return json.dumps(document, separators=(",", ":"))


def swap(old: str, new: str) -> Callable[[], bytes]:
    """The good document with one part of its text exchanged."""

    def make() -> bytes:
        good = text()
        assert good.count(old) == 1, (old, good)
        return good.replace(old, new).encode()

    return make


EXIT, RESTART = '"exit_code":0', '"restart_count":0'

BAD: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "NaN": (swap("[0.012]", "[NaN]"), 400, "rtt_seconds"),
    "Infinity": (swap("[0.012]", "[Infinity]"), 400, "rtt_seconds"),
    "-Infinity": (swap("[0.012]", "[-Infinity]"), 400, "rtt_seconds"),
    "1e999": (swap("[0.012]", "[1e999]"), 400, "rtt_seconds"),
    "a negative round trip": (swap("[0.012]", "[-0.1]"), 400, "rtt_seconds"),
    "a round trip of years": (swap("[0.012]", "[1e9]"), 400, "rtt_seconds"),
    "2^63": (swap(RESTART, f'"restart_count":{2**63}'), 400, "restart_count"),
    "2^63 as sequence": (swap('"sequence":2,', f'"sequence":{2**63},'), 400, "sequence"),
    "negative count": (swap(RESTART, '"restart_count":-1'), 400, "restart_count"),
    "negative memory": (swap("25769803776", "-1"), 400, "memory_bytes"),
    "5,000 digits": (swap(RESTART, f'"restart_count":{"1" * 5000}'), 400, "restart_count"),
    "5,000 decimals": (swap("[0.012]", f"[0.{'1' * 5000}]"), 400, "rtt_seconds"),
    "true as a number": (swap(RESTART, '"restart_count":true'), 400, "restart_count"),
    "true as sequence": (swap('"sequence":2,', '"sequence":true,'), 400, "sequence"),
    "a number as a text": (swap('"name":"web-a"', '"name":5'), 400, "name"),
    "a text as a number": (swap(EXIT, '"exit_code":"0"'), 400, "exit_code"),
    "unknown state": (swap('"state":"running"', '"state":"happy"'), 400, "state"),
    "unknown health": (swap('"health":"healthy"', '"health":"fine"'), 400, "health"),
    "unknown protocol": (swap('"protocol":1', '"protocol":2'), 400, "protocol"),
    "no boot id": (swap('"boot_id"', '"boot"'), 400, "boot_id"),
    "no docker": (swap('"docker"', '"dock"'), 400, "docker"),
    "a time without offset": (swap('"2026-11-22T12:00:00.000001Z"', '"2026-11-22T12:00:00"'), 400, "sent_at"),
    "no time": (swap('"2026-11-22T12:00:00.000001Z"', '"yesterday"'), 400, "sent_at"),
    "NUL": (swap('"web-a"', r'"web\u0000a"'), 400, "name"),
    "lone surrogate": (swap('"web-a"', r'"web\ud800a"'), 400, "name"),
    "control character": (swap('"web-a"', r'"web\u0001a"'), 400, "name"),
    "raw control character": (swap('"web-a"', '"web\x01a"'), 400, "body"),
    "DEL": (swap('"web-a"', '"web\x7fa"'), 400, "name"),
    "C1": (swap('"web-a"', '"web\x85a"'), 400, "name"),
    "line break": (swap('"web-a"', r'"x\"} 1\nevil 1\n#\\"'), 400, "name"),
    "NUL in an unknown key's value": (swap(EXIT, EXIT + r',"x":{"y":[{"z":"\u0000"}]}'), 400, "x.y[0].z"),
    "NUL in an unknown key": (swap(EXIT, EXIT + r',"x\u0000":1'), 400, "inventory.containers[0]"),
    "surrogate in an unknown key's value": (swap(EXIT, EXIT + r',"x":"\udfff"'), 400, "x"),
    "C1 in an unknown key's value": (swap(EXIT, EXIT + ',"x":"\x85"'), 400, "x"),
    "NaN in an unknown key": (swap(EXIT, EXIT + ',"x":{"y":NaN}'), 400, "x.y"),
    "2^63 in an unknown key": (swap(EXIT, EXIT + f',"x":[{2**63}]'), 400, "x[0]"),
    "duplicate key": (swap(EXIT, EXIT + ',"exit_code":0'), 400, "exit_code"),
    "duplicate key at the top": (swap('"protocol":1', '"protocol":1,"protocol":1'), 400, "protocol"),
    "duplicate unknown key": (swap(EXIT, EXIT + ',"x":{"y":1,"y":1}'), 400, "y"),
    "duplicate key by an escape": (swap(EXIT, EXIT + r',"exit_cod\u0065":0'), 400, "exit_code"),
    "too deep": (swap(EXIT, EXIT + ',"x":' + "[" * 33 + "]" * 33), 400, "x"),
    "a hundred thousand brackets": (lambda: b"[" * 100_000, 400, "body"),
    "a hundred thousand brackets in a key": (lambda: b'{"x":' + b"[" * 100_000, 400, "body"),
    "bad UTF-8": (lambda: text().encode().replace(b"web-a", b"web\xff"), 400, "body"),
    "a surrogate in UTF-8": (lambda: text().encode().replace(b"web-a", b"web\xed\xa0\x80"), 400, "body"),
    "UTF-16": (lambda: text().encode("utf-16"), 400, "body"),
    "UTF-16 without mark": (lambda: text().encode("utf-16-le"), 400, "body"),
    "a byte order mark": (lambda: b"\xef\xbb\xbf" + text().encode(), 400, "body"),
    "no JSON": (lambda: b"hello", 400, "body"),
    "nothing": (lambda: b"", 400, "body"),
    "a list": (lambda: b"[]", 400, "body"),
    "two documents": (lambda: text().encode() * 2, 400, "body"),
    "a name over 1 KiB": (lambda: text({"name": "x" * 1025}).encode(), 400, "name"),
    "a name over 1 KiB in bytes": (
        lambda: json.dumps(json.loads(text({"name": "ä" * 513})), ensure_ascii=False).encode(),
        400,
        "name",
    ),
    "a stack over 1 KiB": (lambda: text({"stack": "x" * 1025}).encode(), 400, "stack"),
    "a container twice": (
        lambda: json.dumps(heartbeat(2, containers=[container("a"), container("a")])).encode(),
        400,
        "inventory.containers[1].id",
    ),
    "1,001 round trips": (lambda: text(rtt_seconds=[0.1] * 1001).encode(), 400, "rtt_seconds"),
    "5,001 containers": (
        lambda: json.dumps(
            heartbeat(2, containers=[container(f"c{index}") for index in range(5001)])
        ).encode(),
        422,
        "",
    ),
    "over the limit": (lambda: b" " * (settings.DOCKMESH_MAX_BODY_BYTES + 1), 413, ""),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_heartbeat_is_refused_and_nothing_of_it_is_stored(agent: AgentClient, name: str) -> None:
    agent.beat(heartbeat(1, containers=[container("a")]))
    before = everything()
    make, code, field = BAD[name]
    answer = agent.beat(make())
    assert answer.status_code == code, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    problem = answer.json()
    if field:
        [named] = problem["errors"]
        assert named == field or named.endswith(field) or f"{field}[" in named, problem
    assert "Traceback" not in answer.content.decode()
    assert everything() == before


@pytest.mark.parametrize("spaced", [False, True])
def test_unknown_keys_are_looked_at_and_let_in(agent: AgentClient, spaced: bool) -> None:
    document = heartbeat(
        1, containers=[{**container("a"), "ports": [80]}], later={"deep": [{"text": "grüße"}]}
    )
    raw = json.dumps(document) if spaced else json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    assert agent.beat(raw.encode()).status_code == 200
    assert Container.objects.count() == 1


def test_a_name_with_quotes_and_backslashes_is_a_name(agent: AgentClient) -> None:
    name = 'x"} 1 evil 1 #\\'
    assert agent.beat(heartbeat(1, containers=[container("a", stack=name)])).status_code == 200
    assert Stack.objects.get().name == name


def test_a_stack_of_exactly_one_kib_is_taken(agent: AgentClient) -> None:
    assert agent.beat(heartbeat(1, containers=[container("a", stack="x" * 1024)])).status_code == 200


def test_whatever_is_let_in_can_be_stored(agent: AgentClient) -> None:
    """Every text and number at its bound, on databases that mind the lengths of columns."""
    wide = "ä" * 512
    big = container(
        "f" * 64,
        name=wide,
        image="i" * 1024,
        stack=wide,
        service=wide,
        health="unhealthy",
        exit_code=-(2**31),
        restart_count=2**31 - 1,
        created_at="1971-01-02T00:00:00+23:59",
        started_at="9998-12-31T23:59:59.999999-23:59",
    )
    document = heartbeat(
        2**63 - 1,
        digest="d" * 80,
        containers=[
            big,
            container("g", health=None, stack=None, service=None, exit_code=None, created_at=None),
        ],
        boot_id="b" * 64,
        sent_at="9999-12-31T23:59:59.999999-23:59",
        agent={"version": "v" * 64, "capabilities": [wide] * 64, "repositories": [wide] * 64},
        rtt_seconds=[86400.0] * 1000,
        docker={"reachable": True, "version": "v" * 64, "error": "e" * 1000},
        system={
            "os": "o" * 64,
            "arch": "a" * 64,
            "kernel": "k" * 200,
            "cpus": 10**6,
            "memory_bytes": 2**63 - 1,
        },
    )
    answer = agent.beat(document)
    assert answer.status_code == 200, answer.content
    assert Container.objects.get(container_id="f" * 64).name == wide
    assert Stack.objects.get().state == "error"


def test_five_thousand_containers_are_taken(agent: AgentClient) -> None:
    containers = [container(f"c{index}", stack=f"s{index % 50}") for index in range(5000)]
    assert agent.beat(heartbeat(1, containers=containers)).status_code == 200
    assert Container.objects.count() == 5000
    assert agent.beat(heartbeat(2, containers=[], digest="sha256:2")).status_code == 200
    assert not Container.objects.exists()


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ({"headers": {"Content-Encoding": "gzip"}}, 415),
        ({"headers": {"Content-Encoding": "identity"}}, 200),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_only_plain_json_is_taken(agent: AgentClient, extra: dict[str, Any], code: int) -> None:
    assert agent.beat(heartbeat(1), **extra).status_code == code


def test_other_methods_are_refused(agent: AgentClient, client: Any) -> None:
    answer = client.get("/api/v1/agents/heartbeat")
    assert answer.status_code == 405
    assert answer["Allow"] == "POST"


@pytest.mark.parametrize("kind", list(secret.Kind))
def test_every_bad_token_gets_the_same_answer(agent: AgentClient, kind: secret.Kind) -> None:
    tokens = [
        "",
        "nonsense",
        agent.token[:-1] + ("0" if agent.token[-1] != "0" else "1"),
        str(secret.generate(kind)),
    ]
    answers = {
        (answer.status_code, answer.content, answer["WWW-Authenticate"])
        for answer in [AgentClient(agent.host, token).beat(heartbeat(1)) for token in tokens]
    }
    assert len(answers) == 1
    [(code, _, challenge)] = answers
    assert (code, challenge) == (401, 'Bearer realm="dockmesh", error="invalid_token"')


def test_no_token_gets_a_challenge_without_an_error(client: Any, db: None) -> None:
    answer = client.post("/api/v1/agents/heartbeat", data="{}", content_type="application/json")
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="dockmesh"')


def test_the_database_away_is_503_and_not_401(agent: AgentClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    from dockmesh.fleet import agent_views

    def away(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("the connection is gone")

    monkeypatch.setattr(agent_views, "authenticate", away)
    answer = agent.beat(heartbeat(1))
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert b"connection is gone" not in answer.content


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(sorted({*heartbeat(), "host", "host_id", "progress", "extra"}))


@given(KEYS, JSON_VALUES, st.booleans())
def test_whatever_is_sent_is_either_a_heartbeat_or_refused(key: str, value: Any, spaced: bool) -> None:
    document = {**heartbeat(containers=[container("a")]), key: value}
    raw = json.dumps(document, separators=None if spaced else (",", ":")).encode()
    try:
        quick = read_heartbeat(raw)
    except DomainError:
        with pytest.raises(DomainError):
            read_heartbeat(b" " + raw)
    else:
        # The slow way, which the blank forces, agrees with the quick one.
        assert read_heartbeat(b" " + raw) == quick
