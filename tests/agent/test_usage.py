"""What containers and the machine use: beside the kernel's own files, with a real Engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent import machine
from dockmesh.agent.cgroups import Cgroups, NotVisible, Used
from dockmesh.agent.disk import DiskWatcher
from dockmesh.agent.document import JSON, Snapshot, System, container
from dockmesh.agent.usage import Usage
from tests.integration.dockerd import IMAGE, DockerEngine
from tests.support import PATIENCE, require

pytestmark = pytest.mark.integration

MIB = 2**20


class Blind(Cgroups):
    """Sees no container's cgroup, as in a container."""

    def read(self, identity: str, *, has_own_network: bool) -> Used | None:
        raise NotVisible


class Measured:
    """The agent's measuring of a real Engine, without its threads."""

    def __init__(self, engine: DockerEngine, cgroups: Cgroups) -> None:
        self.engine = engine
        self.usage = Usage(
            engine.host,
            snapshot=self.snapshot,
            interval=lambda: 15.0,
            measures_volumes=False,
            cgroups=cgroups,
        )

    def snapshot(self) -> Snapshot:
        with self.engine.client() as client:
            containers = tuple(
                container(each.attrs) for each in client.containers.list(all=True, ignore_removed=True)
            )
            info = client.info()
        system = System("linux", "", info["KernelVersion"], info["NCPU"], info["MemTotal"])
        return Snapshot(True, "", "", system, containers)

    def told(self) -> JSON:
        """What the next heartbeat would tell."""
        self.usage.measure()
        said = self.usage.take(self.snapshot().containers)
        assert said is not None
        return said

    def of(self, identity: str) -> Used:
        """What is told of the container, once it is."""
        deadline = time.monotonic() + PATIENCE * 20
        while True:
            found = {each[0]: Used(*each[1:]) for each in self.told()["containers"]}
            if identity in found:
                return found[identity]
            assert time.monotonic() < deadline, f"{identity} is not among {found}"

    def close(self) -> None:
        self.usage.stop()


@pytest.fixture(params=["files", "engine"])
def measured(request: pytest.FixtureRequest, docker_engine: DockerEngine) -> Iterator[Measured]:
    """By the kernel's files, and as the Engine tells it."""
    each = Measured(docker_engine, Cgroups() if request.param == "files" else Blind())
    yield each
    each.close()


def processor_seconds(engine: DockerEngine, identity: str) -> float:
    """Of the container's processes, by their own files: another account of the kernel's than its cgroup."""
    with engine.client() as client:
        processes = [int(row[1]) for row in client.containers.get(identity).top()["Processes"]]
    fields = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in processes]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE * 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finished(engine: DockerEngine, identity: str) -> bool:
    with engine.client() as client:
        return b"done" in client.containers.get(identity).logs()


def test_processor_time_is_that_of_the_containers_processes_and_begins_anew_with_a_restart(
    measured: Measured,
) -> None:
    burner = measured.engine.run("sh", "-c", "while :; do :; done", stop_signal="SIGKILL")
    assert burner.id
    wait_until(lambda: processor_seconds(measured.engine, burner.id) >= 3)
    with measured.engine.client() as client:
        client.containers.get(burner.id).pause()
    used = measured.of(burner.id)
    known = processor_seconds(measured.engine, burner.id)
    assert used.cpu_user_seconds is not None
    assert used.cpu_system_seconds is not None
    assert used.cpu_user_seconds + used.cpu_system_seconds == pytest.approx(known, rel=0.05)
    assert used.cpu_user_seconds > used.cpu_system_seconds
    assert used.pids == 1
    with measured.engine.client() as client:
        client.containers.get(burner.id).unpause()
        client.containers.get(burner.id).restart(timeout=0)
    again = measured.of(burner.id)
    assert again.cpu_user_seconds is not None
    assert again.cpu_user_seconds < used.cpu_user_seconds


def test_version_2_of_the_kernel_tells_the_same_processor_time(docker_engine: DockerEngine) -> None:
    """Where the machine has both versions, the second has no controllers but accounts for processors."""
    burner = docker_engine.run("sh", "-c", "while :; do :; done")
    wait_until(lambda: processor_seconds(docker_engine, str(burner.id)) >= 2)
    with docker_engine.client() as client:
        client.containers.get(str(burner.id)).pause()
    both = Path("/sys/fs/cgroup/unified")
    cgroups = Cgroups(str(both) if both.exists() else "/sys/fs/cgroup")
    cgroups.look_for([str(burner.id)])
    used = cgroups.read(str(burner.id), has_own_network=True)
    assert used is not None
    assert used.cpu_user_seconds == pytest.approx(processor_seconds(docker_engine, str(burner.id)), rel=0.05)


def test_a_container_that_is_held_back_tells_for_how_long(measured: Measured) -> None:
    slow = measured.engine.run("sh", "-c", "while :; do :; done", nano_cpus=200_000_000)
    wait_until(lambda: (measured.of(str(slow.id)).cpu_throttled_seconds or 0) > 0.2)


