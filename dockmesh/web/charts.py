"""Small charts as SVG text, made by the server. Colours come from classes; nothing here is interactive."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from dockmesh.web.states import tone_of


def share(parts: Sequence[tuple[str, int]], label: str) -> SafeString:
    """One bar cut into the parts' shares, each in its state's tone. `parts` are (state, count)."""
    total = sum(count for _, count in parts)
    cuts: list[tuple[str, str, str]] = []
    x = 0.0
    if total:
        for state, count in parts:
            if count:
                width = 100 * count / total
                cuts.append((f"{x:.3f}%", f"{max(width - 0.25, 0.4):.3f}%", tone_of(state)))
                x += width
    words = ", ".join(f"{count} {state}" for state, count in parts if count) or "none"
    return format_html(
        '<svg class="share" role="img" aria-label="{}: {}"><rect class="share-ground" width="100%" height="10" rx="5"/>{}</svg>',
        label,
        words,
        format_html_join("", '<rect x="{}" width="{}" height="10" rx="2.5" class="fill-{}"/>', cuts),
    )


def bars(rows: Sequence[tuple[str, float]], *, label: str) -> SafeString:
    """Upright bars, one for each (name, value)."""
    width, height, foot, top = 560.0, 120, 18.0, 6.0
    words = [f"{value:g}" for _, value in rows]
    most = max((value for _, value in rows), default=0.0)
    if not rows:
        return mark_safe("")
    step = width / len(rows)
    room = height - foot - top
    drawn = []
    for index, (name, value) in enumerate(rows):
        tall = room * value / most if most > 0 else 0.0
        drawn.append(
            (
                f"{index * step + step * 0.12:.1f}",
                f"{height - foot - max(tall, 1.0):.1f}",
                f"{step * 0.76:.1f}",
                f"{max(tall, 1.0):.1f}",
                name,
                words[index],
            )
        )
    every = max(1, -(-len(rows) // 14))
    names = [
        (f"{index * step + step / 2:.1f}", height - 4, name)
        for index, (name, _) in enumerate(rows)
        if index % every == 0
    ]
    return format_html(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}<line class="axis" x1="0" x2="{}" y1="{}" y2="{}"/>{}</svg>',
        int(width),
        height,
        f"{label}: " + ", ".join(f"{row[0]} {word}" for row, word in zip(rows, words, strict=True)),
        format_html_join(
            "",
            '<rect class="bar" x="{}" y="{}" width="{}" height="{}" rx="2"><title>{}: {}</title></rect>',
            drawn,
        ),
        int(width),
        height - foot,
        height - foot,
        format_html_join("", '<text x="{}" y="{}" text-anchor="middle">{}</text>', names),
    )
