"""What the agent says when Docker or the server can't be reached."""

import socket
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from dockmesh.agent.client import parse_retry_after
from dockmesh.agent.engine import connect, explain


def explained(docker_host: str) -> str:
    with pytest.raises(Exception) as caught:
        connect(docker_host, timeout=1)
    return explain(caught.value, docker_host)


def test_a_missing_socket_is_said_so(tmp_path: Path) -> None:
    host = f"unix://{tmp_path}/docker.sock"
    assert explained(host) == f"{tmp_path}/docker.sock is not there: is Docker running on this host?"


def test_a_socket_that_nobody_listens_on_is_said_so(tmp_path: Path) -> None:

    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "docker.sock"))
    assert explained(f"unix://{tmp_path}/docker.sock").endswith("refuses connections: Docker is not running")


def test_a_socket_without_permission_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "docker.sock").touch()
    error = PermissionError(13, "Permission denied")
    text = explain(error, f"unix://{tmp_path}/docker.sock")
    assert "permission denied; run the agent as root or as a member of the group docker" in text


def test_an_unreachable_tcp_address_is_one_line() -> None:
    text = explained("tcp://127.0.0.1:9")
    assert text.startswith("Docker can't be read: ")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("", None),
        (None, None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_retry_after_as_a_number(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    assert parse_retry_after(formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=2)
    assert parse_retry_after(formatdate(time.time() - 30, usegmt=True)) == 0
