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
    # (deploy id, value, Unix time): in OpenMetrics only.
    exemplar: tuple[int, float, float] | None = None


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
            line = sample.name + labels + " " + _number(sample.value)
            if openmetrics and sample.exemplar is not None:
                deploy_id, value, at = sample.exemplar
                line += f' # {{deploy_id="{deploy_id}"}} {_number(value)} {_number(at)}'
            lines.append(line)
    if openmetrics:
        lines.append("# EOF")
    return "".join(line + "\n" for line in lines).encode("utf-8")


def histogram(
    name: str,
    labels: Mapping[str, str],
    bounds: Sequence[float],
    per_bucket: Sequence[int],
    total: float,
    exemplar: tuple[int, float, float] | None = None,
):
    """Samples of one histogram; ``per_bucket`` has one more entry than ``bounds``, for what is above.

    The exemplar is in the first bucket that its value fits in.
    """
    below = -float("inf")
    samples = []
    seen = 0
    for bound, count in zip([*bounds, float("inf")], per_bucket, strict=True):
        seen += count
        is_here = exemplar is not None and below < exemplar[1] <= bound
        samples.append(
            TwinSample(
                name + "_bucket",
                {**labels, "le": _number(float(bound))},
                seen,
                exemplar if is_here else None,
            )
        )
        below = bound
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
