"""The lines of each host, of its stacks and of its containers; kept until anything of the host changes.

No database here: ``objects.py`` reads the rows, this file turns them into fragments.
"""

import math
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from operator import itemgetter
from typing import Protocol, TypeVar

from dockmesh.fleet.selectors.objects import HostObject
from dockmesh.fleet.states import ContainerState, host_status, shown_state
from metrics import families as f
from metrics.collectors.base import Found
from metrics.exposition import Family, TextStore, escape, label_text

# A host of a hundred containers has some 15 kB in each family of containers.
_GROUP_BITS = 1

_ENDED = frozenset(
    {ContainerState.EXITED, ContainerState.DEAD, ContainerState.RESTARTING, ContainerState.REMOVING}
)
_UP = frozenset({ContainerState.RUNNING, ContainerState.PAUSED})
_ILLEGAL = re.compile("[^a-zA-Z0-9_]")
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
    f.CONTAINER_ONEOFF,
    f.IMAGE_UPDATE,
    f.IMAGE_LAST_CHECK,
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
    stem = f'{{host="{escape(host.name)}"'
    lines = {
        **_host_lines(row, stem),
        **_stack_lines(row, stem),
        **_container_lines(row, stem),
        **_image_lines(row, stem),
    }
    return host.id, [_text(family.name, lines[family]) for family in FAMILIES]


def _text(name: str, lines: Sequence[str]) -> bytes:
    """The lines of one family; each is given without its name and its end."""
    return (name + f"\n{name}".join(lines) + "\n").encode() if lines else b""


Lines = Mapping[Family, Sequence[str]]


def _host_lines(row: HostRow, stem: str) -> Lines:
    host = row.host
    status = host_status(is_offline=row.is_offline, is_degraded=host.is_degraded)
    named = sorted(host_label_names(host.labels).items(), key=itemgetter(1))
    labels = {"host": host.name} | {name: host.labels[label] for name, label in named}
    return {
        f.HOST_UP: [f"{stem}}} {int(not row.is_offline)}"],
        f.HOST_STATUS: [f'{stem},status="{status}"}} 1'],
        f.HOST_LABELS: [label_text(list(labels), list(labels.values())) + " 1"],
        # 0 is what an agent says that can't read it.
        f.HOST_CPUS: [f"{stem}}} {host.cpus}"] if host.cpus else [],
        f.HOST_MEMORY: [f"{stem}}} {host.memory_bytes}"] if host.memory_bytes else [],
    }


def _stack_lines(row: HostRow, stem: str) -> Lines:
    info, states = [], []
    for stack in sorted(row.host.stacks):
        name = f'{stem},stack="{escape(stack.name)}"'
        state = shown_state(stack.state, is_offline=row.is_offline)
        info.append(f'{name},managed="{str(stack.is_managed).lower()}"}} 1')
        states.append(f'{name},state="{state}"}} 1')
    return {f.STACK_INFO: info, f.STACK_STATE: states}


def _container_lines(row: HostRow, stem: str) -> Lines:
    """Plain loops: at the first scrape of a large fleet these are a million lines."""
    info, states, health, starts, codes = [], [], [], [], []
    restarts, exits, oom_kills, oneoffs = [], [], [], []
    escaped = Escaped()  # stacks, services and images come again and again
    for each in one_of_each(row.host.containers):
        name = (
            f'{stem},stack="{escaped[each.stack]}",service="{escaped[each.service]}"'
            f',container="{escape(each.name)}"'
        )
        state = shown_state(each.state, is_offline=row.is_offline)
        info.append(
            f'{name},id="{escape(each.id)}",image="{escaped[each.image]}"'
            f',image_digest="{escaped[each.image_digest]}"}} 1'
        )
        states.append(f'{name},state="{state}"}} 1')
        if each.health and state in _UP:
            health.append(f'{name},health="{each.health}"}} 1')
        if each.started_milliseconds is not None:
            starts.append(f"{name}}} {each.started_milliseconds / 1000!r}")
        # One that was only made has no exit code, unless Docker tried to start it.
        if state in _ENDED or (each.exit_code and state == ContainerState.CREATED):
            codes.append(f"{name}}} {each.exit_code}")
        restarts.append(f"{name}}} {each.restarts}")
        exits.append(f'{name},result="success"}} {each.successes}')
        exits.append(f'{name},result="error"}} {each.errors}')
        oom_kills.append(f"{name}}} {each.oom_kills}")
        if each.is_oneoff:
            oneoffs.append(f"{name}}} 1")
    return {
        f.CONTAINER_INFO: info,
        f.CONTAINER_STATE: states,
        f.CONTAINER_HEALTH: health,
        f.CONTAINER_START_TIME: starts,
        f.CONTAINER_LAST_EXIT_CODE: codes,
        f.CONTAINER_RESTARTS: restarts,
        f.CONTAINER_EXITS: exits,
        f.CONTAINER_OOM_KILLS: oom_kills,
        f.CONTAINER_ONEOFF: oneoffs,
    }


def _image_lines(row: HostRow, stem: str) -> Lines:
    """Nothing of a host that is offline: what it runs is not known."""
    updates, checks = [], []
    for each in () if row.is_offline else sorted(row.host.images):
        name = f'{stem},image="{escape(each.image)}"}}'
        if each.is_update_available is not None:
            updates.append(f"{name} {int(each.is_update_available)}")
        checks.append(f"{name} {each.checked_milliseconds / 1000!r}")
    return {f.IMAGE_UPDATE: updates, f.IMAGE_LAST_CHECK: checks}


class Escaped(dict[str, str]):
    """Label values as they stand between quotes, each escaped once."""

    def __missing__(self, value: str) -> str:
        text = self[value] = escape(value)
        return text


class Nameable(Protocol):
    """A container, as far as it matters which series it has."""

    @property
    def id(self) -> str: ...
    @property
    def stack(self) -> str: ...
    @property
    def service(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def created_milliseconds(self) -> int | None: ...


C = TypeVar("C", bound=Nameable)


def one_of_each(containers: Iterable[C]) -> Iterable[C]:
    """In the order of their names; of those with the same labels the one made last.

    Docker gives a name only once, but containers that are renamed while an agent reads may seem to have the same one,
    and a series that is there twice costs the whole scrape.
    """
    chosen: dict[tuple[str, str, str], C] = {}
    for each in containers:
        known = chosen.setdefault((each.name, each.stack, each.service), each)
        if known is not each and _age(each) > _age(known):
            chosen[each.name, each.stack, each.service] = each
    return [chosen[key] for key in sorted(chosen)]


def _age(container: Nameable) -> tuple[float, str]:
    made = container.created_milliseconds
    return -math.inf if made is None else made, container.id
