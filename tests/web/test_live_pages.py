"""Live pages that lose their server, their session or their visitor for a while, in a real Chromium."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from playwright.sync_api import Browser, Page, Route, expect

from dockmesh.core import clock
from dockmesh.fleet.models import HeartbeatState, Host
from tests.fleetdata import make_fleet
from tests.integration.browser import Site, accessibility_faults, session_cookie
from tests.support import PATIENCE
from tokens.models import Role, User

pytestmark = pytest.mark.browser

PASSWORD = "correct-horse-battery"
SOON = PATIENCE * 9000
Open = Callable[..., Page]


@pytest.fixture
def user(transactional_db: None) -> User:
    user = User(username="ada", is_superuser=True, role=Role.objects.get(name="admin"))
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture
def opened(chromium: Browser, site: Site, user: User) -> Iterator[Open]:
    """Opens a page whose console may complain: here the server goes away."""
    contexts = []

    def open_page(path: str) -> Page:
        context = chromium.new_context(base_url=site.url, reduced_motion="reduce", locale="en-GB")
        contexts.append(context)
        cookie = {"name": settings.SESSION_COOKIE_NAME, "value": session_cookie(user), "url": site.url}
        context.add_cookies([cookie])  # type: ignore[list-item]
        page = context.new_page()
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()


def head(page: Page) -> str:
    """What the page says across its head; empty while all is well."""
    notice = page.locator("#lost")
    return notice.inner_text() if notice.is_visible() else ""


def test_a_page_says_that_the_server_is_gone_and_goes_on_when_it_is_back(opened: Open, site: Site) -> None:
    make_fleet(3, offline=0, degraded=0, broken=0)
    host = Host.objects.earliest("pk")
    pages = [opened(f"/hosts/{host.pk}/"), opened("/")]
    expect(pages[0].locator("#live")).to_contain_text("Online")
    expect(pages[1].get_by_role("heading", name="All 3 hosts are well")).to_be_visible()
    site.close()
    for page in pages:
        expect(page.get_by_role("alert")).to_contain_text("The server does not answer", timeout=SOON)
        assert "Online" not in page.locator("#content").inner_text()
        assert " ago" not in page.locator("#live").inner_text()
        assert accessibility_faults(page) == []
    expect(pages[0].locator("#live")).to_contain_text("was online")
    expect(pages[1].get_by_role("heading", name="Not known now")).to_be_visible()
    site.start()
    HeartbeatState.objects.update(last_seen_at=clock.now())
    for page in pages:
        expect(page.locator("#lost")).to_be_hidden(timeout=SOON)
        assert page.locator("[data-stale]").count() == 0
    expect(pages[0].locator("#live")).to_contain_text("Online")
    expect(pages[1].get_by_role("heading", name="All 3 hosts are well")).to_be_visible()


@pytest.mark.parametrize(
    "path",
    ["/hosts/", "/stacks/", "/deploys/", "/backups/", "/alerts/", "/alerts/rules/", "/settings/metrics/"],
)
def test_lists_live_too(opened: Open, site: Site, path: str) -> None:
    make_fleet(2)
    page = opened(path)
    with page.expect_response(lambda answer: "part=live" in answer.url, timeout=SOON) as answer:
        pass
    assert answer.value.headers["x-dockmesh-part"] == "live"


def test_other_answers_than_the_page_are_told(opened: Open) -> None:
    make_fleet(2, offline=0, degraded=0, broken=0)
    page = opened("/hosts/")
    status, body = 503, ""

    def answer(route: Route) -> None:
        route.fulfill(status=status, body=body)

    page.route("**/*part=live*", answer)
    expect(page.get_by_role("alert")).to_contain_text("answers with an error (503)", timeout=SOON)
    status = 403
    expect(page.get_by_role("alert")).to_contain_text("Your role does not allow this page", timeout=SOON)
    status, body = 200, "<h1>Pay for the network first</h1>"
    expect(page.get_by_role("alert")).to_contain_text("Something else than dockmesh answers", timeout=SOON)
    assert "Pay for" not in page.locator("body").inner_text()
    page.unroute("**/*part=live*")
    expect(page.locator("#lost")).to_be_hidden(timeout=SOON)


def test_a_request_that_is_never_answered_is_told_within_ten_seconds(opened: Open) -> None:
    make_fleet(2, offline=0, degraded=0, broken=0)
    page = opened("/hosts/")
    page.clock.install()
    page.goto("/hosts/")
    page.route("**/*part=live*", lambda route: None)
    page.clock.run_for(10_000)
    assert "The server does not answer" in head(page)


def test_a_page_that_slept_claims_nothing_until_it_was_answered(opened: Open) -> None:
    make_fleet(2, offline=0, degraded=0, broken=0)
    page = opened("/hosts/")
    page.clock.install()
    page.goto("/hosts/")
    held: list[Route] = []
    page.route("**/*part=live*", lambda route: held.append(route))
    page.clock.fast_forward(3_600_000)
    expect(page.locator("[data-stale]")).to_have_count(1)
    assert head(page) == ""
    for route in held:
        route.continue_()
    page.unroute("**/*part=live*")
    expect(page.locator("[data-stale]")).to_have_count(0)


def test_a_selected_text_holds_the_refresh_back_for_a_while_only(opened: Open) -> None:
    make_fleet(2, offline=0, degraded=0, broken=0)
    page = opened("/hosts/")
    page.locator("#live table").select_text()
    Host.objects.filter(pk=Host.objects.earliest("pk").pk).update(name="renamed-meanwhile")
    expect(page.get_by_role("link", name="renamed-meanwhile")).to_be_visible(timeout=2 * SOON)


def test_what_was_copied_does_not_stay_selected(opened: Open) -> None:
    page = opened("/")
    page.evaluate("Object.defineProperty(window, 'isSecureContext', {value: false})")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Copied").first).to_be_visible()
    assert page.evaluate("getSelection().toString()") == ""


def test_a_lost_session_is_told_and_leads_back(opened: Open) -> None:
    make_fleet(2)
    page = opened("/hosts/?sort=-name")
    Session.objects.all().delete()
    expect(page.get_by_role("alert")).to_contain_text("Your session has ended", timeout=SOON)
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Hosts")).to_be_visible()
    assert page.url.endswith("/hosts/?sort=-name")


COMPOSE = "services:\n  web:\n    image: nginx:1.27 # <b>&amp;\n"


def typed_stack(page: Page) -> None:
    page.locator("[name=host]").select_option(index=1)
    page.get_by_label("Name").fill("shop")
    page.locator("[name=compose_file]").fill(COMPOSE)
    page.locator("[name=env_file]").fill("PASSWORD=hunter2")


def assert_stack_is_back(page: Page) -> None:
    expect(page.get_by_text("Nothing was sent yet")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("shop")
    expect(page.locator("[name=compose_file]")).to_have_value(COMPOSE)
    assert "hunter2" not in page.content()


def test_a_form_that_is_sent_after_the_session_has_ended_comes_back_filled_in(opened: Open) -> None:
    make_fleet(2)
    page = opened("/stacks/new/")
    typed_stack(page)
    Session.objects.all().delete()
    page.locator("[name=compose_file]").press("Tab")
    page.locator("main form button[type=submit]").first.click()
    expect(page.get_by_text("Your session has ended; nothing was sent.")).to_be_visible()
    assert "hunter2" not in page.content()
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    assert_stack_is_back(page)
    page.reload()
    expect(page.get_by_label("Name")).to_have_value("")


def test_a_form_that_was_opened_before_signing_in_anew_in_another_tab_comes_back_filled_in(
    opened: Open,
) -> None:
    make_fleet(2)
    page = opened("/stacks/new/")
    typed_stack(page)
    Session.objects.all().delete()
    other = page.context.new_page()
    other.goto("/")
    other.get_by_label("Name").fill("ada")
    other.get_by_label("Password").fill(PASSWORD)
    other.get_by_role("button", name="Sign in").click()
    expect(other.get_by_role("heading", name="What is wrong now")).to_be_visible()
    page.locator("main form button[type=submit]").first.click()
    assert_stack_is_back(page)


def test_the_guide_turns_green_after_its_configuration_was_copied(opened: Open) -> None:
    page = opened("/")
    page.evaluate("document.execCommand = () => false")
    page.evaluate("Object.defineProperty(window, 'isSecureContext', {value: false})")
    page.get_by_role("button", name="Copy").click()
    now = clock.now()
    host = Host.objects.create(
        name="atlas", agent_token_id="sim000000001", agent_digest="0" * 64, agent_pepper=0
    )
    HeartbeatState.objects.create(host=host, last_seen_at=now + datetime.timedelta(seconds=60), sequence=1)
    expect(page.locator(".steps li.is-done").first).to_be_visible(timeout=2 * SOON)


def test_a_new_incident_waits_until_the_reader_asks(opened: Open) -> None:
    make_fleet(6, offline=1, degraded=0, broken=0)
    page = opened("/")
    expect(page.locator(".incident:visible")).to_have_count(1)
    link = page.locator(".incident a").first
    link.focus()
    target = link.get_attribute("href")
    first = HeartbeatState.objects.order_by("-last_seen_at").first()
    assert first is not None
    HeartbeatState.objects.filter(pk=first.pk).update(
        last_seen_at=clock.now() - datetime.timedelta(minutes=90)
    )
    chip = page.get_by_role("button", name="1 new")
    expect(chip).to_be_visible(timeout=SOON)
    expect(page.locator(".incident:visible")).to_have_count(1)
    expect(page.locator(".incident:visible a").first).to_be_focused()
    assert page.locator(".incident:visible a").first.get_attribute("href") == target
    chip.click()
    expect(page.locator(".incident:visible")).to_have_count(2)
    expect(chip).to_be_hidden()


def test_the_strip_is_one_tab_stop_with_arrow_keys_and_a_card(opened: Open) -> None:
    make_fleet(120, offline=1, degraded=1, broken=2)
    page = opened("/?by=env")
    assert page.locator(".strip a[tabindex='0']").count() == 1
    cells = page.locator(".strip a")
    page.locator(".strip a[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    expect(cells.nth(1)).to_be_focused()
    expect(page.locator("#strip-card")).to_contain_text("last seen")
    page.keyboard.press("ArrowDown")
    below = page.evaluate("document.activeElement.getBoundingClientRect().top")
    assert below > cells.nth(1).evaluate("each => each.getBoundingClientRect().top")
    page.keyboard.press("ArrowUp")
    expect(cells.nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(cells.last).to_be_focused()
    with page.expect_response(lambda answer: "part=live" in answer.url, timeout=SOON):
        pass
    expect(cells.last).to_be_focused()
    expect(page.locator(".strip a[tabindex='0']")).to_have_count(1)
    assert accessibility_faults(page) == []
    page.keyboard.press("Escape")
    expect(page.locator("#strip-card")).to_be_hidden()
    cells.first.hover()
    expect(page.locator("#strip-card")).to_be_visible()
    target = cells.first.get_attribute("href")
    cells.first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{target}")


def test_a_tap_shows_the_card_and_the_next_leads_on(chromium: Browser, site: Site, user: User) -> None:
    make_fleet(30, offline=0, degraded=0, broken=0)
    context = chromium.new_context(base_url=site.url, has_touch=True, viewport={"width": 390, "height": 844})
    cookie = {"name": settings.SESSION_COOKIE_NAME, "value": session_cookie(user), "url": site.url}
    context.add_cookies([cookie])  # type: ignore[list-item]
    page = context.new_page()
    page.goto("/")
    cell = page.locator(".strip a").nth(3)
    cell.tap()
    expect(page.locator("#strip-card")).to_contain_text("online, last seen")
    assert page.url == f"{site.url}/"
    cell.tap()
    page.wait_for_url("**/hosts/*/")
    context.close()
