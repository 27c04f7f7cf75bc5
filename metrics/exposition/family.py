"""What a metric family is, and its HELP and TYPE lines in both formats."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from metrics.exposition.fragments import Fragment

Kind = Literal["counter", "gauge", "histogram", "summary", "info", "unknown"]

_SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "counter": (),
    "gauge": (),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("", "_sum", "_count"),
    "info": (),
    "unknown": (),
}


@dataclass(frozen=True, eq=False)
class Family:
    """A metric family as the text format names it; each is there once.

    ``name`` is the full name of text 0.0.4: a counter's ends in ``_total``, an info's in ``_info``.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    has_exemplars: bool = False
    """Whether lines of its buckets may end with one (OpenMetrics 1.0.0, "Exemplars"); text 0.0.4 knows none."""

    @cached_property
    def openmetrics_name(self) -> str:
        """The name on OpenMetrics's HELP and TYPE lines (OpenMetrics 1.0.0, "Suffixes")."""
        if self.kind == "counter":
            return self.name.removesuffix("_total")
        if self.kind == "info":
            return self.name.removesuffix("_info")
        return self.name

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name under which ``name[]=`` finds this family: its own, and those of its samples."""
        suffixes = _SUFFIXES[self.kind]
        return frozenset({self.name, self.openmetrics_name, *(self.name + s for s in suffixes)})

    @cached_property
    def text_head(self) -> Fragment:
        kind = {"unknown": "untyped", "info": "gauge"}.get(self.kind, self.kind)
        help_text = self.help.replace("\\", r"\\").replace("\n", r"\n")
        return Fragment.of(f"# HELP {self.name} {help_text}\n# TYPE {self.name} {kind}\n")

    @cached_property
    def openmetrics_head(self) -> Fragment:
        name = self.openmetrics_name
        help_text = self.help.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
        return Fragment.of(f"# HELP {name} {help_text}\n# TYPE {name} {self.kind}\n")
