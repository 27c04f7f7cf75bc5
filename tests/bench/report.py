"""The table of ratios."""

from __future__ import annotations

import statistics
from typing import Any

# (size, case, against, goal): how many times faster dockmesh is meant to be.
GOALS = {
    ("L", "gzip", "pushgateway"): 9.0,
    ("L", "gzip", "ordinary"): 60.0,
    ("XL", "gzip", "pushgateway"): 10.0,
    ("L", "plain", "pushgateway"): 4.0,
    ("S", "gzip", "ordinary"): 3.0,
}


def table(report: dict[str, Any]) -> str:
    """A Markdown table: medians in milliseconds, and how many times faster than each peer."""
    lines = [
        "| size | case | dockmesh | pushgateway | ordinary | × pushgateway | × ordinary | goal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size, found in report["sizes"].items():
        figures = found["figures"]
        if "gzip" not in figures:
            return plain(figures)
        for case in ("gzip", "gzip, processor", "plain", "plain, processor"):
            lines.append(_row(size, case, figures[case]))
        lines += _others(size, figures)
    return "\n".join(lines)


def _row(size: str, case: str, figures: dict[str, list[float]]) -> str:
    medians = {who: statistics.median(values) for who, values in figures.items()}
    own = medians["dockmesh"]
    cells = [size, case, f"{own:.1f} ms"]
    for who in ("pushgateway", "ordinary"):
        cells.append(f"{medians[who]:.1f} ms" if who in medians else "–")
    goals = []
    for who in ("pushgateway", "ordinary"):
        cells.append(f"{medians[who] / own:.1f}" if who in medians else "–")
        goal = GOALS.get((size, case.removesuffix(", processor"), who))
        if goal is not None:
            goals.append(f"{who} ≥ {goal:g}")
    return "| " + " | ".join([*cells, ", ".join(goals) or "–"]) + " |"


def _others(size: str, figures: dict[str, dict[str, list[float]]]) -> list[str]:
    lines = []
    first = statistics.median(figures["first scrape"]["dockmesh"])
    gateway = statistics.median(figures["gzip"].get("pushgateway", [0.0]))
    goal = "≥ 1" if size == "L" else "–"
    lines.append(
        f"| {size} | first scrape | {first:.1f} ms | {gateway:.1f} ms | – | {gateway / first:.1f} | – | {goal} |"
    )
    memory = {who: statistics.median(values) / 2**20 for who, values in figures["resident memory"].items()}
    if "pushgateway" in memory:
        ratio = memory["dockmesh"] / memory["pushgateway"]
        lines.append(
            f"| {size} | resident memory | {memory['dockmesh']:.0f} MiB | {memory['pushgateway']:.0f} MiB | – |"
            f" {ratio:.2f} of it | – | {'≤ 1.5' if size == 'XL' else '–'} |"
        )
    if "processor time" in figures:
        one, many = (
            statistics.median(figures["processor time"][who]) for who in ("one scraper", "20 scrapers")
        )
        lines.append(
            f"| {size} | processor time, 20 scrapers at once | {many:.1f} ms | one: {one:.1f} ms | – |"
            f" {many / one:.2f} of one | – | ≤ 3 |"
        )
    for case in ("history", "history, processor"):
        if case not in figures:
            continue
        little, much = (
            statistics.median(figures[case][who]) for who in ("a tenth of the history", "the whole history")
        )
        lines.append(
            f"| {size} | {case.replace('history', 'history ten times longer')} | {much:.1f} ms |"
            f" before: {little:.1f} ms | – | {much / little:.2f} of it | – | ≤ 1.1 |"
        )
    return lines


def plain(figures: dict[str, dict[str, list[float]]]) -> str:
    """Medians, one line for each case."""
    lines = []
    for case, found in figures.items():
        values = ", ".join(f"{who}: {statistics.median(values):.2f}" for who, values in found.items())
        lines.append(f"| {case} | {values} |")
    return "\n".join(["| case | medians |", "|---|---|", *lines])
