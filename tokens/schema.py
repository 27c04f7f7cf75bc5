"""What drf-spectacular can't see by itself: how requests authenticate, which permission they need, errors."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers

from dockmesh.core.api import StrictSerializer
from dockmesh.core.problems import CONTENT_TYPE
from tokens.authentication import required_permissions


class ProblemOutput(serializers.Serializer[Any]):
    """An error."""

    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="What is wrong, for a person to read.")
    errors = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="For bad fields: the field's name and what is wrong with it.",
    )


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """API tokens."""

    target_class = "tokens.authentication.BearerAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        """`Authorization: Bearer dmt_…`."""
        return {"type": "http", "scheme": "bearer", "description": "An API token, `dmt_…`."}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """A signed-in user's browser."""

    target_class = "tokens.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        """The session's cookie; writes need the CSRF token too."""
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


class Schema(AutoSchema):
    """Each operation says which permission it needs, and how it answers when something is wrong."""

    def get_description(self) -> str:  # type: ignore[override]
        """The docstring and the permission."""
        needed = " or ".join(f"`{each.value}`" for each in required_permissions(self.view, self.method))
        text = super().get_description()
        return f"{text}\n\nNeeds the permission {needed}." if needed else text

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> dict[str, Any]:
        shape: dict[str, Any] = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        if isinstance(serializer, StrictSerializer):
            shape["additionalProperties"] = False
        return shape

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        answers: dict[str, Any] = super()._get_response_bodies(direction)
        answers["default"] = self._get_response_for_code(  # type: ignore[no-untyped-call]
            ProblemOutput, "default", media_types=[CONTENT_TYPE], direction=direction
        )
        return answers
