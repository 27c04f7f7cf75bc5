"""How other rooms' endpoints name a host."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from dockmesh.fleet.models import Host


@extend_schema_field(
    {
        "oneOf": [{"type": "integer"}, {"type": "string"}],
        "description": "The host's id (a number) or its name (a text).",
    }
)
class HostReference(serializers.Field[int, Any, Any, Any]):
    """A host in a request's body: its id as a number, or its name as a text. Validates to its id."""

    default_error_messages = {"unknown": "There is no such host.", "kind": "Must be a host's id or name."}

    def to_internal_value(self, data: Any) -> int:
        """The host's id."""
        if isinstance(data, bool) or not isinstance(data, int | str):
            self.fail("kind")
        found = Host.objects.filter(**({"pk": data} if isinstance(data, int) else {"name": data}))
        pk = found.values_list("pk", flat=True).first()
        if pk is None:
            self.fail("unknown")
        return pk


class ReferenceSerializer(serializers.Serializer[Any]):
    """An object by its id and name, within another's answer."""

    id = serializers.IntegerField()
    name = serializers.CharField()
