"""What all endpoints share."""

from typing import Any

import pytest
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from dockmesh.core.api import StrictSerializer, problem_response


class Shape(StrictSerializer):
    """A body with one field."""

    name = serializers.CharField()


def test_a_field_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(ValidationError) as caught:
        Shape(data={"name": "a", "nmae": "b"}).is_valid(raise_exception=True)
    assert caught.value.detail == {"nmae": ["is no field here."]}


def test_known_fields_pass() -> None:
    shape = Shape(data={"name": "a"})
    shape.is_valid(raise_exception=True)
    assert shape.validated_data == {"name": "a"}


def test_nested_fields_are_named_by_their_path() -> None:
    detail: dict[str, Any] = {
        "a": ["is wrong."],
        "b": [{}, {"c": ["is wrong."]}],
        "d": {"e": {"f": ["one.", "two."]}},
        "g": {0: ["x."]},
    }
    answer = problem_response(ValidationError(detail), {})
    assert answer is not None
    assert answer.data["errors"] == {
        "a": ["is wrong."],
        "b[1].c": ["is wrong."],
        "d.e.f": ["one.", "two."],
        "g[0]": ["x."],
    }
    whole = problem_response(ValidationError("is wrong."), {})
    assert whole is not None
    assert whole.data["errors"] == {"body": ["is wrong."]}
