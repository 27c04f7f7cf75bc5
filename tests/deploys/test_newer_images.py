"""Newer images on the pages: in the lists, of the stack, of the container; and nowhere else."""

from __future__ import annotations

import datetime
import html
import re

import pytest
from django.test import Client

from dockmesh.core import clock
from dockmesh.deploys import services
from dockmesh.deploys.models import Deploy
from dockmesh.fleet.models import Container, Host, ImageCheck, Stack
from tests.deploys.conftest import ANN, COMPOSE
from tests.fleet.factories import make_host
from tests.tokens.support import user_with

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(user_with("fleet.read", "stacks.deploy", name="ann"))
    return client


def make_stack(host: Host, name: str, image: str) -> Stack:
    stack = services.create_stack(actor=ANN, host_id=host.pk, name=name, compose_file=COMPOSE)
    Container.objects.create(
        host=host, stack=stack, container_id=f"{name:0>64}", name=f"{name}-web-1", service="web",
        image=image, state="running", changed_at=clock.now(),
    )  # fmt: skip
    return stack


def check(host: Host, image: str, is_newer: bool | None, error: str = "") -> None:
    at = clock.now() - datetime.timedelta(minutes=5)
    ImageCheck.objects.create(
        host=host, image=image, is_update_available=is_newer, checked_at=at, error=error
    )


def text(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


@pytest.fixture
def stacks(host: Host) -> dict[str, Stack]:
    other_host, _ = make_host("borealis")
    check(host, "nginx:1", True)
    check(host, "redis:7", False)
    check(host, "private/app:1", None, "denied: requested access")
    made = {
        "new": make_stack(host, "new", "nginx:1"),
        "same": make_stack(host, "same", "redis:7"),
        "unknown": make_stack(host, "unknown", "private/app:1"),
        "never": make_stack(host, "never", "built-here"),
        # What one host's registry has is not said of another host.
        "elsewhere": make_stack(other_host, "elsewhere", "nginx:1"),
    }
    return made


def test_the_lists_mark_and_filter_them(stacks: dict[str, Stack], operator: Client) -> None:
    assert text(operator, "/stacks/").count("Newer available") == 1
    shown = text(operator, "/containers/?image=newer")
    assert "new-web-1" in shown
    assert not any(f"{name}-web-1" in shown for name in ("same", "unknown", "never", "elsewhere"))


def test_a_stack_says_which_and_takes_them(stacks: dict[str, Stack], operator: Client) -> None:
    page = text(operator, f"/stacks/{stacks['new'].pk}/")
    assert "Newer images" in page
    assert "nginx:1 asked" in page
    for name in ("same", "unknown", "never", "elsewhere"):
        assert "Newer images" not in text(operator, f"/stacks/{stacks[name].pk}/")
    answer = operator.post(f"/stacks/{stacks['new'].pk}/operate/", {"operation": "up"})
    assert answer.status_code == 302
    assert Deploy.objects.get().stack_id == stacks["new"].pk


def test_who_may_not_deploy_sees_no_button(stacks: dict[str, Stack]) -> None:
    viewer = Client()
    viewer.force_login(user_with("fleet.read", name="vic"))
    page = text(viewer, f"/stacks/{stacks['new'].pk}/")
    assert "Newer images" in page
    assert "Take the newer images" not in page


def test_a_container_says_when_its_registry_was_asked_or_why_not(
    stacks: dict[str, Stack], operator: Client
) -> None:
    def page(name: str) -> str:
        return text(operator, f"/containers/{Container.objects.get(name=f'{name}-web-1').pk}/")

    assert "Newer available" in page("new")
    assert "Its registry was asked" in page("same")
    assert "could not be asked" in page("unknown")
    assert "denied: requested access" in page("unknown")
    assert "registry" not in page("never")
