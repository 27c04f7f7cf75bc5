"""Reading a container's log through the server: the agent and the reader are played by the test, in one thread."""

from __future__ import annotations

import datetime
import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError

from dockmesh.audit.models import AuditEntry
from dockmesh.core import clock
from dockmesh.core.errors import NotFound, TooMany, Unanswered
from dockmesh.fleet import commands
from dockmesh.fleet.models import AgentCommand, Container, HeartbeatState, Host, LogPiece, LogSession
from dockmesh.fleet.services import logs
from dockmesh.fleet.services.logs import LogOptions
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import container, heartbeat
from tests.fleet.test_api import Api
from tests.fleet.test_container_actions import fetched, report
from tests.fleet.test_heartbeat import whole
from tokens.principals import SYSTEM

pytestmark = pytest.mark.django_db
ACTOR = SYSTEM.actor
Step = Callable[[], object]


@pytest.fixture
def api() -> Api:
    return Api("operator")


@pytest.fixture
def web(agent: AgentClient) -> Container:
    agent.beat(whole(1, container("a" * 64, name="web-1")))
    agent.beat(heartbeat(2, agent={"version": "0.2.0", "capabilities": ["logs", "containers"]}))
    return Container.objects.get()


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """What happens each time that the reader waits, one step after the other."""
    steps: list[Step] = []

    def sleep(seconds: float) -> None:
        assert steps, "the reader waits, and nothing is to happen any more"
        steps.pop(0)()

    monkeypatch.setattr("dockmesh.fleet.services.logs.time.sleep", sleep)
    yield lambda *more: steps.extend(more)
    assert not steps


class Sender:
    """The agent's side of one reading."""

    def __init__(self, agent: AgentClient) -> None:
        self.agent = agent
        self.number = 0
        self.offer: dict[str, Any] = {}

    def fetch(self) -> None:
        self.offer = fetched(self.agent)

    def send(self, text: str) -> Any:
        answer = self.agent.post(
            f"logs/{self.offer['payload']['session']}", {"number": self.number, "text": text}
        )
        assert answer.status_code == 200, answer.content
        self.number += 1
        return answer.json()

    def end(self, **result: Any) -> None:
        report(self.agent, self.offer["id"], **result)


def body(answer: Any) -> str:
    return b"".join(answer.streaming_content).decode() if answer.streaming else str(answer.content)


def is_nothing_left() -> bool:
    return not LogSession.objects.exists() and not LogPiece.objects.exists()


def test_a_log_is_read_to_its_end_and_nothing_of_it_stays(
    api: Api, agent: AgentClient, web: Container, meanwhile: Callable[..., None]
) -> None:
    sender = Sender(agent)
    meanwhile(sender.fetch, lambda: sender.send("one\n"), lambda: sender.send("two\nthree\n"), sender.end)
    answer = api("GET", f"containers/{web.pk}/logs")
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["Cache-Control"] == "no-store"
    assert body(answer) == "one\ntwo\nthree\n"
    assert is_nothing_left()
    payload = sender.offer["payload"]
    assert sender.offer["kind"] == "container-logs"
    assert {key: payload[key] for key in ("container", "name", "tail", "is_following", "most_bytes")} == {
        "container": "a" * 64,
        "name": "web-1",
        "tail": 500,
        "is_following": False,
        "most_bytes": 10 * 1024 * 1024,
    }
    entry = AuditEntry.objects.get(action="container.logs_read")
    assert (entry.actor_kind, entry.target_name) == ("token", "web-1")
    assert entry.changes == {"lines": 500, "host": "web", "is_following": False}


