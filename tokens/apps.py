"""The tokens room."""

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TokensConfig(AppConfig):
    """Users, API tokens, roles and permissions: who may what."""

    name = "tokens"

    def ready(self) -> None:
        """The built-in roles are there after every migration, and again after a test emptied the tables."""
        post_migrate.connect(_make_built_in_roles, sender=self, dispatch_uid="built-in roles")


def _make_built_in_roles(**_: Any) -> None:
    from tokens.services import make_built_in_roles

    make_built_in_roles()
