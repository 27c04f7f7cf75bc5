"""The web room's pages in a real Chromium."""

from __future__ import annotations

import pytest

from dockmesh.web.services import setup_link
from tests.integration.browser import DESKTOP, PHONE, Visit, check_page
from tokens.models import Role, User

pytestmark = pytest.mark.browser

LOOKS = [(width, theme) for width in (DESKTOP, PHONE) for theme in ("light", "dark")]


def administrator() -> User:
    return User.objects.create(username="ada", is_superuser=True, role=Role.objects.get(name="admin"))


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_pages_have_no_faults_in_light_and_dark_on_a_desk_and_a_phone(
    visit: Visit, width: int, theme: str
) -> None:
    link = setup_link("")
    assert link is not None
    check_page(visit(link, width=width, theme=theme))
    check_page(visit("/sign-in/", width=width, theme=theme))
    check_page(visit("/nope", width=width, theme=theme))
    user = administrator()
    for path in ("/", "/password/", "/nope"):
        check_page(visit(path, user=user, width=width, theme=theme))
