"""Each host, stack and container by its name: any of them against the slow twin, and the cases one by one."""

import gzip
from functools import partial

import msgspec
import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from dockmesh.fleet.models import Container, HeartbeatState, Host, Stack
from dockmesh.fleet.selectors.objects import ContainerObject, HostObject, ImageObject, StackObject
from dockmesh.fleet.states import ContainerState, StackState
from metrics import families as f
from metrics.collectors.objects_text import FAMILIES, HostRow, ObjectTexts, host_label_names
from metrics.exposition import Page, Section
from tests.metrics import fleets, twin
from tests.metrics.test_exposition import names, packed, plain

MILLISECONDS = st.integers(0, 253_370_764_800_000)
LABELS = st.dictionaries(
    st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_./-]{0,8}", fullmatch=True, alphabet=st.sampled_from("abAB1_./-")),
    names,
    max_size=6,
)
COUNTS = st.integers(0, 2**53)
CONTAINERS = st.builds(
    ContainerObject,
    stack=names,
    service=names,
    # Few, so that some have the same.
    name=st.sampled_from(["web-1", "web-2", 'x"} 1\n']) | names,
    id=st.uuids().map(lambda uuid: uuid.hex),
    image=names,
    image_digest=names,
    state=st.sampled_from([state.value for state in ContainerState]),
    health=st.sampled_from(["", "healthy", "unhealthy", "starting"]),
    exit_code=st.integers(-(2**31), 2**31 - 1),
    created_milliseconds=st.none() | MILLISECONDS,
    started_milliseconds=st.none() | MILLISECONDS,
    restarts=COUNTS,
    successes=COUNTS,
    errors=COUNTS,
    oom_kills=COUNTS,
    is_oneoff=st.booleans(),
)
STACKS = st.lists(
    st.builds(StackObject, names, st.booleans(), st.sampled_from([state.value for state in StackState])),
    max_size=3,
    unique_by=lambda stack: stack.name,
)
IMAGES = st.lists(
    st.builds(ImageObject, names, st.sampled_from([None, False, True]), MILLISECONDS),
    max_size=3,
    unique_by=lambda image: image.image,
)
ROWS = st.builds(
    HostRow,
    st.builds(
        HostObject,
        id=st.integers(1, 12),
        name=names,
        labels=LABELS,
        cpus=st.integers(0, 1_000_000),
        memory_bytes=st.integers(0, 2**63 - 1),
        is_degraded=st.booleans(),
        stacks=STACKS,
        containers=st.lists(CONTAINERS, max_size=4),
        images=IMAGES,
    ),
    st.booleans(),
)
FLEETS = st.lists(ROWS, max_size=6, unique_by=(lambda row: row.host.id, lambda row: row.host.name))


def twin_families(rows):
    samples = {family.name: [] for family in FAMILIES}

    def add(family, labels, value):
        samples[family].append(twin.TwinSample(family, labels, value))

    for row in sorted(rows, key=lambda row: row.host.id):
        host = {"host": row.host.name}
        add("dockmesh_host_up", host, 0 if row.is_offline else 1)
        status = "offline" if row.is_offline else "degraded" if row.host.is_degraded else "online"
        add("dockmesh_host_status", {**host, "status": status}, 1)
        own = sorted((label, name) for name, label in host_label_names(row.host.labels).items())
        add("dockmesh_host_labels", host | {name: row.host.labels[label] for label, name in own}, 1)
        if row.host.cpus != 0:
            add("dockmesh_host_cpus", host, row.host.cpus)
        if row.host.memory_bytes != 0:
            add("dockmesh_host_memory_bytes", host, row.host.memory_bytes)
        for stack in sorted(row.host.stacks, key=lambda stack: stack.name):
            key = {**host, "stack": stack.name}
            add("dockmesh_stack_info", {**key, "managed": "true" if stack.is_managed else "false"}, 1)
            add("dockmesh_stack_state", {**key, "state": "unknown" if row.is_offline else stack.state}, 1)
        for (name, stack, service), container in sorted(newest(row.host.containers).items()):
            key = {**host, "stack": stack, "service": service, "container": name}
            state = "unknown" if row.is_offline else container.state
            info = {"id": container.id, "image": container.image, "image_digest": container.image_digest}
            add("dockmesh_container_info", key | info, 1)
            add("dockmesh_container_state", {**key, "state": state}, 1)
            if container.health != "" and state in ("running", "paused"):
                add("dockmesh_container_health", {**key, "health": container.health}, 1)
            if container.started_milliseconds is not None:
                add("dockmesh_container_start_time_seconds", key, container.started_milliseconds / 1000)
            ended = state in ("exited", "dead", "restarting", "removing")
            if ended or (state == "created" and container.exit_code != 0):
                add("dockmesh_container_last_exit_code", key, container.exit_code)
            add("dockmesh_container_restarts_total", key, container.restarts)
            add("dockmesh_container_exits_total", {**key, "result": "success"}, container.successes)
            add("dockmesh_container_exits_total", {**key, "result": "error"}, container.errors)
            add("dockmesh_container_oom_kills_total", key, container.oom_kills)
            if container.is_oneoff:
                add("dockmesh_container_oneoff", key, 1)
        for image in sorted(row.host.images, key=lambda image: image.image):
            if not row.is_offline:
                key = {**host, "image": image.image}
                if image.is_update_available is not None:
                    add("dockmesh_image_update_available", key, 1 if image.is_update_available else 0)
                add("dockmesh_image_last_check_timestamp_seconds", key, image.checked_milliseconds / 1000)
    return [
        twin.TwinFamily(family.name, family.kind, family.help, samples[family.name]) for family in FAMILIES
    ]


