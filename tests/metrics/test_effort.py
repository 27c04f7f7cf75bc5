"""What a rendering costs must not rot: calls and memory, never seconds.

The fleet has 1,000 hosts and 3,000 stacks. Between two scrapes every host was heard with a new round trip,
and one host in a hundred changed. The limits are what was measured, and a fifth more.
"""

import random
import tracemalloc

import pytest
from django.db import connection
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from dockmesh.core import clock
from dockmesh.fleet.models import StackSeries
from metrics import families as f
from metrics import shortway
from metrics.collectors.fleet_text import HostRow, HostTexts, StackRow, StackTexts
from metrics.exposition import Page, Section
from tests.metrics import fleets
from tests.support import calls_of
from tests.tokens.support import token_with

HOSTS, STACKS = 1000, 3000
CALLS = 5_350
ALLOCATED_BYTES = 3_950_000
SMALL_CALLS = 4_000


def cumulative(dice, count):
    seen, out = 0, []
    for _ in range(count):
        seen += dice.randrange(50)
        out.append(str(seen))
    return ",".join(out)


class Fleet:
    """What the database would give, made beforehand; `render` is the product's part alone."""

    def __init__(self):
        self.dice = random.Random(1)
        self.hosts, self.stacks = HostTexts(), StackTexts()
        self.host_rows = {key: self.host_row(key) for key in range(1, HOSTS + 1)}
        self.versions = dict.fromkeys(self.host_rows, 1)
        self.stack_rows = {
            key: StackRow(
                key, f"app-{key:05d}", cumulative(self.dice, 13), 1.5, cumulative(self.dice, 13), 2.5
            )
            for key in range(1, STACKS + 1)
        }
        self.stack_stamps = dict.fromkeys(self.stack_rows, 1)
        self.hear()

    def host_row(self, key):
        stacks = ",".join(str(self.dice.randrange(9)) for _ in range(6))
        containers = ",".join(str(self.dice.randrange(99)) for _ in range(8))
        info = ["0.1.0", "24.0.7", "linux", "x86_64", "6.1"]
        return HostRow(key, f"host-{key:05d}.example.net", stacks, containers, info)

    def hear(self):
        self.ages = ",".join(str(self.dice.randrange(15_000)) for _ in range(HOSTS))
        self.counts = ";".join(cumulative(self.dice, 12) for _ in range(HOSTS))
        self.sums = ",".join(repr(self.dice.random()) for _ in range(HOSTS))
        self.skews = ",".join(str(self.dice.randrange(1_000)) for _ in range(HOSTS))

    def change(self, count):
        self.versions = dict(self.versions)
        for key in self.dice.sample(sorted(self.versions), count):
            self.host_rows[key] = self.host_row(key)
            self.versions[key] += 1

    def render(self):
        found = self.hosts.refresh(
            versions=self.versions,
            rows=lambda ids: [self.host_rows[key] for key in ids],
            ages=self.ages,
            rtt_counts=self.counts,
            rtt_sums=self.sums,
            skews=self.skews,
        )
        deploys = self.stacks.refresh(
            versions=self.stack_stamps, rows=lambda ids: [self.stack_rows[key] for key in ids]
        )
        sections = [
            Section(f.STACKS, found.stacks),
            Section(f.CONTAINERS, found.containers),
            Section(f.LAST_SEEN, found.last_seen),
            Section(f.DEPLOY_DURATION, deploys),
            Section(f.AGENT_RTT, found.rtt),
            Section(f.HOST_INFO, found.info),
        ]
        return Page(sections).body(openmetrics=True, gzip=True)


@pytest.fixture
def fleet():
    fleet = Fleet()
    fleet.render()
    fleet.hear()
    fleet.change(HOSTS // 100)
    return fleet


def test_a_scrape_of_120_000_lines_takes_few_calls(fleet):
    assert calls_of(fleet.render) < CALLS


def test_a_scrape_of_ten_megabytes_allocates_few_of_them(fleet):
    tracemalloc.start()
    try:
        body = fleet.render()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert body.length > 500_000
    assert peak < ALLOCATED_BYTES


def test_a_scrape_right_after_another_makes_no_text_again(fleet):
    fleet.render()
    before = fleet.hosts.store.rendered_bytes + fleet.stacks.store.rendered_bytes
    fragments = fleet.hosts.refresh(
        versions=fleet.versions,
        rows=list,
        ages=fleet.ages,
        rtt_counts=fleet.counts,
        rtt_sums=fleet.sums,
        skews=fleet.skews,
    )
    again = fleet.hosts.refresh(
        versions=fleet.versions,
        rows=list,
        ages=fleet.ages,
        rtt_counts=fleet.counts,
        rtt_sums=fleet.sums,
        skews=fleet.skews,
    )
    assert [id(fragment) for fragment in fragments.rtt] == [id(fragment) for fragment in again.rtt]
    assert fleet.hosts.store.rendered_bytes + fleet.stacks.store.rendered_bytes == before


# And of a small fleet, where what every scrape takes is most of it: the whole of it, from the server's call to the body.


def wsgi(token):
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/metrics",
        "SERVER_NAME": "127.0.0.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_AUTHORIZATION": f"Bearer {token}",
        "HTTP_ACCEPT": "application/openmetrics-text;version=1.0.0",
        "HTTP_ACCEPT_ENCODING": "gzip",
        "wsgi.url_scheme": "http",
    }
    started = []
    body = b"".join(shortway.application(environ, lambda status, _headers: started.append(status)) or ())
    assert started == ["200 OK"]
    return body


def test_a_scrape_of_ten_hosts_with_all_groups_takes_few_calls(db, monkeypatch):
    monkeypatch.setattr(connection, "close_if_unusable_or_obsolete", lambda: None)
    # What the process has counted of other tests' requests is not of this fleet.
    for collector in list(REGISTRY._collector_to_names):
        if isinstance(collector, MetricWrapperBase) and collector._labelnames:
            collector.clear()
    _, token = token_with("metrics.read")
    hosts = [fleets.host(f"host-{number}") for number in range(10)]
    for host in hosts:
        shop = fleets.stack(host, "shop")
        for number in range(20):
            fleets.container(host, f"web-{number}", stack=shop)
    for number in range(20):
        StackSeries.objects.create(name=f"shop-{number}")
    for _ in range(3):
        wsgi(token)
        for host in hosts:
            host.heartbeat_state.last_seen_at = clock.now()
            host.heartbeat_state.save()
        fleets.change(hosts[0], stack_counts="1,0,0,0,0,0")
        fleets.container(hosts[0], f"new-{clock.now()}")
    assert calls_of(lambda: wsgi(token)) < SMALL_CALLS
