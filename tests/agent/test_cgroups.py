"""cgroup v2, and what a v1 host lacks, by files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockmesh.agent import stats
from dockmesh.agent.cgroups import Cgroups, NotVisible, Used

ONE, TWO = "1" * 64, "2" * 64
NET = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
    "    lo:  9000      90    9    0    0     0          0         0     9000      90    9    0    0     0       0          0\n"
    "  eth0:  1000      10    1    0    0     0          0         0      500       5    2    0    0     0       0          0\n"
    "  eth1:   200       2    0    0    0     0          0         0       30       1    0    0    0     0       0          0\n"
)


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def process(proc: Path, number: str, levels: str) -> None:
    write(proc / number, {"status": f"Name:\tsh\nNSpid:\t{levels}\n"})
    write(proc / number / "net", {"dev": NET})


V2 = {
    "cgroup.procs": "70\n71\n",
    "cpu.stat": (
        "usage_usec 3500000\nuser_usec 2250000\nsystem_usec 1250000\n"
        "nr_periods 10\nnr_throttled 2\nthrottled_usec 750000\n"
    ),
    "memory.current": "1000000\n",
    "memory.stat": "anon 600000\nfile 400000\ninactive_file 300000\nactive_file 100000\n",
    "memory.max": "max\n",
    "io.stat": "8:0 rbytes=4096 wbytes=1024 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=1 wios=1\n253:0 \n",
    "pids.current": "3\n",
}


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    write(tmp_path / "cgroup", {"cgroup.controllers": "cpu io memory pids\n"})
    # As where a process of the container has a name space of its own, with a first one of its own.
    process(tmp_path / "proc", "71", "71 1")
    process(tmp_path / "proc", "70", "70 8 1")
    return tmp_path


def reader(place: Path, *identities: str) -> Cgroups:
    cgroups = Cgroups(str(place / "cgroup"), str(place / "proc"))
    cgroups.look_for(identities)
    return cgroups


@pytest.mark.parametrize(
    "folder",
    [
        f"docker/{ONE}",
        f"system.slice/docker-{ONE}.scope",
        f"user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ONE}.scope",
        f"machine.slice/libpod-{ONE}.scope",
        f"kubepods.slice/own/parents/{ONE}",
    ],
)
def test_a_container_is_found_and_told_with_version_2(v2: Path, folder: str) -> None:
    write(v2 / "cgroup" / folder, V2)
    write(v2 / "cgroup" / folder / "within" / TWO, V2)
    used = reader(v2, ONE).read(ONE, has_own_network=True)
    assert used == Used(2.25, 1.25, 0.75, 700000, None, 1200, 530, 1, 2, 4097, 1026, 3)
    with pytest.raises(NotVisible):
        reader(v2, TWO, ONE).read(TWO, has_own_network=True)


def test_what_version_2_does_not_account_is_null(v2: Path) -> None:
    """As without delegated controllers."""
    cpu = "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\n"
    write(v2 / "cgroup" / "docker" / ONE, {"cgroup.procs": "71\n", "cpu.stat": cpu})
    used = reader(v2, ONE).read(ONE, has_own_network=False)
    assert used == Used(2.0, 1.0)


def test_nothing_written_yet_is_0_with_version_2_and_a_limit_is_told(v2: Path) -> None:
    write(v2 / "cgroup" / "docker" / ONE, {**V2, "io.stat": "", "memory.max": "2097152\n"})
    used = reader(v2, ONE).read(ONE, has_own_network=True)
    assert used is not None
    assert (used.block_read_bytes, used.block_written_bytes, used.memory_limit_bytes) == (0, 0, 2097152)


def test_processes_in_cgroups_below_are_found(v2: Path) -> None:
    """As where systemd runs in the container."""
    folder = v2 / "cgroup" / "system.slice" / f"docker-{ONE}.scope"
    write(folder, {**V2, "cgroup.procs": ""})
    write(folder / "init.scope", {"cgroup.procs": "71\n"})
    used = reader(v2, ONE).read(ONE, has_own_network=True)
    assert used is not None
    assert used.network_receive_bytes == 1200


def test_a_cgroup_whose_processes_are_of_another_name_space_is_not_visible(v2: Path) -> None:
    write(v2 / "cgroup" / "docker" / ONE, {**V2, "cgroup.procs": "0\n0\n"})
    with pytest.raises(NotVisible):
        reader(v2, ONE).read(ONE, has_own_network=True)


def test_one_that_has_ended_is_nothing(v2: Path) -> None:
    folder = v2 / "cgroup" / "docker" / ONE
    write(folder, V2)
    cgroups = reader(v2, ONE)
    for file in folder.iterdir():
        file.unlink()
    assert cgroups.read(ONE, has_own_network=True) is None
    folder.rmdir()
    assert cgroups.read(ONE, has_own_network=True) is None
    write(folder, V2)
    assert cgroups.read(ONE, has_own_network=True) is not None


def test_numbers_that_no_server_takes_are_null(v2: Path) -> None:
    write(v2 / "cgroup" / "docker" / ONE, {**V2, "memory.current": f"{2**63}\n", "pids.current": "-1\n"})
    used = reader(v2, ONE).read(ONE, has_own_network=True)
    assert used is not None
    assert (used.memory_working_set_bytes, used.pids) == (None, None)


def test_version_1_tells_by_controller(tmp_path: Path) -> None:
    process(tmp_path / "proc", "70", "70 1")
    files = {
        "memory": {
            "cgroup.procs": "70\n",
            "memory.usage_in_bytes": "1000000\n",
            "memory.limit_in_bytes": "9223372036854771712\n",
            "memory.stat": "inactive_file 1\ntotal_inactive_file 300000\n",
        },
        "cpuacct": {"cpuacct.stat": "user 225\nsystem 125\n"},
        "cpu": {"cpu.stat": "nr_periods 1\nnr_throttled 1\nthrottled_time 750000000\n"},
        "blkio": {
            "blkio.throttle.io_service_bytes": "8:0 Read 4096\n8:0 Write 1024\n8:0 Total 5120\n8:16 Read 1\n8:16 Write 2\nTotal 5123\n"
        },
        "pids": {"pids.current": "3\n"},
    }
    for controller, each in files.items():
        write(tmp_path / "cgroup" / controller / "docker" / ONE, each)
    expected = Used(2.25, 1.25, 0.75, 700000, None, 1200, 530, 1, 2, 4097, 1026, 3)
    assert reader(tmp_path, ONE).read(ONE, has_own_network=True) == expected
    write(
        tmp_path / "cgroup" / "blkio" / "docker" / ONE, {"blkio.throttle.io_service_bytes": "Total 0\n"}
    )  # counts nothing
    used = reader(tmp_path, ONE).read(ONE, has_own_network=True)
    assert used is not None
    assert (used.block_read_bytes, used.block_written_bytes) == (None, None)


ANSWER = {
    "read": "2026-11-27T03:00:00Z",
    "cpu_stats": {
        "cpu_usage": {
            "total_usage": 3_500_000_000,
            "usage_in_usermode": 2_250_000_000,
            "usage_in_kernelmode": 1_250_000_000,
        },
        "throttling_data": {"throttled_time": 750_000_000},
    },
    "memory_stats": {"usage": 1_000_000, "limit": 2**31, "stats": {"inactive_file": 300_000}},
    "networks": {
        "eth0": {"rx_bytes": 1000, "tx_bytes": 500, "rx_errors": 1, "tx_errors": 2},
        "eth1": {"rx_bytes": 200, "tx_bytes": 30, "rx_errors": 0, "tx_errors": 0},
    },
    "blkio_stats": {"io_service_bytes_recursive": [{"op": "read", "value": 4097}, {"op": "Write", "value": 1026}]},
    "pids_stats": {"current": 3},
}  # fmt: skip


def test_the_engines_statistics_say_the_same() -> None:
    expected = Used(2.25, 1.25, 0.75, 700000, None, 1200, 530, 1, 2, 4097, 1026, 3)
    assert stats.used(ANSWER, network_mode="bridge", machine_memory=2**31) == expected
    limited = stats.used(ANSWER, network_mode="container:abc", machine_memory=2**32)
    assert limited is not None
    assert (limited.memory_limit_bytes, limited.network_receive_bytes) == (2**31, None)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"read": "0001-01-01T00:00:00Z", "cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}},
        {"cpu_stats": None, "memory_stats": [], "networks": 5},
    ],
)
def test_statistics_that_say_nothing_are_nothing(answer: dict[str, object]) -> None:
    """As of a container that has ended, or of a rootless Engine without cgroups."""
    assert stats.used(answer, network_mode="bridge", machine_memory=0) is None
