"""Filters of a collection: declared once in a `FilterSet`, which narrows its list and makes its OpenAPI parameters."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import django_filters
from django.db.models import Model, Q, QuerySet
from django.http import QueryDict
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.drainage import set_override

from dockmesh.core import strictjson
from dockmesh.core.errors import InvalidInput
from dockmesh.core.strictjson import MAX_INTEGER
from dockmesh.env import digits

M = TypeVar("M", bound=Model)


class TextFilter(django_filters.Filter):
    """Rows with this value, or with any of the values where the parameter is given several times.

    `field_name` is what is compared (the parameter's name if left out), `choices` all values that there are,
    `condition` what to ask of a row instead; it may raise `InvalidInput`. In the schema it is one value, or a list.
    """

    schema: Mapping[str, Any] = {"type": "string"}
    # The parameter's name, and what is compared where that is left out: the filter set sets them.
    parameter: str
    field_name: str

    def __init__(
        self,
        field_name: str | None = None,
        *,
        choices: Sequence[str] = (),
        condition: Callable[[str], Q] | None = None,
        is_list: bool = False,
        help_text: str = "",
    ) -> None:
        super().__init__(field_name, label="")
        self._choices = [str(each) for each in choices]
        self._condition = condition
        schema = {**self.schema, **({"enum": self._choices} if choices else {})}
        if is_list:
            schema = {"type": "array", "items": schema}
        set_override(self, "field", {**schema, **({"description": help_text} if help_text else {})})

    def condition(self, value: str) -> Q:
        """What a row has to fulfil; raises `InvalidInput`."""
        if self._choices and value not in self._choices:
            raise InvalidInput(self.parameter, f"must be one of {', '.join(self._choices)}.")
        return self._condition(value) if self._condition else Q(**{self.field_name: value})

    def filter(self, qs: QuerySet[M], value: Sequence[str]) -> QuerySet[M]:
        """Those that match one of the values at least."""
        wanted = Q()
        for each in value:
            strictjson.check_values(each, path=self.parameter, allow_line_ends=False)
            wanted |= self.condition(each)
        return qs.filter(wanted)


class BooleanFilter(TextFilter):
    """`true` or `false`."""

    schema = {"type": "boolean"}
    WORDS = {"true": True, "1": True, "false": False, "0": False}

    def condition(self, value: str) -> Q:
        """The field is so."""
        if value.lower() not in self.WORDS:
            raise InvalidInput(self.parameter, "must be true or false.")
        return Q(**{self.field_name: self.WORDS[value.lower()]})


class ReferenceFilter(TextFilter):
    """Another object, by its id or its name."""

    def __init__(self, id_field: str, name_field: str, *, help_text: str) -> None:
        super().__init__(id_field, help_text=help_text)
        self._name_field = name_field

    def condition(self, value: str) -> Q:
        """Of this name; or of this id, if it can be one."""
        named = Q(**{self._name_field: value})
        number = digits(value, most=MAX_INTEGER)
        return named if number is None else named | Q(**{self.field_name: number})


class FilterSet(django_filters.FilterSet):
    """The filters of a collection: each attribute is one, its name the parameter's.

    They keep nothing of a request, so they are neither copied for each nor put through a form.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, each in cls.declared_filters.items():
            vars(each)["parameter"] = name

    @classmethod
    def narrowed(cls, rows: QuerySet[M], params: QueryDict) -> QuerySet[M]:
        """The rows that match the parameters that are given; raises `InvalidInput`."""
        for name, each in cls.base_filters.items():
            if values := params.getlist(name):
                rows = each.filter(rows, values)
        return rows


class Filters(DjangoFilterBackend):
    """Narrows a list by its view's `filterset_class`. What is no filter, or no value of one, is refused by its name."""

    def filter_queryset(self, request: Any, queryset: QuerySet[M], view: Any) -> QuerySet[M]:
        """The rows that match all parameters; raises `InvalidInput`."""
        filterset: Any = self.get_filterset_class(view, queryset)
        filters, paging = filterset.base_filters if filterset else (), view.pagination_class
        refuse_unknown(request.query_params, filters, *(paging.parameters if paging else ()))
        return filterset.narrowed(queryset, request.query_params) if filterset else queryset


def refuse_unknown(params: Mapping[str, str], filters: Iterable[str], *more: str) -> None:
    """Raises `InvalidInput` for a parameter that is neither a filter nor one of the others."""
    known = list(filters)
    for name in params:
        if name not in known and name not in (*more, "format"):
            raise InvalidInput(name, f"is no filter here; there are: {', '.join(known) or 'none'}.")
