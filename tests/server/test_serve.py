"""`manage.py serve` as its user sees it: real processes, real sockets."""

import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.hand_agent import HandAgent
from tests.integration.server import ROOT, DockmeshServer
from tests.support import PATIENCE

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DockmeshServer]:
    with DockmeshServer(tmp_path / "data", is_new=True) as server:
        yield server


def get(url: str, host: str | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_first_start_makes_data_folder_secrets_and_database(server: DockmeshServer) -> None:
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    for path in server.data_dir.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert {"secret_key", "token_pepper", "dockmesh.sqlite3"} <= {p.name for p in server.data_dir.iterdir()}


def test_probes_answer_whatever_the_host_header(server: DockmeshServer) -> None:
    for path in ("/livez", "/readyz"):
        status, body = get(server.url + path, host="evil.example")
        assert status == 200
        assert json.loads(body) == {"status": "ok", "failed": {}}
        assert b"evil" not in body


def test_a_foreign_host_header_is_refused_and_not_echoed(server: DockmeshServer) -> None:
    status, body = get(server.url + "/", host="evil.example")
    assert status == 400
    assert b"evil" not in body


@pytest.mark.alone
def test_sigterm_drains_and_exits_0(server: DockmeshServer) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    status, body = get(server.url + "/readyz")
    assert status == 503
    assert "draining" in json.loads(body)["failed"]
    assert get(server.url + "/livez")[0] == 200
    began = time.monotonic()
    assert server.process.wait(30) == 0
    assert time.monotonic() - began < 5


def test_a_clean_stop_writes_the_counts_that_were_in_memory(server: DockmeshServer) -> None:
    assert get(server.url + "/api/v1/no/such/thing")[0] in (401, 404)
    assert server.stop() == 0
    show = "from metrics.models import ApiRequestCount as C; print(*C.objects.values_list('path', 'count'))"
    assert server.manage("shell", "-v0", "-c", show) == "('unmatched', 1)"


def test_what_the_server_refuses_by_itself_is_counted_too(server: DockmeshServer) -> None:
    port = int(server.url.rpartition(":")[2])
    for path, length in (
        ("agents/heartbeat", "99999999"),
        ("agents/heartbeat", "-1"),
        ("no/such", "99999999"),
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(
                f"POST /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()
            )
            assert sock.recv(12).startswith(b"HTTP/1.")
    assert server.stop() == 0
    show = (
        "from metrics.models import ApiRequestCount as C;"
        "print(sorted(C.objects.exclude(count=0).values_list('method', 'path', 'status', 'count')))"
    )
    assert server.manage("shell", "-v0", "-c", show) == str(
        [
            ("POST", "/api/v1/agents/heartbeat", 400, 1),
            ("POST", "/api/v1/agents/heartbeat", 413, 1),
            ("POST", "unmatched", 413, 1),
        ]
    )


def test_a_heartbeat_of_the_lane_is_answered_and_logged_as_by_the_endpoint(server: DockmeshServer) -> None:
    agent = HandAgent(server, "web")
    agent.beat([])
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    headers = {"Authorization": f"Bearer {agent.token}", "Content-Type": "application/json"}
    heads = []
    # A query is nothing that agents send, so the batch endpoint leaves the second to the endpoint.
    for query in ("", "?by=endpoint"):
        body = json.dumps(agent.document([]))
        connection.request("POST", f"/api/v1/agents/heartbeat{query}", body, headers)
        answer = connection.getresponse()
        assert json.loads(answer.read())["status"] == "accepted"
        heads.append({name: value for name, value in answer.headers.items() if name != "Date"})
    assert heads[0] == heads[1]
    lines = [line for line in server.log.splitlines() if "POST /api/v1/agents/heartbeat" in line][-2:]
    assert [re.sub(r"\S+Z|[0-9.]+ms", "", line) for line in lines[:1]] == [
        re.sub(r"\S+Z|[0-9.]+ms", "", line) for line in lines[1:]
    ]


def test_random_paths_make_at_most_two_series(server: DockmeshServer) -> None:
    token = server.createtoken("prometheus", permissions=["metrics.read"])

    def series() -> set[str]:
        request = urllib.request.Request(
            server.url + "/metrics", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}

    series()  # the second one shows the first
    before = series()
    for number in range(200):
        assert get(f"{server.url}/{number}/nothing")[0] == 404
        assert get(f"{server.url}/api/v1/{number}")[0] == 404
    time.sleep(1.5)  # counts of the API are written once a second
    assert len(series() - before) <= 2


def test_sigint_stops_it_too(server: DockmeshServer) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(30) == 0


def test_a_hang_up_drains_like_sigterm_though_the_whole_group_gets_it(server: DockmeshServer) -> None:
    assert server.process is not None
    for pid in (*server.children(), server.process.pid):
        os.kill(pid, signal.SIGHUP)
    time.sleep(0.3)
    assert "draining" in json.loads(get(server.url + "/readyz")[1])["failed"]
    assert server.process.wait(30) == 0


def test_every_address_and_one_more(tmp_path: Path) -> None:
    with DockmeshServer(tmp_path / "data", arguments=["--bind", "[::]:0"]) as server:
        links = re.findall(r"http://(\S+):([0-9]+)(/setup/\S+)", server.log)
        assert len({path for _, _, path in links}) == 1
        hosts = {host for host, _, _ in links}
        assert "127.0.0.1" in hosts
        port = next(int(port) for _, port, _ in reversed(links))
        for host in ("127.0.0.1", "[::1]"):
            assert get(f"http://{host}:{port}/livez")[0] == 200
        assert get(server.url + "/livez")[0] == 200


def test_no_connection_that_the_system_accepted_is_lost_in_a_stop(server: DockmeshServer) -> None:
    host, port = "127.0.0.1", int(server.url.rpartition(":")[2])
    answers: list[bytes] = []

    def keep_asking() -> None:
        while True:
            try:
                sock = socket.create_connection((host, port), timeout=20)
            except ConnectionRefusedError:
                return
            with sock:
                sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                try:
                    answers.append(sock.recv(12))
                except ConnectionResetError:
                    answers.append(b"reset")

    askers = [threading.Thread(target=keep_asking) for _ in range(8)]
    for asker in askers:
        asker.start()
    assert server.stop() == 0
    for asker in askers:
        asker.join()
    assert set(answers) == {b"HTTP/1.1 200"}


def test_a_second_sigterm_ends_it_at_once(server: DockmeshServer) -> None:
    assert server.process is not None
    children = server.children()
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.8)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE * 5) == 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_kill_of_the_supervisor_takes_the_children_along(server: DockmeshServer) -> None:
    children = server.children()
    assert len(children) == 2
    server.kill()
    deadline = time.monotonic() + PATIENCE * 5
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.start()
    assert get(server.url + "/readyz")[0] == 200


