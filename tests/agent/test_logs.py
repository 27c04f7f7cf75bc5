"""What of a container's log reaches the server, from a real Engine and from streams made by hand."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dockmesh.agent import logs
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.document import JSON
from dockmesh.agent.errors import ServerError
from dockmesh.agent.logs import Logs, Reader, Splitter, frames
from dockmesh.agent.process import Cancellation
from tests.integration.dockerd import DockerEngine
from tests.integration.prometheus import wait_for


class Collector:
    """The server's side: keeps the pieces, and answers what it is told to."""

    def __init__(self) -> None:
        self.pieces: list[JSON] = []
        self.most = 1_000_000
        self.failures: list[ServerError] = []

    def __call__(self, session: str, piece: JSON) -> JSON:
        assert session == "session"
        if self.failures:
            raise self.failures.pop(0)
        assert piece["number"] == len(self.pieces)
        self.pieces.append(piece)
        return {"status": "go_on" if len(self.pieces) < self.most else "end", "pause_seconds": 0.0}

    @property
    def text(self) -> str:
        return "".join(piece["text"] for piece in self.pieces)


def run(container: str, *, seconds: float = 60.0, **payload: Any) -> Run:
    made = Run(
        "1",
        "container-logs",
        {"session": "session", "container": container, "name": "web", **payload},
        Cancellation(),
    )
    made.deadline = time.monotonic() + seconds
    return made


def finished(engine: DockerEngine, script: str, **options: Any) -> str:
    container = engine.run("sh", "-c", script, **options)
    container.wait(timeout=60)
    return str(container.id)


@pytest.mark.integration
def test_the_last_lines_of_both_streams(docker_engine: DockerEngine) -> None:
    identity = finished(docker_engine, "echo one; echo two; sleep 0.2; echo three >&2")
    read = Collector()
    assert Logs(docker_engine.host, read)(run(identity))["bytes"] == 14
    assert read.text == "one\ntwo\nthree\n"
    for options, text in (
        ({"tail": 1}, "three\n"),
        ({"stderr": False}, "one\ntwo\n"),
        ({"stdout": False}, "three\n"),
        ({"search": "TW"}, "two\n"),
        ({"since": time.time() + 100}, ""),
        ({"since": time.time() - 100, "tail": 2}, "two\nthree\n"),
    ):
        read = Collector()
        Logs(docker_engine.host, read)(run(identity, **options))
        assert read.text == text, options
    read = Collector()
    Logs(docker_engine.host, read)(run(identity, tail=1, timestamps=True))
    assert read.text.startswith("20")
    assert read.text.endswith("Z three\n")


@pytest.mark.integration
def test_a_terminals_log_and_its_colours(docker_engine: DockerEngine) -> None:
    identity = finished(docker_engine, r"printf 'a \033[31mred\033[0m b\n'", tty=True)
    read = Collector()
    Logs(docker_engine.host, read)(run(identity))
    assert read.text == "a red b\n"
    read = Collector()
    Logs(docker_engine.host, read)(run(identity, shows_ansi=True))
    assert read.text == "a ␛[31mred␛[0m b\n"


@pytest.mark.integration
def test_a_line_of_a_megabyte_and_binary(docker_engine: DockerEngine) -> None:
    identity = finished(
        docker_engine,
        "head -c 1000000 /dev/zero | tr '\\0' x; echo; head -c 300 /dev/urandom | tr '\\n' 'z'; echo; echo end",
    )
    read = Collector()
    Logs(docker_engine.host, read)(run(identity))
    long, binary, end = read.text.splitlines()
    assert long.startswith("x" * logs.LINE_BYTES)
    assert long.endswith(" [the line has 1000000 bytes, and is cut here]")
    assert re.fullmatch(r"\[\d+ bytes that are no text\]", binary)
    assert end == "end"


@pytest.mark.integration
def test_following_goes_on_with_what_is_written_until_nobody_reads(docker_engine: DockerEngine) -> None:
    container = docker_engine.run(
        "sh", "-c", "echo first; while [ ! -e /go ]; do sleep 0.1; done; echo second; sleep 1000"
    )
    read = Collector()
    following = run(str(container.id), is_following=True, seconds=120)
    done: list[JSON] = []
    thread = threading.Thread(target=lambda: done.append(Logs(docker_engine.host, read)(following)))
    thread.start()
    wait_for(lambda: read.text == "first\n", seconds=20, what="the first line")
    read.most = len(read.pieces) + 1
    container.exec_run(["touch", "/go"])
    thread.join(60)
    assert read.text == "first\nsecond\n"
    assert done == [{"bytes": 13}]
    container.remove(force=True)