def test_memory_is_what_is_held_without_the_cache_of_files(measured: Measured) -> None:
    held = 96 * MIB
    command = (
        f"dd if=/dev/zero of=/dev/shm/held bs=1M count={held // MIB}; "
        "dd if=/dev/zero of=/cached bs=1M count=32; echo done; sleep 600"
    )
    holder = measured.engine.run("sh", "-c", command, shm_size=2 * held, mem_limit=4 * held)
    wait_until(lambda: finished(measured.engine, str(holder.id)))
    used = measured.of(str(holder.id))
    # Shared memory is neither evicted nor written anywhere.
    assert used.memory_working_set_bytes == pytest.approx(held, rel=0.1)
    assert used.memory_limit_bytes == 4 * held
    free = measured.engine.run("sleep", "600")
    assert measured.of(str(free.id)).memory_limit_bytes is None


def test_what_is_written_and_read_past_the_cache_is_counted(measured: Measured) -> None:
    command = (
        "dd if=/dev/zero of=/data/x bs=1M count=24 oflag=direct; "
        "dd if=/data/x of=/dev/null bs=1M count=12 iflag=direct; echo done; sleep 600"
    )
    # cgroup v1 counts only where there is a limit.
    limit = {"Path": disk_of(measured.engine.root), "Rate": 10**10}
    writer = measured.engine.run(
        "sh", "-c", command, volumes={"usage": {"bind": "/data"}}, device_write_bps=[limit]
    )
    wait_until(lambda: finished(measured.engine, str(writer.id)))
    used = measured.of(str(writer.id))
    assert used.block_written_bytes == pytest.approx(24 * MIB, rel=0.05)
    assert used.block_read_bytes == pytest.approx(12 * MIB, rel=0.05)


def disk_of(path: Path) -> str:
    """The whole disk that the folder is on."""
    device = os.stat(path).st_dev
    place = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve(strict=True)
    return f"/dev/{place.parent.name if (place / 'partition').exists() else place.name}"


@contextmanager
def cable(process: int) -> Iterator[str]:
    """An interface of the machine whose other end is in the process's name space; gives its name."""
    ip = require("ip")
    name = f"dmu{process}"[:15]
    commands = [
        [ip, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(process)],
        ["nsenter", "-t", str(process), "-n", ip, "addr", "add", "192.0.2.2/24", "dev", "eth0"],
        ["nsenter", "-t", str(process), "-n", ip, "link", "set", "lo", "up"],
        ["nsenter", "-t", str(process), "-n", ip, "link", "set", "eth0", "up"],
        [ip, "link", "set", name, "up"],
    ]
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
        yield name
    finally:
        subprocess.run([ip, "link", "delete", name], check=False, capture_output=True)


def statistic(interface: str, name: str) -> int:
    return int(Path(f"/sys/class/net/{interface}/statistics/{name}").read_text())


def test_bytes_are_counted_by_direction_and_without_the_loopback(docker_engine: DockerEngine) -> None:
    # With no network of Docker's the Engine itself knows of no interface: by the files alone.
    measured = Measured(docker_engine, Cgroups())
    # Nobody answers there: each packet goes out to a neighbour that is set by hand.
    sender = docker_engine.run("sleep", "600", network_mode="none", cap_add=["NET_ADMIN"])
    with docker_engine.client() as client:
        process = client.containers.get(str(sender.id)).attrs["State"]["Pid"]
    with cable(process) as name:
        inside = ["nsenter", "-t", str(process), "-n"]
        subprocess.run(
            [*inside, "ip", "neigh", "add", "192.0.2.9", "lladdr", "02:00:00:00:00:09", "dev", "eth0"],
            check=True,
        )
        send = (
            "import socket\n"
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "for _ in range(2000): s.sendto(bytes(1000), ({!r}, 9))"
        )
        for address in ("192.0.2.9", "127.0.0.1"):
            subprocess.run(
                [*inside, shutil.which("python3") or "python3", "-c", send.format(address)], check=True
            )
        used = measured.of(str(sender.id))
        sent, received = statistic(name, "rx_bytes"), statistic(name, "tx_bytes")
    measured.close()
    assert used.network_transmit_bytes == pytest.approx(sent, rel=0.05)
    assert used.network_transmit_bytes == pytest.approx(2000 * (1000 + 8 + 20 + 14), rel=0.05)
    assert used.network_receive_bytes == pytest.approx(received, abs=5000)
    assert (used.network_receive_errors, used.network_transmit_errors) == (0, 0)


def test_the_hosts_and_anothers_network_is_nobodys_own(measured: Measured) -> None:
    alone = measured.engine.run("sleep", "600", network_mode="none")
    shares = measured.engine.run("sleep", "600", network_mode=f"container:{alone.id}")
    hosts = measured.engine.run("sleep", "600", network_mode="host")
    assert measured.of(str(alone.id)).network_receive_bytes == 0
    assert measured.of(str(shares.id)).network_receive_bytes is None
    assert measured.of(str(hosts.id)).network_receive_bytes is None


