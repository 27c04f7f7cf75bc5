"""Whatever is typed as a Compose file, an env file or a schedule: it passes or is refused, nothing else."""

import datetime
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockmesh.backups import schedule
from dockmesh.core.errors import InvalidInput
from dockmesh.deploys import compose

PIECES = [
    "services:", "image:", "web:", "\n", "\n  ", "\n    ", "- ", "&a ", "*a", "<<: ", "{", "}", "[", "]", ": ", ", ",
    "!!bool ", "!!int ", "!!float ", "!!timestamp ", "!!binary ", "!!set ", "!!omap ", "!!pairs ", "!!null ", "!reset ",
    "!x ", "? ", "'", '"', "|", ">", "---", "...", "%YAML 1.1", "\t", "#", "1:60", "0x", ".inf", "~", "x", "\\u0000",
]  # fmt: skip
yaml_like = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=40).map("".join)


@settings(max_examples=150, deadline=None)
@given(yaml_like | yaml_like.map(lambda text: "services: {web: {image: x}}\nx: " + text))
def test_a_compose_file_passes_or_is_refused(text: str) -> None:
    with suppress(InvalidInput):
        kept = compose.clean_compose_file(text)
        assert compose.clean_compose_file(kept) == kept


@pytest.mark.parametrize(
    "value",
    [
        "!!bool perhaps",
        "!!int ''",
        "!!timestamp x",
        "!!float x",
        "!!binary ü",
        "{!!int x: 1}",
        "1:" * 9000 + "1",
    ],
)
def test_a_value_that_does_not_fit_its_tag_is_refused_or_taken(value: str) -> None:
    with suppress(InvalidInput):
        compose.clean_compose_file(f"services: {{web: {{image: x}}}}\nx: {value}")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([*"AB=# \n'\"\\", "export "]) | st.text(max_size=2), max_size=30).map("".join)
)
def test_an_env_file_passes_or_is_refused(text: str) -> None:
    with suppress(InvalidInput):
        kept = compose.clean_env_file(text)
        assert compose.clean_env_file(kept) == kept
        compose.env_names(kept)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*"0123456789*/,-#L", "MON", "JAN", "LW", " "]), max_size=25).map("".join))
def test_a_schedule_is_refused_or_has_a_next_time(text: str) -> None:
    now = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
    with suppress(InvalidInput):
        expression = schedule.clean_schedule(text)
        following = schedule.next_after(expression, "Europe/Berlin", now)
        assert (following is None) == (expression == "")
        assert following is None or following > now
