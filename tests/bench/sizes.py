"""The fleets that are measured."""

from dataclasses import dataclass

CONTAINERS_OF_A_STACK = 20


@dataclass(frozen=True)
class Size:
    """A fleet. Three of five stacks have a name of their own; the others share theirs with another host."""

    name: str
    hosts: int
    stacks: int
    containers: int

    @property
    def stack_names(self) -> int:
        return self.stacks * 3 // 5

    @property
    def series(self) -> int:
        """6 and 8 states, last seen, 14 of the round trips, info; two histograms of 15 for a stack name."""
        return self.hosts * (6 + 8 + 1 + 14 + 1) + self.stack_names * 2 * 15


SIZES = {
    size.name: size
    for size in (
        Size("tiny", 4, 10, 40),
        Size("S", 10, 20, 200),
        Size("M", 100, 500, 5_000),
        Size("L", 1_000, 5_000, 100_000),
        Size("XL", 5_000, 25_000, 500_000),
    )
}
