"""Usage: any of it against the slow twin, and what a scrape of it costs."""

import gzip
from functools import partial

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from dockmesh.fleet.ingest.documents import ContainerUsage, DiskUsage, MachineUsage
from dockmesh.fleet.ingest.usage import Named
from dockmesh.fleet.models import HostUsage
from dockmesh.fleet.selectors.usage import UsageOfHost
from metrics import families as f
from metrics.collectors.usage_text import FAMILIES, render, usage_fragments
from metrics.exposition import FragmentFormat, Page, Section
from tests.metrics import fleets, twin
from tests.metrics.test_exposition import names, packed, plain
from tests.support import calls_of

AMOUNT = st.none() | st.integers(0, 2**63 - 1)
SPENT = st.none() | st.floats(0, 2.0**63)
IDS = st.integers(0, 9).map("{:064x}".format)
MACHINES = st.builds(
    MachineUsage,
    cpu_seconds=SPENT,
    memory_available_bytes=AMOUNT,
    load1=SPENT,
    docker_root_bytes=AMOUNT,
    docker_root_free_bytes=AMOUNT,
)
DISKS = st.builds(
    DiskUsage,
    **dict.fromkeys(("images", "containers", "volumes", "build_cache"), st.tuples(AMOUNT, AMOUNT)),
    each_volume=st.dictionaries(names, AMOUNT, max_size=3),
)
NAMED = st.lists(
    st.builds(
        Named,
        id=IDS,
        stack=names,
        service=names,
        name=st.sampled_from(["web-1", 'x"} 1\n']) | names,
        created_milliseconds=st.none() | st.integers(0, 10),
        key=st.just(1),
    ),
    max_size=5,
    unique_by=lambda each: each.id,
)
USED = st.dictionaries(IDS, st.tuples(SPENT, SPENT, SPENT, *[AMOUNT] * 9), max_size=5)
HOSTS = st.lists(
    st.tuples(names, MACHINES, NAMED, USED, st.none() | DISKS), max_size=4, unique_by=lambda host: host[0]
)

CONTAINERS = (
    ("dockmesh_container_cpu_usage_seconds_total", {"mode": "user"}),
    ("dockmesh_container_cpu_usage_seconds_total", {"mode": "system"}),
    ("dockmesh_container_cpu_throttled_seconds_total", {}),
    ("dockmesh_container_memory_working_set_bytes", {}),
    ("dockmesh_container_memory_limit_bytes", {}),
    ("dockmesh_container_network_receive_bytes_total", {}),
    ("dockmesh_container_network_transmit_bytes_total", {}),
    ("dockmesh_container_network_receive_errors_total", {}),
    ("dockmesh_container_network_transmit_errors_total", {}),
    ("dockmesh_container_block_read_bytes_total", {}),
    ("dockmesh_container_block_written_bytes_total", {}),
    ("dockmesh_container_pids", {}),
)


def twin_families(hosts):
    samples = {family.name: [] for family in FAMILIES}

    def add(family, labels, value):
        if value is not None:
            samples[family].append(twin.TwinSample(family, labels, value))

    for name, machine, named, used, disk in hosts:
        host = {"host": name}
        running = [each for each in named if each.id in used]
        running.sort(
            key=lambda each: (-1 if each.created_milliseconds is None else each.created_milliseconds, each.id)
        )
        newest = {(each.name, each.stack, each.service): each for each in running}
        for (container, stack, service), each in sorted(newest.items()):
            key = {**host, "stack": stack, "service": service, "container": container}
            for (family, more), value in zip(CONTAINERS, used[each.id], strict=True):
                add(family, {**key, **more}, value)
        add("dockmesh_host_cpu_usage_seconds_total", host, machine.cpu_seconds)
        add("dockmesh_host_memory_available_bytes", host, machine.memory_available_bytes)
        add("dockmesh_host_load1", host, machine.load1)
        add("dockmesh_host_docker_root_bytes", host, machine.docker_root_bytes)
        add("dockmesh_host_docker_root_free_bytes", host, machine.docker_root_free_bytes)
        if disk is not None:
            for kind in ("images", "containers", "volumes", "build_cache"):
                size, reclaimable = getattr(disk, kind)
                add("dockmesh_host_docker_disk_bytes", {**host, "kind": kind}, size)
                add("dockmesh_host_docker_reclaimable_bytes", {**host, "kind": kind}, reclaimable)
            for volume in sorted(disk.each_volume):
                add("dockmesh_volume_size_bytes", {**host, "volume": volume}, disk.each_volume[volume])
    return [
        twin.TwinFamily(family.name, family.kind, family.help, samples[family.name]) for family in FAMILIES
    ]


