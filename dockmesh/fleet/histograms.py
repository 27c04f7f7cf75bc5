"""Histograms kept as text: cumulative counts by bucket, `+Inf` last, separated by commas.

The text is what /metrics shows, so a scrape never formats a number that did not change.
"""

from collections.abc import Iterable
from dataclasses import dataclass

RTT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DEPLOY_BUCKETS = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0)


def empty(buckets: tuple[float, ...]) -> str:
    """The counts of a histogram that has observed nothing."""
    return ",".join(["0"] * (len(buckets) + 1))


EMPTY_RTT = empty(RTT_BUCKETS)
EMPTY_DEPLOY = empty(DEPLOY_BUCKETS)


def observe(counts: str, buckets: tuple[float, ...], values: Iterable[float]) -> str:
    """The counts after `values` (seconds); a value on a bound counts in that bucket, as `le` says."""
    numbers = [int(count) for count in counts.split(",")]
    for value in values:
        for index, bound in enumerate(buckets):
            if value <= bound:
                numbers[index] += 1
        numbers[-1] += 1
    return ",".join(map(str, numbers))


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One deploy that a histogram observed: its id, its duration, and when (Unix seconds)."""

    deploy_id: int
    seconds: float
    at: float

    @property
    def text(self) -> str:
        """As the database keeps it."""
        return f"{self.deploy_id} {self.seconds!r} {self.at:.3f}"

    @classmethod
    def read(cls, text: str) -> "Exemplar | None":
        """The other way round; None of an empty text."""
        if not text:
            return None
        deploy_id, seconds, at = text.split()
        return cls(int(deploy_id), float(seconds), float(at))
