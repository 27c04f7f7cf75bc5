"""The text of hosts and of stacks: which lines each has, and when they are made again.

No database here: ``fleet.py`` reads the rows, this file turns them into fragments.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from dockmesh.fleet.histograms import DEPLOY_BUCKETS, RTT_BUCKETS, Exemplar
from metrics import families as f
from metrics.exposition import (
    FilledLines,
    Fragment,
    TextStore,
    escape,
    histogram_template,
    number,
    numbers,
    sample_lines,
    state_template,
    thousandths,
)

# A group of stacks is about 40 kB of text and a group of hosts about 30 kB: large enough to compress
# well, small enough that one changed host costs a thirtieth of a millisecond.
_HOST_GROUP_BITS = 5
_STACK_GROUP_BITS = 4
_HEARD_GROUP_BITS = 8

_STACKS = state_template(f.STACKS, f.STACK_STATES)
_CONTAINERS = state_template(f.CONTAINERS, f.CONTAINER_STATES)
_LAST_SEEN = f.LAST_SEEN.name + '{host="%s"} '
_SKEW = f.CLOCK_SKEW.name + '{host="%s"} '
_RTT = histogram_template(f.AGENT_RTT, RTT_BUCKETS)
_RTT_LINES = len(_RTT.stems)
_DEPLOYS = histogram_template(f.DEPLOY_DURATION, DEPLOY_BUCKETS, "success") + histogram_template(
    f.DEPLOY_DURATION, DEPLOY_BUCKETS, "failure"
)


@dataclass(frozen=True, slots=True)
class HostRow:
    """What a host's kept lines are made of. Counts are comma-separated, in the order of the states."""

    id: int
    name: str
    stack_counts: str
    container_counts: str
    info: Sequence[str]
    """The values of ``dockmesh_host_info``'s labels after ``host``."""


@dataclass(frozen=True, slots=True)
class StackRow:
    """A stack series: cumulative bucket counts (``+Inf`` last) as comma-separated text, and the sums."""

    id: int
    name: str
    success_counts: str
    success_sum: float
    failure_counts: str
    failure_sum: float
    success_exemplar: str = ""
    failure_exemplar: str = ""
    """The last deploy of each result, as `Exemplar` reads it."""


@dataclass(frozen=True, slots=True)
class FleetFragments:
    """The samples of the families that have a line for each host."""

    stacks: Sequence[Fragment]
    containers: Sequence[Fragment]
    last_seen: Sequence[Fragment]
    rtt: Sequence[Fragment]
    info: Sequence[Fragment]
    skew: Sequence[Fragment]


class HostTexts:
    """Kept lines of all hosts. One instance for each process."""

    def __init__(self) -> None:
        self.store = TextStore(3, group_bits=_HOST_GROUP_BITS)
        self._names: dict[int, str] = {}
        self._is_laid_out = False
        self._last_seen = FilledLines(1, group_bits=_HEARD_GROUP_BITS)
        self._skew = FilledLines(1, group_bits=_HEARD_GROUP_BITS)
        self._rtt = FilledLines(_RTT_LINES, group_bits=_HEARD_GROUP_BITS)

    def refresh(
        self,
        *,
        versions: Mapping[int, Hashable],
        rows: Callable[[Collection[int]], Iterable[HostRow]],
        ages: str,
        skews: str,
        rtt_counts: str,
        rtt_sums: str,
    ) -> FleetFragments:
        """Bring the lines up to date.

        ``versions`` are in ascending order of the hosts' ids, and the four columns are in that order too, as
        ``HeartbeatColumns`` has them. ``rows`` gives the rows of the hosts whose version is new; it must know all of
        them.
        """
        if self.store.refresh(versions, lambda ids: self._render(rows(ids))):
            self._lay_out(versions)
        return FleetFragments(
            stacks=self.store.fragments(0),
            containers=self.store.fragments(1),
            info=self.store.fragments(2),
            last_seen=self._last_seen.fill(ages, lambda: thousandths(ages)),
            skew=self._skew.fill(skews, lambda: thousandths(skews)),
            rtt=self._rtt.fill((rtt_counts, rtt_sums), lambda: _rtt_values(rtt_counts, rtt_sums)),
        )

    def _render(self, rows: Iterable[HostRow]) -> Iterable[tuple[int, Sequence[bytes]]]:
        for row in rows:
            name = escape(row.name)
            if self._names.get(row.id) != name:
                self._names[row.id] = name
                self._is_laid_out = False
            yield (
                row.id,
                (
                    _STACKS.render(name, row.stack_counts.split(",")),
                    _CONTAINERS.render(name, row.container_counts.split(",")),
                    sample_lines(f.HOST_INFO, [((row.name, *row.info), 1)]).encode(),
                ),
            )

    def _lay_out(self, versions: Mapping[int, Hashable]) -> None:
        if len(self._names) != len(versions):
            self._names = {key: self._names[key] for key in versions}
        elif self._is_laid_out:
            return
        keys, names = list(versions), [self._names[key] for key in versions]
        self._last_seen.lay_out(keys, [[_LAST_SEEN % name] for name in names])
        self._skew.lay_out(keys, [[_SKEW % name] for name in names])
        self._rtt.lay_out(keys, [_RTT.prefixes(name) for name in names])
        self._is_laid_out = True


class StackTexts:
    """Kept lines of all stack series. One instance for each process."""

    def __init__(self) -> None:
        self.store = TextStore(1, group_bits=_STACK_GROUP_BITS)

    def refresh(
        self, *, versions: Mapping[int, Hashable], rows: Callable[[Collection[int]], Iterable[StackRow]]
    ) -> Sequence[Fragment]:
        """The fragments of the deploy histograms; ``versions`` and ``rows`` as for hosts."""
        self.store.refresh(versions, lambda ids: map(_render_stack, rows(ids)))
        return self.store.fragments(0)


def _render_stack(row: StackRow) -> tuple[int, Sequence[bytes]]:
    success = row.success_counts.split(",")
    failure = row.failure_counts.split(",")
    values = [
        *_with_exemplar(success, row.success_exemplar), number(row.success_sum), success[-1],
        *_with_exemplar(failure, row.failure_exemplar), number(row.failure_sum), failure[-1],
    ]  # fmt: skip
    return row.id, (_DEPLOYS.render(escape(row.name), values),)


def _with_exemplar(counts: Sequence[str], text: str) -> Sequence[str]:
    """The values of the buckets, the one that the exemplar is in followed by it."""
    exemplar = Exemplar.read(text)
    if exemplar is None:
        return counts
    values, at = list(counts), bisect_left(DEPLOY_BUCKETS, exemplar.seconds)
    values[at] += f' # {{deploy_id="{exemplar.deploy_id}"}} {number(exemplar.seconds)} {exemplar.at}'
    return values


def _rtt_values(counts: str, sums: str) -> Sequence[bytes]:
    """The values of the histograms' lines: of each the buckets, the sum, and the count, which is ``+Inf``'s."""
    # Two places are kept free behind the buckets of each host.
    values = (counts.replace(";", ",,,") + ",,").encode().split(b",") if counts else []
    totals = msgspec.json.decode(f"[{sums}]", type=list[float])
    if len(values) != _RTT_LINES * len(totals):
        raise ValueError(f"every round-trip histogram must have {_RTT_LINES - 2} counts")
    values[_RTT_LINES - 2 :: _RTT_LINES] = numbers(totals)
    values[_RTT_LINES - 1 :: _RTT_LINES] = values[_RTT_LINES - 3 :: _RTT_LINES]
    return values