def of_host(name, machine, named, used, disk):
    containers = {identity: ContainerUsage(identity, *numbers) for identity, numbers in used.items()}
    return UsageOfHost(name, machine, render(name, named, containers), disk)


@given(HOSTS)
def test_usage_equals_the_slow_twin(hosts):
    found = usage_fragments(of_host(*host) for host in hosts)
    page = Page([Section(family, found[family]) for family in FAMILIES])
    for openmetrics in (False, True):
        wanted = twin.page(twin_families(hosts), openmetrics=openmetrics)
        assert plain(page, openmetrics=openmetrics) == wanted
        assert gzip.decompress(packed(page, openmetrics=openmetrics)) == wanted


def test_the_families_are_those_of_the_group_in_its_order():
    assert FAMILIES == f.USAGE


@given(st.lists(st.binary(max_size=9000), min_size=1, max_size=4), st.binary(max_size=60))
def test_stored_fragments_read_back_and_others_are_not_read(texts, other):
    families = [f.CONTAINER_PIDS] * len(texts)
    form = FragmentFormat(families)
    stored = form.pack(texts)
    assert [fragment.text if fragment else b"" for fragment in form.unpack(stored)] == texts
    nothing = [None] * len(texts)
    assert form.unpack(other) == nothing
    assert FragmentFormat([*families, f.HOST_LOAD1]).unpack(stored) == [*nothing, None]


def test_what_a_version_before_has_left_is_not_shown(db, settings, monkeypatch):
    settings.DOCKMESH_METRICS_AUTH = False
    monkeypatch.setattr("dockmesh.core.clock.now", lambda: fleets.NOW)
    fleets.small_fleet()
    HostUsage.objects.update(containers=b"\0" * 200)
    text = Client().get("/metrics?collect[]=usage").content.decode()
    assert 'dockmesh_host_load1{host="web-1"} 0.75' in text
    assert "dockmesh_container_pids{" not in text


@pytest.mark.django_db
def test_more_hosts_cost_no_more_queries(settings, monkeypatch, django_assert_num_queries):
    settings.DOCKMESH_METRICS_AUTH = False
    monkeypatch.setattr("dockmesh.core.clock.now", lambda: fleets.NOW)
    page = partial(Client().get, "/metrics?collect[]=usage")

    def add(number):
        row = fleets.host(f"host-{number}")
        each = fleets.container(row, "web")
        fleets.usage(row, machine={"load1": 1.5}, containers=[(each, (1.5, *[None] * 10, 3))])

    add(0)
    page()
    with django_assert_num_queries(2):
        assert page().content.count(b"dockmesh_container_pids{") == 1
    for number in range(1, 9):
        add(number)
    with django_assert_num_queries(2):
        assert page().content.count(b"dockmesh_container_pids{") == 9


def test_a_scrape_makes_and_compresses_no_line_of_a_container(db, settings, monkeypatch):
    """They were made with the heartbeats: more containers cost a scrape no more calls."""
    settings.DOCKMESH_METRICS_AUTH = False
    monkeypatch.setattr("dockmesh.core.clock.now", lambda: fleets.NOW)
    host = fleets.host("one")
    page = partial(Client().get, "/metrics?collect[]=usage", headers={"accept-encoding": "gzip"})
    numbers = (1.5, 2.5, 0.0, *range(9))
    few = [(fleets.container(host, f"c{number}"), numbers) for number in range(3)]
    many = few + [(fleets.container(host, f"d{number}"), numbers) for number in range(300)]
    calls = []
    for containers in (few, few, many):
        fleets.usage(host, containers=containers)
        calls.append(calls_of(page))
        text = gzip.decompress(page().content)
        assert text.count(b"dockmesh_container_pids{") == len(containers)
    assert calls[2] <= calls[1] + 20
