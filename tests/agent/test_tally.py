"""What is counted of containers, from events and inspections, whatever is missed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent.tally import Tally

Numbers = tuple[int, int, int, int]


class Host:
    """A Docker host: what it does is told to the tally by events, if it listens, and shows when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.containers: dict[str, dict[str, Any]] = {}
        self.second = 0
        self.is_heard = True
        self.tally = Tally(path)
        self.tally.opened()

    def restart_agent(self) -> None:
        self.tally = Tally(self.path)
        self.is_heard = True
        self.tally.opened()

    def close(self) -> None:
        """The stream of events ends."""
        self.is_heard = False
        self.tally.closed()

    def open(self) -> None:
        self.is_heard = True
        self.tally.opened()

    def say(self, action: str, identity: str, **attributes: str) -> None:
        self.second += 10
        if self.is_heard:
            name = self.containers[identity]["name"] if identity in self.containers else ""
            actor = {"ID": identity, "Attributes": {"name": name, **attributes}}
            self.tally.event(
                {"Type": "container", "Action": action, "Actor": actor, "timeNano": self.second * 10**9}
            )

    def make(self, identity: str, name: str = "web", **changes: Any) -> None:
        self.containers[identity] = {
            "id": identity,
            "name": name,
            "state": "created",
            "exit_code": 0,
            "oom_killed": False,
            "restart_count": 0,
            "stop_signal": "SIGTERM",
            "finished_at": None,
            **changes,
        }
        self.say("create", identity)

    def start(self, identity: str, **changes: Any) -> None:
        """Somebody starts it: Docker's number of restarts begins anew."""
        self.containers[identity] |= {"state": "running", "restart_count": 0, "oom_killed": False, **changes}
        self.say("start", identity)

    def end(self, identity: str, code: int = 1, *, is_oom: bool = False, **changes: Any) -> None:
        if is_oom:
            self.say("oom", identity)
        self.say("die", identity, exitCode=str(code))
        minutes, seconds = divmod(self.second, 60)
        at = f"1970-01-01T00:{minutes:02d}:{seconds:02d}Z"
        ended = {"state": "exited", "exit_code": code, "finished_at": at, "oom_killed": is_oom}
        self.containers[identity] |= ended | changes

    def crash(self, identity: str, code: int = 1, times: int = 1, **how: Any) -> None:
        """It ends and its policy starts it again."""
        for _ in range(times):
            self.end(identity, code, **how)
            number = self.containers[identity]["restart_count"] + 1
            self.start(identity, restart_count=number)

    def stop(self, identity: str, code: int = 143) -> None:
        self.say("kill", identity, signal="15")
        self.end(identity, code)
        self.say("stop", identity)

    def remove(self, identity: str) -> None:
        self.say("destroy", identity)
        del self.containers[identity]

    def wait(self) -> None:
        """Until Docker has nothing more to say of what ended."""
        self.tally._undecided_until = dict.fromkeys(self.tally._undecided_until, 0.0)

    def read(self, *, whole: bool = True) -> dict[str, Numbers]:
        """By name: restarts, harmless exits, errors, kills for memory."""
        self.tally.begin()
        items = [dict(each) for each in self.containers.values()]
        told = self.tally.count(items, self.containers if whole else ())
        return {item["name"]: numbers(item["counts"]) for item in told}

    def epoch(self) -> str:
        self.tally.begin()
        told = self.tally.count([dict(each) for each in self.containers.values()], ())
        return str(told[0]["counts"]["epoch"])


