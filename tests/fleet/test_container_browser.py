"""The pages of containers in a real Chromium; the agent is played by the test."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from dockmesh.core import clock
from dockmesh.fleet import commands
from dockmesh.fleet.commands import CommandResult
from dockmesh.fleet.models import AgentCommand, Container, ContainerDetails, HeartbeatState, Host, HostUsage
from dockmesh.fleet.services import logs
from tests.fleet.factories import make_host
from tests.fleet.test_container_pages import FOUND
from tests.integration.browser import PHONE, Visit, check_page
from tests.integration.prometheus import wait_for
from tests.tokens.support import user_with
from tokens.models import User

pytestmark = pytest.mark.browser
PERMISSIONS = ("fleet.read", "containers.operate", "containers.logs")


@pytest.fixture
def web(transactional_db: None) -> Container:
    host, _ = make_host("atlas")
    Host.objects.update(agent_info={"capabilities": ["containers", "logs", "inspect"]})
    HeartbeatState.objects.update(sequence=1)
    now = clock.now()
    exits = [
        {"at": (now - datetime.timedelta(minutes=each)).isoformat(), "exit_code": code, "oom_killed": oom}
        for each, code, oom in ((3, 137, True), (9, 1, False), (12, 0, False))
    ]
    looks = [{"at": now.isoformat(), "exit_code": 1, "output": "refused\n" * 3}]
    health = {"status": "unhealthy", "failing_streak": 3, "looks": looks}
    made = [
        Container.objects.create(
            host=host, container_id=letter * 64, name=f"web-{letter}", image="nginx:1.27", state="running",
            started_at=now, changed_at=now, created_at=now,
        )
        for letter in "abc"
    ]  # fmt: skip
    Host.objects.update(container_counts="0,3,0,0,0,0,0,0")
    ContainerDetails.objects.create(
        host=host, container_id="a" * 64, found={**FOUND, "exits": exits, "health": health}, told_at=now
    )
    return made[0]


@pytest.fixture
def user(transactional_db: None) -> User:
    return user_with(*PERMISSIONS)


class Agent:
    """Sends the log that is asked for last."""

    def __init__(self, host_id: int) -> None:
        self.host_id = host_id
        self.command: Any = None
        self.number = 0

    def fetch(self) -> Any:
        """Take the command to send a log, once it is there."""

        def handed() -> Any:
            offers = commands.fetch(host_id=self.host_id)
            return next((each for each in offers if each["kind"] == logs.KIND), None)

        self.command, self.number = wait_for(handed, seconds=20, what="the command"), 0
        return self.command["payload"]

    def send(self, text: str) -> None:
        logs.take_piece(
            host_id=self.host_id,
            session_id=self.command["payload"]["session"],
            number=self.number,
            text=text,
        )
        self.number += 1

    def end(self, error: str = "") -> None:
        result = CommandResult(not error, 0.1, 0, "", error, {"result": "failure" if error else "success"})
        commands.finish(host_id=self.host_id, key=self.command["id"], result=result)


def lines(page: Page) -> Any:
    return page.locator("[data-log-lines]")


def test_the_log_is_there_at_once_and_is_followed_without_a_jump(
    visit: Visit, web: Container, user: User
) -> None:
    agent = Agent(web.host_id)
    page = visit(f"/containers/{web.pk}/", user=user)
    payload = agent.fetch()
    assert (payload["tail"], payload["is_following"]) == (500, False)
    agent.send("".join(f"line {number}\n" for number in range(300)))
    agent.end()
    expect(lines(page)).to_contain_text("line 299")
    expect(page.get_by_text("Before that killed for memory")).to_be_visible()
    check_page(page)

    page.get_by_role("button", name="Follow").click()
    assert agent.fetch()["is_following"]
    agent.send("".join(f"now {number}\n" for number in range(300)))
    expect(lines(page)).to_contain_text("now 299")
    expect(page.locator("[data-log-state]")).to_have_text("Following")
    at_end = "element => element.scrollHeight - element.scrollTop - element.clientHeight"
    assert lines(page).evaluate(at_end) < 40
    # Who reads further up stays there.
    lines(page).evaluate("element => { element.scrollTop = 100; }")
    agent.send("later\n")
    expect(lines(page)).to_contain_text("later")
    assert lines(page).evaluate("element => element.scrollTop") == 100

    page.get_by_role("button", name="Pause").click()
    agent.send("while it was paused\n")
    page.wait_for_timeout(1500)  # the script has fetched it by then, or will show it later: either is not now
    expect(lines(page)).not_to_contain_text("while it was paused")
    page.get_by_role("button", name="Pause").click()
    expect(lines(page)).to_contain_text("while it was paused")
    agent.end("10 MB are read, which is the most of one reading")
    expect(page.locator("[data-log-state]")).to_have_text("10 MB are read, which is the most of one reading")


def test_what_is_asked_for_is_shown_and_why_there_is_none(visit: Visit, web: Container, user: User) -> None:
    agent = Agent(web.host_id)
    page = visit(f"/containers/{web.pk}/", user=user)
    agent.fetch()
    agent.end("web-a has no log: its log driver is none")
    expect(page.locator("[data-log-state]")).to_have_text("Web-a has no log: its log driver is none")
    page.get_by_label("Text").fill("needle")
    page.get_by_label("Stream").select_option("stderr")
    page.get_by_role("button", name="Show", exact=True).click()
    payload = agent.fetch()
    assert (payload["search"], payload["stdout"]) == ("needle", False)
    agent.end()
    expect(page.locator("[data-log-state]")).to_have_text("It has written nothing that fits.")
    page.get_by_label("Since").fill("yesterday")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("[data-log-state]")).to_contain_text("since: must be a time")


def test_containers_chosen_in_the_list_stay_chosen_while_it_refreshes(
    visit: Visit, web: Container, user: User
) -> None:
    page = visit("/containers/", user=user)
    page.get_by_label("Choose web-a").check()
    page.get_by_label("Choose web-c").check()
    Container.objects.filter(name="web-b").update(state="exited")
    Container.objects.filter(name="web-b").update(exit_code=3)
    expect(page.get_by_text("code 3")).to_be_visible(timeout=20_000)
    expect(page.get_by_label("Choose web-a")).to_be_checked()
    page.get_by_role("button", name="Restart").click()
    expect(page.get_by_role("heading", name="Restart 2 containers")).to_be_visible()
    check_page(page)
    expect(page.locator("main")).to_contain_text("web-a")
    expect(page.locator("main")).to_contain_text("web-c")
    page.get_by_role("button", name="Restart 2 containers").click()
    expect(page.get_by_text("Restart: 2 containers.")).to_be_visible()
    assert AgentCommand.objects.filter(kind="container-action").count() == 2
    page.goto(re.sub(r"/containers/.*", f"/containers/{web.pk}/", page.url))
    expect(page.get_by_text("Restart: queued for the host")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_holds_on_a_phone_with_long_names(
    visit: Visit, web: Container, user: User, theme: str
) -> None:
    Container.objects.update(name="w" * 200, image="registry.example/" + "i" * 200)
    agent = Agent(web.host_id)
    page = visit(f"/containers/{web.pk}/", user=user, width=PHONE, theme=theme)
    agent.fetch()
    agent.send("x" * 5000 + "\n")
    agent.end()
    expect(lines(page)).to_contain_text("xxxx")
    check_page(page)


def test_without_a_script_the_form_shows_the_lines(visit: Visit, web: Container, user: User) -> None:
    page = visit(f"/containers/{web.pk}/", user=user, has_javascript=False)
    expect(page.get_by_role("button", name="Show", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Follow")).to_have_count(0)
    expect(page.get_by_text("Before that killed for memory")).to_be_visible()


@pytest.mark.parametrize("has_javascript", [True, False])
def test_what_is_used_reads_on_every_page(
    visit: Visit, web: Container, user: User, has_javascript: bool
) -> None:
    def look(path: str) -> Page:
        page = visit(path, user=user, has_javascript=has_javascript)
        if has_javascript:  # without, axe-core can't run
            check_page(page)
        return page

    now = clock.now()
    figures = [
        [web.pk, 0.975, 990, 12.5, 1000, 1024, 2048, 4096, 8192, 7],
        [web.pk + 1, None, 5, *[None] * 7],
    ]
    HostUsage.objects.create(
        host_id=web.host_id, measured_at=now, version=1, containers=b"", cpu=0.5, figures=json.dumps(figures),
        machine='{"memory_available_bytes": 512, "load1": 0.5, "docker_root_bytes": 100, "docker_root_free_bytes": 1}',
        disk='{"images": [900, 400], "volumes": [7, null]}', disk_at=now,
    )  # fmt: skip
    Host.objects.update(cpus=2, memory_bytes=1024)
    page = look(f"/containers/{web.pk}/")
    expect(page.get_by_role("region", name="Usage")).to_contain_text("97.5 % of a core")
    expect(page.get_by_role("img", name="Memory: 99 % used")).to_be_visible()
    page = look(f"/hosts/{web.host_id}/")
    expect(page.get_by_role("img", name="Docker's file system: 99 % used")).to_be_visible()
    top = page.get_by_role("region", name="Top ten by memory")
    expect(top.get_by_role("link")).to_have_text(["web-a", "web-b"])
    page = look("/containers/?sort=memory")
    names = page.locator("td.main-cell a")
    expect(names).to_have_text(["web-c", "web-b", "web-a"])
    page.get_by_role("link", name="CPU").click()
    expect(names.first).to_have_text("web-a")
