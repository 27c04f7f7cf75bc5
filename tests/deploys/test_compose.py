"""What may be stored as a Compose file or an env file."""

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings

from dockmesh.core.errors import InvalidInput
from dockmesh.deploys import compose
from tests import envfiles

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
        ("", "a mapping at the top"),
        ("just text", "a mapping at the top"),
        ("- a\n- b", "a mapping at the top"),
        ("# only a comment", "a mapping at the top"),
        ("services:\n  web: {image: x}\n  web: {image: y}", "'web' is given twice in line 3"),
        ("services:\n  web: {image: x, image: y}", "'image' is given twice"),
        (GOOD + "---\nservices: {}\nservices: {}", "'services' is given twice in line 7"),
        ("services: &s {a: [b, {c: d, c: e}]}", "'c' is given twice"),
        ("services:\n  web:\n\t- x", "line 3"),
        ("services: [", "not valid YAML"),
        ("services: *nowhere", "alias"),
        ("services: &s {web: *s}", "alias"),
        ("a: &a 1\n---\nb: *a", "alias"),
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


# Files that Compose 2.40 takes, or that it alone may refuse.
COMPOSES_BUSINESS = {
    "include alone": "include:\n  - path: db.yaml\n",
    "include and extensions": "# ours\nx-note: [a]\ninclude:\n  - db.yaml\n",
    "a provider": "services:\n  llm:\n    provider:\n      type: model\n      options: {model: ai/x}\n",
    "extends": "services:\n  web:\n    extends: {file: base.yaml, service: web}\n",
    "several documents": "services:\n  web:\n    image: a\n---\n# the same\nservices:\n  web:\n    image: b\n...\n",
    "an empty document": "---\n---\nservices:\n  web: {image: a}\n",
    "a reset service": "services:\n  web: !reset null\n  db: !override {image: a}\n",
    "an unknown tag": "services:\n  web:\n    image: !env IMAGE\n    x-a: !!python/object:os.system [a]\n",
    "a tab after the colon": "services:\n  web:\n    image:\ta\n",
    "a tab after the value": "services:\n  web:\n    image: a\t\n    command: [a,\tb]\t# c\n",
    "a tab in quotes": 'services:\n  web:\n    image: a\n    command: "a\tb"\n',
    "an equals sign": "services:\n  web:\n    image: a\n    command: [test, a, =, b]\n",
    "impossible dates": "services:\n  web:\n    image: a\n    labels: {a: 2024-02-30, b: 0000-00-00, c: 2001-99-99}\n",
    "old numbers": "services:\n  web:\n    image: a\n    ports: [22:22, 0777, 0o17, 1:60, 1_000, .inf, 0x1F]\n",
    "ill-fitting tags": "services:\n  web: {image: a}\nx-a: [!!int no, !!float x, !!binary ü, !!timestamp x]\n",
    "keys that are no text": "services:\n  1: {image: a}\n  true: {image: b}\n  ~: {image: c}\nx-a: {? [b] : c}\n",
    "odd service names": "services:\n  _web: {image: a}\n  'a b': {image: a}\n  ünï: {image: a}\n",
    "null services": "services:\n  web:\n  db: ~\n",
    "no services": "services: {}\nvolumes:\n  data:\n",
    "a directive": "%YAML 1.2\n---\nservices:\n  web: {image: a}\n",
    "merges": "x-a: &a {image: a}\nx-b: &b {tty: true}\nservices:\n  web:\n    <<: [*a, *b]\n    <<: *a\n",
    "a block": "configs:\n  c:\n    content: |\n      a:\tb\n      a: b\n      $${HOME} ${X:-y}\n",
    "a byte order mark": "\ufeffservices:\n  web: {image: a}\n",
    "201 services": "services:\n" + "".join(f"  s{number}:\n    image: a\n" for number in range(201)),
    "a long line": "services:\n  web:\n    image: a\n    command: " + "x" * 60_000 + "\n",
    "no end of line": "services: {web: {image: a}}",
}


@pytest.mark.parametrize("text", COMPOSES_BUSINESS.values(), ids=COMPOSES_BUSINESS)
def test_what_a_valid_file_is_is_left_to_compose(text: str) -> None:
    assert compose.clean_compose_file(text) == text
    assert compose.clean_compose_file(text.replace("\n", "\r\n")) == text


ENV_FILES = {
    "ordinary": (
        "# c\nPASSWORD=x\nexport MODE=a b\n\nEMPTY=\nPASSED\nA.b-c=1\n",
        "PASSWORD MODE EMPTY PASSED A.b-c",
    ),
    "several lines": ("KEY='-----BEGIN\nabc=\n-----END'\nB=2\n", "KEY B"),
    "a byte order mark": ("\ufeffA=1\nB=2\n", "A B"),
    "brackets": ("A[0]=x\n", "A[0]"),
    "colons": ("A: 1\nB : 2\nC:3\n", "A B C"),
    "escaped quotes over lines": ('A="say \\"hi\\"\nthere"\nB=2\n', "A B"),
    "digits first": ("1A=1\n2=2\n", "1A 2"),
    "comments": ("A=\"x\" # it's\nB='y'#no\nC=z # \"\nD=1\n", "A B C D"),
    "twice": ("A=1\nA=2\n", "A"),
    "tabs": ("\tA\t=\t1\t\n\texport\tB=2\n", "A B"),
    "no end of line": ("A=1\nB=2", "A B"),
    "a mistake": ("A=1\nsecret words!=x\nB=2\n", "A"),
    "no quote at its end": ("A=1\nB='x\nC=3\n", "A B"),
    "words": ("just some words\n", ""),
}


@pytest.mark.parametrize(("text", "names"), ENV_FILES.values(), ids=ENV_FILES)
def test_an_env_file_is_kept_and_its_names_are_known(text: str, names: str) -> None:
    assert compose.clean_env_file(text) == text
    assert compose.clean_env_file(text.replace("\n", "\r\n")) == text
    assert [name for name in compose.env_names(text) if " " not in name] == names.split()


def test_an_empty_env_file_is_none() -> None:
    assert compose.clean_env_file(" \n\n") == ""
    assert compose.env_names("") == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A=\x07secret", "control characters"),
        ("A=\x00secret", "control characters"),
        ("A=" + "x" * 65536, "at most"),
        (["A=1"], "must be a text"),
    ],
)
def test_an_env_file_that_is_not_safe_is_refused_without_showing_it(text: object, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        compose.clean_env_file(text)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@settings(max_examples=20)
@given(text=envfiles.TEXTS)
def test_the_names_are_those_that_compose_has(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        named = envfiles.names_by_compose(text, Path(folder))
    kept = compose.clean_env_file(text)
    assert kept == (text.replace("\r\n", "\n") if text.strip() else "")
    if named is not None:
        # A name alone is a variable of the agent's own environment, which it may have or not.
        bare = {line.split()[-1] for line in kept.lstrip("\ufeff").splitlines() if line.split()}
        names = set(compose.env_names(kept))
        assert set(named) - {""} <= names
        assert names - set(named) <= bare


@pytest.mark.parametrize("name", ["Shop", "-shop", "a b", "", "a" * 64, "ü", None, 3, "a\n", "../x"])
def test_a_name_that_compose_would_refuse_is_refused(name: object) -> None:
    if name == "a\n":
        assert compose.clean_stack_name(name) == "a"
        return
    with pytest.raises(InvalidInput):
        compose.clean_stack_name(name)
