"""The shape of the audit log in the REST API."""

from typing import Any

from rest_framework import serializers

from dockmesh.audit.models import AuditEntry
from dockmesh.audit.selectors import as_json


class PartySerializer(serializers.Serializer[Any]):
    """An actor or a target."""

    kind = serializers.CharField()
    id = serializers.CharField()
    name = serializers.CharField()


class EntrySerializer(serializers.Serializer[Any]):
    """One thing that happened; `id` is its place in the chain."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = PartySerializer()
    action = serializers.CharField()
    target = PartySerializer()
    address = serializers.CharField(help_text="Where the actor's request came from; empty for the system.")
    changes = serializers.DictField(help_text="What changed; a pair is [before, after].")
    previous_hash = serializers.CharField()
    entry_hash = serializers.CharField()

    def to_representation(self, instance: AuditEntry) -> dict[str, Any]:
        """As in the export."""
        return as_json(instance)
