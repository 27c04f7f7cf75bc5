"""The rendering core against its slow twin and against prometheus_client, for any fleet."""

import gzip
import io
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from dockmesh.fleet.histograms import Exemplar
from metrics import families as f
from metrics.collectors.fleet_text import HostRow, HostTexts, StackRow, StackTexts
from metrics.exposition import (
    ChunkFile,
    Family,
    FilledLines,
    Fragment,
    KeptLines,
    Page,
    Section,
    TextStore,
    VersionTexts,
    number,
    numbers,
    sample_lines,
    thousandths,
)
from metrics.exposition.fragments import gzip_stream
from tests.metrics import twin

# Any text that UTF-8 can carry; the text formats are lines, so a carriage return alone would be read
# differently by Python's line splitting and never reaches the page (it is a control character).
labels = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=12)
tricky = st.sampled_from(
    ["", "\\", '"', "\n", "\\n", 'x"} 1\nevil 1\n#\\', "ü", "日本", "𝄞", "{}", "%s", "%(a)s", "a,b"]
)
names = labels | tricky
counts = st.integers(min_value=0, max_value=2**53)
seconds = st.floats(min_value=0, max_value=1e12)

HOSTS = st.fixed_dictionaries(
    {
        "name": names,
        "stacks": st.lists(counts, min_size=6, max_size=6),
        "containers": st.lists(counts, min_size=8, max_size=8),
        "info": st.lists(names, min_size=5, max_size=5),
        "rtt": st.lists(st.integers(0, 10**6), min_size=12, max_size=12),
        "rtt_sum": seconds,
        "age": st.integers(0, 10**13),  # milliseconds
    }
)
exemplars = st.none() | st.tuples(
    st.integers(1, 2**63 - 1),
    st.floats(min_value=0, max_value=1e7) | st.sampled_from([1.0, 2.5, 1800.0]),
    st.integers(0, 2**41).map(lambda milliseconds: milliseconds / 1000),
)
STACKS = st.fixed_dictionaries(
    {
        "success_exemplar": exemplars,
        "failure_exemplar": exemplars,
        "name": names,
        "success": st.lists(st.integers(0, 10**6), min_size=13, max_size=13),
        "success_sum": seconds,
        "failure": st.lists(st.integers(0, 10**6), min_size=13, max_size=13),
        "failure_sum": seconds,
    }
)
IDS = st.integers(min_value=1, max_value=300)


def unique(objects):
    """The same objects, each with a name that no other has."""
    taken = set()
    out = {}
    for key, row in sorted(objects.items()):
        name = row["name"]
        while name in taken:
            name += "'"
        taken.add(name)
        out[key] = {**row, "name": name}
    return out


fleets = st.tuples(
    st.dictionaries(IDS, HOSTS, max_size=5).map(unique), st.dictionaries(IDS, STACKS, max_size=4).map(unique)
)


def cumulative(per_bucket):
    seen, out = 0, []
    for count in per_bucket:
        seen += count
        out.append(str(seen))
    return ",".join(out)


class Rendered:
    """The product's own text of a fleet, scrape after scrape, on kept stores."""

    def __init__(self):
        self.hosts, self.stacks = HostTexts(), StackTexts()

    def page(self, hosts, stacks):
        fragments = self.hosts.refresh(
            versions={key: repr({**row, "rtt": 0, "rtt_sum": 0, "age": 0}) for key, row in hosts.items()},
            rows=lambda ids: [self._host(key, hosts[key]) for key in ids],
            ages=",".join(str(row["age"]) for row in hosts.values()),
            rtt_counts=";".join(cumulative(row["rtt"]) for row in hosts.values()),
            rtt_sums=",".join(repr(row["rtt_sum"]) for row in hosts.values()),
            skews=",".join("0" for _ in hosts),
        )
        deploys = self.stacks.refresh(
            versions={key: repr(row) for key, row in stacks.items()},
            rows=lambda ids: [self._stack(key, stacks[key]) for key in ids],
        )
        return Page(
            [
                Section(f.STACKS, fragments.stacks),
                Section(f.CONTAINERS, fragments.containers),
                Section(f.LAST_SEEN, fragments.last_seen),
                Section(f.DEPLOY_DURATION, deploys),
                Section(f.AGENT_RTT, fragments.rtt),
                Section(f.HOST_INFO, fragments.info),
            ]
        )

    @staticmethod
    def _host(key, row):
        return HostRow(
            key,
            row["name"],
            ",".join(map(str, row["stacks"])),
            ",".join(map(str, row["containers"])),
            row["info"],
        )

    @staticmethod
    def _stack(key, row):
        return StackRow(
            key,
            row["name"],
            cumulative(row["success"]),
            row["success_sum"],
            cumulative(row["failure"]),
            row["failure_sum"],
            *(
                "" if at is None else Exemplar(*at).text
                for at in (row.get("success_exemplar"), row.get("failure_exemplar"))
            ),
        )


