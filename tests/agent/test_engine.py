"""What is known of a Docker Engine that answers as today's do, through a proxy, badly, or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent import inspection, listing, watcher
from dockmesh.agent.document import Snapshot
from dockmesh.agent.events import EventReader, concerns
from dockmesh.agent.tally import Tally
from dockmesh.agent.watcher import EngineWatcher
from tests.agent.engines import FORBIDDEN, StandIn, stand_in
from tests.integration.agent_process import AgentProcess
from tests.integration.stubserver import StubServer
from tests.support import require

SECONDS = 10.0


class Watched:
    """A watcher, and all that it has known."""

    def __init__(self, engine: StandIn, folder: Path) -> None:
        self.engine = engine
        self.snapshots: list[Snapshot] = []
        self._guard = threading.Condition()
        self.watcher = EngineWatcher(engine.host, Tally(folder / "counts.sqlite3"), on_change=self._changed)
        self.watcher.start()

    def _changed(self) -> None:
        with self._guard:
            self.snapshots.append(self.watcher.snapshot)
            self._guard.notify_all()

    def wait(self, wanted: Callable[[Snapshot], object], *, seconds: float = SECONDS) -> Snapshot:
        """The latest snapshot, once it is `wanted`."""
        with self._guard:
            assert self._guard.wait_for(lambda: self.snapshots and wanted(self.snapshots[-1]), seconds), (
                f"not within {seconds} s; last: {self.snapshots[-1:]}"
            )
            return self.snapshots[-1]

    def wait_for(self, name: str, **expected: object) -> Snapshot:
        """Wait until the container of this name is as expected."""
        return self.wait(
            lambda snapshot: all(named(snapshot, name).get(key) == value for key, value in expected.items())
        )

    @property
    def was_always_online(self) -> bool:
        return all(each.reachable and each.containers is not None for each in self.snapshots)


def named(snapshot: Snapshot, name: str) -> dict[str, Any]:
    return next((each for each in snapshot.containers or () if each["name"] == name), {})


@pytest.fixture
def engine() -> Iterator[StandIn]:
    with stand_in() as engine:
        yield engine


@pytest.fixture
def watch(engine: StandIn, tmp_path: Path) -> Iterator[Callable[[], Watched]]:
    started: list[Watched] = []

    def start() -> Watched:
        started.append(Watched(engine, tmp_path))
        return started[-1]

    yield start
    for each in started:
        each.watcher.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes come often, so that a test needn't wait for one."""
    monkeypatch.setattr(watcher, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(watcher, "POLL_SECONDS", 0.3)


def sick(engine: StandIn, identity: str) -> None:
    engine.containers[identity]["State"]["Health"] = {"Status": "unhealthy"}


EVENT = {"Type": "container", "Action": "health_status: unhealthy", "scope": "local", "time": 1790000000}


@pytest.mark.parametrize(
    "event",
    [
        lambda identity: EVENT | {"Actor": {"ID": identity, "Attributes": {"name": "web"}}},
        lambda identity: EVENT | {"id": identity, "status": "health_status: unhealthy", "from": "nginx"},
        lambda identity: {"Type": "container", "Action": "quite-new", "Actor": {"ID": identity}},
        lambda identity: {"Type": "something-new", "Action": "x", "Actor": {}},
        lambda identity: {"Type": "container", "Action": "update", "Actor": None},
        lambda identity: {},
        lambda identity: b"[]\n",
        lambda identity: b"not JSON\n",
        lambda identity: b'{"Type": "container", "Act' + b"\n",
    ],
    ids=[
        "1.52",
        "1.51",
        "unknown action",
        "unknown type",
        "no actor",
        "empty",
        "no object",
        "no JSON",
        "half",
    ],
)
def test_each_event_that_may_mean_something_is_followed_by_a_look(
    engine: StandIn, watch: Callable[[], Watched], event: Callable[[str], Any]
) -> None:
    web = engine.add(1, "web", Health={"Status": "healthy"})
    watched = watch()
    watched.wait_for("web", health="healthy")
    sick(engine, web)
    engine.say(event(web))
    watched.wait_for("web", health="unhealthy")
    assert watched.was_always_online
    assert engine.streams == 1


def test_a_stream_without_chunks_is_followed_too(engine: StandIn, watch: Callable[[], Watched]) -> None:
    engine.is_chunked = False
    web = engine.add(1, "web", Health={"Status": "healthy"})
    watched = watch()
    watched.wait_for("web", health="healthy")
    for health in ("unhealthy", "healthy"):
        engine.containers[web]["State"]["Health"] = {"Status": health}
        engine.say(EVENT | {"Actor": {"ID": web}})
        watched.wait_for("web", health=health)
    assert engine.streams == 1


def test_events_are_understood_whatever_their_pieces_are() -> None:
    web = {"Type": "container", "Action": "die", "Actor": {"ID": "a" * 64, "Attributes": {"name": "bü"}}}
    raw = json.dumps(web, ensure_ascii=False).encode()
    reader = EventReader()
    assert [concerns(e) for n in range(len(raw)) for e in reader.feed(raw[n : n + 1])] == ["a" * 64]
    # One after the other without a line's end, with RFC 7464's separator, and after garbage.
    assert [concerns(e) for e in reader.feed(raw + b"\x1e" + raw + b"\n<html>\n" + raw)] == [
        *["a" * 64] * 2,
        "",
        "a" * 64,
    ]


@pytest.mark.parametrize(
    ("event", "meant"),
    [
        ({"Type": "container", "Action": "exec_start: sh -c true", "Actor": {"ID": "a"}}, None),
        ({"status": "exec_die", "id": "a"}, None),
        ({"Type": "image", "Action": "pull", "Actor": {"ID": "nginx"}}, None),
        ({"Type": "container", "Action": "remove", "Actor": {"ID": "a"}}, "a"),  # Podman's destroy
        ({"Type": "container", "Action": "die", "Actor": {"ID": 5}}, ""),
        ({"Type": ["container"], "Action": 5, "Actor": "a"}, ""),
        (None, ""),
    ],
    ids=str,
)
def test_what_an_event_concerns(event: object, meant: str | None) -> None:
    assert concerns(event) == meant


def test_a_silent_stream_costs_one_probe(engine: StandIn, watch: Callable[[], Watched], quick: None) -> None:
    web = engine.add(1, "web", Health={"Status": "healthy"})
    db = engine.add(2, "db")
    watched = watch()
    watched.wait_for("web", health="healthy")
    sick(engine, web)
    watched.wait_for("web", health="unhealthy")
    engine.containers[db]["State"] |= {"Status": "exited", "ExitCode": 3}
    watched.wait_for("db", state="exited", exit_code=3)
    # Exited before and after: it ran in between, as its code or a time that is shorter than before tells.
    engine.containers[db]["State"] |= {"ExitCode": 4}
    watched.wait_for("db", exit_code=4)
    engine.containers[db] |= {"RestartCount": 2}
    engine.listed[db] = {"Status": "Exited (4) 2 minutes ago"}
    watched.wait_for("db", restart_count=2)
    # A restart loop without a word: it has always just begun.
    engine.listed[web] = {"Status": "Up 2 seconds"}
    engine.containers[web] |= {"RestartCount": 9}
    watched.wait_for("web", restart_count=9)
    engine.containers[web] |= {"RestartCount": 10}
    watched.wait_for("web", restart_count=10)
    engine.containers[web] |= {"Name": "/web2"}
    watched.wait_for("web2", restart_count=10)


def test_an_unchanged_list_makes_no_inspections(
    engine: StandIn, watch: Callable[[], Watched], quick: None
) -> None:
    engine.add(1, "web")
    watched = watch()
    watched.wait_for("web", state="running")
    lists = engine.count("/containers/json")
    deadline = time.monotonic() + SECONDS
    while engine.count("/containers/json") < lists + 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert engine.count("/containers/.*/json") == 1
    assert len(watched.snapshots) == 1


@pytest.mark.parametrize("kind", ["hangs", "500", "html", "garbage"])
def test_one_containers_trouble_is_its_own(
    engine: StandIn, watch: Callable[[], Watched], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "PATIENCE_SECONDS", 0.3)
    web = engine.add(1, "web")
    db = engine.add(2, "db", Health={"Status": "unhealthy"})
    path = f"/containers/{db}/json"
    if kind == "hangs":
        engine.hanging.append(path)
    else:
        engine.answers[path] = {
            "500": (500, "application/json", b'{"message": "layer does not exist"}'),
            "html": (200, "text/html", b"<html>"),
            "garbage": (200, "application/json", b"[1]"),
        }[kind]
    watched = watch()
    snapshot = watched.wait_for("db", state="running", health="unhealthy", stack="shop", restart_policy="")
    assert named(snapshot, "web")["restart_policy"] == "always"
    # What happens to the other is seen at once meanwhile, and what the list tells of it as well.
    engine.containers[web]["State"] |= {"Status": "exited", "ExitCode": 3}
    engine.containers[db]["State"] |= {"Status": "exited", "ExitCode": 5}
    engine.say(EVENT | {"Actor": {"ID": web}})
    watched.wait_for("web", state="exited", exit_code=3)
    watched.wait_for("db", state="exited", exit_code=5)
    assert watched.was_always_online


def test_more_that_hang_than_are_asked_at_once_hold_up_nobody(
    engine: StandIn, watch: Callable[[], Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "PATIENCE_SECONDS", 0.2)
    for number in range(12):
        engine.hanging.append(f"/containers/{engine.add(number + 1, f'bad-{number}')}/json")
    engine.add(100, "good")
    watched = watch()
    snapshot = watched.wait_for("good", restart_policy="always")
    assert len(snapshot.containers or ()) == 13
    assert watched.was_always_online


def test_what_was_inspected_before_its_trouble_is_kept(engine: StandIn, watch: Callable[[], Watched]) -> None:
    web = engine.add(1, "web", Health={"Status": "healthy"})
    watched = watch()
    watched.wait_for("web", restart_policy="always", health="healthy")
    engine.answers[f"/containers/{web}/json"] = (500, "text/plain", b"no")
    sick(engine, web)
    engine.say(EVENT | {"Actor": {"ID": web}})
    watched.wait_for("web", health="unhealthy", restart_policy="always", started_at="2026-11-22T11:00:00Z")


def test_a_container_that_vanishes_between_list_and_inspection_is_gone(
    engine: StandIn, watch: Callable[[], Watched]
) -> None:
    web = engine.add(1, "web")
    engine.add(2, "db")
    engine.answers[f"/containers/{web}/json"] = (404, "application/json", b'{"message": "No such container"}')
    watched = watch()
    snapshot = watched.wait_for("db", state="running")
    assert named(snapshot, "web") == {}
    # Listed again, it is there, whatever the proxy says.
    engine.say({})
    watched.wait_for("web", state="running")


@pytest.mark.parametrize("path", ["/info", "/version", "/events", "/(info|version|events|_ping)"])
def test_what_a_socket_proxy_forbids_is_done_without_and_named(
    engine: StandIn, watch: Callable[[], Watched], quick: None, path: str
) -> None:
    engine.answers[path] = FORBIDDEN
    web = engine.add(1, "web")
    watched = watch()
    snapshot = watched.wait(lambda seen: named(seen, "web") and seen.error)
    assert "403 Forbidden" in snapshot.error
    assert path.strip("/") in snapshot.error or "|" in path
    assert "<" not in snapshot.error
    assert (snapshot.system.cpus, snapshot.system.memory_bytes) == ((0, 0) if "info" in path else (3, 2**30))
    engine.containers[web]["State"] |= {"Status": "exited", "ExitCode": 3}
    watched.wait_for("web", state="exited")
    assert watched.was_always_online


@pytest.mark.parametrize("path", ["/info", "/version", "/events"])
@pytest.mark.parametrize("status", [500, 502, 200])
def test_so_is_what_fails(
    engine: StandIn, watch: Callable[[], Watched], quick: None, path: str, status: int
) -> None:
    engine.answers[path] = (status, "text/html", b"<html>\n<body>Bad Gateway</body>")
    web = engine.add(1, "web")
    watched = watch()
    watched.wait_for("web", state="running")
    engine.containers[web]["State"] |= {"Status": "exited", "ExitCode": 3}
    snapshot = watched.wait_for("web", state="exited")
    # A page in the place of the events is a stream that ends.
    assert (path in snapshot.error) == (status != 200 or path != "/events")
    assert watched.was_always_online


@pytest.mark.parametrize("path", ["/info", "/version", "/events"])
def test_so_is_what_hangs(
    engine: StandIn, watch: Callable[[], Watched], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("dockmesh.agent.engine.PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(watcher, "FIRST_SECONDS", 0.3)
    monkeypatch.setattr(watcher, "POLL_SECONDS", 0.3)
    engine.hanging.append(path)
    web = engine.add(1, "web")
    watched = watch()
    watched.wait_for("web", state="running")
    engine.containers[web]["State"] |= {"Status": "exited", "ExitCode": 3}
    engine.say(EVENT | {"Actor": {"ID": web}})
    watched.wait_for("web", state="exited")
    assert watched.was_always_online


def test_an_agent_says_once_what_a_socket_proxy_forbids(
    engine: StandIn, server: StubServer, start_agent: Callable[..., AgentProcess]
) -> None:
    engine.answers["/(events|info)"] = FORBIDDEN
    web = engine.add(1, "web", Health={"Status": "healthy"})
    agent = start_agent(f"--docker-host={engine.host}")
    beat = server.wait_for(lambda r: r.path == "heartbeat").body
    assert beat["docker"]["reachable"]
    assert beat["docker"]["error"].endswith("GET /info: 403 Forbidden; GET /events: 403 Forbidden")
    sick(engine, web)
    server.wait_for(lambda r: '"unhealthy"' in json.dumps(r.body))
    said = [line for line in agent.log.splitlines() if "403 Forbidden" in line and " DEBUG " not in line]
    assert len(said) == 1
    assert "<html>" not in agent.log


def test_forbidden_inspections_leave_what_the_list_tells(
    engine: StandIn, watch: Callable[[], Watched]
) -> None:
    engine.answers["/containers/.*/json"] = FORBIDDEN
    engine.add(1, "web", Health={"Status": "unhealthy"})
    watched = watch()
    snapshot = watched.wait(lambda seen: seen.error)
    assert "/containers/{id}/json: 403" in snapshot.error
    assert named(snapshot, "web")["health"] == "unhealthy"


@pytest.mark.parametrize("version", ["1.41", "1.44"])
def test_an_engine_that_tells_no_version_is_spoken_to_in_one_that_it_knows(
    engine: StandIn, watch: Callable[[], Watched], version: str
) -> None:
    """Behind a proxy that forbids /version, and leaves no header on /_ping."""
    engine.answers["/version"] = FORBIDDEN
    engine.only_version = version
    engine.add(1, "web")
    watched = watch()
    watched.wait_for("web", restart_policy="always")
    assert watched.was_always_online


def test_a_stream_that_is_cut_is_opened_again_and_the_host_stays_online(
    engine: StandIn, watch: Callable[[], Watched]
) -> None:
    engine.events_end_after = 0.5
    web = engine.add(1, "web")
    watched = watch()
    watched.wait_for("web", state="running")
    deadline = time.monotonic() + SECONDS
    while engine.streams < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # No event tells of it: it happened between two streams.
    engine.containers[web]["State"] |= {"Status": "exited", "ExitCode": 3}
    watched.wait_for("web", state="exited")
    assert watched.was_always_online
    assert not watched.snapshots[-1].error


@pytest.mark.parametrize(
    "answer",
    [
        (500, "application/json", b'{"message": "database is locked"}'),
        (403, "text/html", b"<html>"),
        (200, "text/html", b"<html>"),
        (200, "application/json", b"null"),
        (200, "application/json", b'{"a": 1}'),
    ],
    ids=["500", "forbidden", "html", "null", "object"],
)
def test_without_a_list_the_host_is_degraded_and_comes_back(
    engine: StandIn, watch: Callable[[], Watched], quick: None, answer: tuple[int, str, bytes]
) -> None:
    engine.add(1, "web")
    engine.answers["/containers/json"] = answer
    watched = watch()
    snapshot = watched.wait(lambda seen: seen.containers is None)
    assert "can't be listed" in snapshot.error
    assert "\n" not in snapshot.error
    engine.answers.clear()
    watched.wait_for("web", state="running")


def test_a_connection_that_a_proxy_closed_is_not_taken_for_an_engine_that_is_away(
    engine: StandIn, watch: Callable[[], Watched], quick: None
) -> None:
    web = engine.add(1, "web")
    watched = watch()
    watched.wait_for("web", state="running")
    engine.containers[web]["State"] |= {"Status": "exited", "ExitCode": 3}
    engine.drops = 1
    watched.wait_for("web", state="exited")
    assert engine.drops == 0
    assert watched.was_always_online


def test_odd_entries_of_the_list_are_taken_for_what_they_are(
    engine: StandIn, watch: Callable[[], Watched]
) -> None:
    engine.answers["/containers/.*/json"] = FORBIDDEN
    engine.answers = {"/containers/[0-9a-f]+/json": FORBIDDEN}
    listings: tuple[dict[str, Any], ...] = (
        {"Names": ["/app/database", "/web/db", "/db"]},
        {"Names": []},
        {"Names": None, "Labels": None, "Image": None, "Created": None, "Status": None},
        {"Names": ["no-slash"], "State": "zombie"},
        {"Names": [None, 5, "/late"], "Status": "Up 5 minutes (health: starting)", "State": "Running"},
        {"Names": ["/new"], "Health": {"Status": "unhealthy", "FailingStreak": 3}},
        {"Names": ..., "Labels": ..., "Image": ..., "Created": ..., "Status": ..., "State": ...},
        {"Names": ["/sleeping"], "State": "stopped", "Created": 10**30},
        {"Id": ...},
    )
    for number, listed in enumerate(listings, start=1):
        engine.listed[engine.add(number, "x")] = listed
    watched = watch()
    snapshot = watched.wait(lambda seen: len(seen.containers or ()) == 8)
    assert [(each["name"], each["state"], each["health"]) for each in snapshot.containers or ()] == [
        ("db", "running", ""),
        ("0" * 12, "running", ""),
        ("0" * 12, "running", ""),
        ("no-slash", "unknown", ""),
        ("late", "running", "starting"),
        ("new", "running", "unhealthy"),
        ("0" * 12, "unknown", ""),
        ("sleeping", "exited", ""),
    ]


def test_a_pods_infra_container_is_nobodys(engine: StandIn, watch: Callable[[], Watched]) -> None:
    pause = engine.add(1, "0123456789ab-infra")
    engine.listed[pause] = {"Image": "localhost/podman-pause:5.4.0-1740000000"}
    bare = engine.add(2, "ba9876543210-infra")
    engine.listed[bare] = {"Image": ""}
    kubernetes = engine.add(3, "k8s_POD_x")
    engine.containers[kubernetes]["Config"]["Labels"] = {"io.kubernetes.docker.type": "podsandbox"}
    said = engine.add(4, "own-name")
    engine.containers[said]["IsInfra"] = True
    engine.add(5, "my-infra")
    watched = watch()
    snapshot = watched.wait_for("my-infra", state="running")
    assert [each["name"] for each in snapshot.containers or ()] == ["my-infra"]


@pytest.mark.parametrize(
    ("before", "after", "is_newer"),
    [
        ("Up 5 minutes", "Up 6 minutes", False),
        ("Up 59 minutes", "Up About an hour", False),
        ("Up 13 days", "Up 2 weeks", False),
        ("Up 5 minutes", "Up 2 seconds", True),
        ("Up About an hour", "Up Less than a second", True),
        ("Up 5 minutes", "Up 5 minutes (Paused)", False),
        ("Up 5 minutes (healthy)", "Up 6 minutes (unhealthy)", True),
        ("Up 5 minutes (health: starting)", "Up 6 minutes (healthy)", True),
        ("Exited (0) 5 minutes ago", "Exited (137) 6 minutes ago", True),
        ("Exited (1) 2 hours ago", "Exited (1) 5 minutes ago", True),
        ("Restarting (1) 2 seconds ago", "Restarting (2) 3 seconds ago", True),
        ("Created", "Created", False),
        ("", "Up 5 minutes", False),
    ],
)
def test_the_lists_text_tells_of_changes(before: str, after: str, is_newer: bool) -> None:
    def of(status: str) -> listing.Mark:
        return listing.mark({"Id": "a", "State": "running", "Status": status})

    assert of(after).is_newer_than(of(before)) == is_newer


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """One for 127.0.0.1 that is its own authority, where the Docker CLI looks for it: (certificate, key)."""
    folder.mkdir(parents=True)
    subprocess.run(
        [require("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=engine",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    shutil.copy(folder / "cert.pem", folder / "ca.pem")
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.parametrize("is_trusted", [True, False])
def test_an_agent_reads_the_engine_of_the_current_context_over_tls(
    server: StubServer, start_agent: Callable[..., AgentProcess], tmp_path: Path, is_trusted: bool
) -> None:
    key = hashlib.sha256(b"remote").hexdigest()
    pair = make_certificate(tmp_path / "cli" / "contexts" / "tls" / key / "docker")
    if not is_trusted:
        pair = make_certificate(tmp_path / "another")
    with stand_in(tls=pair) as engine:
        meta = tmp_path / "cli" / "contexts" / "meta" / key / "meta.json"
        meta.parent.mkdir(parents=True)
        meta.write_text(json.dumps({"Name": "remote", "Endpoints": {"docker": {"Host": engine.host}}}))
        (tmp_path / "cli" / "config.json").write_text('{"currentContext": "remote"}')
        web = engine.add(1, "web", Health={"Status": "healthy"})
        start_agent(env={"DOCKER_CONFIG": str(tmp_path / "cli")})
        beat = server.wait_for(lambda r: r.path == "heartbeat").body
        assert beat["docker"]["reachable"] is is_trusted, beat["docker"]
        if is_trusted:
            assert [each["name"] for each in beat["inventory"]["containers"]] == ["web"]
            sick(engine, web)
            engine.say(EVENT | {"Actor": {"ID": web}})
            server.wait_for(lambda r: '"unhealthy"' in json.dumps(r.body), seconds=5)
        else:
            assert "certificate verify failed" in beat["docker"]["error"]
