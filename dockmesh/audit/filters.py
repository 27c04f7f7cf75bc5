"""From a query string to the filters of the audit log; the API and the page read it alike."""

from collections.abc import Callable
from typing import Any

from django.http import QueryDict

from dockmesh.audit.actions import Action
from dockmesh.audit.selectors import Filters
from dockmesh.core import strictjson
from dockmesh.core.errors import InvalidInput
from dockmesh.core.moments import parse_moment

TEXTS = ("actor", "actor_kind", "actor_id", "target", "target_kind", "target_id")
NAMES = ("action", *TEXTS, "since", "until")
PLACES = ("before", "after")
MAX_PAGE_SIZE = 500
PAGE_SIZE = 50


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
    return Filters(
        actions=actions,
        since=_optional(params, "since", parse_moment),
        until=_optional(params, "until", parse_moment),
        **texts,
    )


def place(params: QueryDict, name: str) -> int | None:
    """A place in the chain: a whole number; None where it isn't given."""
    found: int | None = _optional(params, name, _whole)
    return found


def page_size(params: QueryDict) -> int:
    """Entries a page: 50, at most 500."""
    return min(_optional(params, "page_size", _whole) or PAGE_SIZE, MAX_PAGE_SIZE)


def refuse_unknown(params: QueryDict, *more: str) -> None:
    """Raises `InvalidInput` for a parameter that nobody knows."""
    for name in params:
        if name not in (*NAMES, *more):
            raise InvalidInput(name, f"is no filter here; there are: {', '.join(NAMES)}.")


def _optional(params: QueryDict, name: str, read: Callable[[str, str], Any]) -> Any:
    text = params.get(name, "")
    return read(name, text) if text else None


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidInput(name, "must be a whole number.")
    return int(text)
