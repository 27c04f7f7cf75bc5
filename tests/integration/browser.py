"""A real Chromium on a real server: the fixture `visit` opens pages, `check_page` says what is wrong with one.

Chromium is Debian's own (`chromium`); nothing is downloaded. The server is waitress in a thread of the test,
on the test's database.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from django.conf import settings
from django.db import connections
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.support import PATIENCE, require
from tokens.models import User

AXE = Path(__file__).parent.parent / "web" / "vendor" / "axe-core-4.14.1.min.js"
DESKTOP, PHONE = 1440, 390
HEIGHTS = {DESKTOP: 900, PHONE: 844}
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
]


class Visit(Protocol):
    """Opens a page of the test's server in a browser of its own."""

    def __call__(
        self,
        path: str = "/",
        *,
        user: User | None = None,
        width: int = DESKTOP,
        theme: str = "light",
        has_javascript: bool = True,
    ) -> Page: ...


class Site:
    """dockmesh served by waitress from a thread."""

    def __init__(self) -> None:
        self.url = ""
        self.start()

    def start(self) -> None:
        """Listen; once more at the same port, after `close`."""
        from django.core.wsgi import get_wsgi_application
        from waitress.server import create_server

        application = get_wsgi_application()

        def closing(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            answer = application(environ, start_response)
            body = b"".join(answer)
            answer.close()
            # The test's database is emptied afterwards; a connection that is still open would hinder that.
            connections.close_all()
            return [body]

        self._server = create_server(
            closing, host="127.0.0.1", port=int(self.url.rpartition(":")[2] or 0), threads=4
        )
        self.url = f"http://127.0.0.1:{self._server.effective_port}"
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.task_dispatcher.shutdown()
        self._server.close()
        self._thread.join(timeout=5)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One Chromium for the whole run."""
    path = require("chromium")
    # Playwright runs an event loop in this thread; the tests' own queries beside it are meant.
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def site(transactional_db: None) -> Iterator[Site]:
    """The server, on the test's database."""
    server = Site()
    yield server
    server.close()


def session_cookie(user: User) -> str:
    """A signed-in session's cookie, made without the sign-in page."""
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


@pytest.fixture
def visit(chromium: Browser, site: Site) -> Iterator[Visit]:
    """Opens pages; everything that a page complains about in its console fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_page(
        path: str = "/",
        *,
        user: User | None = None,
        width: int = DESKTOP,
        theme: str = "light",
        has_javascript: bool = True,
    ) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": HEIGHTS.get(width, 900)},
            color_scheme="dark" if theme == "dark" else "light",
            java_script_enabled=has_javascript,
            reduced_motion="reduce",
            locale="en-GB",
            base_url=site.url,
        )
        contexts.append(context)
        if user is not None:
            context.add_cookies(
                [{"name": settings.SESSION_COOKIE_NAME, "value": session_cookie(user), "url": site.url}]
            )
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 10_000)
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on(
            "console",
            lambda message: (
                complaints.append(f"{page.url}: {message.text}")
                if message.type in ("error", "warning") and "status of 4" not in message.text
                else None
            ),
        )
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def accessibility_faults(page: Page, *, rule: str = "") -> list[str]:
    """What axe-core finds wrong with the page as it is shown; only by this rule of its, if one is given."""
    # Evaluated by the debugger, not as the page's own script: the page's policy refuses that, rightly.
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE.read_text(encoding="utf-8") + "; 1")
    only = [rule] if rule else ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.evaluate("only => axe.run(document, {resultTypes: ['violations'], runOnly: only})", only)
    return [
        f"{rule['id']} ({rule['help']}): {node['html'][:200]} {node.get('failureSummary', '')}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def horizontal_overflow(page: Page) -> list[str]:
    """The elements that stand out to the right where the page scrolls sideways."""
    found: list[str] = page.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= width) return [];
          return [...document.querySelectorAll("body *")]
            .filter((e) => e.getBoundingClientRect().right > width + 1)
            .slice(0, 10).map((e) => e.outerHTML.slice(0, 160));
        }"""
    )
    return found


def invisible_focus(page: Page) -> list[str]:
    """The elements that can be reached by keyboard but don't show it."""
    page.keyboard.press("Tab")
    found: list[str] = page.evaluate(
        """() => {
          const able = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
          const faults = [];
          for (const element of document.querySelectorAll(able)) {
            if (element.disabled || !element.checkVisibility({visibilityProperty: true})) continue;
            element.focus({focusVisible: true});
            if (document.activeElement !== element) { faults.push("can't be focused: " + element.outerHTML); continue; }
            const face = element.matches(".nav-toggle") ? element.nextElementSibling : element;
            const style = getComputedStyle(face);
            if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 1.5) faults.push(element.outerHTML);
          }
          return faults.slice(0, 10).map((text) => text.slice(0, 160));
        }"""
    )
    return found


def faults_of(page: Page) -> list[str]:
    """What is wrong with the page: its accessibility, the focus, its width; on a desk and a phone, light and dark.

    It is loaded once: its style sheet alone makes the looks. Of what axe-core finds, only contrast depends on the theme.
    """
    faults = []
    for width in (PHONE, DESKTOP):
        page.set_viewport_size({"width": width, "height": HEIGHTS[width]})
        page.emulate_media(color_scheme="dark")
        found = [f"in the dark: {fault}" for fault in accessibility_faults(page, rule="color-contrast")]
        page.emulate_media(color_scheme="light")
        found += accessibility_faults(page)
        found += [f"hides the focus: {element}" for element in invisible_focus(page)]
        found += [f"scrolls sideways: {element}" for element in horizontal_overflow(page)]
        faults += [f"{page.url} at {width} px: {fault}" for fault in found]
    return faults


def check_page(page: Page) -> None:
    """Asserts that nothing is wrong with the page in any of its looks."""
    faults = faults_of(page)
    assert not faults, "\n".join(faults)
