"""Hosts: their statuses, the states of their stacks and containers, their pulse."""

from collections.abc import Collection, Iterable

from dockmesh.fleet import selectors
from dockmesh.fleet.states import HostStatus
from metrics import families as f
from metrics.collectors.base import Found, Scrape
from metrics.collectors.fleet_text import HostRow, HostTexts
from metrics.exposition import Piece, StampTexts, sample_lines
from metrics.groups import Group


class FleetCollector:
    """One query for those hosts whose text changed, if any did, beside that for the pulses of all."""

    name = "fleet"
    reads_database = True
    groups = frozenset({Group.FLEET})

    def __init__(self) -> None:
        self.texts = HostTexts()
        self._stamps = StampTexts()

    def collect(self, scrape: Scrape) -> Found:
        """Offline is a matter of the scrape's moment: nobody has to notice it for it to be shown."""
        pulses = scrape.pulses
        stamps = self._stamps.read(pulses.host_ids, pulses.stamps)
        found = self.texts.refresh(
            stamps=stamps,
            rows=lambda ids: _rows(ids, {key for key in ids if int(stamps[key]) % 2}),
            ages=pulses.ages,
            skews=pulses.clock_skews,
            rtt_counts=pulses.rtt_counts,
            rtt_sums=pulses.rtt_sums,
        )
        return {
            f.HOSTS: [_statuses(pulses.online, pulses.offline, pulses.degraded)],
            f.STACKS: found.stacks,
            f.CONTAINERS: found.containers,
            f.LAST_SEEN: found.last_seen,
            f.AGENT_RTT: found.rtt,
            f.HOST_INFO: found.info,
            f.CLOCK_SKEW: found.skew,
        }


def _statuses(online: int, offline: int, degraded: int) -> Piece:
    counts = {HostStatus.ONLINE: online, HostStatus.OFFLINE: offline, HostStatus.DEGRADED: degraded}
    return Piece.of(sample_lines(f.HOSTS, [((status,), counts[status]) for status in f.HOST_STATUSES]))


def _rows(host_ids: Collection[int], offline: Collection[int]) -> Iterable[HostRow]:
    for host_id, name, containers, stacks, *info in selectors.host_rows(host_ids):
        shown = _all_unknown if host_id in offline else str
        yield HostRow(host_id, name, shown(stacks), shown(containers), info)


def _all_unknown(counts: str) -> str:
    """The same number of objects, all in the last state, which is `unknown`."""
    numbers = counts.split(",")
    return ",".join(["0"] * (len(numbers) - 1) + [str(sum(map(int, numbers)))])
