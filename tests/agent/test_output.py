"""Output of commands: bounded, masked, cleaned, and handed out in pieces."""

from dockmesh.agent.output import HEAD_BYTES, LONGEST_LINE, TAIL_BYTES, Output


def test_short_output_is_kept_whole() -> None:
    output = Output()
    output.write("one\ntwo")
    assert output.text() == "one\ntwo"


def test_long_output_keeps_its_head_and_its_tail() -> None:
    output = Output()
    for number in range(20_000):
        output.write(f"line {number}\n")
    text = output.text()
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 19999\n")
    assert "characters left out" in text
    assert len(text.encode()) < HEAD_BYTES + TAIL_BYTES + 100


def test_values_of_the_env_file_are_masked_wherever_a_write_cuts_them() -> None:
    output = Output(secrets=["s3cret-value"])
    for char in "password is s3cret-value, really\n":
        output.write(char)
    assert output.text() == "password is ******, really\n"


def test_a_secret_in_a_line_without_end_is_masked() -> None:
    output = Output(secrets=["s3cret-value"])
    for offset in range(40):
        output.write("x" * (LONGEST_LINE - 20 + offset) + "s3cret-value")
    assert "s3cret-value" not in output.text()
    assert "s3cret" not in output.text().replace("******", "")


def test_one_secret_within_another_leaves_nothing_behind() -> None:
    output = Output(secrets=["abcd", "abcdefgh"])
    output.write("abcdefgh abcd\n")
    assert output.text() == "****** ******\n"


def test_short_values_do_not_make_the_output_unreadable() -> None:
    output = Output(secrets=["1", "yes"])
    output.write("1 yes\n")
    assert output.text() == "1 yes\n"


def test_progress_is_what_came_since_the_last_time() -> None:
    output = Output()
    output.write("one\n")
    first, position = output.since(0, limit=100)
    assert first == "one\n"
    output.write("two\nthree\n")
    assert output.since(position, limit=100)[0] == "two\nthree\n"
    assert output.since(position, limit=6)[0] == "three\n"
    _, position = output.since(position, limit=100)
    assert output.since(position, limit=100)[0] == ""


def test_progress_of_an_output_whose_middle_was_dropped_is_its_end() -> None:
    output = Output()
    output.write("x\n" * 100_000)
    _, position = output.since(0, limit=16 * 1024)
    output.write("end\n")
    assert output.since(position, limit=16 * 1024)[0] == "end\n"


def test_control_characters_do_not_get_through() -> None:
    output = Output()
    output.write("\x1b[32mok\x1b[0m\x00\r\nnext\n")
    assert output.text() == "ok\ufffd\nnext\n"
