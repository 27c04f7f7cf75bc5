"""The process's own metrics, summed over the processes of a WSGI server that has several.

Where `PROMETHEUS_MULTIPROC_DIR` is set, each process writes what can be summed into a file of its own
there, about once a second, and the one that answers a scrape adds the others' files to what it knows.
prometheus_client's own way (values in memory-mapped files) is not used: a full folder kills the process
that writes with SIGBUS, and one corrupt or empty file breaks every scrape. Here a file is written aside
and renamed, a write that fails is tried again a second later, and a file that can't be read is left out.

Counts of processes that have ended stay: they are folded into one file, since a counter must not fall.
"""

import fcntl
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

logger = logging.getLogger(__name__)

_CUMULATIVE = ("counter", "histogram", "summary")
# Gauges whose sum over the living processes means something; of all others there is no right sum.
_SUMMED_GAUGES = frozenset(
    {"process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"}
)
_ENDED = "dockmesh-ended.json"

# [metric name, type, help, [[sample name, labels, value], …]]
_Entry = tuple[str, str, str, list[tuple[str, dict[str, str], float]]]

_OWN = re.compile(r"dockmesh-[0-9]{1,10}-[0-9]{1,20}\.json")


def is_on() -> bool:
    """Whether the processes share what they know."""
    return bool(settings.PROMETHEUS_MULTIPROC_DIR)


def write_own() -> None:
    """Write this process's file; called about once a second. A folder that can't be written is no error."""
    if not is_on():
        return
    folder = Path(settings.PROMETHEUS_MULTIPROC_DIR)
    own = folder / _own_name()
    try:
        if not own.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _fold_ended(folder)
        _write(own, {"metrics": _entries(REGISTRY.collect())})
    except (OSError, ValueError) as error:
        logger.warning("The metrics of this process could not be written to %s: %s", folder, error)


def summed(own: Iterable[Metric]) -> list[Metric]:
    """This process's metrics plus those of all others; what can't be summed is left out."""
    total: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for entries in [_entries(own), *_others(Path(settings.PROMETHEUS_MULTIPROC_DIR))]:
        for name, kind, documentation, samples in entries:
            if name not in total:
                total[name], values[name] = Metric(name, documentation, kind), {}
            at = values[name]
            for sample_name, labels, value in samples:
                key = (sample_name, tuple(labels.items()))
                at[key] = at.get(key, 0.0) + value
    for name, metric in total.items():
        for (sample_name, label_items), value in values[name].items():
            metric.add_sample(sample_name, dict(label_items), value)
    return list(total.values())


def _entries(metrics: Iterable[Metric]) -> list[_Entry]:
    return [
        (m.name, m.type, m.documentation, [(s.name, dict(s.labels), s.value) for s in m.samples])
        for m in metrics
        if m.type in _CUMULATIVE or m.name in _SUMMED_GAUGES
    ]


def _others(folder: Path) -> Iterator[Sequence[_Entry]]:
    ended = _read(folder / _ENDED)
    if ended:
        yield ended["metrics"]
    folded = set(ended["folded"]) if ended else set()
    for path in _files(folder):
        if path.name in folded or path.name == _own_name():
            continue
        content = _read(path)
        if content:
            is_alive = _is_alive(path)
            yield [entry for entry in content["metrics"] if is_alive or entry[1] in _CUMULATIVE]


def _files(folder: Path) -> list[Path]:
    """The processes' own files; what else lies there, under a name like theirs, is somebody else's."""
    return sorted(
        path for path in folder.glob("dockmesh-*.json") if _OWN.fullmatch(path.name) and path.is_file()
    )


def _fold_ended(folder: Path) -> None:
    """Add the files of ended processes to the one file that stands for all of them."""
    with _locked(folder):
        known = _read(folder / _ENDED) or {"folded": [], "metrics": []}
        ended = [path for path in _files(folder) if not _is_alive(path)]
        fresh = [path for path in ended if path.name not in known["folded"]]
        if fresh:
            contents = [content["metrics"] for path in fresh if (content := _read(path))]
            _write(
                folder / _ENDED,
                # The names first: should this process die before it has removed the files, they don't
                # count twice.
                {"folded": [path.name for path in ended], "metrics": _merged([known["metrics"], *contents])},
            )
        for path in ended:
            path.unlink(missing_ok=True)


def _merged(lists: Iterable[Sequence[_Entry]]) -> list[_Entry]:
    merged: dict[str, _Entry] = {}
    for entries in lists:
        for name, kind, documentation, samples in entries:
            if kind not in _CUMULATIVE:
                continue
            at = merged.setdefault(name, (name, kind, documentation, []))[3]
            index = {(n, tuple(labels.items())): number for number, (n, labels, _) in enumerate(at)}
            for sample_name, labels, value in samples:
                number = index.get((sample_name, tuple(labels.items())))
                if number is None:
                    at.append((sample_name, labels, value))
                else:
                    at[number] = (sample_name, labels, at[number][2] + value)
    return list(merged.values())


def _read(path: Path) -> dict[str, Any] | None:
    """The file's content; None where it is missing, empty, corrupt or not ours."""
    try:
        content = json.loads(path.read_bytes())
        metrics = [
            (str(name), str(kind), str(text), [(str(n), dict(at), float(value)) for n, at, value in samples])
            for name, kind, text, samples in content["metrics"]
        ]
        return {"folded": [str(name) for name in content.get("folded", ())], "metrics": metrics}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("%s could not be read and is left out: %s", path, error)
        return None


def _write(path: Path, content: dict[str, Any]) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(content))
    aside.replace(path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "dockmesh.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _own_name() -> str:
    return f"dockmesh-{os.getpid()}-{_started(os.getpid())}.json"


def _is_alive(path: Path) -> bool:
    _, pid, started = path.stem.split("-")
    return _started(int(pid)) == started


def _started(pid: int) -> str:
    """When the process began, in clock ticks since boot (proc(5), stat, field 22); empty if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