def test_what_is_asked_for_reaches_the_agent(
    api: Api, agent: AgentClient, web: Container, meanwhile: Callable[..., None]
) -> None:
    sender = Sender(agent)
    meanwhile(sender.fetch, sender.end)
    query = "tail=7&since=2026-11-22T12:00:00Z&follow=true&stdout=0&timestamps=1&search=a%20b&ansi=true"
    assert body(api("GET", f"containers/{web.pk}/logs?{query}")) == ""
    payload = sender.offer["payload"]
    assert (payload["tail"], payload["is_following"], payload["stdout"], payload["stderr"]) == (
        7,
        True,
        False,
        True,
    )
    assert (payload["timestamps"], payload["search"], payload["shows_ansi"]) == (True, "a b", True)
    assert payload["since"] == datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC).timestamp()
    assert AuditEntry.objects.get(action="container.logs_read").changes["since"] == "2026-11-22T12:00:00Z"


def test_how_long_ago_is_by_the_hosts_clock(web: Container) -> None:
    HeartbeatState.objects.update(clock_skew_seconds=3600.0)
    logs.open_log(actor=ACTOR, container_id=web.pk, options=LogOptions(since="10m"))
    payload = AgentCommand.objects.get().payload
    expected = clock.now().timestamp() + 3600 - 600
    assert abs(payload["since"] - expected) < 60


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("tail=-1", "tail"),
        ("tail=10001", "tail"),
        ("tail=all", "tail"),
        ("tail=9999999999", "tail"),
        ("since=yesterday", "since"),
        ("since=2026-11-22T12:00:00", "since"),
        ("since=9999-12-31T23:59:59-12:00", "since"),
        ("follow=maybe", "follow"),
        ("stdout=false&stderr=false", "stdout"),
        (f"search={'x' * 201}", "search"),
        ("search=%00", "search"),
        ("tail=1&tail=2", "tail"),
        ("lines=5", "lines"),
    ],
)
def test_what_can_not_be_meant_is_refused_by_name(api: Api, web: Container, query: str, field: str) -> None:
    answer = api("GET", f"containers/{web.pk}/logs?{query}")
    assert answer.status_code == 400, answer
    assert field in answer.json()["errors"]
    assert is_nothing_left()


def test_it_takes_its_own_permission(web: Container) -> None:
    assert Api("viewer")("GET", f"containers/{web.pk}/logs").status_code == 403
    assert is_nothing_left()


def test_why_there_is_no_log_is_told(
    api: Api, agent: AgentClient, web: Container, meanwhile: Callable[..., None]
) -> None:
    sender = Sender(agent)
    why = "web-1 has no log: its log driver is none, so that Docker keeps nothing of it"
    meanwhile(sender.fetch, lambda: sender.end(result="failure", error=why))
    answer = api("GET", f"containers/{web.pk}/logs")
    assert (answer.status_code, answer.json()["detail"]) == (409, f"Web-1 has{why[9:]}")
    assert is_nothing_left()


def test_what_ends_it_before_its_end_is_its_last_line(
    api: Api, agent: AgentClient, web: Container, meanwhile: Callable[..., None]
) -> None:
    sender = Sender(agent)
    meanwhile(
        sender.fetch,
        lambda: sender.send("one\n"),
        lambda: sender.end(result="failure", error="10 MB are read"),
    )
    assert body(api("GET", f"containers/{web.pk}/logs?follow=1")) == "one\n[10 MB are read]\n"


def test_an_agent_that_goes_away_in_mid_stream_is_told(
    api: Api, agent: AgentClient, web: Container, meanwhile: Callable[..., None]
) -> None:
    sender = Sender(agent)

    def time_passes() -> None:
        LogSession.objects.update(heard_at=clock.now() - logs.SILENCE - datetime.timedelta(seconds=1))

    meanwhile(sender.fetch, lambda: sender.send("one\n"), time_passes)
    answer = api("GET", f"containers/{web.pk}/logs?follow=1")
    assert body(answer) == "one\n[The agent of web is not heard any more: this may not be all.]\n"
    # Should it come back, it is told that nobody reads any more.
    again = agent.post(f"logs/{sender.offer['payload']['session']}", {"number": 1, "text": "x"})
    assert again.status_code == 404