def newest(containers):
    found = {}
    for container in containers:
        key = (container.name, container.stack, container.service)
        made = container.created_milliseconds
        age = (-1 if made is None else made, container.id)
        if key not in found or age > found[key][0]:
            found[key] = (age, container)
    return {key: container for key, (_, container) in found.items()}


def rows_of(by_id, ids):
    return [by_id[key] for key in ids]


@given(st.lists(FLEETS, min_size=1, max_size=3))
def test_every_scrape_of_any_history_equals_the_slow_twin(history):
    texts = ObjectTexts()
    for number, rows in enumerate(history):
        by_id = {row.host.id: row for row in sorted(rows, key=lambda row: row.host.id)}
        found = texts.refresh(versions=dict.fromkeys(by_id, number), rows=partial(rows_of, by_id))
        page = Page([Section(family, found[family]) for family in FAMILIES])
        for openmetrics in (False, True):
            wanted = twin.page(twin_families(rows), openmetrics=openmetrics)
            assert plain(page, openmetrics=openmetrics) == wanted
            assert gzip.decompress(packed(page, openmetrics=openmetrics)) == wanted
            parse = parse_openmetrics if openmetrics else parse_text
            series = [
                (sample.name, *sorted(sample.labels.items()))
                for family in parse(wanted.decode())
                for sample in family.samples
            ]
            assert len(series) == len(set(series))


@given(LABELS)
def test_names_of_labels_are_legal_and_unique(labels):
    made = host_label_names(labels)
    assert sorted(made.values()) == sorted(labels)
    for name in made:
        assert name.startswith("label_")
        assert name.isascii()
        assert name.replace("_", "a").isalnum()


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([], {}),
        (["site"], {"label_site": "site"}),
        (["dockmesh.io/team-name"], {"label_dockmesh_io_team_name": "dockmesh.io/team-name"}),
        (["rackUnit"], {"label_rack_unit": "rackUnit"}),
        (["a.b", "a-b"], {"label_a_b_conflict1": "a-b", "label_a_b_conflict2": "a.b"}),
        (["Zone", "zone"], {"label_zone_conflict1": "Zone", "label_zone_conflict2": "zone"}),
        # One that is itself called like what two others would become.
        (
            ["a.b", "a-b", "a_b_conflict1"],
            {
                "label_a_b_conflict1": "a_b_conflict1",
                "label_a_b_conflict2": "a-b",
                "label_a_b_conflict3": "a.b",
            },
        ),
    ],
)
def test_labels_are_named_as_kube_state_metrics_names_them(labels, wanted):
    assert host_label_names(labels) == wanted


# On the page.


@pytest.fixture
def page(db, settings, monkeypatch):
    settings.DOCKMESH_METRICS_AUTH = False
    monkeypatch.setattr("dockmesh.core.clock.now", lambda: fleets.NOW)

    def read():
        """(sample name, sorted labels) → value, of the families of objects."""
        answer = Client().get("/metrics", headers={"accept": "text/plain"})
        assert answer.status_code == 200
        ours = {family.name for family in FAMILIES} | {
            family.name.removesuffix("_total") for family in FAMILIES
        }
        samples = [
            (sample.name, *sorted(sample.labels.items()), sample.value)
            for family in parse_text(answer.content.decode())
            if family.name in ours
            for sample in family.samples
        ]
        assert len(samples) == len({key[:-1] for key in samples})
        return samples

    return read


