"""What Docker keeps on disk: images, containers, volumes and build cache, with what can be had back.

To find it Docker walks all volumes, which may take long: it is asked seldom, in a thread of its own and with a limit,
and no more where it doesn't answer within it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import requests

from dockmesh.agent.cgroups import amount
from dockmesh.agent.document import JSON
from dockmesh.agent.engine import FAILURES, Engine, EngineError
from dockmesh.agent.text import clean

log = logging.getLogger("dockmesh.agent")

EVERY_SECONDS = 300.0
# So that hosts that start together do not walk their disks together.
FIRST_WITHIN_SECONDS = 10.0
ANSWER_SECONDS = 30.0
# Where it takes long it is asked less often: for one part in so many of the time.
SHARE = 50
MOST_FAILURES = 3
# The server takes no more.
MOST_VOLUMES = 5000
_PATH = "/system/df"
_UP = ("running", "paused", "restarting")
# Engines whose API is 1.52 or newer sum up themselves.
_SUMS = {
    "images": "ImageUsage",
    "containers": "ContainerUsage",
    "volumes": "VolumeUsage",
    "build_cache": "BuildCacheUsage",
}


class DiskWatcher:
    """A thread that asks; `latest` is what it knows, None while it knows nothing."""

    def __init__(
        self,
        docker_host: str,
        *,
        measures_volumes: bool,
        every_seconds: float = EVERY_SECONDS,
        first_within_seconds: float = FIRST_WITHIN_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._docker_host = docker_host
        self._measures_volumes = measures_volumes
        self._every_seconds = every_seconds
        self._first_within = first_within_seconds
        self._answer_seconds = answer_seconds
        self._failures = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self.latest: JSON | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        wait = random.uniform(0, self._first_within)  # noqa: S311 - jitter
        while not self._stopping.wait(wait):
            began = time.monotonic()
            try:
                self._look()
            except Exception:
                log.exception("Measuring Docker's disk failed in an unexpected way")
            wait = max(self._every_seconds, SHARE * (time.monotonic() - began))
            if self._failures >= MOST_FAILURES:
                return

    def _look(self) -> None:
        try:
            with Engine.open(self._docker_host) as engine:
                # Newer Engines name the volumes only then.
                parameters = {"verbose": "true"} if self._measures_volumes else {}
                answer = engine.get(_PATH, timeout=self._answer_seconds, **parameters)
            if not isinstance(answer, Mapping):
                raise EngineError(_PATH, 200, "the answer is not an object")
            self.latest = disk(answer, measures_volumes=self._measures_volumes)
            self._failures = 0
        except EngineError as error:
            # What is forbidden stays so; else it may be busy, as with the question before.
            self._failed(str(error), MOST_FAILURES if error.status in (401, 403, 404) else 1)
        except requests.exceptions.Timeout:
            self._failed(f"GET {_PATH}: no answer within {self._answer_seconds:.0f} s", 1)
        except FAILURES as error:
            log.debug("Docker's disk could not be measured: %s", error)

    def _failed(self, reason: str, weight: int) -> None:
        self._failures += weight
        if self._failures >= MOST_FAILURES:
            self.latest = None
            log.warning("Docker's disk is not measured until the agent is started again: %s", reason)


def disk(answer: Mapping[str, Any], *, measures_volumes: bool) -> JSON:
    """For each kind its bytes and those that can be had back, counted as `docker system df` counts them."""
    if any(key in answer for key in _SUMS.values()):
        sums = {kind: _mapping(answer.get(key)) for kind, key in _SUMS.items()}
        said: JSON = {
            kind: [amount(each.get("TotalSize", 0)), amount(each.get("Reclaimable", 0))]
            for kind, each in sums.items()
        }
        volumes = _mappings(sums["volumes"].get("Items"))
    else:
        volumes = _mappings(answer.get("Volumes"))
        said = {
            "images": _images(answer),
            "containers": _containers(_mappings(answer.get("Containers"))),
            "volumes": _volumes(volumes),
            "build_cache": _build_cache(_mappings(answer.get("BuildCache"))),
        }
    if measures_volumes:
        sizes = sorted((clean(each.get("Name")), _size(each)) for each in volumes)
        said["each_volume"] = {name: size for name, size in sizes[:MOST_VOLUMES] if name and size is not None}
    return said


def _images(answer: Mapping[str, Any]) -> list[int | None]:
    total = amount(answer.get("LayersSize"))
    if total is None:
        return [None, None]
    used = 0
    for image in _mappings(answer.get("Images")):
        size, shared = amount(image.get("Size")), amount(image.get("SharedSize"))
        if image.get("Containers") != 0 and size is not None and shared is not None:
            used += size - shared
    return [total, max(total - used, 0)]


def _containers(containers: list[Mapping[str, Any]]) -> list[int | None]:
    sizes = [(amount(each.get("SizeRw")) or 0, each.get("State") in _UP) for each in containers]
    return [sum(size for size, _ in sizes), sum(size for size, is_up in sizes if not is_up)]


def _volumes(volumes: list[Mapping[str, Any]]) -> list[int | None]:
    return [
        _sum(_size(each) for each in volumes),
        _sum(_size(each) for each in volumes if _mapping(each.get("UsageData")).get("RefCount") == 0),
    ]


def _build_cache(records: list[Mapping[str, Any]]) -> list[int | None]:
    own = [each for each in records if not each.get("Shared")]
    return [
        _sum(amount(each.get("Size")) for each in own),
        _sum(amount(each.get("Size")) for each in own if not each.get("InUse")),
    ]


def _size(volume: Mapping[str, Any]) -> int | None:
    """-1 is what Docker says where it can't tell, as of other drivers' volumes."""
    return amount(_mapping(volume.get("UsageData")).get("Size"))


def _sum(sizes: Iterable[int | None]) -> int:
    return sum(size or 0 for size in sizes)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
