"""From a query string to the filters of the audit log; the API and the page read it alike."""

from collections.abc import Callable
from typing import Any

from django.http import QueryDict

from dockmesh.audit.actions import ACTOR_KINDS, TARGET_KINDS, Action
from dockmesh.audit.selectors import Filters
from dockmesh.core import strictjson
from dockmesh.core.api import number_of_page
from dockmesh.core.datetimes import read_datetime
from dockmesh.core.errors import InvalidInput
from dockmesh.core.text import whole_number

TEXTS = ("actor", "actor_kind", "actor_id", "target", "target_kind", "target_id")
NAMES = ("action", *TEXTS, "since", "until")
PLACES = ("before", "after")


def filters_of(params: QueryDict) -> Filters:
    """Raises `InvalidInput` for a value that is none. `action` may be given several times."""
    known = {action.value for action in Action}
    actions = tuple(text for text in params.getlist("action") if text)
    for text in actions:
        if text not in known:
            raise InvalidInput("action", "has no such action.")
    texts: dict[str, Any] = {}
    for name in TEXTS:
        texts[name] = params.get(name, "").strip()
        strictjson.check_values(texts[name], path=name, allow_line_ends=False)
    for name, kinds in (("actor_kind", ACTOR_KINDS), ("target_kind", TARGET_KINDS)):
        if texts[name] and texts[name] not in kinds:
            raise InvalidInput(name, f"must be one of {', '.join(kinds)}.")
    return Filters(
        actions=actions,
        since=_optional(params, "since", read_datetime),
        until=_optional(params, "until", read_datetime),
        **texts,
    )


def place(params: QueryDict, name: str) -> int | None:
    """A place in the chain: a whole number; None where it isn't given."""
    found: int | None = _optional(params, name, _place)
    return found


def page_number(params: QueryDict) -> int | None:
    """The page counted from the newest entry; None where it isn't given. Not together with a place."""
    if "page" not in params:
        return None
    if any(params.get(name) for name in PLACES):
        raise InvalidInput("page", f"can't be given together with {' or '.join(PLACES)}.")
    return number_of_page(params)


def _optional(params: QueryDict, name: str, read: Callable[[str, str], Any]) -> Any:
    text = params.get(name, "")
    return read(name, text) if text else None


def _place(name: str, text: str) -> int:
    return whole_number(name, text, least=0, most=2**63 - 1)
