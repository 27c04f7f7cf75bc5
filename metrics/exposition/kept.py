"""Small families: their lines up to the values are kept while the labels are the same, and all while the values are."""

from collections.abc import Iterable, Sequence

from metrics.exposition.family import Family
from metrics.exposition.fragments import Fragment
from metrics.exposition.text import label_text, number


class KeptLines:
    """The lines of one family. One instance for each process."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._labels: list[Sequence[str]] = []
        self._shown = ""
        self._format = ""
        self._fragments = [Fragment(b"")]

    def fragments(self, samples: Iterable[tuple[Sequence[str], float]]) -> Sequence[Fragment]:
        """The text of these samples (label values, value); the very same fragment while nothing has changed."""
        labels, values = [], []
        for of_sample, value in samples:
            labels.append(of_sample)
            values.append(value)
        shown = repr(values)  # equal numbers may be written differently: 1 and 1.0, 0.0 and -0.0
        if labels != self._labels:
            name, names = self._family.name, self._family.labels
            lines = [f"{name}{label_text(names, each)}".replace("%", "%%") + " %s\n" for each in labels]
            self._labels, self._format = labels, "".join(lines)
        elif shown == self._shown:
            return self._fragments
        self._shown = shown
        self._fragments = [Fragment.of(self._format % tuple(map(number, values)))]
        return self._fragments
