"""Groups of families: what a scrape may ask for by `collect[]` and leave out by `exclude[]`."""

from collections.abc import Collection, Iterable
from enum import StrEnum

_SHOWN_CHARACTERS = 64


class Group(StrEnum):
    """Every family belongs to one."""

    FLEET = "fleet"
    OBJECTS = "objects"
    USAGE = "usage"
    SERVER = "server"


Groups = frozenset[Group]

ALL: Groups = frozenset(Group)
_NAMES = frozenset(map(str, Group))

# What each is, for who chooses.
DESCRIPTIONS = {
    Group.FLEET: "Hosts, stacks and containers by number and state, deploys, backups, alerts, audit, API.",
    Group.OBJECTS: "Each host, stack, container, backup job, rule and channel by its name.",
    Group.USAGE: "What containers and hosts use of processor, memory, network and disk.",
    Group.SERVER: "dockmesh itself: heartbeats, commands, periodic tasks, scheduler, database, its process.",
}


class UnknownGroup(ValueError):
    """Somebody asks for a group that there is not; `parameter` is where."""

    def __init__(self, parameter: str, name: str) -> None:
        known = ", ".join(Group)
        super().__init__(f"{name[:_SHOWN_CHARACTERS]!r} is no group of metrics; the groups are {known}.")
        self.parameter = parameter


def chosen(collect: Collection[str], exclude: Iterable[str]) -> Groups:
    """The groups of a scrape: those to collect, or all if none is named, without those to exclude.

    Raises `UnknownGroup`.
    """
    wanted = _known("collect[]", collect) if collect else ALL
    return wanted - _known("exclude[]", exclude)


def _known(parameter: str, names: Iterable[str]) -> Groups:
    for name in names:
        if name not in _NAMES:
            raise UnknownGroup(parameter, name)
    return frozenset(map(Group, names))