def test_a_killed_web_process_is_started_again_and_no_connection_is_refused(server: DockmeshServer) -> None:
    for _ in range(10):
        web = server.children()[0]
        os.kill(web, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while True:
            try:
                assert get(server.url + "/livez")[0] == 200
                break
            except ConnectionRefusedError:
                raise
            except OSError:  # a connection that the dead process had accepted already
                assert time.monotonic() < deadline
        while web in server.children() or len(server.children()) < 2:
            time.sleep(0.01)


def test_the_setup_link_works_and_its_code_stays_out_of_the_access_log(server: DockmeshServer) -> None:
    found = re.search(r"http://\S+/setup/(\S+)/", server.log)
    assert found
    status, page = get(found[0])
    assert status == 200
    assert b"<form" in page
    time.sleep(0.2)
    assert server.log.count(found[1]) == 1
    assert '"GET /setup/" 200' in server.log
    assert get(server.url + "/setup/wrong/")[0] == 404


def test_the_administrator_of_the_environment_needs_no_link(tmp_path: Path) -> None:
    password = "a long enough secret"
    environment = {"DOCKMESH_ADMIN_USER": "ada", "DOCKMESH_ADMIN_PASSWORD": password}
    with DockmeshServer(tmp_path / "data", environment) as server:
        assert "/setup/" not in server.log
        assert password not in server.log
        assert "ada" in server.manage(
            "shell", "-c", "from tokens.models import User; print(User.objects.get())"
        )


def test_a_weak_administrator_password_is_one_line_and_not_shown(tmp_path: Path) -> None:
    line = _failed_start(
        tmp_path / "data",
        "--bind",
        "127.0.0.1:0",
        DOCKMESH_ADMIN_USER="ada",
        DOCKMESH_ADMIN_PASSWORD="qwerty12",
    )
    assert "DOCKMESH_ADMIN_PASSWORD" in line
    assert "qwerty12" not in line


@pytest.mark.parametrize("bind", ["8080", "nonsense", "127.0.0.1:70000", "::1:8080", "127.0.0.1:"])
def test_a_bad_bind_is_one_line(tmp_path: Path, bind: str) -> None:
    line = _failed_start(tmp_path, "--bind", bind)
    assert "--bind" in line
    assert bind in line


def test_a_port_in_use_is_one_line(server: DockmeshServer, tmp_path: Path) -> None:
    bind = server.url.removeprefix("http://")
    assert bind in _failed_start(tmp_path / "other", "--bind", bind)


def test_a_data_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = _failed_start(tmp_path / "file" / "data", "--bind", "127.0.0.1:0")
    assert "DOCKMESH_DATA_DIR" in line


def _failed_start(data_dir: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "serve", *arguments],
        cwd=ROOT,
        env={**os.environ, "DOCKMESH_DATA_DIR": str(data_dir), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE * 60,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if "still preparing the database" not in line]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_secret_key_that_was_moved_aside_is_followed_by_a_new_one(tmp_path: Path) -> None:
    server = DockmeshServer(tmp_path / "data")
    with server:
        server.createtoken("noted", role="admin")
    key = server.data_dir / "secret_key"
    former = key.read_text()
    key.rename(server.data_dir / "secret_key_fallbacks")
    with server:
        assert "Encrypted 0 texts anew" in server.log
    assert key.read_text() != former
    (server.data_dir / "secret_key_fallbacks").unlink()
    assert "The audit chain holds" in server.manage("verifyaudit")