def numbers(counts: dict[str, Any]) -> Numbers:
    return (counts["restarts"], counts["successes"], counts["errors"], counts["oom_kills"])


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host that is watched, and has a container `a` called web that runs."""
    host = Host(tmp_path / "counts.sqlite3")
    host.make("a")
    host.start("a")
    assert host.read() == {"web": (0, 0, 0, 0)}
    return host


def test_what_was_before_anybody_counted_does_not_count(tmp_path: Path) -> None:
    host = Host(tmp_path / "counts.sqlite3")
    host.is_heard = False
    host.make("a")
    host.start("a")
    host.crash("a", times=4)
    host.is_heard = True
    assert host.read() == {"web": (0, 0, 0, 0)}
    host.crash("a")
    assert host.read() == {"web": (1, 0, 1, 0)}


def test_five_crashes_between_two_looks_are_five(host: Host) -> None:
    host.crash("a", times=5)
    assert host.read() == {"web": (5, 0, 5, 0)}
    assert host.read() == {"web": (5, 0, 5, 0)}


def test_a_loop_that_gives_up_has_ended_once_more_than_it_was_restarted(host: Host) -> None:
    host.crash("a", times=3)
    host.end("a")
    assert host.read() == {"web": (3, 0, 4, 0)}


def test_what_people_do_is_no_restart_by_policy(host: Host) -> None:
    host.stop("a")
    host.start("a")
    host.stop("a", code=0)
    host.start("a")
    host.say("kill", "a", signal="9")
    host.end("a", 137)
    assert host.read() == {"web": (0, 3, 0, 0)}
    host.start("a")
    host.end("a", 3)
    assert host.read() == {"web": (0, 3, 1, 0)}
    host.start("a")  # by hand, after it had failed for good
    assert host.read() == {"web": (0, 3, 1, 0)}


def test_restarts_before_somebody_starts_it_are_kept(host: Host) -> None:
    host.crash("a", times=2)
    host.read()
    host.crash("a")
    host.stop("a")
    host.start("a")
    assert host.read() == {"web": (3, 1, 3, 0)}
    host.crash("a")
    assert host.read() == {"web": (4, 1, 4, 0)}


@pytest.mark.parametrize(
    ("code", "stop_signal", "is_harmless"),
    [
        (0, "SIGTERM", True),
        (143, "SIGTERM", True),
        (137, "SIGTERM", True),
        (130, "SIGINT", True),
        (131, "3", True),
        (166, "RTMIN+4", True),
        (191, "SIGRTMAX-1", True),
        (162, "SIGRTMIN", True),
        (165, "SIGRTMIN+3", True),
        (130, "SIGTERM", False),
        (1, "SIGTERM", False),
        (255, "nonsense", False),
    ],
)
def test_ends_are_harmless_as_the_server_has_it(
    tmp_path: Path, code: int, stop_signal: str, is_harmless: bool
) -> None:
    host = Host(tmp_path / "counts.sqlite3")
    host.make("a", stop_signal=stop_signal)
    host.start("a")
    host.end("a", code)
    host.read()
    host.wait()
    assert host.read() == {"web": (0, int(is_harmless), int(not is_harmless), 0)}


def test_kills_for_memory_are_errors(host: Host) -> None:
    host.crash("a", 137, times=2, is_oom=True)
    assert host.read() == {"web": (2, 0, 2, 2)}
    # Of another process in it, which goes on.
    host.say("oom", "a")
    assert host.read() == {"web": (2, 0, 2, 3)}


def test_a_kill_for_memory_is_seen_though_no_event_tells_it_or_a_late_one(host: Host) -> None:
    host.say("die", "a", exitCode="137")
    host.containers["a"] |= {"state": "exited", "exit_code": 137, "oom_killed": True}
    assert host.read() == {"web": (0, 0, 1, 1)}
    host.say("oom", "a")
    assert host.read() == {"web": (0, 0, 1, 1)}


def late_flag(host: Host) -> None:
    host.containers["a"]["oom_killed"] = True


def late_event(host: Host) -> None:
    host.say("oom", "a")


def late_event_and_flag(host: Host) -> None:
    late_event(host)
    late_flag(host)


LATE = pytest.mark.parametrize("tell", [late_flag, late_event, late_event_and_flag])


@LATE
def test_a_kill_for_memory_that_is_told_after_the_end_is_no_success(
    host: Host, tell: Callable[[Host], None]
) -> None:
    host.end("a", 137)
    assert host.read() == {"web": (0, 0, 0, 0)}, "not decided yet"
    tell(host)
    for _ in range(2):
        assert host.read() == {"web": (0, 0, 1, 1)}
        host.wait()
    late_flag(host)
    assert host.read() == {"web": (0, 0, 1, 1)}
    host.start("a")
    host.stop("a", 137)
    assert host.read() == {"web": (0, 1, 1, 1)}


def test_a_kill_for_memory_that_is_told_after_it_runs_again_is_no_success(host: Host) -> None:
    host.crash("a", 137)
    assert host.read() == {"web": (1, 0, 0, 0)}
    late_event(host)
    assert host.read() == {"web": (1, 0, 1, 1)}
    host.stop("a", 137)
    assert host.read() == {"web": (1, 1, 1, 1)}, "what ran again was not killed for memory"


@LATE
def test_a_kill_for_memory_that_is_told_far_too_late_is_counted_all_the_same(
    host: Host, tell: Callable[[Host], None]
) -> None:
    host.end("a", 137)
    host.read()
    host.wait()
    assert host.read() == {"web": (0, 1, 0, 0)}
    tell(host)
    late_flag(host)
    for _ in range(2):
        assert host.read() == {"web": (0, 1, 1, 1)}, "what was told is not taken back"


@pytest.mark.parametrize("is_heard", [True, False])
def test_an_end_that_is_not_decided_outlives_the_agent(host: Host, is_heard: bool) -> None:
    if not is_heard:
        host.close()
    host.end("a", 137)
    assert host.read() == {"web": (0, 0, 0, 0)}
    host.restart_agent()
    assert host.read() == {"web": (0, 0, 0, 0)}
    host.wait()
    assert host.read() == {"web": (0, 1, 0, 0)}
    host.restart_agent()
    assert host.read() == {"web": (0, 1, 0, 0)}


def test_an_end_that_is_not_decided_is_harmless_when_the_container_is_removed(host: Host) -> None:
    host.end("a", 137)
    host.read()
    host.remove("a")
    host.read()
    host.make("b")
    assert host.read() == {"web": (0, 1, 0, 0)}


def test_a_container_made_anew_goes_on_under_its_name(host: Host) -> None:
    host.crash("a", times=2)
    host.stop("a")
    host.remove("a")
    host.make("b")
    host.start("b")
    assert host.read() == {"web": (2, 1, 2, 0)}
    host.crash("b")
    assert host.read() == {"web": (3, 1, 3, 0)}


def test_one_that_lived_between_two_looks_is_counted(host: Host) -> None:
    host.make("b", "job")
    host.start("b")
    host.crash("b", times=2)
    host.end("b", 7)
    host.remove("b")
    host.read()
    host.make("c", "job")
    assert host.read()["job"] == (2, 0, 3, 0)


def test_two_that_swap_names_keep_their_counts(host: Host) -> None:
    host.make("b", "other")
    host.start("b")
    host.crash("a", times=9)
    host.crash("b", times=2)
    assert host.read() == {"web": (9, 0, 9, 0), "other": (2, 0, 2, 0)}
    host.containers["a"]["name"], host.containers["b"]["name"] = "other", "web"
    assert host.read() == {"web": (9, 0, 9, 0), "other": (2, 0, 2, 0)}
    host.crash("a")
    assert host.read() == {"web": (9, 0, 9, 0), "other": (3, 0, 3, 0)}


# What is missed.


def test_what_happens_while_the_agent_is_away_is_made_out(host: Host) -> None:
    host.crash("a")
    epoch = host.epoch()
    host.read()
    host.is_heard = False
    host.crash("a", times=3)
    host.restart_agent()
    assert host.read() == {"web": (4, 0, 4, 0)}
    assert host.epoch() == epoch
    host.is_heard = False
    host.end("a", 0)
    host.restart_agent()
    assert host.read() == {"web": (4, 1, 4, 0)}
    host.restart_agent()
    assert host.read() == {"web": (4, 1, 4, 0)}


def test_an_end_by_memory_while_the_agent_is_away(host: Host) -> None:
    host.is_heard = False
    host.end("a", 137, is_oom=True)
    host.restart_agent()
    assert host.read() == {"web": (0, 0, 1, 1)}


def test_one_that_was_made_while_the_agent_was_away_counts_from_its_beginning(host: Host) -> None:
    host.is_heard = False
    host.remove("a")
    host.make("b")
    host.start("b")
    host.crash("b", times=2)
    host.restart_agent()
    assert host.read() == {"web": (2, 0, 2, 0)}


def test_a_stream_that_was_cut_counts_nothing_twice(host: Host) -> None:
    host.crash("a")
    host.close()
    host.crash("a")
    host.open()
    host.crash("a", times=2)
    assert host.read() == {"web": (4, 0, 4, 0)}
    host.crash("a")
    assert host.read() == {"web": (5, 0, 5, 0)}


def test_an_event_of_an_end_that_was_seen_already_is_not_counted(host: Host) -> None:
    host.close()
    host.end("a", 1)
    host.open()
    assert host.read() == {"web": (0, 0, 1, 0)}
    host.second -= 10
    host.say("die", "a", exitCode="1")
    assert host.read() == {"web": (0, 0, 1, 0)}
    host.start("a")
    host.end("a", 1)
    assert host.read() == {"web": (0, 0, 2, 0)}


def test_without_events_the_looks_alone_count(host: Host) -> None:
    host.close()
    host.crash("a", times=2)
    assert host.read() == {"web": (2, 0, 2, 0)}
    host.end("a", 3)
    assert host.read() == {"web": (2, 0, 3, 0)}
    assert host.read() == {"web": (2, 0, 3, 0)}
    host.start("a")
    host.stop("a")
    assert host.read() == {"web": (2, 1, 3, 0)}


def test_without_inspections_the_events_alone_count(host: Host) -> None:
    host.crash("a", times=2)
    assert host.read(whole=False)["web"][2] == 2


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        {},
        {"Type": "image", "Action": "die", "Actor": {"ID": "a"}},
        {"Type": "container", "Action": "die"},
        {"Type": "container", "Action": "die", "Actor": {"ID": 5}},
        {"Type": "container", "Action": "die", "Actor": []},
        {"Type": "container", "Action": ["die"], "Actor": {"ID": "a", "Attributes": []}},
    ],
)
def test_what_is_no_event_counts_nothing(host: Host, event: object) -> None:
    host.tally.event(event)
    assert host.read() == {"web": (0, 0, 0, 0)}


# The file.


def test_a_damaged_file_begins_anew(host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    host.crash("a")
    host.read()
    epoch = host.epoch()
    host.path.write_bytes(b"no database" * 1000)
    host.restart_agent()
    assert "counted anew" in caplog.text
    assert host.read() == {"web": (0, 0, 0, 0)}
    assert host.epoch() != epoch


def test_what_can_not_be_kept_is_not_told_yet(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_self: Tally) -> None:
        raise sqlite3.OperationalError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Tally, "_write", fail)
        host.crash("a", times=2)
        assert host.read() == {"web": (0, 0, 0, 0)}
        host.read()
    assert caplog.text.count("disk is full") == 1
    assert host.read() == {"web": (2, 0, 2, 0)}


def test_another_host_begins_anew(host: Host) -> None:
    host.crash("a")
    host.read()
    epoch = host.epoch()
    host.tally.forget_all()
    (told,) = host.tally.anew([host.containers["a"]])
    assert numbers(told["counts"]) == (0, 0, 0, 0)
    assert told["counts"]["epoch"] != epoch
    host.restart_agent()
    assert host.read() == {"web": (0, 0, 0, 0)}
    host.crash("a")
    assert host.read() == {"web": (1, 0, 1, 0)}


def test_a_name_is_kept_for_thirty_days(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.crash("a")
    host.remove("a")
    host.make("b", "other")
    host.read()
    now = time.time()
    for days, kept in ((29.0, 1), (31.0, 0)):
        monkeypatch.setattr(time, "time", lambda days=days: now + days * 86400)
        host.read()
        (told,) = host.tally.anew([{**host.containers["b"], "name": "web"}])
        assert told["counts"]["restarts"] == kept


def test_a_kill_that_docker_never_tells_by_its_flag_is_told(host: Host) -> None:
    """Docker sets the flag with the end; where the kernel's word comes later, there is but the event."""

    def is_killed() -> bool:
        host.tally.begin()
        (told,) = host.tally.count([dict(each) for each in host.containers.values()], host.containers)
        return bool(told["oom_killed"])

    host.make("a")
    host.start("a")
    assert not is_killed()
    host.end("a", 137)
    host.say("oom", "a")
    assert is_killed()
    assert is_killed()
    host.start("a")
    assert not is_killed()
    host.say("oom", "a")
    host.end("a", 0)
    assert not is_killed()
