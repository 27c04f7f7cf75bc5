"""Hosts: their statuses, the states of their stacks and containers, their pulse."""

from collections.abc import Collection, Iterable

from dockmesh.fleet import selectors
from dockmesh.fleet.states import HostStatus
from metrics import families as f
from metrics.collectors.base import Found, Scrape
from metrics.collectors.fleet_text import HostRow, HostTexts
from metrics.exposition import Piece, sample_lines


class FleetCollector:
    """One query for the pulses of all hosts, and one for those hosts whose text changed, if any did."""

    name = "fleet"
    reads_database = True

    def __init__(self) -> None:
        self.texts = HostTexts()

    def collect(self, scrape: Scrape) -> Found:
        """Offline is a matter of the scrape's moment: nobody has to notice it for it to be shown."""
        now = scrape.now.timestamp()
        offline_before = selectors.offline_before(scrape.now).timestamp()
        pulses = selectors.pulse_columns()
        are_offline = [seen < offline_before for seen in pulses.last_seen]
        stamps = dict(zip(pulses.host_ids, zip(pulses.versions, are_offline, strict=True), strict=True))
        found = self.texts.refresh(
            stamps=stamps,
            rows=lambda ids: _rows(ids, {key for key, (_, is_offline) in stamps.items() if is_offline}),
            ages=["%.3f" % max(now - seen, 0.0) for seen in pulses.last_seen],  # noqa: UP031 (twice as fast)
            rtt_counts=pulses.rtt_counts,
            rtt_sums=pulses.rtt_sums,
            skews=["%.3f" % skew for skew in pulses.clock_skews],  # noqa: UP031 (twice as fast)
        )
        offline = sum(are_offline)
        degraded = sum(map(_is_degraded, pulses.are_degraded, are_offline))
        return {
            f.HOSTS: [_statuses(len(stamps) - offline - degraded, offline, degraded)],
            f.STACKS: found.stacks,
            f.CONTAINERS: found.containers,
            f.LAST_SEEN: found.last_seen,
            f.AGENT_RTT: found.rtt,
            f.HOST_INFO: found.info,
            f.CLOCK_SKEW: found.skew,
        }


def _is_degraded(is_degraded: bool, is_offline: bool) -> bool:
    return bool(is_degraded) and not is_offline


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
