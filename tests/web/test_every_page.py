"""Every page of every room that an administrator can reach by links, in a real Chromium.

One page for each route: found by following links from the overview, so that a new page is checked as soon as
something leads to it.
"""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.urls import Resolver404, resolve

from tests.fleetdata import make_everything
from tests.integration.browser import Visit, faults_of
from tokens.models import Role, User

pytestmark = pytest.mark.browser

LINK = re.compile(r'<a\s[^>]*?href="([^"]*)"')
NOT_OURS = ("/admin/", "/api/", "/metrics", "/static/")
LEAST_PAGES = 12


def pages_by_links(user: User, *, most: int = 150) -> tuple[list[str], list[str]]:
    """A path for each route that links lead to from the overview, and the links that lead nowhere."""
    client = Client()
    client.force_login(user)
    waiting, found, seen, dead = ["/"], {}, {"/"}, []
    while waiting and len(found) < most:
        path = waiting.pop(0)
        try:
            route = resolve(urlsplit(path).path).route
        except Resolver404:
            dead.append(f"{path}: a link leads nowhere")
            continue
        if route in found:
            continue
        answer = client.get(path)
        if answer.status_code == 302:  # such as the way to sign in, of who has
            continue
        if answer.status_code != 200:
            dead.append(f"{path}: answers {answer.status_code}")
            continue
        found[route] = path
        for href in LINK.findall(answer.content.decode()):
            target = urlsplit(unescape(href))
            if target.scheme or target.netloc or not target.path.startswith("/"):
                continue
            if not target.path.startswith(NOT_OURS) and target.path not in seen:
                seen.add(target.path)
                # With what it asks for: some pages are about that alone.
                waiting.append(f"{target.path}?{target.query}" if target.query else target.path)
    return sorted(found.values()), dead


def test_no_page_has_a_fault(visit: Visit) -> None:
    user = User.objects.create(username="ada", is_superuser=True, role=Role.objects.get(name="admin"))
    make_everything()
    paths, faults = pages_by_links(user)
    assert len(paths) >= LEAST_PAGES
    page = visit("/", user=user)
    for path in paths:
        page.goto(path)
        faults += faults_of(page)
    assert not faults, "\n".join(faults)
