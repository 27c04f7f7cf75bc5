"""Programs run with a time limit, in a process group of their own."""

import os
import selectors
import subprocess
import threading
import time
from pathlib import Path

import pytest

from dockmesh.agent import process
from dockmesh.agent.process import Cancellation, Ended, environment, run


def shell(script: str, *, seconds: float = 20, cancelled: Cancellation | None = None) -> tuple[Ended, str]:
    pieces: list[str] = []
    ended = run(
        ["sh", "-c", script],
        env=environment(),
        on_output=pieces.append,
        deadline=time.monotonic() + seconds,
        cancelled=cancelled or Cancellation(),
    )
    return ended, "".join(pieces)


def test_output_and_errors_come_together_with_the_exit_code() -> None:
    assert shell("echo out; echo err >&2; exit 3") == (Ended(3, ""), "out\nerr\n")


def test_output_comes_while_the_program_runs() -> None:
    seen = threading.Event()
    thread = threading.Thread(
        target=run,
        args=(["sh", "-c", "echo early; sleep 5"],),
        kwargs={
            "env": environment(),
            "on_output": lambda text: seen.set(),
            "deadline": time.monotonic() + 2,
            "cancelled": Cancellation(),
        },
    )
    thread.start()
    assert seen.wait(1.5)
    thread.join()


def test_the_time_limit_stops_the_program_and_its_children(tmp_path: Path) -> None:
    started = time.monotonic()
    ended, _ = shell(f"sleep 300 & echo $! > {tmp_path}/child; wait", seconds=0.5)
    assert ended.reason == "time limit reached"
    assert time.monotonic() - started < 5
    child = int((tmp_path / "child").read_text())
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(child)], capture_output=True, text=True).stdout
    assert state.strip()[:1] in ("", "Z")


def test_who_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.5)
    started = time.monotonic()
    ended, output = shell("trap 'echo no' TERM; while :; do sleep 0.1; done", seconds=0.5)
    assert ended == Ended(-9, "time limit reached")
    assert "no" in output
    assert time.monotonic() - started < 5


def test_a_stop_of_the_agent_stops_the_program() -> None:
    cancelled = Cancellation()
    threading.Timer(0.3, cancelled.set).start()
    ended, _ = shell("sleep 300", cancelled=cancelled)
    assert ended.reason == "stopped with the agent"


@pytest.mark.alone
def test_a_daemon_that_keeps_the_pipe_open_does_not_hold_the_command() -> None:
    started = time.monotonic()
    ended, output = shell("setsid sleep 3 & echo done")
    assert (ended.exit_code, output) == (0, "done\n")
    assert time.monotonic() - started < 2


def test_what_it_writes_at_the_very_end_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes and ends just after a look at its pipe has found nothing; a grandchild keeps the pipe open."""
    go = tmp_path / "go"

    class Selector(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            ready = super().select(timeout)
            if not ready and not go.exists():
                go.touch()
                child = int((tmp_path / "child").read_text())
                os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
            return ready

    monkeypatch.setattr("dockmesh.agent.process.selectors.DefaultSelector", Selector)
    script = f"echo $$ > {tmp_path}/child; sleep 3 & while [ ! -e {go} ]; do sleep 0.01; done; echo last words; exit 7"
    assert shell(script, seconds=10) == (Ended(7, ""), "last words\n")


def test_a_program_that_is_not_there_is_named() -> None:
    ended = run(
        ["/no/such/program"],
        env={},
        on_output=lambda _: None,
        deadline=time.monotonic() + 1,
        cancelled=Cancellation(),
    )
    assert ended == Ended(None, "/no/such/program can't be started: No such file or directory")


def test_the_agents_own_environment_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKMESH_AGENT_ENROLLMENT_TOKEN", "hidden")
    monkeypatch.setenv("SECRET", "hidden")
    assert "hidden" not in shell("env")[1]
    assert os.environ["PATH"] in shell("env")[1]
