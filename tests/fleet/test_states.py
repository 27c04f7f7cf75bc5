"""The state of a stack, as the contract's section 6 has it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from msgspec import UNSET, UnsetType

from dockmesh.fleet.states import signal_number, stack_state


@dataclass(frozen=True)
class C:
    """A container."""

    service: str
    state: str = "running"
    exit_code: int = 0
    health: str = ""
    is_oom_killed: bool = False
    name: str = "x"
    restart_policy: str | UnsetType = UNSET
    is_oneoff: bool | UnsetType = UNSET
    stop_signal: str | UnsetType = UNSET
    error: str | UnsetType = UNSET


@pytest.mark.parametrize(
    ("containers", "state"),
    [
        ([], "stopped"),
        ([C("web")], "running"),
        ([C("web"), C("job", "exited", 0)], "running"),
        ([C("web"), C("db", "exited", 143)], "partial"),
        ([C("web"), C("db", "exited", 137)], "partial"),
        ([C("web"), C("db", "created")], "partial"),
        ([C("web"), C("db", "paused")], "partial"),
        ([C("web"), C("web", "exited", 143)], "running"),
        ([C("web", "exited", 0), C("db", "exited", 0)], "stopped"),
        ([C("web", "exited", 137)], "stopped"),
        ([C("web", "exited", 1)], "error"),
        ([C("web"), C("db", "dead")], "error"),
        ([C("web"), C("db", "restarting")], "error"),
        ([C("web", health="unhealthy")], "error"),
        # Docker calls each stopped container with a health check unhealthy.
        ([C("web", "exited", 0, health="unhealthy")], "stopped"),
        ([C("web", "exited", 137, is_oom_killed=True)], "error"),
        # A child of it was killed for memory, or it was and runs again.
        ([C("web", is_oom_killed=True)], "running"),
        ([C("web", "paused", is_oom_killed=True)], "stopped"),
        # Of `docker compose run`: neither way, however it is.
        ([C("web"), C("web", "exited", 1, is_oneoff=True)], "running"),
        ([C("web"), C("job", "dead", is_oneoff=True)], "running"),
        ([C("web"), C("job", "created", is_oneoff=True)], "running"),
        ([C("web", "exited", 143), C("job", is_oneoff=True)], "stopped"),
        ([C("job", "exited", 1, is_oneoff=True)], "stopped"),
        # Ended by itself, though it was meant to run.
        ([C("db"), C("web", "exited", 0, restart_policy="unless-stopped")], "partial"),
        ([C("db"), C("web", "exited", 0, restart_policy="always")], "partial"),
        ([C("web", "exited", 0, restart_policy="always")], "stopped"),
        ([C("db"), C("job", "exited", 0, restart_policy="on-failure")], "running"),
        ([C("db"), C("job", "exited", 0, restart_policy="no")], "running"),
        # Docker could not start it: an exit code, or a reason.
        ([C("db"), C("web", "created", 128)], "error"),
        ([C("db"), C("web", "created", error="port is already allocated")], "error"),
        # Stopped by the signal that its image asks for.
        ([C("web", "exited", 130, stop_signal="SIGINT")], "stopped"),
        ([C("web", "exited", 131, stop_signal="quit")], "stopped"),
        ([C("web", "exited", 130, stop_signal="2")], "stopped"),
        ([C("web", "exited", 165, stop_signal="SIGRTMIN+3")], "stopped"),
        ([C("db"), C("web", "exited", 130, stop_signal="SIGINT")], "partial"),
        ([C("web", "exited", 130, stop_signal="SIGQUIT")], "error"),
        ([C("web", "exited", 130)], "error"),
        ([C("web", "exited", 1, stop_signal="nonsense")], "error"),
        ([C("web", "exited", 128, stop_signal="0")], "error"),
        ([C("web", "exited", 130, stop_signal="SIGINT", is_oom_killed=True)], "error"),
        ([C("web", health="starting")], "running"),
        ([C("", name="a"), C("", "created", name="b")], "partial"),
    ],
)
def test_the_containers_decide(containers: list[C], state: str) -> None:
    assert stack_state(containers, is_deploying=False, has_failed_deploy=False) == state


def test_a_deploy_comes_first_and_a_failed_one_stays() -> None:
    dead = [C("web", "dead")]
    assert stack_state(dead, is_deploying=True, has_failed_deploy=True) == "deploying"
    assert stack_state([C("web")], is_deploying=False, has_failed_deploy=True) == "error"


@pytest.mark.parametrize(
    ("signal", "number"),
    [
        ("SIGTERM", 15),
        ("sigint", 2),
        ("WINCH", 28),
        ("9", 9),
        ("SIGRTMAX-14", 50),
        ("RTMIN", 34),
        ("SIGPOLL", 29),
        ("SIG", None),
        ("", None),
        ("²", None),
        ("-1", None),
    ],
)
def test_signals_have_the_numbers_that_they_have_on_a_docker_host(signal: str, number: int | None) -> None:
    assert signal_number(signal) == number
