"""The filters of the audit log, and the places between which a page of it lies; the API and the page read them alike."""

from django.db.models import QuerySet
from django.http import QueryDict

from dockmesh.audit import selectors
from dockmesh.audit.actions import ACTOR_KINDS, TARGET_KINDS, Action
from dockmesh.core.api import number_of_page
from dockmesh.core.datetimes import read_datetime
from dockmesh.core.errors import InvalidInput
from dockmesh.core.filters import FilterSet, M, TextFilter
from dockmesh.core.text import whole_number

PLACES = ("before", "after")


class DatetimeFilter(TextFilter):
    """A datetime; empty as the form on the page sends it."""

    schema = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "maxLength": 0}]}


class EntryFilter(FilterSet):
    """Filters of the audit log; a blank one counts as not given."""

    action = TextFilter(choices=[action.value for action in Action], is_list=True)
    actor = TextFilter("actor_name", help_text="The actor's name.")
    actor_kind = TextFilter(choices=ACTOR_KINDS)
    actor_id = TextFilter()
    target = TextFilter("target_name", help_text="The target's name.")
    target_kind = TextFilter(choices=TARGET_KINDS)
    target_id = TextFilter()
    since = DatetimeFilter(
        condition=lambda text: selectors.is_since(read_datetime("since", text)),
        help_text="That moment or later.",
    )
    until = DatetimeFilter(
        condition=lambda text: selectors.is_until(read_datetime("until", text)),
        help_text="Before that moment.",
    )

    @classmethod
    def given(cls, params: QueryDict) -> QueryDict:
        """Those that are, without what is around them."""
        given = QueryDict(mutable=True)
        for name in cls.base_filters:
            texts = [text.strip() for text in params.getlist(name) if text.strip()]
            if texts:
                given.setlist(name, texts)
        return given

    @classmethod
    def narrowed(cls, rows: QuerySet[M], params: QueryDict) -> QuerySet[M]:
        """The entries that match those that are given; raises `InvalidInput`."""
        return super().narrowed(rows, cls.given(params))


def place(params: QueryDict, name: str) -> int | None:
    """A place in the chain: a whole number; None where it isn't given."""
    text = params.get(name, "")
    return whole_number(name, text, least=0, most=2**63 - 1) if text else None


def page_number(params: QueryDict) -> int | None:
    """The page counted from the newest entry; None where it isn't given. Not together with a place."""
    if "page" not in params:
        return None
    if any(params.get(name) for name in PLACES):
        raise InvalidInput("page", f"can't be given together with {' or '.join(PLACES)}.")
    return number_of_page(params)
