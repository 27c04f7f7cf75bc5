"""What is seen on every page, in a real Chromium: names of 200 characters at every width, tables on phones, print.

A page for each route, as `test_every_page` finds them.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from dockmesh.alerts.models import AlertRule, Channel
from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.deploys.models import Deploy
from dockmesh.fleet.models import Container, Host, Stack
from tests.fleetdata import make_everything, make_fleet
from tests.integration.browser import PHONE, Visit, horizontal_overflow
from tests.web.test_every_page import pages_by_links
from tokens.models import ApiToken, Role, User

pytestmark = pytest.mark.browser

WIDTHS = (PHONE, 768, 1024, 1440)
LONG = "x" * 190
ONE_OF_MANY = re.compile(
    r"(?<![\d.,])1 (hosts|stacks|containers|times|entries|rules|runs|tokens|users|restarts|exits|deploys)\b",
    re.I,
)
CUT_OFF = """() => [...document.querySelectorAll(".table-wrap")]
  .filter((wrap) => wrap.scrollWidth > wrap.clientWidth + 1)
  .map((wrap) => `a table of ${wrap.scrollWidth} px in ${wrap.clientWidth} px`)"""


def administrator() -> User:
    return User.objects.create(username="ada", is_superuser=True, role=Role.objects.get(name="admin"))


def give_long_names() -> None:
    for model, name in (
        (Host, "name"),
        (Stack, "name"),
        (Container, "name"),
        (BackupJob, "name"),
        (AlertRule, "name"),
        (Channel, "name"),
        (ApiToken, "name"),
        (Deploy, "stack_name"),
        (Deploy, "host_name"),
        (BackupRun, "job_name"),
        (BackupRun, "host_name"),
    ):
        for row in model.objects.order_by("pk"):
            most = getattr(model._meta.get_field(name), "max_length", None) or 200
            model.objects.filter(pk=row.pk).update(**{name: f"{row.pk}-{LONG}"[:most]})
    Role.objects.filter(is_builtin=False).update(name=LONG)
    User.objects.exclude(username="ada").update(username=LONG[:150])


def test_no_page_is_wider_than_its_window_whatever_the_names(visit: Visit) -> None:
    user = administrator()
    make_everything()
    give_long_names()
    paths, _ = pages_by_links(user)
    faults: list[str] = []
    page = visit("/", user=user)
    for path in paths:
        page.goto(path)
        said = page.locator("main").inner_text()
        faults += [f"{path} says {found[0]}" for found in ONE_OF_MANY.finditer(said)]
        for crumb in page.locator(".crumbs li").all():
            if not crumb.inner_text().strip():
                faults.append(f"{path} has an empty crumb")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            found = horizontal_overflow(page) + page.evaluate(CUT_OFF)
            faults += [f"{path} at {width} px: {each}" for each in found]
    assert not faults, "\n".join(faults)


def heights(page: Page) -> list[float]:
    """Of the list's rows."""
    found: list[float] = page.evaluate(
        "() => [...document.querySelectorAll('.table tbody tr')].map((row) => row.offsetHeight)"
    )
    return found


def test_rows_are_low_on_phones_and_tablets_and_a_phone_sorts(visit: Visit) -> None:
    make_everything()
    page = visit("/hosts/", user=administrator())
    for path in ("/hosts/", "/stacks/", "/containers/", "/deploys/", "/alerts/"):
        page.goto(path)
        # A container's has a third line: what it uses.
        for width, most in ((PHONE, 96 if path == "/containers/" else 72), (768, 72), (1024, 72)):
            page.set_viewport_size({"width": width, "height": 900})
            rows = sorted(heights(page))
            assert rows[len(rows) // 2] <= most, (path, width, rows)
    page.goto("/stacks/")
    page.set_viewport_size({"width": PHONE, "height": 844})
    page.get_by_text("Sorted by Name").click()
    page.locator(".sorting").get_by_role("link", name="Host", exact=True).click()
    expect(page.get_by_text("Sorted by Host")).to_be_visible()
    page.get_by_label("Menu").check()
    page.keyboard.press("Escape")
    expect(page.get_by_label("Menu")).not_to_be_checked()
    expect(page.get_by_label("Menu")).to_be_focused()


def test_a_page_is_turned_by_number_and_printed_in_light_with_exact_times(visit: Visit) -> None:
    make_fleet(320)
    page = visit("/hosts/", user=administrator(), theme="dark")
    page.get_by_role("link", name="Page 7").click()
    expect(page.locator(".pages")).to_contain_text("301–320 of 320")
    page.get_by_label("Go to page").fill("3")
    page.get_by_role("button", name="Go", exact=True).click()
    expect(page.locator(".pages")).to_contain_text("101–150 of 320")
    page.emulate_media(media="print", color_scheme="dark")
    said = page.evaluate(
        "() => getComputedStyle(document.querySelector('time[data-ago]'), '::after').content"
    )
    assert re.search(r"\d{4}, \d\d:\d\d:\d\d UTC", said)
    assert (
        page.evaluate("() => getComputedStyle(document.querySelector('.card')).backgroundColor")
        == "rgb(255, 255, 255)"
    )


def test_there_is_a_way_back_to_the_theme_of_the_system(visit: Visit) -> None:
    page = visit("/", user=administrator(), theme="light")
    back = page.get_by_role("button", name="System theme")
    expect(back).to_be_hidden()
    page.get_by_role("button", name="Dark theme").click()
    back.click()
    expect(back).to_be_hidden()
    assert page.locator("html").get_attribute("data-theme") is None
    page.reload()
    assert page.locator("html").get_attribute("data-theme") is None
