"""Hosts: their statuses, the states of their stacks and containers, their heartbeat_state."""

from collections.abc import Collection, Iterable

from dockmesh.fleet import listening, selectors
from dockmesh.fleet.states import HostStatus
from metrics import families as f
from metrics.collectors.base import Collector, Found, Scrape
from metrics.collectors.fleet_text import HostRow, HostTexts
from metrics.exposition import Fragment, VersionTexts, sample_lines


class FleetCollector(Collector):
    """One query for those hosts whose text changed, if any did, beside that for the heartbeats of all."""

    name = "fleet"
    families = (f.HOSTS, f.STACKS, f.CONTAINERS, f.LAST_SEEN, f.AGENT_RTT, f.HOST_INFO, f.CLOCK_SKEW)
    queries = (listening.NEWEST_SPANS,)

    def __init__(self) -> None:
        self.texts = HostTexts()
        self._versions = VersionTexts()

    def collect(self, scrape: Scrape) -> Found:
        """Offline is a matter of the scrape's moment: nobody has to notice it for it to be shown."""
        heartbeats = scrape.heartbeats
        versions = self._versions.read(heartbeats.host_ids, heartbeats.versions)
        found = self.texts.refresh(
            versions=versions,
            rows=lambda ids: _rows(ids, {key for key in ids if int(versions[key]) % 2}),
            ages=heartbeats.ages,
            skews=heartbeats.clock_skews,
            rtt_counts=heartbeats.rtt_counts,
            rtt_sums=heartbeats.rtt_sums,
        )
        return {
            f.HOSTS: [_statuses(heartbeats.online, heartbeats.offline, heartbeats.degraded)],
            f.STACKS: found.stacks,
            f.CONTAINERS: found.containers,
            f.LAST_SEEN: found.last_seen,
            f.AGENT_RTT: found.rtt,
            f.HOST_INFO: found.info,
            f.CLOCK_SKEW: found.skew,
        }


def _statuses(online: int, offline: int, degraded: int) -> Fragment:
    counts = {HostStatus.ONLINE: online, HostStatus.OFFLINE: offline, HostStatus.DEGRADED: degraded}
    return Fragment.of(sample_lines(f.HOSTS, [((status,), counts[status]) for status in f.HOST_STATUSES]))


def _rows(host_ids: Collection[int], offline: Collection[int]) -> Iterable[HostRow]:
    for host_id, name, containers, stacks, *info in selectors.host_rows(host_ids):
        shown = _all_unknown if host_id in offline else str
        yield HostRow(host_id, name, shown(stacks), shown(containers), info)


def _all_unknown(counts: str) -> str:
    """The same number of objects, all in the last state, which is `unknown`."""
    numbers = counts.split(",")
    return ",".join(["0"] * (len(numbers) - 1) + [str(sum(map(int, numbers)))])
