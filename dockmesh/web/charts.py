"""Where the pieces of the charts stand. `templates/web/kit/` draws them; colours come from classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dockmesh.web.states import tone_of

WIDTH, HEIGHT, FOOT, TOP = 560, 120, 18, 6
MOST_NAMES = 14
RATHER_FULL, NEARLY_FULL = 0.8, 0.95


@dataclass(frozen=True)
class Cut:
    """A part of a bar, in per cent of its width."""

    x: str
    width: str
    tone: str


@dataclass(frozen=True)
class Bar:
    """An upright bar in a chart of `WIDTH` by `HEIGHT`. Not every one has room for its name."""

    name: str
    value: str
    x: str
    y: str
    width: str
    height: str
    middle: str
    is_named: bool


def cuts(parts: Sequence[tuple[str, int]]) -> list[Cut]:
    """One bar cut into the parts' shares, each in its state's tone. `parts` are (state, count)."""
    total = sum(count for _, count in parts)
    found: list[Cut] = []
    x = 0.0
    for state, count in parts:
        if count:
            width = 100 * count / total
            found.append(Cut(f"{x:.3f}", f"{max(width - 0.25, 0.4):.3f}", tone_of(state)))
            x += width
    return found


def filled(share: float) -> Cut:
    """A bar that is filled to a share of its length."""
    tone = "bad" if share >= NEARLY_FULL else "warning" if share >= RATHER_FULL else "working"
    return Cut("0", f"{100 * min(share, 1.0):.3f}", tone)


def bars(rows: Sequence[tuple[str, float]]) -> list[Bar]:
    """Upright bars, one for each (name, value)."""
    most = max((value for _, value in rows), default=0.0)
    step = WIDTH / max(len(rows), 1)
    every = max(1, -(-len(rows) // MOST_NAMES))
    found = []
    for index, (name, value) in enumerate(rows):
        tall = max((HEIGHT - FOOT - TOP) * value / most if most > 0 else 0.0, 1.0)
        found.append(
            Bar(
                name,
                f"{value:g}",
                x=f"{index * step + step * 0.12:.1f}",
                y=f"{HEIGHT - FOOT - tall:.1f}",
                width=f"{step * 0.76:.1f}",
                height=f"{tall:.1f}",
                middle=f"{index * step + step / 2:.1f}",
                is_named=index % every == 0,
            )
        )
    return found
