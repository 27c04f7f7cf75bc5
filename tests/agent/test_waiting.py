"""The request that the agent keeps waiting at the server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dockmesh.agent import waiting
from dockmesh.agent.client import Answer
from dockmesh.agent.errors import ServerError
from tests.integration.agent_process import AgentProcess
from tests.integration.stubserver import StubServer

COMMAND = {"id": 7, "kind": "nothing of this kind", "payload": {}}


class Script:
    """A client whose answers are written down, and what became of each."""

    def __init__(self, *answers: Answer | ServerError) -> None:
        self.answers = list(answers)
        self.token = "first"
        self.submitted: list[object] = []
        self.waiting = waiting.Waiting(
            self,  # type: ignore[arg-type]
            token=lambda: self.token,
            submit=self.submitted.append,
        )

    def post(self, path: str, body: object, *, token: str, read_seconds: float) -> Answer:
        assert (path, body) == ("wait", {})
        answer = self.answers.pop(0)
        if isinstance(answer, ServerError):
            raise answer
        return answer

    def pauses(self) -> list[float]:
        return [self.waiting._ask() for _ in range(len(self.answers))]


def nothing(seconds: float) -> Answer:
    return Answer({"commands": []}, seconds)


def test_a_command_reaches_the_agent_without_a_heartbeat(
    server: StubServer, start_agent: Callable[..., AgentProcess]
) -> None:
    start_agent()
    server.wait_for(lambda request: request.path == "heartbeat")
    server.hand(COMMAND)
    assert server.wait_for(lambda request: request.path == "commands/7/result").body["result"] == "failure"
    # It came again with a heartbeat, for an answer may be lost, and is not carried out twice.
    server.commands.append(COMMAND)
    server.wait_for(lambda request: request.path == "wait")


def test_after_an_answer_it_asks_again_at_once() -> None:
    assert Script(nothing(25), Answer({"commands": [COMMAND]}, 0.1), nothing(25)).pauses() == [0, 0, 0]


def test_a_server_that_lets_nothing_wait_is_asked_less_and_less() -> None:
    pauses = Script(*[nothing(0.01)] * 8, nothing(25), nothing(0.01)).pauses()
    assert all(pause > 0 for pause in pauses[:8])
    assert 15 <= pauses[7] <= 30
    assert pauses[8] == 0
    assert pauses[9] <= 1


@pytest.mark.parametrize("status", [404, 405])
def test_an_old_server_is_hardly_asked(status: int) -> None:
    assert Script(ServerError("no such page", status=status)).pauses()[0] > 200


def test_a_refused_credential_is_not_tried_over_and_over() -> None:
    assert Script(ServerError("no", status=401)).pauses()[0] > 40


def test_failures_are_backed_off_from_and_a_busy_server_is_heeded() -> None:
    first, second = Script(ServerError("away"), ServerError("busy", status=503, retry_after=20.0)).pauses()
    assert 0.5 <= first <= 1
    assert second >= 20


def test_a_proxy_that_cuts_what_waits_is_asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr("dockmesh.agent.waiting.time.monotonic", lambda: next(now))
    assert all(pause <= 1.5 for pause in Script(*[ServerError("cut")] * 5).pauses())


def test_what_the_host_of_before_was_handed_is_nobodys() -> None:
    script = Script(Answer({"commands": [COMMAND]}, 3))
    tokens = iter(["first", "second"])
    script.waiting._token = lambda: next(tokens)
    script.pauses()
    assert not script.submitted


def test_an_answer_that_is_not_as_it_should_be_harms_nobody() -> None:
    assert Script(Answer({}, 25), Answer({"commands": "x"}, 25)).pauses() == [0, 0]
