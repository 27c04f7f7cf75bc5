"""The shapes of tokens and roles in the REST API. What they may hold is checked by the services."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from dockmesh.core import clock
from dockmesh.core.api import Flag, StrictSerializer, Text, Whole
from tokens.models import ApiToken, Role, TokenState
from tokens.permissions import Permission


@extend_schema_field(
    {"oneOf": [{"type": "string"}, {"type": "integer"}], "description": "Its name or its id."}
)
class RoleReference(serializers.Field[Any, Any, Any, Any]):
    """A role by its name or its id; the services look it up."""

    def to_internal_value(self, data: Any) -> Any:
        """As it is."""
        return data


class TokenCreateSerializer(StrictSerializer):
    """A token to be made."""

    name = Text(max_length=200, help_text="What the token is for; no two live tokens share a name.")
    role = RoleReference(help_text="What the token may do.")
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="From then on it is refused; null or absent: never."
    )
    allowed_cidrs = serializers.ListField(
        child=Text(),
        required=False,
        allow_null=True,
        help_text="Networks that it may be used from; an empty list: from everywhere.",
    )


class TokenChangeSerializer(StrictSerializer):
    """What of a token can be changed; what is left out stays."""

    name = Text(max_length=200, required=False)
    role = RoleReference(required=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    allowed_cidrs = serializers.ListField(child=Text(), required=False, allow_null=True)
    is_enabled = Flag(required=False)


class RotateSerializer(StrictSerializer):
    """How a token is rotated."""

    overlap_seconds = Whole(
        required=False,
        default=0,
        help_text="How long the old secret stays valid, at most 30 days; 0: not at all.",
    )


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    """A token without its secret."""

    id = serializers.IntegerField(read_only=True)
    prefix = serializers.SerializerMethodField(help_text="How the token's text begins.")
    role = serializers.CharField(source="role.name", read_only=True)
    role_id = serializers.IntegerField(read_only=True)
    permissions = serializers.ListField(
        child=serializers.CharField(), source="role.permissions", read_only=True
    )
    state = serializers.SerializerMethodField()
    allowed_cidrs = serializers.ListField(child=serializers.CharField(), read_only=True)
    previous_valid_until = serializers.DateTimeField(
        read_only=True,
        allow_null=True,
        help_text="Until then the secret before the last rotation is valid too.",
    )

    class Meta:
        model = ApiToken
        fields = (
            "id",
            "name",
            "prefix",
            "role",
            "role_id",
            "permissions",
            "state",
            "is_enabled",
            "expires_at",
            "allowed_cidrs",
            "created_at",
            "created_by",
            "rotated_at",
            "previous_valid_until",
            "revoked_at",
            "last_used_at",
            "last_used_address",
            "last_used_user_agent",
        )
        read_only_fields = fields

    def get_prefix(self, token: ApiToken) -> str:
        """`dmt_` and the id."""
        return token.prefix

    @extend_schema_field(serializers.ChoiceField(choices=TokenState.values))
    def get_state(self, token: ApiToken) -> str:
        """Whether it works, and if not, why."""
        return token.state_at(clock.now()).value


class IssuedMixin(serializers.Serializer[Any]):
    """For the one answer that has a token's text: shows a pair of `token` and `text`."""

    token = serializers.SerializerMethodField(help_text="The whole token, shown this once.")

    def to_representation(self, instance: Any) -> Any:
        """The token's own fields, and its text."""
        self._text = instance.text
        return super().to_representation(instance.token)

    def get_token(self, token: Any) -> str:
        """It is stored nowhere."""
        return str(self._text)


class TokenIssuedSerializer(IssuedMixin, TokenSerializer):
    """A token that was just made or rotated, with its text: it is never shown again."""

    class Meta(TokenSerializer.Meta):
        fields = (*TokenSerializer.Meta.fields, "token")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]


@extend_schema_field({"type": "array", "items": {"type": "string", "enum": [p.value for p in Permission]}})
class PermissionList(serializers.ListField):
    """Names of permissions."""


class RoleCreateSerializer(StrictSerializer):
    """A role to be made."""

    name = Text(max_length=200)
    description = Text(required=False, allow_blank=True, max_length=500)
    permissions = PermissionList(child=Text(), help_text="Any set; nobody hands out what they don't hold.")


class RoleChangeSerializer(StrictSerializer):
    """What of a role can be changed; what is left out stays."""

    name = Text(max_length=200, required=False)
    description = Text(required=False, allow_blank=True, max_length=500)
    permissions = PermissionList(child=Text(), required=False)


class RoleSerializer(serializers.ModelSerializer[Role]):
    """A role."""

    id = serializers.IntegerField(read_only=True)
    permissions = PermissionList(child=serializers.CharField(), read_only=True)

    class Meta:
        model = Role
        fields = ("id", "name", "description", "permissions", "is_builtin", "created_at", "updated_at")
        read_only_fields = fields