@pytest.mark.integration
def test_a_million_lines_end_at_the_bound_with_a_word(docker_engine: DockerEngine) -> None:
    container = docker_engine.run("sh", "-c", "yes 'a line that says nothing'")
    read = Collector()
    with pytest.raises(CommandError, match="1 MB are read, which is the most of one reading"):
        Logs(docker_engine.host, read)(
            run(str(container.id), is_following=True, tail=0, most_bytes=1024 * 1024)
        )
    container.kill()
    assert 1024 * 1024 <= len(read.text) < 1024 * 1024 + 2 * logs.PIECE_BYTES


@pytest.mark.integration
def test_a_log_that_can_not_be_read(docker_engine: DockerEngine) -> None:
    identity = finished(docker_engine, "echo lost", log_config={"Type": "none"})
    with pytest.raises(CommandError, match="web has no log: its log driver is none"):
        Logs(docker_engine.host, Collector())(run(identity))


@pytest.mark.integration
def test_a_container_that_is_gone(docker_engine: DockerEngine) -> None:
    with pytest.raises(CommandError, match="web is gone"):
        Logs(docker_engine.host, Collector())(run("a" * 64))


@pytest.mark.integration
def test_a_server_that_is_away_for_a_moment_loses_nothing(
    docker_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = finished(docker_engine, "echo one")
    read = Collector()
    read.failures = [ServerError("away"), ServerError("busy", status=503)]
    Logs(docker_engine.host, read)(run(identity))
    assert read.text == "one\n"
    read.failures = [ServerError("no such reading", status=404)]
    Logs(docker_engine.host, read)(run(identity))
    monkeypatch.setattr(logs, "PATIENCE_SECONDS", 0.0)
    read.failures = [ServerError("away")] * 3
    with pytest.raises(CommandError, match="the log can't be sent: away"):
        Logs(docker_engine.host, read)(run(identity))


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def everything(*pieces: bytes, is_terminal: bool = False, **options: Any) -> tuple[str, str]:
    reader = Reader(pieces, is_terminal=is_terminal, **options)
    text = ""
    while True:
        more, is_over = reader.take(1000, wait=5)
        text += more
        if is_over:
            return text, reader.error


def test_frames_are_put_together_however_they_are_cut() -> None:
    whole = frame(1, b"one\ntw") + frame(2, b"err\n") + frame(1, b"o\n") + frame(1, b"end")
    for size in (1, 3, 7, len(whole)):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert everything(*pieces) == ("one\nerr\ntwo\nend\n", "")


def test_what_is_not_framed_is_read_as_it_is() -> None:
    assert everything(b"plain ", b"text\nof podman\n") == ("plain text\nof podman\n", "")
    assert list(frames([b"\x01"])) == [(0, b"\x01")]


def test_what_docker_says_instead_of_the_log_is_an_error() -> None:
    assert everything(frame(1, b"one\n"), frame(3, b"error from daemon: gone\n")) == (
        "one\n", "error from daemon: gone",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"", ""),
        ("größe ✓".encode(), "größe ✓"),
        (b"tab\there\r", "tab\there"),
        (b"10%\r20%\r", "10% 20%"),
        (b"nul \x00 here, and del \x7f in a line of text", "nul � here, and del � in a line of text"),
        (b"\xff\xfe\x00\x01", "[4 bytes that are no text]"),
        (b"\x1b]0;title\x07 \x1b[1mbold\x1b[0m", " bold"),
        (b"\xff", "\ufffd"),
    ],
)
def test_a_line_becomes_text(line: bytes, text: str) -> None:
    assert everything(line + b"\n", is_terminal=True) == (text + "\n", "")


def test_a_line_is_never_cut_within_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LINE_BYTES", 5)
    splitter = Splitter()
    assert list(splitter.feed("ääää\nx\n".encode())) == [
        "ää [the line has 8 bytes, and is cut here]".encode(), b"x",
    ]  # fmt: skip


def test_no_more_is_read_than_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "HELD_BYTES", 1000)
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield b"x" * 99 + b"\n"

    reader = Reader(endless(), is_terminal=True)
    wait_for(lambda: given == 11, seconds=20, what="the reader to be full")
    time.sleep(0.1)
    assert given == 11
    assert len(reader.take(500, wait=1)[0]) == 500
    reader.close()
    reader._thread.join(20)
    assert not reader._thread.is_alive()


def test_what_is_looked_through_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_READ_BYTES", 100)
    text, error = everything(*[b"nothing of that\n"] * 20, is_terminal=True, search="needle")
    assert (text, "were looked through, which is the most" in error) == ("", True)
