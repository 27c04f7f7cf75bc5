"""The shape of the audit log in the REST API."""

from typing import Any

from rest_framework import serializers


class PartyOutput(serializers.Serializer[Any]):
    """An actor or a target."""

    kind = serializers.CharField()
    id = serializers.CharField()
    name = serializers.CharField()


class EntryOutput(serializers.Serializer[Any]):
    """One thing that happened; `id` is its place in the chain."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = PartyOutput()
    action = serializers.CharField()
    target = PartyOutput()
    address = serializers.CharField(help_text="Where the actor's request came from; empty for the system.")
    changes = serializers.DictField(help_text="What changed; a pair is [before, after].")
    previous_hash = serializers.CharField()
    entry_hash = serializers.CharField()


class EntryPageOutput(serializers.Serializer[Any]):
    """A page of the log, newest first."""

    count = serializers.IntegerField(allow_null=True, help_text="All entries; null where filters are given.")
    next = serializers.URLField(allow_null=True, help_text="The page of the entries just older.")
    previous = serializers.URLField(allow_null=True, help_text="The page of the entries just newer.")
    results = EntryOutput(many=True)
