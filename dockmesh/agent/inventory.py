"""The containers of one Engine, as its list and its inspections tell them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dockmesh.agent.document import JSON, MAX_CONTAINERS, container, ordered
from dockmesh.agent.engine import Engine, EngineError
from dockmesh.agent.inspection import GONE, Inspector, Outcome
from dockmesh.agent.listing import Mark, is_infra, mark, told
from dockmesh.agent.tally import Tally

Item = Mapping[str, Any]


class TooManyContainers(Exception):
    def __init__(self, count: int) -> None:
        super().__init__(f"{count} containers on this host; at most {MAX_CONTAINERS} can be reported")


@dataclass(frozen=True)
class _Known:
    """A container as it was told last; None for one that is nobody's (`is_infra`) or that was gone."""

    document: JSON | None
    mark: Mark
    is_whole: bool
    """By an inspection, and not by the list alone."""


class Inventory:
    """Inspects only those containers that an event named, that the list shows changed, or that it must anew."""

    def __init__(self, engine: Engine, inspector: Inspector, tally: Tally) -> None:
        self._engine = engine
        self._tally = tally
        self._inspector = inspector
        self._known: dict[str, _Known] = {}

    def read(self, *, changed: Collection[str] | None) -> tuple[JSON, ...]:
        """All containers. `changed` are the ids to inspect again, None for all; with none, what has begun lately is
        looked at again, since no event tells of it.

        Raises TooManyContainers, and one of FAILURES where there is no list.
        """
        self._tally.begin()
        items = self._list()
        marks = {identity: mark(item) for identity, item in items.items()}
        wanted = [each for each in items if self._is_wanted(each, marks[each], changed)]
        outcomes = self._inspector.inspect(wanted)
        self._inspector.forget_others(items)
        known = {identity: self._known[identity] for identity in items if identity in self._known}
        for identity in wanted:
            known[identity] = self._learn(items[identity], marks[identity], outcomes.get(identity))
        self._known = known
        whole = [identity for identity, each in known.items() if each.is_whole and each.document is not None]
        documents = ordered(each.document for each in known.values() if each.document is not None)
        return self._tally.count(documents, whole)

    def _list(self) -> dict[str, Item]:
        answer = self._engine.get("/containers/json", all="1")
        if not isinstance(answer, list):
            raise EngineError("/containers/json", 200, "the answer is not a list")
        items = {
            item["Id"]: item
            for item in answer
            if isinstance(item, Mapping)
            and isinstance(item.get("Id"), str)
            and item["Id"]
            and not is_infra(item.get("Names"), item.get("Image"), item.get("Labels"))
        }
        if len(items) > MAX_CONTAINERS:
            raise TooManyContainers(len(items))
        return items

    def _is_wanted(self, identity: str, now: Mark, changed: Collection[str] | None) -> bool:
        known = self._known.get(identity)
        if changed is None or known is None or not known.is_whole or identity in changed:
            return True
        return now.is_newer_than(known.mark) or (not changed and now.is_fresh)

    def _learn(self, item: Item, now: Mark, outcome: Outcome) -> _Known:
        last = self._known.get(item["Id"])
        if outcome == GONE and (last is None or last.is_whole):
            # Removed since it was listed. If it is listed once more the list is right.
            return _Known(None, now, is_whole=False)
        if isinstance(outcome, Mapping):
            if outcome.get("IsInfra") is True:
                return _Known(None, now, is_whole=True)
            names = {"Name": outcome.get("Name") or told(item, None)["name"]}
            return _Known(container({**outcome, **names, "Id": item["Id"]}), now, is_whole=True)
        return _Known(told(item, last.document if last is not None else None), now, is_whole=False)
