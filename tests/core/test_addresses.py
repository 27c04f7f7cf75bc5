"""Addresses of a server that is reached below a path; `tests/server/test_sub_path.py` has the whole."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.test import Client
from django.urls import get_script_prefix, set_script_prefix

from dockmesh.core.addresses import TAKEN_OFF, page_path, without_base_path


@pytest.fixture
def below(settings: Any) -> Iterator[None]:
    settings.DOCKMESH_BASE_PATH = settings.FORCE_SCRIPT_NAME = "/dockmesh"
    before = get_script_prefix()
    # As the WSGI handler does for each request, and Django for the thread that starts the process.
    set_script_prefix("/dockmesh/")
    yield
    set_script_prefix(before)


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/a/b/c", "/c"),
        ("/a/b/", "/"),
        ("/a/b", "/a/b"),
        ("/a/bc", "/a/bc"),
        ("/c/a/b/", "/c/a/b/"),
        ("/a/b/a/b/c", "/a/b/c"),
    ],
)
def test_the_base_path_is_taken_off_once(path: str, rest: str) -> None:
    assert without_base_path(path, "/a/b") == rest
    assert without_base_path(path, "") == path


@pytest.mark.parametrize("path", ["/dockmesh/metrics", "/dockmesh/hosts/", "/dockmesh"])
def test_what_the_server_has_taken_off_is_not_taken_off_again(below: None, db: None, path: str) -> None:
    environ: dict[str, Any] = {TAKEN_OFF: "/dockmesh"}
    assert Client().get(path, **environ).status_code == 404
    assert Client().get("/metrics", **environ).status_code == 401


def test_a_message_has_the_page_once_below_the_base_url_whichever_thread_writes_it(below: None) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(page_path, "alerts:alert", 5).result() == "/alerts/5/"
    assert page_path("alerts:alert", 5) == "/alerts/5/"


@pytest.mark.parametrize("path", ["/dockmesh/hosts/", "/hosts/"])
def test_who_is_not_signed_in_is_led_back_to_where_they_were(below: None, db: None, path: str) -> None:
    answer = Client().get(path, {"q": "a"})
    assert answer["Location"] == "/dockmesh/sign-in/?next=/dockmesh/hosts/%3Fq%3Da"


@pytest.mark.parametrize(
    "goal", ["/other/", "/dockmeshes/", "/hosts/", "//evil.example/dockmesh/", "https://evil.example"]
)
def test_signing_in_leads_nowhere_else(below: None, db: None, goal: str) -> None:
    answer = Client().get("/dockmesh/sign-in/", {"next": goal})
    assert '<input type="hidden" name="next" value="/dockmesh/">' in answer.content.decode()


def test_a_page_without_its_last_slash_is_led_to_below_the_path(below: None, db: None) -> None:
    for path in ("/dockmesh/hosts", "/hosts"):
        assert Client().get(path)["Location"] == "/dockmesh/hosts/"
    assert Client().get("/dockmesh")["Location"] == "/dockmesh/"
