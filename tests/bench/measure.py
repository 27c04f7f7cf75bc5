"""The measurements: whole HTTP requests over loopback, all peers in turn in the same run."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import fleet, ingest
from tests.bench.client import PLAIN, PROMETHEUS, Answer, Client, processor_seconds, resident_bytes
from tests.bench.ingest import Rate
from tests.bench.peers import Ordinary, Pushgateway, samples_of
from tests.bench.sizes import Size
from tests.integration.server import DockmeshServer

# What the peers serve too; the process's own metrics and the small families are dockmesh's extra.
SHARED = (
    "dockmesh_hosts_total",
    "dockmesh_stacks_total",
    "dockmesh_containers_total",
    "dockmesh_agent_last_seen_",
    "dockmesh_agent_rtt_",
    "dockmesh_deploy_",
    "dockmesh_host_info",
)
# With each thing by its name.
OBJECTS = (*SHARED, "dockmesh_host_", "dockmesh_stack_", "dockmesh_container_")
# What each container and host uses, alone.
USAGE = ("dockmesh_host_", "dockmesh_container_")
# What is compared: what is asked for, and which families the peers hold.
SUBJECTS = {
    "fleet": ("/metrics?collect[]=fleet", SHARED),
    "objects": ("/metrics", OBJECTS),
    "usage": ("/metrics?collect[]=usage", USAGE),
}
SCRAPERS = 20
# Some 180 MB uncompressed at L.
BUFFER_BYTES = 1 << 28


@dataclass
class Figures:
    """Milliseconds, seconds of processor time, bytes; by case and by who was measured."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, case: str, who: str, value: float) -> None:
        self.values.setdefault(case, {}).setdefault(who, []).append(value)

    def median(self, case: str, who: str) -> float | None:
        found = self.values.get(case, {}).get(who)
        return statistics.median(found) if found else None


