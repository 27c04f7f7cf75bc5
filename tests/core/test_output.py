"""Output stays bounded however much there is."""

import pytest

from dockmesh.core.output import HEAD_BYTES, LEFT_OUT, MAX_BYTES, appended


def test_little_output_is_kept_whole() -> None:
    assert appended(appended("", "one\r\n"), "two\n") == "one\ntwo\n"


@pytest.mark.parametrize("chunk", ["x" * 999 + "\n", "ü" * 500 + "\n", "z" * 200_000])
def test_much_output_keeps_its_beginning_and_its_end(chunk: str) -> None:
    kept = "first line\n"
    for _ in range(200):
        kept = appended(kept, chunk)
        assert len(kept.encode()) <= MAX_BYTES
    kept = appended(kept, "last line\n")
    assert kept.startswith("first line\n")
    assert kept.endswith("last line\n")
    assert kept.count(LEFT_OUT) == 1
    assert len(kept.encode()) > MAX_BYTES - 10
    assert len(kept.partition(LEFT_OUT)[0].encode()) > HEAD_BYTES - 4


def test_what_no_database_or_page_could_show_is_replaced() -> None:
    assert appended("", "a\x00b\x1b[31m\ud800") == "a\ufffdb\ufffd[31m\ufffd"
