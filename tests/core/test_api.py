"""What all endpoints share."""

import pytest
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from dockmesh.core.api import StrictSerializer


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
