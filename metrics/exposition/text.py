"""Sample lines: escaping, numbers, and templates for the lines of one object.

Text format: https://prometheus.io/docs/instrumenting/exposition_formats/
OpenMetrics: https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

import math
from collections.abc import Iterable, Sequence

import msgspec

from metrics.exposition.family import Family


def escape(value: str) -> str:
    """A label value as it stands between quotes, in both formats."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def number(value: float) -> str:
    """A sample's value: whole numbers whole, else the shortest text that reads back as the same."""
    if isinstance(value, int):
        return str(int(value))
    if math.isfinite(value):
        return repr(value)
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"


def numbers(values: Sequence[float]) -> list[bytes]:
    """`number` of many floats, in a sixth of the time: msgspec writes all but the tiny and the huge alike."""
    text = msgspec.json.encode(values)
    if b"e" in text or b"null" in text or b"0.0000" in text:
        return [number(value).encode() for value in values]
    return text[1:-1].split(b",") if values else []


def thousandths(text: str) -> list[bytes]:
    """The decimals of comma-separated whole thousandths: `1500,0` gives `1.5` and `0.0`."""
    return numbers([whole / 1000 for whole in msgspec.json.decode(f"[{text}]")])


def label_text(names: Sequence[str], values: Sequence[str]) -> str:
    """``{host="a",state="b"}``, or nothing where there are no labels."""
    if not names:
        return ""
    inside = ",".join(f'{n}="{escape(v)}"' for n, v in zip(names, values, strict=True))
    return "{" + inside + "}"


def sample_lines(family: Family, samples: Iterable[tuple[Sequence[str], float]]) -> str:
    """The lines of a small family, each sample as (label values, value)."""
    return "".join(
        f"{family.name}{label_text(family.labels, labels)} {number(value)}\n" for labels, value in samples
    )


class LineTemplate:
    """The lines that every object of one sort has: only one label value and the numbers differ.

    ``stems`` are the lines up to the value, with ``%s`` in the place of the label value.
    """

    def __init__(self, stems: Sequence[str]) -> None:
        self.stems = tuple(stems)
        self._format = "".join(f"{stem} %s\n" for stem in self.stems)

    def __add__(self, other: "LineTemplate") -> "LineTemplate":
        return LineTemplate(self.stems + other.stems)

    def render(self, label: str, values: Sequence[str]) -> bytes:
        """All lines of one object. ``label`` is escaped already, ``values`` are texts of numbers."""
        arguments = [label] * (2 * len(self.stems))
        arguments[1::2] = values
        return (self._format % tuple(arguments)).encode()

    def prefixes(self, label: str) -> list[str]:
        """Each line up to its value, the space included."""
        return [stem % label + " " for stem in self.stems]


def state_template(family: Family, states: Sequence[str]) -> LineTemplate:
    """One line for each state; the family's first label varies, its second is the state."""
    varying, state_label = family.labels
    return LineTemplate([f'{family.name}{{{varying}="%s",{state_label}="{s}"}}' for s in states])


def histogram_template(family: Family, bounds: Sequence[float], *fixed: str) -> LineTemplate:
    """Buckets (``+Inf`` last), sum and count; the first label varies, ``fixed`` are the others."""
    labels = f'{family.labels[0]}="%s"' + "".join(
        f',{name}="{escape(value)}"' for name, value in zip(family.labels[1:], fixed, strict=True)
    )
    stems = [f'{family.name}_bucket{{{labels},le="{number(float(le))}"}}' for le in (*bounds, math.inf)]
    return LineTemplate([*stems, f"{family.name}_sum{{{labels}}}", f"{family.name}_count{{{labels}}}"])
