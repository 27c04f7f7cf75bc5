"""Whether the registries have newer images than those that run here.

The agent asks its own Engine (GET /distribution/{name}/json), which asks the registry; the credentials are those of
the Docker CLI on this host. A registry is asked at most every `EVERY_SECONDS` for each image name, also over restarts
of the agent: what it answered is in a file. What runs here is compared with that at each look.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import docker
import docker.errors

from dockmesh.agent.document import JSON, iso
from dockmesh.agent.engine import FAILURES, connect
from dockmesh.agent.text import IMAGE_BYTES, clean

log = logging.getLogger("dockmesh.agent")

EVERY_SECONDS = 6 * 3600.0
LOOK_SECONDS = 60.0
# A new image name is asked for within this time, so that hosts that start together do not ask together.
FIRST_WITHIN_SECONDS = 300.0
ANSWER_SECONDS = 30.0
# So many names a host; the server takes no more.
MOST_IMAGES = 200
ERROR_BYTES = 200

_NAME = re.compile(r"[a-zA-Z0-9][\w.:/-]{0,499}", re.ASCII)
_ID = re.compile(r"(sha256:)?[0-9a-f]{12,64}")


@dataclass
class _Answer:
    """What a registry said of a name, and when (Unix time) it may be asked again."""

    next_at: float
    checked_at: float = 0.0
    digest: str = ""
    error: str = ""


class ImageUpdates:
    """A thread that looks; `found` is what it knows, for the next heartbeat."""

    def __init__(
        self,
        docker_host: str,
        path: Path,
        *,
        containers: Callable[[], Iterable[Mapping[str, Any]] | None],
        on_change: Callable[[], None],
        first_within_seconds: float = FIRST_WITHIN_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._docker_host = docker_host
        self._path = path
        self._containers = containers
        self._on_change = on_change
        self._first_within = first_within_seconds
        self._look_seconds = look_seconds
        self._answers = _read(path)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="image-updates", daemon=True)
        # None until the images have been looked at.
        self.found: tuple[JSON, ...] | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The thread ends by itself when its present question is answered."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except FAILURES as error:
                log.debug("The images could not be looked at: %s", error)
            except Exception:
                log.exception("Looking for newer images failed in an unexpected way")
            self._stopping.wait(self._look_seconds)

    def look(self) -> None:
        """Compare what runs with what the registries have, and ask those that are due. Raises one of FAILURES."""
        containers = self._containers()
        if containers is None:
            return
        used: dict[str, set[str]] = {}
        for each in containers:
            name = str(each["image"])
            if _is_name(name) and len(used) < MOST_IMAGES:
                used.setdefault(name, set()).add(str(each.get("image_digest") or ""))
        client = connect(self._docker_host, timeout=ANSWER_SECONDS)
        try:
            found = []
            for name, ids in sorted(used.items()):
                if self._stopping.is_set():
                    return
                here = [_digests(client.api, identity) for identity in sorted(ids)]
                # An image that no registry has ever had under a name was built here.
                if all(here) and (answer := self._answer(client.api, name)) is not None:
                    found.append(_told(name, answer, here))
        finally:
            client.close()
        if gone := self._answers.keys() - used.keys():
            for name in gone:
                del self._answers[name]
            _write(self._path, self._answers)
        if tuple(found) != self.found:
            self.found = tuple(found)
            self._on_change()

    def _answer(self, api: docker.APIClient, name: str) -> _Answer | None:
        """What the registry said of the name; None before it has been asked."""
        now = time.time()
        answer = self._answers.get(name)
        if answer is None:
            answer = _Answer(now + random.uniform(0, self._first_within))  # noqa: S311 - jitter
            self._answers[name] = answer
            _write(self._path, self._answers)
        # A clock that was set back must not silence it for long.
        if answer.next_at <= now or answer.next_at > now + 2 * EVERY_SECONDS:
            answer.next_at = now + EVERY_SECONDS * random.uniform(1, 1.25)  # noqa: S311 - jitter
            answer.checked_at = now
            try:
                said = api.inspect_distribution(name)
                answer.digest, answer.error = str(said["Descriptor"]["digest"]), ""
            except docker.errors.APIError as error:
                answer.digest, answer.error = "", clean(error.explanation or error, limit=ERROR_BYTES)
            except FAILURES as error:
                answer.digest, answer.error = "", clean(error, limit=ERROR_BYTES)
            _write(self._path, self._answers)
        return answer if answer.checked_at else None


def _is_name(image: str) -> bool:
    """Whether it is a name that may come to mean another image: neither an id nor pinned by its digest."""
    return "@" not in image and _NAME.fullmatch(image) is not None and _ID.fullmatch(image) is None


def _digests(api: docker.APIClient, identity: str) -> set[str]:
    """The digests under which registries know the image with this id; empty for one that was built here."""
    try:
        image = api.inspect_image(identity)
    except (docker.errors.NotFound, docker.errors.NullResource):
        return set()
    return {str(each).rpartition("@")[2] for each in image.get("RepoDigests") or ()}


def _told(name: str, answer: _Answer, here: Iterable[set[str]]) -> JSON:
    return {
        "image": clean(name, limit=IMAGE_BYTES),
        "is_update_available": any(answer.digest not in each for each in here) if answer.digest else None,
        "checked_at": iso(datetime.fromtimestamp(answer.checked_at, timezone.utc)),
        "error": answer.error,
    }


def _read(path: Path) -> dict[str, _Answer]:
    try:
        kept = json.loads(path.read_text())
        return {str(name): _Answer(**answer) for name, answer in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(path: Path, answers: Mapping[str, _Answer]) -> None:
    text = json.dumps({name: asdict(answer) for name, answer in answers.items()}, sort_keys=True)
    new = path.with_suffix(".new")
    try:
        new.write_text(text)
        os.replace(new, path)
    except OSError as error:
        log.warning("What registries said of images can't be kept in %s: %s", path, error)
