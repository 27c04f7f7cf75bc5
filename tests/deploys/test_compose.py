"""What may be stored as a Compose file or an env file."""

import time

import pytest

from dockmesh.core.errors import InvalidInput
from dockmesh.deploys import compose

GOOD = "services:\n  web:\n    image: nginx:1.27\n    ports: ['80:80']\n"


def problem(text: object) -> str:
    with pytest.raises(InvalidInput) as caught:
        compose.clean_compose_file(text)
    assert list(caught.value.errors) == ["compose_file"]
    return caught.value.errors["compose_file"][0]


def test_an_ordinary_file_passes_and_keeps_its_text() -> None:
    assert compose.clean_compose_file(GOOD) == GOOD
    assert compose.clean_compose_file(GOOD.replace("\n", "\r\n")) == GOOD


def test_anchors_merges_and_composes_own_tags_pass() -> None:
    text = """
x-base: &base
  image: busybox
  restart: always
services:
  one: &one
    <<: *base
    restart: "no"
  two:
    <<: *one
    ports: !override ["8080:80"]
x-again:
  <<: *one
volumes:
  data: {}
"""
    assert compose.clean_compose_file(text) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "`services`"),
        ("just text", "`services`"),
        ("services: {}", "at least one service"),
        ("services: [web]", "`services`"),
        ("services:\n  web: nginx", "service web must be a mapping"),
        ("services:\n  web: {ports: []}", "service web has no image"),
        ("services:\n  'a b': {image: x}", "name is not allowed"),
        ("services:\n  web: {image: x}\n  web: {image: y}", "'web' is given twice in line 3"),
        ("services:\n  web: {image: x, image: y}", "'image' is given twice"),
        ("services:\n  web:\n\t- x", "line 3"),
        ("services: *nowhere", "alias"),
        ("services: &s {web: *s}", "alias"),
        (GOOD + "---\n" + GOOD, "one YAML document"),
        (GOOD + "x: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        (GOOD + "x: 2001-99-99", "not valid YAML"),
        (GOOD + "? [a, b]\n: c", "plain text"),
        (GOOD + "\x00", "control characters"),
        (GOOD + "# \ud800", "control characters"),
        ("#" * (128 * 1024 + 1), "at most"),
        (7, "must be a text"),
        (None, "must be a text"),
    ],
)
def test_what_is_wrong_is_said(text: object, says: str) -> None:
    assert says in problem(text)


def test_a_billion_laughs_and_a_deep_nest_are_refused_at_once() -> None:
    laughs = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    before = time.monotonic()
    assert "more than" in problem(laughs + GOOD)
    assert "nested deeper" in problem("[" * 100_000)
    assert "nested deeper" in problem("services: " + "{a: " * 100)
    assert time.monotonic() - before < 5


def test_an_env_file_passes_and_its_names_are_known() -> None:
    text = "# comment\nPASSWORD=hunter2\nexport MODE=a b\n\nEMPTY=\nPASSED\nKEY='-----BEGIN\nabc=\n-----END'\nA.b-c=1\n"
    assert compose.clean_env_file(text) == text
    assert compose.env_names(text) == ["PASSWORD", "MODE", "EMPTY", "PASSED", "KEY", "A.b-c"]
    assert compose.clean_env_file(" \n\n") == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A=1\nsecret words here", "line 2"),
        ("1A=secret", "line 1"),
        ("A='secret", "closing quote"),
        ("A=\x07secret", "control characters"),
        ("A=" + "x" * 65536, "at most"),
        (["A=1"], "must be a text"),
    ],
)
def test_a_bad_env_file_is_refused_without_showing_it(text: object, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        compose.clean_env_file(text)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["Shop", "-shop", "a b", "", "a" * 64, "ü", None, 3, "a\n", "../x"])
def test_a_name_that_compose_would_refuse_is_refused(name: object) -> None:
    if name == "a\n":
        assert compose.clean_stack_name(name) == "a"
        return
    with pytest.raises(InvalidInput):
        compose.clean_stack_name(name)
