"""The web room's pages in a real Chromium."""

from __future__ import annotations

import datetime

import pytest
from playwright.sync_api import expect

from dockmesh.core import clock
from dockmesh.fleet.models import HeartbeatState
from dockmesh.web.services import setup_link
from tests.fleetdata import make_fleet
from tests.integration.browser import PHONE, Visit, check_page, session_cookie
from tests.support import PATIENCE
from tokens.models import Role, User

pytestmark = pytest.mark.browser

PASSWORD = "correct-horse-battery"


def administrator() -> User:
    user = User(username="ada", is_superuser=True, role=Role.objects.get(name="admin"))
    user.set_password(PASSWORD)
    user.save()
    return user


def test_pages_have_no_faults_in_light_and_dark_on_a_desk_and_a_phone(visit: Visit) -> None:
    link = setup_link("")
    assert link is not None
    page = visit(link)
    for path in (link, "/sign-in/", "/nope"):
        page.goto(path)
        check_page(page)
    user = administrator()
    page = visit("/", user=user)
    check_page(page)
    make_fleet()
    paths = (
        "/",
        "/password/",
        "/nope",
        "/settings/users/",
        "/settings/users/new/",
        f"/settings/users/{user.pk}/",
    )
    for path in paths:
        page.goto(path)
        check_page(page)


def test_a_newcomer_sets_up_signs_out_and_signs_in_by_keyboard_alone(visit: Visit) -> None:
    link = setup_link("")
    assert link is not None
    page = visit(link)
    for text in ("ada", PASSWORD, PASSWORD):
        page.keyboard.type(text)
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No hosts yet")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.get_by_role("button", name="Sign out").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.keyboard.type("ada")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Name or password is wrong.")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No hosts yet")).to_be_visible()


def test_everything_reads_and_every_form_works_without_javascript(visit: Visit) -> None:
    administrator()
    make_fleet(4)
    page = visit("/", has_javascript=False, width=PHONE)
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="What is wrong now")).to_be_visible()
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    page.get_by_label("Menu").check()
    page.get_by_role("button", name="Dark theme").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.get_by_label("Menu").check()
    page.get_by_role("link", name="Users").click()
    page.get_by_placeholder("Search users").fill("ad")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("link", name="ada", exact=True).first).to_be_visible()


def test_the_overview_refreshes_itself_without_a_jump(visit: Visit) -> None:
    user = administrator()
    make_fleet(40, offline=0, degraded=0, broken=0)
    page = visit("/", user=user)
    expect(page.get_by_role("heading", name="All 40 hosts are well")).to_be_visible()
    page.mouse.wheel(0, 200)
    page.wait_for_timeout(300)
    before = page.evaluate("scrollY")
    link = page.get_by_role("link", name="All hosts")
    link.focus()
    HeartbeatState.objects.filter(pk=HeartbeatState.objects.earliest("pk").pk).update(
        last_seen_at=clock.now() - datetime.timedelta(hours=1)
    )
    expect(page.get_by_role("heading", name="1 thing is wrong")).to_be_visible(timeout=PATIENCE * 8000)
    assert page.evaluate("scrollY") == before
    expect(link).to_be_focused()


def test_the_theme_switch_is_remembered_and_nothing_flashes(visit: Visit) -> None:
    page = visit("/", user=administrator(), theme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark theme").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(ground) == light


def test_copying_works_where_the_clipboard_is_closed(visit: Visit) -> None:
    page = visit("/", user=administrator())
    page.evaluate("Object.defineProperty(window, 'isSecureContext', {value: false})")
    page.evaluate("document.execCommand = () => false")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Selected: press Ctrl+C").first).to_be_visible()
    assert "credentials_file" in page.evaluate("getSelection().toString()")


def test_a_first_visit_loads_less_than_100_kilobytes(visit: Visit) -> None:
    user = administrator()
    make_fleet(60)
    page = visit("/nope")
    sizes: list[int] = []
    page.context.add_cookies(
        [{"name": "sessionid", "value": session_cookie(user), "url": page.url.removesuffix("/nope")}]
    )
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    session.on("Network.loadingFinished", lambda event: sizes.append(int(event["encodedDataLength"])))
    page.goto(page.url.replace("/nope", "/"))
    page.wait_for_load_state("networkidle")
    assert 20_000 < sum(sizes) < 100_000, sizes
