"""The slow, obvious twin of ``metrics.exposition``: a page as one string, made line by line.

It shares no code with the product, on purpose. The tests compare both, byte for byte.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass
class TwinSample:
    name: str
    labels: Mapping[str, str]
    value: float


@dataclass
class TwinFamily:
    name: str
    kind: str
    help: str
    samples: Sequence[TwinSample]


def page(families: Iterable[TwinFamily], *, openmetrics: bool) -> bytes:
    lines = []
    for family in families:
        name = family.name
        if openmetrics and family.kind == "counter":
            name = name[: -len("_total")]
        lines.append("# HELP " + name + " " + family.help)
        lines.append("# TYPE " + name + " " + family.kind)
        for sample in family.samples:
            labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
            if labels:
                labels = "{" + labels + "}"
            lines.append(sample.name + labels + " " + _number(sample.value))
    if openmetrics:
        lines.append("# EOF")
    return "".join(line + "\n" for line in lines).encode("utf-8")


def histogram(
    name: str, labels: Mapping[str, str], bounds: Sequence[float], per_bucket: Sequence[int], total: float
):
    """Samples of one histogram; ``per_bucket`` has one more entry than ``bounds``, for what is above."""
    samples = []
    seen = 0
    for bound, count in zip([*bounds, float("inf")], per_bucket, strict=True):
        seen += count
        samples.append(TwinSample(name + "_bucket", {**labels, "le": _number(float(bound))}, seen))
    samples.append(TwinSample(name + "_sum", labels, total))
    samples.append(TwinSample(name + "_count", labels, seen))
    return samples


def _escaped(value: str) -> str:
    out = ""
    for character in value:
        if character == "\\":
            out += "\\\\"
        elif character == '"':
            out += '\\"'
        elif character == "\n":
            out += "\\n"
        else:
            out += character
    return out


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:d}"
    if value != value:
        return "NaN"
    if value == float("inf"):
        return "+Inf"
    if value == float("-inf"):
        return "-Inf"
    return repr(value)
