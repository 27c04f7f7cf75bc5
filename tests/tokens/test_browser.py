"""The pages of tokens, roles, audit and the API's description in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import expect

from dockmesh.audit.models import AuditEntry
from tests.integration.browser import Visit, check_page
from tests.tokens.support import role_with, token_with, user_with
from tokens import bearer
from tokens.models import User
from tokens.permissions import Permission

pytestmark = pytest.mark.browser

TOKEN = re.compile(r"dmt_[0-9A-Za-z]{12}_[0-9A-Za-z]{40}_[0-9A-Za-z]{6}")


def administrator() -> User:
    return user_with(*Permission)


def test_pages_have_no_faults_in_light_and_dark_on_a_desk_and_a_phone(visit: Visit) -> None:
    user = administrator()
    page = visit("/settings/tokens/", user=user)
    check_page(page)
    token, _ = token_with("metrics.read", allowed_cidrs=["10.0.0.0/8"], name="a-rather-long-name-" * 5)
    role = role_with(*Permission, name="everything")
    page.goto("/settings/tokens/new/")
    page.get_by_label("Role", exact=True).select_option("new")
    check_page(page)
    page.get_by_role("button", name="Create token").click()
    check_page(page)
    for path in (
        "/settings/tokens/",
        "/settings/tokens/?q=nonsense",
        f"/settings/tokens/{token.pk}/",
        f"/settings/tokens/{token.pk}/edit/",
        f"/settings/tokens/{token.pk}/revoke/",
        f"/settings/tokens/{token.pk}/rotate/",
        "/settings/roles/",
        "/settings/roles/new/",
        f"/settings/roles/{role.pk}/",
        f"/settings/roles/{role.pk}/edit/",
    ):
        page.goto(path)
        check_page(page)
    page.goto(f"/settings/tokens/{token.pk}/rotate/")
    page.get_by_role("button", name="Rotate token").click()
    expect(page.get_by_role("heading", name="Token rotated")).to_be_visible()
    check_page(page)
    entry = AuditEntry.objects.latest("sequence")
    for path in (
        "/audit/",
        "/audit/?actor=nobody",
        f"/audit/{entry.sequence}/",
        "/api/v1/docs",
        "/api/v1/docs/tokens",
    ):
        page.goto(path)
        check_page(page)


@pytest.mark.parametrize("has_javascript", [True, False])
def test_the_page_s_four_steps_make_a_scraper_s_token(visit: Visit, has_javascript: bool) -> None:
    page = visit("/", user=administrator(), has_javascript=has_javascript)
    page.get_by_role("link", name="API tokens").click()
    page.get_by_role("link", name="New token").first.click()
    page.get_by_label("Name", exact=True).fill("prometheus-scraper")
    choice = page.get_by_role("checkbox", name=re.compile(r"^metrics\.read"))
    if has_javascript:
        expect(choice).to_be_hidden()
    page.get_by_label("Role", exact=True).select_option("New custom role")
    choice.check()
    page.get_by_role("button", name="Create token").click()
    expect(page.get_by_role("heading", name="Token made")).to_be_visible()
    shown = TOKEN.findall(page.inner_text("main"))
    text = shown[0]
    assert bearer.authenticate(f"Bearer {text}", address="127.0.0.1").permissions == {"metrics.read"}
    if has_javascript:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_title("Copy token").click()
        assert page.evaluate("navigator.clipboard.readText()") == text
    else:
        expect(page.get_by_title("Copy token")).to_be_hidden()
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_role("link", name="prometheus-scraper")).to_be_visible()
    assert text not in page.content()
    # The browser kept nothing: to go back it would have to send the form again.
    with pytest.raises(PlaywrightError, match="ERR_CACHE_MISS"):
        page.go_back()