def test_only_what_runs_is_told_and_a_paused_one_as_well(measured: Measured) -> None:
    ended = measured.engine.run("true")
    paused = measured.engine.run("sleep", "600")
    with measured.engine.client() as client:
        client.containers.get(str(ended.id)).wait()
        client.containers.get(str(paused.id)).pause()
    assert measured.of(str(paused.id)).pids == 1
    assert str(ended.id) not in {each[0] for each in measured.told()["containers"]}


def test_one_that_ends_while_it_is_asked_is_left_out(measured: Measured) -> None:
    ending, stays = measured.engine.run("sleep", "600"), measured.engine.run("sleep", "600")
    measured.of(str(ending.id))
    before = measured.snapshot()
    with measured.engine.client() as client:
        client.containers.get(str(ending.id)).kill()
        client.containers.get(str(ending.id)).wait()
    measured.usage._snapshot = lambda: before
    measured.usage.measure()
    said = measured.usage.take(before.containers)
    assert said is not None
    assert [each[0] for each in said["containers"]] == [stays.id]
    # One that is not in the heartbeat's inventory any more.
    measured.usage.measure()
    said = measured.usage.take(())
    assert said is not None
    assert said["containers"] == []


def test_the_machine_is_told_as_its_own_files_tell_it(measured: Measured) -> None:
    measured.engine.run("sleep", "600")
    host = measured.told()["host"]
    idle = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    busy = sum(int(idle[at]) for at in (1, 2, 3, 6, 7)) / os.sysconf("SC_CLK_TCK")
    available = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    assert available
    assert host["cpu_seconds"] == pytest.approx(busy, rel=0.05)
    assert host["memory_available_bytes"] == pytest.approx(int(available[1]) * 1024, rel=0.1)
    assert host["load1"] == pytest.approx(os.getloadavg()[0], abs=5)
    disk = shutil.disk_usage(measured.engine.root)
    assert host["docker_root_bytes"] == disk.total
    assert host["docker_root_free_bytes"] == pytest.approx(disk.free, rel=0.05)


def test_a_machine_without_such_files_or_that_is_another_tells_nothing(tmp_path: Path) -> None:
    assert machine.measured("/nowhere", proc=tmp_path) == machine.unknown()


def test_dockers_disk_is_told_as_docker_counts_it(docker_engine: DockerEngine) -> None:
    with docker_engine.client() as client:
        made = client.containers.create(IMAGE, ["true"], network_mode="none")
        made.commit("usage", "unused", changes=["LABEL a=b"])
        made.remove()
    ended = docker_engine.run("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=3")
    runs = docker_engine.run(
        "sh", "-c", "dd if=/dev/zero of=/data/x bs=1M count=2; echo done; sleep 600",
        volumes={"kept": {"bind": "/data"}},
    )  # fmt: skip
    with docker_engine.client() as client:
        client.volumes.create("unused")
        client.containers.get(str(ended.id)).wait()
    wait_until(lambda: finished(docker_engine, str(runs.id)))
    watcher = DiskWatcher(docker_engine.host, measures_volumes=True)
    watcher._look()
    said = watcher.latest
    assert said is not None
    table = subprocess.run(
        ["docker", "system", "df", "--format", "{{.Size}} {{.Reclaimable}}"],
        env=docker_engine.env, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for kind, line in zip(("images", "containers", "volumes", "build_cache"), table, strict=True):
        size, reclaimable = (human(text) for text in line.split()[:2])
        assert said[kind][0] == pytest.approx(size, rel=0.01), kind
        assert said[kind][1] == pytest.approx(reclaimable, rel=0.01), kind
    assert said["each_volume"]["kept"] == pytest.approx(2 * MIB, rel=0.05)
    assert said["each_volume"]["unused"] < MIB


def human(text: str) -> float:
    """A size as the Docker CLI writes it."""
    found = re.fullmatch(r"([\d.]+)([kMG]?)B", text)
    assert found, text
    return float(found[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[found[2]]


def test_the_agent_sends_what_is_used(docker_engine: DockerEngine, server: Any, start_agent: Any) -> None:
    docker_engine.run("sleep", "600", name="web")
    server.interval = 5.0
    start_agent(f"--docker-host={docker_engine.host}")
    request = server.wait_for(lambda request: "usage" in request.body)
    usage = request.body["usage"]
    assert list(request.body)[-1] == "usage"
    assert list(usage)[:2] == ["host", "containers"]
    assert len(usage["containers"]) == 1
    assert len(usage["containers"][0]) == 13
    assert usage["host"]["cpu_seconds"] > 0


def test_it_can_be_switched_off(
    docker_engine: DockerEngine, server: Any, start_agent: Any, tmp_path: Path
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("usage = false\n")
    server.interval = 1.0
    start_agent(f"--docker-host={docker_engine.host}", f"--config={config}")
    server.wait_for(lambda request: request.path == "heartbeat" and request.body["sequence"] == 5)
    assert not [each for each in server.requests if "usage" in each.body]