@pytest.mark.parametrize(
    ("what", "word"),
    [
        (lambda: Host.objects.all().delete(), "[This reading of the log is over.]"),
        (lambda: LogSession.objects.all().delete(), "[This reading of the log is over.]"),
    ],
    ids=["host", "session"],
)
def test_what_is_removed_in_mid_stream_ends_it_with_a_word(
    api: Api, agent: AgentClient, web: Container, meanwhile: Callable[..., None], what: Step, word: str
) -> None:
    sender = Sender(agent)
    meanwhile(sender.fetch, lambda: sender.send("one\n"), what)
    assert body(api("GET", f"containers/{web.pk}/logs?follow=1")) == f"one\n{word}\n"


def test_a_database_that_goes_away_in_mid_stream_is_told(
    api: Api,
    agent: AgentClient,
    web: Container,
    meanwhile: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sender = Sender(agent)

    def away(**_: object) -> None:
        raise OperationalError("away")

    meanwhile(
        sender.fetch,
        lambda: sender.send("one\n"),
        lambda: monkeypatch.setattr("dockmesh.fleet.services.logs.read_log", away),
    )
    answer = api("GET", f"containers/{web.pk}/logs?follow=1")
    assert body(answer) == "one\n[The database does not answer: this is not all.]\n"


def test_an_agent_that_never_answers_is_a_gateway_that_timed_out(
    api: Api, web: Container, meanwhile: Callable[..., None]
) -> None:
    long_ago = clock.now() - logs.FIRST_WORD - datetime.timedelta(seconds=1)
    meanwhile(lambda: LogSession.objects.update(opened_at=long_ago))
    answer = api("GET", f"containers/{web.pk}/logs")
    assert (answer.status_code, answer.json()["detail"]) == (504, "The agent of web has not answered.")
    assert is_nothing_left()


def test_a_reader_who_has_hung_up_ends_it(
    agent: AgentClient, web: Container, meanwhile: Callable[..., None]
) -> None:
    sender = Sender(agent)
    meanwhile(sender.fetch, lambda: sender.send("one\n"))
    gone = iter([False, False, True])
    stream = logs.LogStream(
        actor=ACTOR, container_id=web.pk, options=LogOptions(follow=True), is_gone=lambda: next(gone)
    )
    assert list(stream) == ["one\n"]
    stream.close()
    assert is_nothing_left()


def test_readers_that_hold_a_thread_are_few(api: Api, agent: AgentClient, web: Container) -> None:
    def opened() -> logs.LogStream:
        # It is not read: only its first look is done.
        return logs.LogStream(actor=ACTOR, container_id=web.pk, options=LogOptions(), seconds=0)

    held = [logs._readers.acquire(blocking=False) for _ in range(2)]
    try:
        answer = api("GET", f"containers/{web.pk}/logs")
        assert answer.status_code == 503
        assert answer["Retry-After"] == "5"
    finally:
        for _ in held:
            logs._readers.release()
    with pytest.raises(Unanswered):
        opened()
    assert logs._readers._value == 2
    assert is_nothing_left()


def test_of_one_host_only_some_logs_are_read_at_once(api: Api, web: Container) -> None:
    for _ in range(logs.MOST_OF_A_HOST):
        session = logs.open_log(actor=ACTOR, container_id=web.pk, options=LogOptions())
    answer = api("GET", f"containers/{web.pk}/logs")
    assert answer.status_code == 429
    assert answer.json()["detail"].startswith("4 logs of web are being read already")
    logs.close_log(session_id=session.uuid)
    logs.open_log(actor=ACTOR, container_id=web.pk, options=LogOptions())
    with pytest.raises(TooMany):
        logs.open_log(actor=ACTOR, container_id=web.pk, options=LogOptions())


def opened(agent: AgentClient, web: Container) -> tuple[LogSession, Sender]:
    session = logs.open_log(actor=ACTOR, container_id=web.pk, options=LogOptions(follow=True))
    sender = Sender(agent)
    sender.fetch()
    return session, sender


def read(session: LogSession, after: int = 0) -> logs.LogRead:
    return logs.read_log(actor=ACTOR, session_id=session.uuid, after=after)


def test_pieces_lie_encrypted_and_go_as_they_are_read(agent: AgentClient, web: Container) -> None:
    session, sender = opened(agent, web)
    sender.send("password=secret\n")
    sender.send("")
    sender.send("two\n")
    assert "secret" not in "".join(LogPiece.objects.values_list("encrypted_text", flat=True))
    found = read(session)
    assert (found.text, found.next, found.is_ended) == ("password=secret\ntwo\n", 3, False)
    # What was lost on the way to the browser is read again; what the browser has is gone.
    assert read(session).text == found.text
    assert read(session, 3).text == ""
    assert not LogPiece.objects.exists()


def test_a_piece_that_comes_again_counts_once_and_none_may_be_missing(
    agent: AgentClient, web: Container
) -> None:
    session, sender = opened(agent, web)
    path = f"logs/{sender.offer['payload']['session']}"
    for _ in range(2):
        answer = agent.post(path, {"number": 0, "text": "one\n"})
        assert answer.json() == {"status": "go_on", "pause_seconds": 0.0}
    assert agent.post(path, {"number": 2, "text": "three\n"}).status_code == 409
    assert read(session).text == "one\n"


def test_an_agent_whose_reader_lags_is_slowed_and_one_without_a_reader_ends(
    agent: AgentClient, web: Container
) -> None:
    _, sender = opened(agent, web)
    pauses = [sender.send("x\n")["pause_seconds"] for _ in range(logs.MOST_UNREAD)]
    assert pauses == [0.0] * (logs.MOST_UNREAD - 1) + [logs.PAUSE_SECONDS]
    LogSession.objects.update(read_at=clock.now() - logs.UNREAD - datetime.timedelta(seconds=1))
    assert sender.send("x\n") == {"status": "end"}
    logs.forget_logs()
    assert is_nothing_left()


def test_no_more_lies_here_than_the_most_of_a_reading(agent: AgentClient, web: Container) -> None:
    _, sender = opened(agent, web)
    LogSession.objects.update(bytes=logs.MOST_BYTES + 1)
    sender.send("too much\n")
    assert not LogPiece.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"number": -1, "text": ""}, "number"),
        ({"number": True, "text": ""}, "number"),
        ({"number": 0}, "text"),
        ({"number": 0, "text": 1}, "text"),
        ({"number": 0, "text": "\x00"}, "text"),
        ({"number": 0, "text": "\x1b[0m"}, "text"),
        ({"number": 0, "text": "x" * (512 * 1024 + 1)}, "text"),
        ([], "body"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_piece_that_is_wrong_is_refused_whole(
    agent: AgentClient, web: Container, body: Any, field: str
) -> None:
    _, sender = opened(agent, web)
    answer = agent.post(f"logs/{sender.offer['payload']['session']}", body)
    assert answer.status_code == 400
    assert field in answer.json()["errors"]
    assert not LogPiece.objects.exists()


def test_nobody_else_sends_or_reads(agent: AgentClient, other_agent: AgentClient, web: Container) -> None:
    session, sender = opened(agent, web)
    path = f"logs/{sender.offer['payload']['session']}"
    assert other_agent.post(path, {"number": 0, "text": "x"}).status_code == 404
    assert agent.post("logs/nothing", {"number": 0, "text": "x"}).status_code == 404
    assert agent.post(path, {"number": 0, "text": "x"}, headers={"Authorization": ""}).status_code == 401
    other = itertools.count(5)
    with pytest.raises(NotFound):
        logs.read_log(
            actor=type(ACTOR)("user", str(next(other)), "somebody"), session_id=session.uuid, after=0
        )
    with pytest.raises(NotFound):
        logs.read_log(actor=ACTOR, session_id=uuid.uuid4(), after=0)


def test_a_command_that_expires_ends_the_reading(agent: AgentClient, web: Container) -> None:
    session, _ = opened(agent, web)
    commands.end_all("The agent did not report a result in time.")
    found = read(session)
    assert (found.is_ended, found.error) == (True, "The agent did not report a result in time.")
    with pytest.raises(NotFound):
        read(session)
