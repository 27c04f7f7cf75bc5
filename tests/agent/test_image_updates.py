"""Newer images: against a real Engine and a real registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent import image_updates
from dockmesh.agent.document import container
from dockmesh.agent.image_updates import EVERY_SECONDS, ImageUpdates
from tests.integration.dockerd import IMAGE, DockerEngine
from tests.integration.registry import image_registry

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with image_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


class Place:
    def __init__(self, folder: Path, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = engine
        self.path = folder / "images.json"
        self.now = 1_800_000_000.0
        self.changes = 0
        monkeypatch.setattr("dockmesh.agent.image_updates.time.time", lambda: self.now)
        self.updates = self.made()

    def made(self) -> ImageUpdates:
        return ImageUpdates(
            self.engine.host,
            self.path,
            containers=self.containers,
            on_change=self.changed,
            first_within_seconds=0,
        )

    def containers(self) -> list[dict[str, Any]]:
        with self.engine.client() as client:
            return [container(each.attrs) for each in client.containers.list(all=True)]

    def changed(self) -> None:
        self.changes += 1

    def look(self) -> dict[str, bool | None]:
        self.updates.look()
        return {each["image"]: each["is_update_available"] for each in self.updates.found or ()}

    def push(self, name: str, word: str) -> None:
        """Make the tag mean an image of its own in the registry; the one that is here stays."""
        with self.engine.client() as client:
            kept = [client.images.get(name)] if client.images.list(name) else []
            made = client.containers.create(IMAGE, ["true"], network_mode="none")
            repository, _, tag = name.rpartition(":")
            made.commit(repository, tag, changes=[f"LABEL word={word}"])
            made.remove()
            assert "errorDetail" not in client.images.push(repository, tag)
            client.images.remove(name)
            for image in kept:
                image.tag(repository, tag)

    def run(self, image: str, name: str) -> None:
        with self.engine.client() as client:
            client.containers.run(image, ["sleep", "600"], name=name, detach=True, network_mode="none")

    def pull(self, image: str) -> None:
        with self.engine.client() as client:
            client.images.pull(image)

    def remove(self, name: str) -> None:
        with self.engine.client() as client:
            client.containers.get(name).remove(force=True)


@pytest.fixture
def place(tmp_path: Path, docker_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, docker_engine, monkeypatch)


def test_a_newer_image_is_seen_and_gone_with_the_deploy_that_takes_it(place: Place, registry: str) -> None:
    image = f"{registry}/shop/web:1"
    place.push(image, "one")
    place.pull(image)
    place.run(image, "web")
    # Built here, an id, pinned: nothing that a registry could have anew.
    place.run(IMAGE, "local")
    assert place.look() == {image: False}
    place.push(image, "two")
    # The registry is asked again in its time, also after a restart of the agent, and not before.
    place.now += EVERY_SECONDS * 0.99
    assert place.look() == {image: False}
    place.updates = place.made()
    assert place.look() == {image: False}
    place.now += EVERY_SECONDS * 0.27
    assert place.look() == {image: True}
    # What runs decides, not what was fetched.
    place.pull(image)
    assert place.look() == {image: True}
    place.remove("web")
    assert place.look() == {}
    place.run(image, "web")
    place.now += EVERY_SECONDS * 1.26
    changes = place.changes
    assert place.look() == {image: False}
    assert place.changes == changes + 1
    place.look()
    assert place.changes == changes + 1


def test_a_registry_that_does_not_know_it_is_said(place: Place, registry: str) -> None:
    image = f"{registry}/shop/gone:1"
    place.push(image, "one")
    place.pull(image)
    place.run(image, "web")
    assert place.look() == {image: False}
    with place.engine.client() as client:
        client.images.get(image).tag(f"{registry}/shop/gone", "never")
    place.remove("web")
    place.run(f"{registry}/shop/gone:never", "web")
    assert place.look() == {f"{registry}/shop/gone:never": None}
    assert place.updates.found is not None
    (told,) = place.updates.found
    assert "never" in told["error"] or "unknown" in told["error"]


@pytest.mark.parametrize(
    ("image", "is_name"),
    [
        ("nginx", True),
        ("nginx:1.27", True),
        ("registry.example:5000/a/b_c:v1.2-x", True),
        ("sha256:" + "a" * 64, False),
        ("a" * 64, False),
        ("nginx@sha256:" + "a" * 64, False),
        ("", False),
        ("-x", False),
        ("a b", False),
        ("../x?y", False),
    ],
)
def test_what_can_be_asked_for(image: str, is_name: bool) -> None:
    assert image_updates._is_name(image) is is_name


def test_a_file_that_is_broken_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    for text in ("", "[]", '{"nginx": {"no": 1}}', '{"nginx": 3}', "\x00"):
        path.write_text(text)
        assert image_updates._read(path) == {}
