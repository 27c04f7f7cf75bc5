"""Adding a host, and updating agents, in a real Chromium."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from django.test import Client
from playwright.sync_api import expect

from dockmesh.fleet.models import EnrollmentToken, Host
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import container, heartbeat, make_host
from tests.integration.browser import DESKTOP, PHONE, Visit, check_page
from tests.support import PATIENCE
from tokens.models import Role, User

pytestmark = pytest.mark.browser

_sequence = itertools.count(1)


def operator() -> User:
    return User.objects.create(username="ann", role=Role.objects.get(name="operator"))


@pytest.mark.parametrize(("width", "theme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_the_list_ticks_while_one_watches_and_no_command_is_cut_off(
    visit: Visit, width: int, theme: str
) -> None:
    page = visit("/hosts/add/", user=operator(), width=width, theme=theme)
    page.get_by_role("button", name="Make the command").click()
    check_page(page)
    for block in page.locator(".copyable pre").all():
        assert block.evaluate("each => each.scrollWidth <= each.clientWidth")
    first = page.locator(".copyable pre").first.inner_text()
    token = re.fullmatch(r"curl -fsS http://127\.0\.0\.1:\d+/agent/install \| sh -s -- (dme_\w{60})", first)
    assert token
    expect(page.get_by_text("leads every other machine to itself")).to_be_visible()
    expect(page.locator(".check-well")).to_have_count(0)
    Client().get(f"/agent/dockmesh-agent.pyz?for={token[1][4:16]}")
    patience = PATIENCE * 5000
    expect(page.locator(".check-well")).to_have_text([re.compile("reached")], timeout=patience)
    answer = Client().post(
        "/api/v1/agents/enroll",
        data=json.dumps({"hostname": "new"}),
        content_type="application/json",
        headers={"Authorization": f"Bearer {token[1]}"},
    )
    expect(page.locator(".check-well")).to_have_count(2, timeout=patience)
    document = heartbeat(1, containers=[container("a")])
    document["agent"] |= {"capabilities": ["deploy"], "compose_version": "2.40.3", "repositories": []}
    AgentClient(Host.objects.get(), answer.json()["agent_token"]).beat(document)
    expect(page.locator(".check-well")).to_have_count(5, timeout=patience)
    expect(page.get_by_role("link", name="Go to new")).to_be_visible()
    assert EnrollmentToken.objects.get().reached_at
    check_page(page)


def test_agents_are_updated_from_the_page_of_hosts(visit: Visit) -> None:
    told = {"version": "0.0.9", "capabilities": ["agent-update"], "repositories": [], "build": "0" * 16}
    for name in ("db", "web"):
        AgentClient(*make_host(name)).beat(heartbeat(next(_sequence), agent=told))
    page = visit("/hosts/", user=operator())
    expect(page.get_by_text("update available")).to_have_count(2)
    check_page(page)
    page.get_by_role("link", name="Agent updates").click()
    page.get_by_role("link", name="Update agents").click()
    check_page(page)
    assert page.locator("input:checked").count() == 0
    page.get_by_label("Those chosen below").check()
    page.get_by_label("web", exact=True).check()
    page.get_by_role("button", name="Update", exact=True).click()
    expect(page.get_by_text("waits for its update")).to_have_count(1)
    check_page(page)
    page.goto(f"/hosts/{Host.objects.get(name='db').pk}/")
    page.get_by_role("button", name="Update agent").click()
    expect(page.get_by_text("is asked to update itself")).to_be_visible()
    check_page(page)
