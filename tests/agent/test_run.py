"""The agent as a process, with a server that behaves well or badly, and without Docker."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent.__main__ import main
from dockmesh.agent.client import ServerClient
from dockmesh.agent.config import parse
from dockmesh.agent.enroll import enroll
from dockmesh.agent.errors import StartError
from dockmesh.agent.state import StateDir
from tests.integration.agent_process import REPOSITORY, AgentProcess
from tests.integration.stubserver import AGENT_TOKEN, ENROLLMENT_TOKEN, Request, StubServer

StartAgent = Callable[..., AgentProcess]
NO_DOCKER = "--docker-host=unix:///nonexistent/docker.sock"
FRESH_TOKEN = "dme_" + "F" * 12 + "_" + "f" * 40 + "_" + "111111"
FRESH_AGENT_TOKEN = "dma_" + "F" * 12 + "_" + "f" * 40 + "_" + "111111"


def is_heartbeat(request: Request) -> bool:
    return request.path == "heartbeat"


def test_it_imports_neither_django_nor_the_server() -> None:
    code = (
        "import sys, dockmesh.agent.__main__; "
        "print([m for m in sys.modules if m.split('.')[0] in ('django', 'rest_framework', 'metrics', 'tokens')"
        " or m.startswith('dockmesh.') and not m.startswith('dockmesh.agent')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_it_enrols_keeps_its_credential_private_and_stops_with_exit_0(
    server: StubServer, start_agent: StartAgent
) -> None:
    agent = start_agent(NO_DOCKER, "--label=site=lab", "--label=rack=4=b")
    enrolled = server.wait_for(lambda r: r.path == "enroll")
    assert enrolled.token == ENROLLMENT_TOKEN
    assert enrolled.body == {"hostname": "node-1", "labels": {"site": "lab", "rack": "4=b"}}
    beat = server.wait_for(is_heartbeat)
    assert beat.token == AGENT_TOKEN
    assert beat.body["sequence"] == 1
    assert beat.body["inventory"] is None
    assert beat.body["docker"]["reachable"] is False
    assert "/nonexistent/docker.sock is not there" in beat.body["docker"]["error"]

    credential = agent.state_dir / "credential.json"
    assert credential.stat().st_mode & 0o777 == 0o600
    assert agent.state_dir.stat().st_mode & 0o777 == 0o700
    started = time.monotonic()
    assert agent.stop() == 0
    assert time.monotonic() - started < 5
    for secret in (ENROLLMENT_TOKEN, AGENT_TOKEN):
        assert secret not in agent.log


def test_a_restart_uses_the_credential_with_a_new_boot_id(
    server: StubServer, start_agent: StartAgent
) -> None:
    agent = start_agent(NO_DOCKER)
    first = server.wait_for(is_heartbeat)
    agent.kill()
    agent.start()
    again = server.wait_for(is_heartbeat, after=first.at).body
    assert again["boot_id"] != first.body["boot_id"]
    assert again["sequence"] == 1
    assert len([r for r in server.requests if r.path == "enroll"]) == 1


def test_it_waits_for_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    agent = AgentProcess(
        tmp_path / "state",
        f"--server=http://127.0.0.1:{port}",
        f"--enrollment-token={ENROLLMENT_TOKEN}",
        NO_DOCKER,
    ).start()
    try:
        agent.wait_log("can't be reached: Connection refused; next try in")
        late = StubServer(port=port)
        late.wait_for(is_heartbeat)
        late.close()
    finally:
        agent.close()


def test_it_survives_a_restart_of_the_server(server: StubServer, start_agent: StartAgent) -> None:
    server.interval = 1
    agent = start_agent(NO_DOCKER)
    server.wait_for(is_heartbeat)
    server.reply = lambda request: (503, {"title": "Starting"}, {"Retry-After": "0"})
    agent.wait_log("Heartbeat failed")
    server.reply = lambda request: None
    agent.wait_log("answers again")


def test_a_lost_heartbeat_is_sent_again_long_before_the_next_interval(
    server: StubServer, start_agent: StartAgent
) -> None:
    server.interval = 60
    server.reply = lambda request: (502, {}, {}) if request.path == "heartbeat" else None
    start_agent(NO_DOCKER)
    lost = server.wait_for(is_heartbeat)
    server.reply = lambda request: None
    again = server.wait_for(is_heartbeat, after=lost.at)
    assert 0.4 < again.at - lost.at < 3
    assert again.body["sequence"] == 2


def test_retry_after_is_honoured(server: StubServer, start_agent: StartAgent) -> None:
    server.interval = 1
    start_agent(NO_DOCKER)
    first = server.wait_for(is_heartbeat)
    server.reply = lambda request: (429, {"title": "Too many"}, {"Retry-After": "3"})
    refused = server.wait_for(is_heartbeat, after=first.at)
    server.reply = lambda request: None
    assert server.wait_for(is_heartbeat, after=refused.at).at - refused.at >= 2.9


def test_round_trips_are_sent_until_the_server_has_them(server: StubServer, start_agent: StartAgent) -> None:
    server.interval = 1
    statuses = iter(["accepted", "stale", "inventory_wanted", "accepted"])

    def reply(request: Request) -> Any:
        if request.path != "heartbeat":
            return None
        body = {"status": next(statuses, "accepted"), "heartbeat_interval_seconds": 1, "commands": []}
        return 200, body, {}

    server.reply = reply
    start_agent(NO_DOCKER)
    server.wait_for(lambda r: r.body.get("sequence") == 4)
    sent = [len(beat["rtt_seconds"]) for beat in server.heartbeats()[:4]]
    # The second carries that of the first; it is stale, so the third carries both and its own predecessor's.
    assert sent == [0, 1, 2, 1]
    assert all(0 < rtt < 5 for beat in server.heartbeats() for rtt in beat["rtt_seconds"])


def test_a_removed_host_is_told_so_and_asks_again_slowly(server: StubServer, start_agent: StartAgent) -> None:
    server.interval = 1
    agent = start_agent(NO_DOCKER)
    server.wait_for(is_heartbeat)
    server.agent_tokens.clear()
    agent.wait_log("the host was removed or its token revoked")
    count = len(server.requests)
    time.sleep(2)
    assert len(server.requests) == count
    assert agent.process is not None
    assert agent.process.poll() is None


def test_a_removed_host_enrols_again_with_a_fresh_token(
    server: StubServer, start_agent: StartAgent, tmp_path: Path
) -> None:
    server.interval = 1
    token_file = tmp_path / "token"
    token_file.write_text(ENROLLMENT_TOKEN + "\n")
    agent = start_agent(NO_DOCKER, "--enrollment-token=", f"--enrollment-token-file={token_file}")
    server.wait_for(is_heartbeat)
    token_file.write_text(FRESH_TOKEN + "\n")
    server.enrollment_tokens.add(FRESH_TOKEN)
    server.agent_tokens.clear()
    server.wait_for(lambda r: r.path == "enroll" and r.token == FRESH_TOKEN)
    server.agent_tokens.add(AGENT_TOKEN)
    agent.stop()
    assert "as host 'node-1'" in agent.log


def test_a_token_given_by_environment_works(server: StubServer, tmp_path: Path) -> None:
    agent = AgentProcess(
        tmp_path / "state",
        env={
            "DOCKMESH_AGENT_SERVER": server.url,
            "DOCKMESH_AGENT_ENROLLMENT_TOKEN": ENROLLMENT_TOKEN,
            "DOCKMESH_AGENT_NAME": "from-env",
            "DOCKMESH_AGENT_LABELS": "a=b,c=d",
            "DOCKMESH_AGENT_DOCKER_HOST": "unix:///nonexistent/docker.sock",
        },
    ).start()
    try:
        enrolled = server.wait_for(lambda r: r.path == "enroll")
        assert enrolled.body == {"hostname": "from-env", "labels": {"a": "b", "c": "d"}}
    finally:
        agent.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--server="], "--server (or DOCKMESH_AGENT_SERVER) is needed"),
        (["--server=ftp://x"], "--server 'ftp://x': expected an address such as"),
        (["--server=http://[x"], "--server 'http://[x': expected an address such as"),
        (["--docker-host=docker.sock"], "--docker-host 'docker.sock': expected unix:///"),
        (
            ["--docker-host=ssh://root@web"],
            "--docker-host 'ssh://root@web': Docker over SSH is not supported",
        ),
        (["--label=nonsense"], "--label 'nonsense': expected key=value"),
        (["--ca-file=/no/such"], "--ca-file /no/such: No such file"),
        (["--config=/no/such"], "--config /no/such: No such file"),
        (["--name=a\x01b"], "--name 'a\\x01b': expected"),
    ],
)
def test_a_bad_option_is_one_clear_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], options: list[str], text: str
) -> None:
    assert main(["run", "--server=http://127.0.0.1:1", *options]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--enrollment-token="], 2, "this host is not enrolled"),
        (["--enrollment-token=dmt_nonsense"], 3, "the enrollment token is not one: expected dme_"),
        (["--enrollment-token-file=/no/such"], 2, "--enrollment-token-file /no/such: No such file"),
        (["--state-dir=/proc/nope"], 2, "--state-dir /proc/nope: "),
    ],
)
def test_a_mistake_at_the_start_is_one_clear_line_and_an_exit_code(
    start_agent: StartAgent, options: list[str], code: int, text: str
) -> None:
    agent = start_agent(NO_DOCKER, *options)
    assert agent.wait_exit() == code
    assert text in agent.log
    assert len(agent.log.strip().splitlines()) == 1
    assert "dmt_nonsense" not in agent.log


def test_a_used_enrollment_token_is_refused_with_exit_3(server: StubServer, start_agent: StartAgent) -> None:
    server.enrollment_tokens.clear()
    agent = start_agent(NO_DOCKER)
    assert agent.wait_exit() == 3
    assert "the server refused the enrollment token" in agent.log


def test_an_address_that_is_not_a_dockmesh_server_is_said_so(
    server: StubServer, start_agent: StartAgent
) -> None:
    server.reply = lambda request: (404, {}, {})
    agent = start_agent(NO_DOCKER)
    assert agent.wait_exit() == 2
    assert "enrollment failed" in agent.log
    server.reply = lambda request: (302, {}, {"Location": "https://dockmesh.example.org/"})
    moved = start_agent(NO_DOCKER, state="moved")
    assert moved.wait_exit() == 2
    assert "redirects to https://dockmesh.example.org/: give that as --server" in moved.log


def test_a_second_agent_on_the_same_state_folder_is_refused(
    server: StubServer, start_agent: StartAgent
) -> None:
    start_agent(NO_DOCKER)
    server.wait_for(is_heartbeat)
    second = start_agent(NO_DOCKER)
    assert second.wait_exit() == 2
    assert "another agent is using it" in second.log


def test_a_damaged_credential_is_named(start_agent: StartAgent, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "credential.json").write_text("{")
    agent = start_agent(NO_DOCKER)
    assert agent.wait_exit() == 2
    assert "credential.json is damaged" in agent.log


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Path, Path]:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def test_tls_is_verified_and_an_own_authority_can_be_trusted(
    tls: tuple[Path, Path], start_agent: StartAgent
) -> None:
    secure = StubServer(tls=tls)
    try:
        agent = start_agent(NO_DOCKER, f"--server={secure.url}")
        assert agent.wait_exit() == 4
        assert "TLS with https://" in agent.log
        assert "certificate verify failed" in agent.log
        assert "--ca-file" in agent.log
        assert secure.requests == []
        start_agent(NO_DOCKER, f"--server={secure.url}", f"--ca-file={tls[0]}", state="trusting")
        secure.wait_for(is_heartbeat)
    finally:
        secure.close()


def test_a_result_is_sent_again_until_the_server_has_it(server: StubServer, start_agent: StartAgent) -> None:
    """Also across a restart of the agent; 409 ends it too."""
    answers = iter([500, 503])

    def reply(request: Request) -> Any:
        if request.path == "commands/5/result":
            status = next(answers, 200)
            return (status, {}, {}) if status != 200 else None
        return (409, {"title": "Conflict"}, {}) if request.path == "commands/6/result" else None

    server.reply = reply
    server.commands = [
        {"id": 5, "kind": "nonsense", "payload": {}},
        {"id": 6, "kind": "nonsense", "payload": {}},
    ]
    agent = start_agent(NO_DOCKER)
    deadline = time.monotonic() + 20
    while (len(server.results(5)), len(server.results(6))) != (3, 1) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    assert (len(server.results(5)), len(server.results(6))) == (3, 1)
    assert server.results(5)[0] == server.results(5)[2]
    assert server.results(5)[0]["error"] == "this agent does not carry out 'nonsense'"
    assert agent.stop() == 0


class Renewals:
    """Enrollment with `FRESH_TOKEN` answers as told; results of commands get 503 while `is_away`."""

    def __init__(self, server: StubServer, **told: Any) -> None:
        self.is_away = True
        self._server, self._told = server, told
        server.reply, server.interval = self.reply, 1
        server.commands = [{"id": 5, "kind": "old", "payload": {}}]

    def reply(self, request: Request) -> Any:
        if request.path == "enroll" and request.token == FRESH_TOKEN:
            self._server.agent_tokens.add(FRESH_AGENT_TOKEN)
            self._server.commands = [{"id": 5, "kind": "new", "payload": {}}]
            self.is_away = False
            host = {"id": 1, "name": "node-1"}
            body = {"host": host, "agent_token": FRESH_AGENT_TOKEN, "heartbeat_interval_seconds": 1}
            return 201, body | self._told, {}
        return (503, {}, {}) if request.path == "commands/5/result" and self.is_away else None


def is_of(kind: str, token: str = AGENT_TOKEN) -> Callable[[Request], bool]:
    """Whether it is the result of the command 5 of this kind, which no agent knows, sent with this token."""
    error = f"this agent does not carry out {kind!r}"
    return lambda request: (
        (request.path, request.token) == ("commands/5/result", token) and request.body["error"] == error
    )


def expect(server: StubServer, *, is_kept: bool) -> None:
    """With the new token: the old result and not the new command's, or the other way round.

    A result that was on its way at the enrollment may still come with the old token, which counts nothing.
    """
    wanted, other = ("old", "new") if is_kept else ("new", "old")
    server.wait_for(is_of(wanted, FRESH_AGENT_TOKEN))
    time.sleep(1.5)
    assert [r for r in server.requests if is_of(other, FRESH_AGENT_TOKEN)(r)] == []


@pytest.mark.parametrize(
    ("told", "is_kept"),
    [({"is_renewal": True}, True), ({"is_renewal": False}, False), ({}, False)],
)
def test_the_journal_stays_with_the_renewal_of_a_host_by_a_restart_and_goes_otherwise(
    server: StubServer, start_agent: StartAgent, told: dict[str, Any], is_kept: bool
) -> None:
    """The host has the id 1 either way, as with a server that was set up anew."""
    Renewals(server, **told)
    agent = start_agent(NO_DOCKER)
    server.wait_for(is_of("old"))
    agent.stop()
    (agent.state_dir / "credential.json").unlink()
    start_agent(NO_DOCKER, f"--enrollment-token={FRESH_TOKEN}")
    expect(server, is_kept=is_kept)


@pytest.mark.parametrize(
    ("told", "is_kept"),
    [({"is_renewal": True}, True), ({"is_renewal": False}, False), ({}, False)],
)
def test_the_journal_stays_with_the_renewal_of_a_host_while_it_runs_and_goes_otherwise(
    server: StubServer, start_agent: StartAgent, tmp_path: Path, told: dict[str, Any], is_kept: bool
) -> None:
    Renewals(server, **told)
    token_file = tmp_path / "token"
    token_file.write_text(ENROLLMENT_TOKEN)
    start_agent(NO_DOCKER, "--enrollment-token=", f"--enrollment-token-file={token_file}")
    server.wait_for(is_of("old"))
    token_file.write_text(FRESH_TOKEN)
    server.agent_tokens.clear()
    expect(server, is_kept=is_kept)


@pytest.mark.parametrize(
    ("told", "is_kept"), [(True, True), (False, False), (None, False), (1, False), ("true", False)]
)
def test_only_true_is_a_renewal(server: StubServer, tmp_path: Path, told: object, is_kept: bool) -> None:
    Renewals(server, is_renewal=told)
    settings = parse(["run", f"--server={server.url}", f"--state-dir={tmp_path}", "--name=a"], {})
    state, forgotten = StateDir(tmp_path), []

    def forget() -> None:
        # Not yet there: after a stop in between the agent would go on with the old journal.
        forgotten.append(state.load_credential())

    enroll(settings, state, ServerClient(server.url, ca_file=None), FRESH_TOKEN, forget)
    assert forgotten == ([] if is_kept else [None])
    assert state.load_credential() is not None
    state.close()


def test_a_monitor_only_agent_carries_out_nothing(server: StubServer, start_agent: StartAgent) -> None:
    server.commands = [{"id": 5, "kind": "deploy", "payload": {"stack": "shop"}}]
    start_agent(NO_DOCKER, "--monitor-only")
    said = server.wait_for(is_heartbeat).body["agent"]
    assert (said["capabilities"], said["is_monitor_only"]) == ([], True)
    report = server.wait_for(lambda r: r.path == "commands/5/result")
    assert report.body["result"] == "failure"
    assert "does not carry out 'deploy'" in report.body["error"]


def test_a_server_that_wants_the_inventory_for_ever_is_not_flooded(
    server: StubServer, start_agent: StartAgent
) -> None:
    body = {"status": "inventory_wanted", "heartbeat_interval_seconds": 1, "commands": []}
    server.reply = lambda request: (200, body, {}) if request.path == "heartbeat" else None
    start_agent(NO_DOCKER)
    server.wait_for(is_heartbeat)
    time.sleep(2)
    assert len(server.heartbeats()) <= 4


def test_repositories_are_named_to_the_server_and_nothing_else_of_them(
    server: StubServer, start_agent: StartAgent, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("very-secret\n")
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[repositories.offsite]\nrepository = "rest:https://u:hush@h/"\npassword_file = "{tmp_path}/password"\n'
    )
    start_agent(NO_DOCKER, f"--config={config}")
    beat = server.wait_for(is_heartbeat).body
    assert beat["agent"]["repositories"] == ["offsite"]
    assert "hush" not in json.dumps(beat)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[repositories.a]\n", "[repositories.a]: repository is needed"),
        ("[repositories.a]\nrepository = 5\n", "[repositories.a]: repository is needed, as a text"),
        (
            "[repos.a]\n",
            "unknown key 'repos'; known are commands, image_updates, repositories, usage, volume_sizes",
        ),
        ("x = [", "is not valid TOML"),
        ("usage = 1\n", "usage must be true or false"),
        ('volume_sizes = "yes"\n', "volume_sizes must be true or false"),
        (
            '[repositories.a]\nrepository = "r"\npassword_file = "/no/such"\n',
            "password_file /no/such: No such",
        ),
    ],
)
def test_a_mistake_in_the_configuration_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, error: str
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(text)
    assert main(["run", "--server=http://127.0.0.1:1", f"--config={config}"]) == 2
    assert error in capsys.readouterr().err


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_that_an_env_file_left_in_are_named_and_no_token_is_shown(quote: str) -> None:
    environ = {"DOCKMESH_AGENT_ENROLLMENT_TOKEN": f"{quote}dme_secret{quote}"}
    with pytest.raises(
        StartError, match=r"^DOCKMESH_AGENT_ENROLLMENT_TOKEN: .* write it without quotes$"
    ) as caught:
        parse(["run", "--server=http://127.0.0.1"], environ)
    assert "dme_secret" not in str(caught.value)