def labels_of(samples, name, label):
    return [dict(key[1:-1])[label] for key in samples if key[0] == name]


def test_only_the_current_state_is_a_series(page):
    host = fleets.host("a")
    fleets.container(host, "web", health="healthy")
    assert labels_of(page(), "dockmesh_container_state", "state") == ["running"]
    Container.objects.update(state="exited", exit_code=1)
    fleets.change(host)
    samples = page()
    assert labels_of(samples, "dockmesh_container_state", "state") == ["exited"]
    assert labels_of(samples, "dockmesh_container_health", "health") == []
    assert [key[-1] for key in samples if key[0] == "dockmesh_container_last_exit_code"] == [1]


def test_what_an_offline_host_runs_is_unknown_and_known_again_when_it_is_heard(page):
    host = fleets.host("a")
    stack = fleets.stack(host, "shop")
    fleets.container(host, "web", stack=stack, service="web", health="healthy")
    fleets.container(host, "job", "exited", stack=stack, service="job", exit_code=3)
    before = page()
    HeartbeatState.objects.update(last_seen_at=fleets.ago(600))
    samples = page()
    assert labels_of(samples, "dockmesh_container_state", "state") == ["unknown"] * 2
    assert labels_of(samples, "dockmesh_stack_state", "state") == ["unknown"]
    assert labels_of(samples, "dockmesh_host_status", "status") == ["offline"]
    assert not [
        key for key in samples if key[0] in (f.CONTAINER_HEALTH.name, f.CONTAINER_LAST_EXIT_CODE.name)
    ]
    assert [key[-1] for key in samples if key[0] == "dockmesh_host_up"] == [0]
    HeartbeatState.objects.update(last_seen_at=fleets.ago(5))
    assert page() == before


def test_what_is_removed_or_renamed_leaves_no_series_behind(page):
    host, other = fleets.host("a"), fleets.host("b")
    stack = fleets.stack(host, "shop")
    fleets.container(host, "old", stack=stack)
    fleets.container(host, "goes")
    page()
    Container.objects.filter(name="old").update(name="new")
    Container.objects.filter(name="goes").delete()
    Stack.objects.update(name="store")
    fleets.change(host, name="c")
    other.delete()
    samples = page()
    assert labels_of(samples, "dockmesh_host_up", "host") == ["c"]
    assert labels_of(samples, "dockmesh_container_info", "container") == ["new"]
    assert labels_of(samples, "dockmesh_container_state", "stack") == ["store"]
    Host.objects.all().delete()
    assert page() == []


def test_two_of_the_same_name_are_one_series_that_of_the_newest(page):
    host = fleets.host("a")
    for created, state in ((60, "exited"), (5, "running"), (30, "dead")):
        fleets.container(host, "web", state, created_at=fleets.ago(created))
    samples = page()
    assert labels_of(samples, "dockmesh_container_state", "state") == ["running"]
    assert len(labels_of(samples, "dockmesh_container_info", "id")) == 1


def test_more_hosts_cost_no_more_queries(page, django_assert_num_queries, django_assert_max_num_queries):
    def add(numbers):
        for number in numbers:
            host = fleets.host(f"host-{number}")
            fleets.container(host, "web", stack=fleets.stack(host, "shop"))

    add(range(2))
    with django_assert_max_num_queries(40) as few:
        page()
    add(range(2, 30))
    with django_assert_num_queries(len(few)):
        page()


def test_a_host_that_did_not_change_is_not_rendered_again():
    rows = {
        key: HostRow(
            HostObject(key, f"host-{key}", {}, 2, 1, False, [], [a_container(key)]), is_offline=False
        )
        for key in range(1, 41)
    }
    texts, versions = ObjectTexts(), dict.fromkeys(rows, 1)
    before = texts.refresh(versions=versions, rows=lambda ids: [rows[key] for key in ids])
    (container,) = rows[7].host.containers
    rows[7].host.containers[:] = [msgspec.structs.replace(container, state="paused")]
    asked: list[int] = []

    def read(ids):
        asked.extend(ids)
        return rows_of(rows, ids)

    after = texts.refresh(versions=versions | {7: 2}, rows=read)
    assert asked == [7]
    made = {
        family: sum(new is not old for new, old in zip(after[family], before[family], strict=True))
        for family in FAMILIES
    }
    assert made == {family: int(family is f.CONTAINER_STATE) for family in FAMILIES}


def a_container(key):
    return ContainerObject(
        "shop", "web", "web", f"{key:064d}", "nginx", "", "running", "healthy", 0, None, 1_764_000_000_000
    )
