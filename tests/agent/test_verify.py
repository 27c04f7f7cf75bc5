"""A snapshot's stream against its list and the source."""

import io
import tarfile
import time
from pathlib import Path

import pytest

from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.process import Cancellation
from dockmesh.agent.verify import Files, FileVersion, compare, files_of


def a_run(seconds: float = 60) -> Run:
    run = Run("", "verify", {}, Cancellation())
    run.deadline = time.monotonic() + seconds
    return run


def stream(contents: dict[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in contents.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def stamp(path: Path) -> FileVersion:
    status = path.stat()
    return FileVersion(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("same", "other", "short", "gone", "later"):
        (tmp_path / name).write_text("abc")
    return tmp_path


def test_a_comparison_names_what_differs(source: Path) -> None:
    files: Files = {str(path): [stamp(path)] for path in source.iterdir()}
    (source / "later").write_text("xyz")
    contents = dict.fromkeys(files, b"abc")
    good = compare(stream(contents), files, a_run())
    assert good == {
        "files_verified": 5,
        "files_same_as_source": 4,
        "files_changed_since": 1,
        "files_passed_over": 0,
    }
    contents |= {str(source / "other"): b"abd", str(source / "short"): b"ab", "/extra": b""}
    del contents[str(source / "gone")]
    with pytest.raises(CommandError) as caught:
        compare(stream(contents), files, a_run())
    for text in (
        "other has another content than the source",
        "short has 2 bytes instead of 3",
        "gone is missing",
        "/extra is not in the snapshot's list",
    ):
        assert text in str(caught.value)


def test_a_source_behind_a_link_is_not_followed(source: Path) -> None:
    (source / "folder").mkdir()
    (source / "folder" / "file").write_text("abc")
    files: Files = {str(source / "folder" / "file"): [stamp(source / "folder" / "file")]}
    (source / "folder").rename(source / "moved")
    (source / "folder").symlink_to("moved")
    result = compare(stream(dict.fromkeys(files, b"abc")), files, a_run())
    assert (result["files_same_as_source"], result["files_changed_since"]) == (0, 1)


def test_the_time_limit_and_a_stop_hold_while_files_are_hashed(source: Path) -> None:
    path = str(source / "same")
    files: Files = {path: [stamp(source / "same")]}
    with pytest.raises(CommandError, match="time limit"):
        compare(stream({path: b"abc"}), files, a_run(seconds=-1))
    stopped = a_run()
    stopped.cancelled.set()
    with pytest.raises(CommandError, match="stopped"):
        compare(stream({path: b"abc"}), files, stopped)


def test_the_list_has_names_and_times_to_the_nanosecond() -> None:
    listed = (
        '{"struct_type":"snapshot"}\n'
        '{"struct_type":"node","type":"dir","path":"/a"}\n'
        '{"struct_type":"node","type":"file","path":"/a/\\ufffd","size":3,'
        '"mtime":"1969-12-31T23:59:59.5Z","ctime":"2026-11-26T01:00:00.123456789+01:00"}\n'
    )
    assert files_of(listed) == {"/a/\ufffd": [FileVersion(3, -500_000_000, 1_795_651_200_123_456_789)]}