class Bench:
    """A dockmesh server with a fleet of one size, and its peers."""

    def __init__(
        self,
        size: Size,
        folder: Path,
        database_url: str,
        *,
        subject: str,
        log: Callable[[str], None],
    ) -> None:
        self.size = size
        self.subject = subject
        self.path, self.families = SUBJECTS[subject]
        self.log = log
        self.figures = Figures()
        self.dice = random.Random(7)
        self.server = DockmeshServer(folder / "data", database_url=database_url)
        self.server.start()
        self.server.stop()
        self.environment = self.server.environment
        self.members: list[fleet.Member] = []
        self.token = ""
        self.held = 0

    def build(self) -> None:
        """Fill the database; this process must be set up for it."""
        start = time.monotonic()
        self.members = fleet.build(self.size, do_all_run=self.subject == "usage")
        self.token = _scrape_token()
        self.log(f"{self.size.name}: built in {time.monotonic() - start:.0f} s, {self.series()} series")

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def series(self) -> int:
        """How many there are now of the families that are compared, but for those of no host."""
        size = self.size
        if self.subject == "usage":
            # Twelve of each container, five of each host.
            return size.hosts * 5 + size.containers * 12
        if self.subject == "fleet":
            return size.series
        ended = sum(item["state"] == "exited" for member in self.members for item in member.containers)
        # Up, status, labels, processors, memory and clock skew; info and state; info, state, start, restarts, two
        # sorts of exits, kills for memory; and the exit code of those that have ended.
        return size.series + size.hosts * (6 + size.stacks // size.hosts * 2) + size.containers * 7 + ended

    def client(self, url: str, headers: Mapping[str, str]) -> Client:
        """One that asks for the families that are compared, and gives up later than Prometheus would."""
        patient = {**headers, "X-Prometheus-Scrape-Timeout-Seconds": "60"}
        path = self.path if url == self.server.url else "/metrics"
        return Client(url, {**patient, **self.headers}, path=path, buffer_bytes=BUFFER_BYTES)

    def web_pid(self) -> int:
        return self.server.children()[0]

    def compare(self, rounds: int, *, peers: Sequence[str], is_checked: bool = True) -> None:
        """Each round: time passes, then everybody is asked once, compressed and plain."""
        self.server.start()
        clients = {"dockmesh": self.server.url}
        running: list[Any] = []
        self.pass_time()
        first = self.client(self.server.url, PROMETHEUS).get()
        self.figures.add("first scrape", "dockmesh", first.seconds * 1e3)
        page = self.client(self.server.url, PLAIN).get().text()
        if "pushgateway" in peers:
            gateway = Pushgateway()
            running.append(gateway)
            gateway.hold(samples_of(page, self.families))
            self.held = self.series()
            clients["pushgateway"] = gateway.url
        if "ordinary" in peers:
            ordinary = Ordinary(self.environment)
            running.append(ordinary)
            clients["ordinary"] = ordinary.url
        try:
            pids = {"dockmesh": self.web_pid()}
            pids |= {type(peer).__name__.lower(): peer.process.pid for peer in running}
            self._rounds(rounds, clients, pids, is_checked)
            self.figures.add("resident memory", "dockmesh", resident_bytes(self.web_pid()))
            for peer in running:
                if isinstance(peer, Pushgateway):
                    self.figures.add("resident memory", "pushgateway", resident_bytes(peer.process.pid))
        finally:
            for peer in running:
                peer.stop()
            self.server.stop()

    def _rounds(self, rounds: int, urls: dict[str, str], pids: dict[str, int], is_checked: bool) -> None:
        scrapers = {who: self.client(url, PROMETHEUS) for who, url in urls.items()}
        readers = {who: self.client(url, PLAIN) for who, url in urls.items() if who != "ordinary"}
        for number in range(rounds + 1):
            for case, clients in (("gzip", scrapers), ("plain", readers)):
                self.pass_time()
                for who, client in _turned(clients, by=number):
                    if who == "ordinary" and number > max(3, rounds // 4):
                        continue
                    before = processor_seconds(pids[who])
                    answer = client.get()
                    assert answer.status == 200, (who, answer.status)
                    if number:  # the first is for warming up
                        self.figures.add(case, who, answer.seconds * 1e3)
                        spent = processor_seconds(pids[who]) - before
                        self.figures.add(f"{case}, processor", who, spent * 1e3)
                        self.figures.add(f"{case} bytes", who, len(answer.body))
                    elif is_checked and case == "gzip":
                        self._check(who, answer)

    def _check(self, who: str, answer: Answer) -> None:
        """Everybody serves as many series of the same names."""
        lines = samples_of(answer.text(), self.families).splitlines()
        count = sum(1 for line in lines if not line.startswith("#"))
        # Hosts by status are three more; pushgateway adds nothing to the shared names.
        wanted = (self.held if who == "pushgateway" else self.series()) + 3 * (self.subject != "usage")
        assert count == wanted, (who, count, wanted)

    def pass_time(self, share: float = 0.01) -> None:
        if self.subject == "usage":
            fleet.pass_time(self.members, share=0, dice=self.dice)
            fleet.use(self.members, self.dice)
        else:
            fleet.pass_time(self.members, share=share, dice=self.dice)

    def together(self, rounds: int) -> None:
        """Processor time of one scraper, and of twenty that ask at the same moment."""
        self.server.start()
        clients = [Client(self.server.url, {**PROMETHEUS, **self.headers}) for _ in range(SCRAPERS)]
        for client in clients:
            client.get()
        for _ in range(rounds):
            for who, group in (("one scraper", clients[:1]), ("20 scrapers", clients)):
                self.pass_time()
                time.sleep(0.05)
                before = processor_seconds(self.web_pid())
                _all_at_once(group)
                self.figures.add("processor time", who, (processor_seconds(self.web_pid()) - before) * 1e3)
        self.server.stop()

    def ingest(self, *, replicas: int, minutes: float) -> None:
        """Heartbeats a second, unchanged and changed; then the fleet's rhythm beside a scraper."""
        servers = [self.server]
        servers += [
            DockmeshServer(
                self.server.data_dir, database_url=self.server.environment.get("DOCKMESH_DATABASE_URL", "")
            )
            for _ in range(replicas - 1)
        ]
        for server in servers:
            server.start()
        urls = [server.url for server in servers]
        url = urls[0]
        connections = min(ingest.CONNECTIONS, len(self.members))
        members = self.members[: len(self.members) // connections * connections]
        ingest.throughput(urls, ingest.unchanged(members, url, 500), connections)
        pids = [server.children()[0] for server in servers]
        for case, requests in [
            *[("unchanged heartbeats", lambda: ingest.unchanged(members, url, 4000))] * 3,
            *[("changed heartbeats", lambda: ingest.changed(members, url, 800, self.dice))] * 3,
            *[("heartbeats with usage", lambda: ingest.with_usage(members, url, 2000, self.dice))] * 3,
        ]:
            ready = requests()
            before = sum(map(processor_seconds, pids))
            self._note_rate(case, ingest.throughput(urls, ready, connections))
            spent = sum(map(processor_seconds, pids)) - before
            self.figures.add(case, "processor ms each", spent / len(ready) * 1e3)
        scraper = Client(url, {**PROMETHEUS, **self.headers})
        scraper.get()
        resident = resident_bytes(self.web_pid())
        found = ingest.rhythm(url, members, scraper, seconds=minutes * 60, dice=self.dice)
        for name, latencies in (("heartbeats", found.heartbeats), ("scrapes", found.scrapes)):
            for share in (0.5, 0.99, 1.0):
                at = latencies[min(len(latencies) - 1, int(len(latencies) * share))]
                self.figures.add(f"rhythm: {name}, ms", f"p{share * 100:g}", at * 1e3)
        self.figures.add("rhythm: resident MiB", "before", resident / 2**20)
        self.figures.add("rhythm: resident MiB", "after", resident_bytes(self.web_pid()) / 2**20)
        for server in servers:
            server.stop()

    def _note_rate(self, case: str, rate: Rate) -> None:
        self.figures.add(case, "a second", rate.per_second)
        self.figures.add(case, "p50 ms", rate.percentile(0.5) * 1e3)
        self.figures.add(case, "p99 ms", rate.percentile(0.99) * 1e3)

    def with_history(self, rounds: int, *, audit_entries: int, deploys: int) -> None:
        """The same scrape with a tenth of the history, and with all of it."""
        for name, share in (("a tenth of the history", 0.1), ("the whole history", 0.9)):
            start = time.monotonic()
            fleet.write_history(audit_entries=int(audit_entries * share), deploys=int(deploys * share))
            self.log(f"{self.size.name}: {name} written in {time.monotonic() - start:.0f} s")
            self.server.start()
            client = Client(self.server.url, {**PROMETHEUS, **self.headers})
            for number in range(rounds + 1):
                self.pass_time()
                before = processor_seconds(self.web_pid())
                answer = client.get()
                if number:
                    self.figures.add("history", name, answer.seconds * 1e3)
                    spent = processor_seconds(self.web_pid()) - before
                    self.figures.add("history, processor", name, spent * 1e3)
            self.server.stop()


def _turned(clients: dict[str, Client], *, by: int) -> list[tuple[str, Client]]:
    """Another one first in each round: whoever comes first finds the machine as the writes have left it."""
    order = list(clients.items())
    first = by % len(order)
    return order[first:] + order[:first]


def _all_at_once(clients: Sequence[Client]) -> None:
    barrier = threading.Barrier(len(clients))

    def run(client: Client) -> None:
        barrier.wait()
        assert client.get().status == 200

    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _scrape_token() -> str:
    from tokens import secret
    from tokens.models import ApiToken, Role

    text = secret.generate(secret.Kind.API)
    digest = secret.digest(text)
    role = Role.objects.create(name="bench", permissions=["metrics.read"])
    ApiToken.objects.create(
        name="bench",
        public_id=text.public_id,
        digest=digest.value,
        pepper=digest.pepper,
        role=role,
        created_by="bench",
    )
    return str(text)
