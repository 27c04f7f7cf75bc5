"""What drf-spectacular can't see by itself: how requests authenticate, which permission they need, errors."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import get_doc
from rest_framework import serializers

from dockmesh.core.api import StrictSerializer
from dockmesh.core.problems import CONTENT_TYPE
from dockmesh.core.viewsets import Operation, ServiceViewSet
from tokens.authentication import required_permissions


class ProblemSerializer(serializers.Serializer[Any]):
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

    @property
    def _told(self) -> Operation | None:
        """What the operation declares, where it is one of a `ServiceViewSet`."""
        return self.view.declared(self.view.action) if isinstance(self.view, ServiceViewSet) else None

    def get_operation_id(self) -> str:
        """`backup_jobs_run`."""
        if isinstance(self.view, ServiceViewSet):
            return self.view.operation_id
        return super().get_operation_id()

    def get_summary(self) -> str | None:
        """Some words."""
        return self.view.summary if isinstance(self.view, ServiceViewSet) else super().get_summary()

    def get_description(self) -> str:  # type: ignore[override]
        """The docstring and the permission. What is read in the common way is told of by the class, or the serializer."""
        method, text = getattr(type(self.view), getattr(self.view, "action", ""), None), ""
        if method is ServiceViewSet.list:
            text = get_doc(type(self.view))
        elif method is ServiceViewSet.read:
            text = get_doc(type(self.get_response_serializers()))
        text = text or super().get_description()
        needed = " or ".join(f"`{each.value}`" for each in required_permissions(self.view, self.method))
        return f"{text}\n\nNeeds the permission {needed}." if needed else text

    def get_request_serializer(self) -> Any:
        """The body that is declared; one without fields is none."""
        if self._told is None:
            return super().get_request_serializer()
        return None if self._told.body is StrictSerializer else self._told.body

    def get_response_serializers(self) -> Any:
        """The answer that is declared."""
        if (told := self._told) is None:
            return super().get_response_serializers()
        shape: Any = told.answer or type(super().get_response_serializers())
        return {told.status: None if told.status == 204 else shape(many=told.many)}

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> dict[str, Any]:
        shape: dict[str, Any] = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        if isinstance(serializer, StrictSerializer):
            shape["additionalProperties"] = False
        return shape

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        answers: dict[str, Any] = super()._get_response_bodies(direction)
        answers["default"] = self._get_response_for_code(  # type: ignore[no-untyped-call]
            ProblemSerializer, "default", media_types=[CONTENT_TYPE], direction=direction
        )
        return answers
