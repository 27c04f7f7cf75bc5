"""The lines of each host, of its stacks and of its containers; kept until anything of the host changes.

No database here: ``objects.py`` reads the rows, this file turns them into fragments.
"""

import datetime
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from operator import itemgetter

from dockmesh.fleet.objects import ContainerObject, HostObject
from dockmesh.fleet.states import ContainerState, HostStatus, StackState
from metrics import families as f
from metrics.collectors.base import Found
from metrics.exposition import Family, TextStore, escape, label_text, number

# A host of a hundred containers has some 15 kB in each family of containers.
_GROUP_BITS = 1

_ENDED = frozenset(
    {ContainerState.EXITED, ContainerState.DEAD, ContainerState.RESTARTING, ContainerState.REMOVING}
)
_UP = frozenset({ContainerState.RUNNING, ContainerState.PAUSED})
_ILLEGAL = re.compile("[^a-zA-Z0-9_]")
_LONG_AGO = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)
_HUMP = re.compile("([a-z0-9])([A-Z])")

FAMILIES = (
    f.HOST_UP,
    f.HOST_STATUS,
    f.HOST_LABELS,
    f.HOST_CPUS,
    f.HOST_MEMORY,
    f.STACK_INFO,
    f.STACK_STATE,
    f.CONTAINER_INFO,
    f.CONTAINER_STATE,
    f.CONTAINER_HEALTH,
    f.CONTAINER_START_TIME,
    f.CONTAINER_LAST_EXIT_CODE,
    f.CONTAINER_RESTARTS,
    f.CONTAINER_EXITS,
    f.CONTAINER_OOM_KILLS,
)


@dataclass(frozen=True, slots=True)
class HostRow:
    """What a host's lines are made of."""

    host: HostObject
    is_offline: bool


class ObjectTexts:
    """Kept lines of all hosts, stacks and containers. One instance for each process."""

    def __init__(self) -> None:
        self.store = TextStore(len(FAMILIES), group_bits=_GROUP_BITS)

    def refresh(
        self, *, versions: Mapping[int, Hashable], rows: Callable[[Collection[int]], Iterable[HostRow]]
    ) -> Found:
        """The fragments of each family; ``versions`` and ``rows`` are of the hosts, as for ``HostTexts``."""
        self.store.refresh(versions, lambda ids: map(_render, rows(ids)))
        return {family: self.store.fragments(column) for column, family in enumerate(FAMILIES)}


def host_label_names(labels: Iterable[str]) -> dict[str, str]:
    """The labels' names on the page to their own names.

    As kube-state-metrics names them: ``label_`` before it, an underscore for each character that is not legal, and
    ``snake_case``; of labels that would be called alike, each gets ``_conflict`` and a number. Unique also where a
    label is itself called like that.
    """
    alike: dict[str, list[str]] = {}
    for label in sorted(labels):
        snake = _HUMP.sub(r"\1_\2", _ILLEGAL.sub("_", label)).lower()
        alike.setdefault(f"label_{snake}", []).append(label)
    names = {name: found[0] for name, found in alike.items() if len(found) == 1}
    for name, found in alike.items():
        if len(found) > 1:
            numbered = (f"{name}_conflict{number}" for number in count(1))
            for label in found:
                names[next(each for each in numbered if each not in names)] = label
    return names


def _render(row: HostRow) -> tuple[int, Sequence[bytes]]:
    host = row.host
    lines: dict[Family, list[str]] = {family: [] for family in FAMILIES}
    _add_host(lines, row)
    stem = f'host="{escape(host.name)}"'
    for stack in sorted(host.stacks, key=lambda each: each.name):
        name = f'{stem},stack="{escape(stack.name)}"'
        state = StackState.UNKNOWN if row.is_offline else stack.state
        lines[f.STACK_INFO].append(f'{{{name},managed="{str(stack.is_managed).lower()}"}} 1')
        lines[f.STACK_STATE].append(f'{{{name},state="{state}"}} 1')
    for container in _one_of_each(host.containers):
        _add_container(lines, stem, container, is_offline=row.is_offline)
    return host.id, [
        "".join(f"{family.name}{line}\n" for line in lines[family]).encode() for family in FAMILIES
    ]


def _add_host(lines: Mapping[Family, list[str]], row: HostRow) -> None:
    host = row.host
    status = HostStatus.DEGRADED if host.is_degraded else HostStatus.ONLINE
    if row.is_offline:
        status = HostStatus.OFFLINE
    named = sorted(host_label_names(host.labels).items(), key=itemgetter(1))
    labels = {"host": host.name} | {name: host.labels[label] for name, label in named}
    name = f'host="{escape(host.name)}"'
    lines[f.HOST_UP].append(f"{{{name}}} {int(not row.is_offline)}")
    lines[f.HOST_STATUS].append(f'{{{name},status="{status}"}} 1')
    lines[f.HOST_LABELS].append(label_text(list(labels), list(labels.values())) + " 1")
    # 0 is what an agent says that can't read it.
    if host.cpus:
        lines[f.HOST_CPUS].append(f"{{{name}}} {host.cpus}")
    if host.memory_bytes:
        lines[f.HOST_MEMORY].append(f"{{{name}}} {host.memory_bytes}")


def _one_of_each(containers: Iterable[ContainerObject]) -> Iterable[ContainerObject]:
    """In the order of their names; of those with the same labels the one made last.

    Docker gives a name only once, but containers that are renamed while an agent reads may seem to have the same one,
    and a series that is there twice costs the whole scrape.
    """
    chosen = {
        (each.name, each.stack, each.service): each
        for each in sorted(containers, key=lambda each: (each.created_at or _LONG_AGO, each.id))
    }
    return (chosen[key] for key in sorted(chosen))


def _add_container(
    lines: Mapping[Family, list[str]], host: str, container: ContainerObject, *, is_offline: bool
) -> None:
    name = (
        f'{{{host},stack="{escape(container.stack)}",service="{escape(container.service)}"'
        f',container="{escape(container.name)}"'
    )
    state = ContainerState.UNKNOWN if is_offline else container.state
    lines[f.CONTAINER_INFO].append(
        f'{name},id="{escape(container.id)}",image="{escape(container.image)}"'
        f',image_digest="{escape(container.image_digest)}"}} 1'
    )
    lines[f.CONTAINER_STATE].append(f'{name},state="{state}"}} 1')
    if container.health and state in _UP:
        lines[f.CONTAINER_HEALTH].append(f'{name},health="{container.health}"}} 1')
    if container.started_at is not None:
        lines[f.CONTAINER_START_TIME].append(f"{name}}} {number(container.started_at.timestamp())}")
    # One that was only made has no exit code, unless Docker tried to start it.
    if state in _ENDED or (state == ContainerState.CREATED and container.exit_code):
        lines[f.CONTAINER_LAST_EXIT_CODE].append(f"{name}}} {container.exit_code}")
    lines[f.CONTAINER_RESTARTS].append(f"{name}}} {container.restarts}")
    lines[f.CONTAINER_EXITS].append(f'{name},result="success"}} {container.successes}')
    lines[f.CONTAINER_EXITS].append(f'{name},result="error"}} {container.errors}')
    lines[f.CONTAINER_OOM_KILLS].append(f"{name}}} {container.oom_kills}")
