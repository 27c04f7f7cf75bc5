"""The heartbeat's document: golden files, digest, what never leaves the agent."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockmesh.agent import document
from dockmesh.agent.client import encoded
from dockmesh.agent.text import clean, clean_output, cut
from tests.agent import documents

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.mark.parametrize("name", sorted(documents.golden()))
def test_the_document_is_the_golden_one(name: str) -> None:
    assert json.loads((GOLDEN / name).read_text()) == documents.golden()[name]


@pytest.mark.parametrize("name", sorted(documents.golden()))
def test_it_travels_as_utf8_without_blanks_and_needless_escapes(name: str) -> None:
    whole = documents.golden()[name]
    raw = encoded(whole)
    assert json.loads(raw) == whole
    assert b"\\u" not in raw
    assert b'": ' not in raw
    assert ("büro-日本-🐳".encode() in raw) == (name == "heartbeat-utf8.json")


def test_a_lone_surrogate_never_leaves_the_agent() -> None:
    raw = encoded({"name": "a\ud800b"})
    assert raw.decode("utf-8") == '{"name":"a?b"}'


def test_the_digest_does_not_depend_on_the_order_in_which_docker_lists_containers() -> None:
    one = documents.snapshot(*documents.FLEET)
    other = documents.snapshot(*reversed(documents.FLEET))
    assert one.digest == other.digest
    assert one.containers == other.containers


@pytest.mark.parametrize(
    "change",
    [
        {"state": "exited"},
        {"health": "unhealthy"},
        {"exit_code": 1},
        {"oom_killed": True},
        {"restart_count": 1},
        {"image": "nginx:1.28"},
        {"stack": "shop2"},
        {"restart_policy": "always"},
        {"stop_signal": "SIGINT"},
        {"error": "no such device"},
        {"labels": {"com.docker.compose.oneoff": "True"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_change_of_a_container_changes_the_digest(change: dict[str, object]) -> None:
    assert (
        documents.snapshot(documents.inspected(1)).digest
        != documents.snapshot(documents.inspected(1, **change)).digest
    )


def test_an_inventory_that_the_server_knows_travels_as_its_digest_alone() -> None:
    full = documents.snapshot(*documents.FLEET)
    assert document.heartbeat(full, documents.state(known_digest=full.digest))["inventory"] == {
        "digest": full.digest
    }
    other = document.heartbeat(full, documents.state(known_digest="sha256:other"))["inventory"]
    assert len(other["containers"]) == len(documents.FLEET)


def test_an_empty_host_has_an_inventory() -> None:
    inventory = document.heartbeat(documents.snapshot(), documents.state())["inventory"]
    assert inventory["containers"] == []
    assert inventory["digest"].startswith("sha256:")


def test_times_are_utc_and_a_container_that_never_started_has_none() -> None:
    assert document.docker_time("2026-11-22T12:59:58.5+02:00") == "2026-11-22T10:59:58.500000Z"
    assert document.docker_time("2026-11-22T10:59:58.123456789Z") == "2026-11-22T10:59:58.123456Z"
    for none in ("0001-01-01T00:00:00Z", "", "yesterday", None, 5):
        assert document.docker_time(none) is None


def test_a_swarm_task_is_of_its_stack_and_its_service() -> None:
    labels = {"com.docker.stack.namespace": "prod", "com.docker.swarm.service.name": "prod_api"}
    item = document.container(documents.inspected(1, stack="", labels=labels))
    assert (item["stack"], item["service"]) == ("prod", "api")
    alone = document.container(
        documents.inspected(1, stack="", labels={"com.docker.swarm.service.name": "api"})
    )
    assert (alone["stack"], alone["service"]) == ("", "")


def test_dockers_silence_about_policy_and_signal_is_what_it_means() -> None:
    item = document.container(documents.inspected(1, restart_policy=""))
    assert (item["restart_policy"], item["stop_signal"]) == ("no", "SIGTERM")
    unknown = document.container({"Id": "a" * 64, "State": {"Status": "running"}})
    assert (unknown["restart_policy"], unknown["stop_signal"], unknown["is_oneoff"]) == ("", "", False)


def test_odd_answers_of_docker_become_a_well_formed_container() -> None:
    odd = {
        "Id": "f" * 64,
        "Name": "/" + "x" * 5000 + "\x00",
        "RestartCount": -3,
        "Config": {"Image": "a\x1b[31mb\ud800", "Labels": None},
        "State": {"Status": "Zombie", "ExitCode": -1, "OOMKilled": None, "Health": {"Status": "none"}},
    }
    item = document.container(odd)
    assert len(item["name"]) == 200
    assert item["image"] == "a\ufffd[31mb\ufffd"
    assert (item["state"], item["exit_code"], item["restart_count"]) == ("unknown", 255, 0)
    assert (item["oom_killed"], item["health"], item["stack"]) == (False, "", "")


def test_progress_carries_the_tail_of_a_long_output() -> None:
    progress = document.Progress(command_id="1", output="ä" * 20000 + "end", elapsed_seconds=-1)
    sent = document.heartbeat(documents.snapshot(), documents.state(progress=[progress]))["progress"][0]
    assert sent["output"].endswith("end")
    assert len(sent["output"].encode()) <= document.MAX_PROGRESS_BYTES
    assert sent["elapsed_seconds"] == 0


@given(st.text(alphabet=st.characters(), max_size=400))
def test_no_control_character_leaves_the_agent(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned.encode()) <= 200
    assert not [c for c in cleaned if ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000]


@given(st.text(alphabet=st.characters(), max_size=400))
def test_output_keeps_line_ends_and_tabs_only(text: str) -> None:
    cleaned = clean_output(text)
    controls = {c for c in cleaned if ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000}
    assert controls <= {"\n", "\t"}


def test_terminal_colours_and_titles_are_removed_from_output() -> None:
    assert clean_output("\x1b[31mred\x1b[0m\r\n\x1b]0;title\x07ok\rnext") == "red\nok\nnext"


def test_a_cut_text_ends_at_a_whole_character() -> None:
    assert cut("aää", limit=4) == "aä"
    assert cut("abc", limit=3) == "abc"