def twin_families(hosts, stacks):
    def lines(family, one):
        return [sample for row in hosts.values() for sample in one(family.name, row)]

    def states(key, names_of_states):
        return lambda name, row: [
            twin.TwinSample(name, {"host": row["name"], "state": state}, count)
            for state, count in zip(names_of_states, row[key], strict=True)
        ]

    samples = {
        f.STACKS: lines(f.STACKS, states("stacks", f.STACK_STATES)),
        f.CONTAINERS: lines(f.CONTAINERS, states("containers", f.CONTAINER_STATES)),
        f.LAST_SEEN: lines(
            f.LAST_SEEN, lambda name, row: [twin.TwinSample(name, {"host": row["name"]}, row["age"] / 1000)]
        ),
        f.DEPLOY_DURATION: [
            sample
            for row in stacks.values()
            for result in ("success", "failure")
            for sample in twin.histogram(
                f.DEPLOY_DURATION.name,
                {"stack": row["name"], "result": result},
                [1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800],
                row[result],
                row[result + "_sum"],
                row[result + "_exemplar"],
            )
        ],
        f.AGENT_RTT: lines(
            f.AGENT_RTT,
            lambda name, row: twin.histogram(
                name,
                {"host": row["name"]},
                [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
                row["rtt"],
                row["rtt_sum"],
            ),
        ),
        f.HOST_INFO: lines(
            f.HOST_INFO,
            lambda name, row: [
                twin.TwinSample(
                    name,
                    dict(
                        zip(
                            ("host", "agent_version", "docker_version", "os", "arch", "kernel"),
                            (row["name"], *row["info"]),
                            strict=True,
                        )
                    ),
                    1,
                )
            ],
        ),
    }
    return [
        twin.TwinFamily(family.name, family.kind, family.help, found) for family, found in samples.items()
    ]


def plain(page, *, openmetrics):
    body = page.body(openmetrics=openmetrics, gzip=False)
    text = b"".join(body.chunks)
    assert len(text) == body.length
    return text


def packed(page, *, openmetrics):
    body = page.body(openmetrics=openmetrics, gzip=True)
    stream = b"".join(body.chunks)
    assert len(stream) == body.length
    return stream


def flattened(families):
    """What a parser found, as values that can be compared."""
    return [
        (family.name, family.type, [(s.name, sorted(s.labels.items()), s.value) for s in family.samples])
        for family in families
    ]


@given(st.lists(fleets, min_size=1, max_size=4))
def test_every_scrape_of_any_history_equals_the_slow_twin(history):
    product = Rendered()
    for hosts, stacks in history:
        page = product.page(hosts, stacks)
        for openmetrics in (False, True):
            wanted = twin.page(twin_families(hosts, stacks), openmetrics=openmetrics)
            assert plain(page, openmetrics=openmetrics) == wanted
            assert gzip.decompress(packed(page, openmetrics=openmetrics)) == wanted


@given(fleets)
def test_the_gzip_stream_is_one_member_that_every_reader_understands(fleet):
    page = Rendered().page(*fleet)
    stream, wanted = packed(page, openmetrics=True), plain(page, openmetrics=True)
    reader = zlib.decompressobj(wbits=31)
    assert reader.decompress(stream) == wanted
    assert reader.eof
    assert reader.unused_data == b""
    assert gzip.GzipFile(fileobj=io.BytesIO(stream)).read() == wanted


@given(fleets)
def test_prometheus_clients_parsers_find_what_its_encoder_would_have_written(fleet):
    hosts, stacks = fleet
    page = Rendered().page(hosts, stacks)
    registry = CollectorRegistry()
    registry.register(_Oracle(twin_families(hosts, stacks)))
    ours, theirs = plain(page, openmetrics=False).decode(), generate_latest(registry).decode()
    assert flattened(parse_text(ours)) == flattened(parse_text(theirs))
    ours, theirs = plain(page, openmetrics=True).decode(), generate_openmetrics(registry).decode()
    assert flattened(parse_openmetrics(ours)) == flattened(parse_openmetrics(theirs))


class _Oracle:
    """A collector of prometheus_client that yields the twin's families."""

    def __init__(self, families):
        self.families = families

    def collect(self):
        for family in self.families:
            kind = {
                "gauge": GaugeMetricFamily,
                "counter": CounterMetricFamily,
                "histogram": HistogramMetricFamily,
            }
            metric = kind[family.kind](family.name, family.help)
            for sample in family.samples:
                metric.add_sample(sample.name, dict(sample.labels), sample.value)
            yield metric


@given(st.lists(st.tuples(st.tuples(names, names), st.floats() | st.integers(0, 2**63)), max_size=5))
def test_small_families_with_any_number_read_back_as_written(samples):
    family = Family("things_total", "counter", 'Things, "quoted" and \\ with a\nline break.', ("a", "b"))
    page = Page([Section(family, [Fragment.of(sample_lines(family, samples))])])
    (found,) = parse_text(plain(page, openmetrics=False).decode())
    assert found.documentation == family.help
    wanted = [("things_total", {"a": a, "b": b}, value) for (a, b), value in samples]
    assert repr([(s.name, s.labels, float(s.value)) for s in found.samples]) == repr(
        [(name, at, float(value)) for name, at, value in wanted]
    )


ANY_SAMPLES = st.lists(st.tuples(st.tuples(names, names), st.floats() | st.integers(0, 2**63)), max_size=5)


@given(st.lists(ANY_SAMPLES, min_size=1, max_size=5))
def test_kept_lines_are_those_of_the_samples_whatever_was_kept(history):
    family = Family("things", "gauge", "Things.", ("a", "b"))
    kept = KeptLines(family)
    for samples in history:
        (fragment,) = kept.fragments(samples)
        assert fragment.text == sample_lines(family, samples).encode()


def test_kept_lines_stay_the_same_piece_and_notice_numbers_that_are_only_equal():
    kept = KeptLines(Family("things", "gauge", "Things.", ("a",)))
    assert kept.fragments([(("x",), 0.0)]) is kept.fragments([(("x",), 0.0)])
    texts = [kept.fragments([(("x",), value)])[0].text for value in (0.0, -0.0, 0, False, 1, True, 1.0)]
    assert [text.split()[1] for text in texts] == [b"0.0", b"-0.0", b"0", b"0", b"1", b"1", b"1.0"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (True, "1"),
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (0.005, "0.005"),
        (1e-05, "1e-05"),
        (1e22, "1e+22"),
        (60.0, "60.0"),
        (2**53 + 1, "9007199254740993"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_numbers_are_written_as_prometheus_reads_them(value, text):
    assert number(value) == text


@given(st.lists(st.binary(max_size=300), max_size=8), st.randoms())
def test_fragments_can_be_put_together_in_any_order(texts, shuffler):
    fragments = [Fragment(text) for text in texts]
    for fragment in fragments:
        fragment.packed()
    shuffler.shuffle(fragments)
    assert gzip.decompress(b"".join(gzip_stream(fragments))) == b"".join(
        fragment.text for fragment in fragments
    )


def test_an_empty_page_is_a_valid_gzip_stream():
    assert gzip.decompress(b"".join(gzip_stream([]))) == b""


def test_a_counter_loses_its_suffix_only_in_openmetrics():
    page = Page([Section(f.API_REQUESTS, [])])
    assert b"# TYPE dockmesh_api_requests_total counter\n" in plain(page, openmetrics=False)
    assert b"# TYPE dockmesh_api_requests counter\n" in plain(page, openmetrics=True)


def test_a_gauge_called_total_keeps_its_name_in_both_formats():
    page = Page([Section(f.HOSTS, [])])
    for openmetrics in (False, True):
        assert b"# TYPE dockmesh_hosts_total gauge\n" in plain(page, openmetrics=openmetrics)


@pytest.mark.parametrize("name", ["dockmesh_agent_rtt_seconds", "dockmesh_agent_rtt_seconds_bucket"])
def test_a_family_is_found_by_its_name_and_by_its_samples_names(name):
    page = Page([Section(family, []) for family in f.PAGE])
    body = page.body(openmetrics=True, gzip=False, names=frozenset({name}))
    assert [family.name for family in parse_openmetrics(b"".join(body.chunks).decode())] == [f.AGENT_RTT.name]


def test_a_name_that_nobody_has_gives_an_empty_page():
    page = Page([Section(family, []) for family in f.PAGE])
    assert page.body(openmetrics=False, gzip=False, names=frozenset({"nobody"})).length == 0


# What must not rot: how much is made again.


def _fleet(hosts=1000, stacks=3000, seed=1):
    dice = random.Random(seed)
    return (
        {
            key: {
                "name": f"host-{key:05d}",
                "stacks": [dice.randrange(9) for _ in range(6)],
                "containers": [dice.randrange(99) for _ in range(8)],
                "info": ["0.1.0", "24.0.7", "linux", "x86_64", "6.1"],
                "rtt": [dice.randrange(99) for _ in range(12)],
                "rtt_sum": dice.random(),
                "age": dice.randrange(99_999),
            }
            for key in range(1, hosts + 1)
        },
        {
            key: {
                "name": f"stack-{key:05d}",
                "success": [dice.randrange(9) for _ in range(13)],
                "success_sum": dice.random(),
                "failure": [dice.randrange(9) for _ in range(13)],
                "failure_sum": dice.random(),
            }
            for key in range(1, stacks + 1)
        },
    )


def test_an_unchanged_fleet_renders_nothing_again():
    hosts, stacks = _fleet(200, 100)
    product = Rendered()
    first = product.page(hosts, stacks)
    before = product.hosts.store.rendered_bytes + product.stacks.store.rendered_bytes
    second = product.page(hosts, stacks)
    assert product.hosts.store.rendered_bytes + product.stacks.store.rendered_bytes == before
    for old, new in zip(first.sections, second.sections, strict=True):
        assert [id(fragment) for fragment in old.fragments] == [id(fragment) for fragment in new.fragments]


def test_one_changed_host_renders_only_its_chunk_of_one_family():
    hosts, stacks = _fleet(1000, 10)
    product = Rendered()
    product.page(hosts, stacks)
    before = product.hosts.store.rendered_bytes
    hosts[500] = {**hosts[500], "containers": [7, 7, 7, 7, 7, 7, 7, 7]}
    product.page(hosts, stacks)
    chunk_of_containers = 32 * 8 * 70
    assert 0 < product.hosts.store.rendered_bytes - before <= chunk_of_containers


def test_one_changed_stack_renders_only_its_chunk():
    hosts, stacks = _fleet(1, 1000)
    product = Rendered()
    product.page(hosts, stacks)
    before = product.stacks.store.rendered_bytes
    stacks[500] = {**stacks[500], "success_sum": 4.5}
    product.page(hosts, stacks)
    assert 0 < product.stacks.store.rendered_bytes - before <= 16 * 30 * 100


def test_a_failed_read_leaves_the_store_as_it_was():
    store = TextStore(1, group_bits=2)
    store.refresh({1: 1}, lambda ids: [(key, (b"a 1\n",)) for key in ids])

    def fails(_ids):
        raise OSError

    with pytest.raises(OSError):
        store.refresh({1: 2, 2: 1}, fails)
    assert [fragment.text for fragment in store.fragments(0)] == [b"a 1\n"]
    assert store.refresh({1: 2}, lambda ids: [(key, (b"a 2\n",)) for key in ids])
    assert [fragment.text for fragment in store.fragments(0)] == [b"a 2\n"]


def test_an_object_that_vanished_between_two_reads_has_no_text():
    store = TextStore(1, group_bits=2)
    store.refresh({1: 1, 9: 1}, lambda ids: [(1, (b"a 1\n",))])
    assert [fragment.text for fragment in store.fragments(0)] == [b"a 1\n"]


def test_filled_lines_without_objects_are_empty():
    lines = FilledLines(1, group_bits=3)
    lines.lay_out([], [])
    assert lines.fill("", list) == []


def test_a_group_whose_values_stay_keeps_its_piece():
    lines = FilledLines(1, group_bits=1)
    lines.lay_out([2, 3, 4], [["a "], ["b "], ["c "]])
    first = lines.fill("1", lambda: [b"1", b"2", b"3"])
    second = lines.fill("2", lambda: [b"1", b"2", b"4"])
    assert [fragment.text for fragment in second] == [b"a 1\nb 2\n", b"c 4\n"]
    assert second[0] is first[0]


def test_lines_that_are_laid_out_anew_are_filled_from_the_same_source():
    lines = FilledLines(1, group_bits=1)
    lines.lay_out([2], [["a "]])
    lines.fill("1", lambda: [b"1"])
    lines.lay_out([2], [["b "]])
    assert [fragment.text for fragment in lines.fill("1", lambda: [b"1"])] == [b"b 1\n"]


def test_a_round_trip_histogram_with_a_missing_count_is_refused():
    hosts, _ = _fleet(2, 0)
    product = Rendered()
    hosts[1]["rtt"].pop()
    with pytest.raises(ValueError, match="must have 12 counts"):
        product.page(hosts, {})


@given(st.lists(st.floats() | st.integers(-(10**6), 10**9).map(lambda whole: whole / 1000)))
def test_many_numbers_are_written_as_each_alone(values):
    assert numbers(values) == [number(value).encode() for value in values]


@pytest.mark.parametrize(
    ("text", "wanted"), [("", []), ("0,1,1500,-20", [b"0.0", b"0.001", b"1.5", b"-0.02"])]
)
def test_thousandths_are_written_as_decimals(text, wanted):
    assert thousandths(text) == wanted


def test_stamps_stay_the_same_object_while_their_texts_stay():
    texts = VersionTexts()
    assert texts.read("", "") == {}
    first = texts.read("1,2", "5,6")
    assert first == {1: "5", 2: "6"}
    assert texts.read("1,2", "5,6") is first
    assert texts.read("1,2", "5,7") == {1: "5", 2: "7"}
    assert texts.read("1,3", "5,7") == {1: "5", 3: "7"}
    assert texts.read("", "") == {}


@given(
    st.lists(st.binary(min_size=1, max_size=600_000), min_size=1, max_size=6),
    st.lists(st.integers(1, 700_000), min_size=1, max_size=6),
    st.randoms(),
)
def test_a_body_reads_as_a_file_whatever_the_server_asks_for(chunks, sizes, dice):
    """As waitress does: read, go back, and skip what the socket took."""
    file = ChunkFile(chunks)
    wanted = b"".join(chunks)
    assert file.seek(0, 2) == len(wanted)
    assert file.seek(0) == 0
    out = b""
    while len(out) < len(wanted):
        at = file.tell()
        found = bytes(file.read(dice.choice(sizes)))
        assert found
        assert wanted.startswith(found, at)
        taken = dice.randint(1, len(found))
        file.seek(at + taken)
        out += found[:taken]
    assert out == wanted
    assert bytes(file.read(10)) == b""
