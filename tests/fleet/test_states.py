"""The state of a stack, as the contract's section 6 has it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from dockmesh.fleet.states import stack_state


@dataclass(frozen=True)
class C:
    """A container."""

    service: str
    state: str = "running"
    exit_code: int = 0
    health: str = ""
    is_oom_killed: bool = False
    name: str = "x"


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
