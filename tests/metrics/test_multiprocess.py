"""The process's own metrics where a WSGI server has several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client
from prometheus_client import REGISTRY, Counter
from prometheus_client.parser import text_string_to_metric_families as parse_text

from metrics import multiprocess


@pytest.fixture
def folder(settings, tmp_path):
    settings.PROMETHEUS_MULTIPROC_DIR = str(tmp_path)
    REGISTRY.register(OWN)
    yield tmp_path
    REGISTRY.unregister(OWN)


def write_other(folder, name, metrics):
    (folder / name).write_text(json.dumps({"metrics": metrics}))


def living():
    """The name of a file of a process that is alive and not this one."""
    parent = os.getppid()
    started = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    return f"dockmesh-{parent}-{started}.json"


def total(metrics, sample_name):
    return sum(s.value for metric in metrics for s in metric.samples if s.name == sample_name)


OWN = Counter("multiprocess_test_things", "Things.", ["kind"], registry=None)
THINGS = [
    "multiprocess_test_things",
    "counter",
    "Things.",
    [["multiprocess_test_things_total", {"kind": "a"}, 5.0]],
]
MEMORY = ["process_resident_memory_bytes", "gauge", "Memory.", [["process_resident_memory_bytes", {}, 7.0]]]
START = ["process_start_time_seconds", "gauge", "Start.", [["process_start_time_seconds", {}, 7.0]]]


def summed():
    return multiprocess.summed(REGISTRY.collect())


def test_counters_of_other_processes_are_added(folder):
    OWN.labels("a").inc(0)
    before = total(summed(), "multiprocess_test_things_total")
    write_other(folder, living(), [THINGS])
    assert total(summed(), "multiprocess_test_things_total") == before + 5


def test_what_cannot_be_summed_is_left_out(folder):
    names = {metric.name for metric in summed()}
    assert "process_cpu_seconds" in names
    assert "process_start_time_seconds" not in names
    assert "python_info" not in names


def test_memory_of_ended_processes_is_not_counted_and_their_counters_stay(folder):
    OWN.labels("a").inc(0)
    things = total(summed(), "multiprocess_test_things_total")
    write_other(folder, "dockmesh-999999999-1.json", [THINGS, MEMORY])
    assert total(summed(), "process_resident_memory_bytes") > 7
    assert total(summed(), "multiprocess_test_things_total") == things + 5
    multiprocess.write_own()  # a new process folds what the ended ones left
    assert not (folder / "dockmesh-999999999-1.json").exists()
    assert total(summed(), "multiprocess_test_things_total") == things + 5
    write_other(folder, "dockmesh-999999998-1.json", [THINGS])
    (folder / multiprocess._own_name()).unlink()
    multiprocess.write_own()
    assert total(summed(), "multiprocess_test_things_total") == things + 10


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 1024,
        b"{",
        b"[]",
        b"{}",
        b'{"metrics": [1]}',
        b'{"metrics": [["a"]]}',
        b'{"metrics": {"a": 1}}',
    ],
)
@pytest.mark.parametrize(
    "name", ["dockmesh-1-1.json", "dockmesh-ended.json", "counter_1.db", "dockmesh-x-y.json"]
)
def test_a_corrupt_file_never_breaks_a_scrape(db, folder, settings, name, content):
    settings.DOCKMESH_METRICS_AUTH = False
    (folder / name).write_bytes(content)
    multiprocess.write_own()
    answer = Client().get("/metrics")
    assert answer.status_code == 200
    text = answer.content.decode()
    assert 'dockmesh_collector_success{collector="process"} 1\n' in text
    assert "process_cpu_seconds" in {family.name for family in parse_text(text)}


def test_a_folder_that_cannot_be_written_is_only_logged(settings, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    settings.PROMETHEUS_MULTIPROC_DIR = str(tmp_path / "file" / "below")
    multiprocess.write_own()
    assert "could not be written" in caplog.text
    assert total(summed(), "process_cpu_seconds_total") > 0


def test_prometheus_client_keeps_its_values_in_the_process(tmp_path):
    """Its memory-mapped files kill the process with SIGBUS when the folder is full."""
    code = (
        "import dockmesh.settings, os, prometheus_client.values as v;"
        "print(v.ValueClass.__name__, os.environ['PROMETHEUS_MULTIPROC_DIR'])"
    )
    environment = {
        **os.environ,
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "multi"),
        "DOCKMESH_DATA_DIR": str(tmp_path / "data"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.split() == ["MutexValue", str(tmp_path / "multi")]


def test_foreign_names_are_neither_read_nor_removed(folder):
    names = ("dockmesh-1-2-3.json", "dockmesh-a-b.json", "dockmesh-\u00b2-1.json", "dockmesh--1.json", "x.db")
    for name in names:
        (folder / name).write_text('{"metrics": [["evil", "counter", "", [["evil_total", {}, 1]]]]}')
    (folder / "dockmesh-12-34.json").mkdir()
    multiprocess.write_own()
    assert "evil" not in {metric.name for metric in summed()}
    assert all((folder / name).exists() for name in names)
