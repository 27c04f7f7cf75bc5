"""What holds the house together: the skeleton starts, and its built-in roles are there."""

import pytest
from django.core.management import call_command

from tokens.models import Role
from tokens.permissions import ALL


def test_system_checks_find_nothing() -> None:
    call_command("check", fail_level="WARNING")


@pytest.mark.django_db
def test_built_in_roles_are_there_after_migrating() -> None:
    assert set(Role.objects.filter(is_builtin=True).values_list("name", flat=True)) == {
        "admin",
        "operator",
        "viewer",
    }
    assert set(Role.objects.get(name="admin").permissions) == set(ALL)
