"""The containers of one Compose project, as the Engine tells them: which there are, how each fares, what it wrote."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors

from dockmesh.agent.engine import FAILURES
from dockmesh.agent.leftovers import ONE_OFF_LABEL, PROJECT_LABEL, SERVICE_LABEL, asked
from dockmesh.agent.output import Output
from dockmesh.agent.text import clean

# A container without a health check counts as running once it has stayed up for so long.
SETTLE_SECONDS = 5.0
# Docker starts it anew 0.1, 0.2, 0.4 … s after each end: so many starts are no hiccup.
MOST_RESTARTS = 5
LOG_LINES = 30
# Of so many containers the log is shown; more would bury the first.
SHOWN_LOGS = 5

_STAYS_UP = ("always", "unless-stopped")


@dataclass(frozen=True)
class Container:
    """One container of a service, as its inspection tells."""

    id: str
    name: str
    service: str
    image_id: str
    status: str
    health: str
    exit_code: int
    error: str
    restart_policy: str
    restart_count: int
    started_at: str

    @property
    def is_done(self) -> bool:
        """Whether it is a job that has ended well: nothing would have kept it up."""
        return self.status == "exited" and self.exit_code == 0 and self.restart_policy not in _STAYS_UP

    def problem(self, restarts: int) -> str:
        """What is wrong with it in a few words, empty where nothing is; `restarts` are those of this deploy."""
        if restarts >= MOST_RESTARTS:
            return f"{self.name} crashes again and again: {restarts} restarts, {self._last_exit}"
        if self.status == "exited" and not self.is_done:
            return f"{self.name} {self._last_exit}"
        if self.status == "running" and self.health == "unhealthy":
            return f"{self.name} is unhealthy"
        if self.status == "created" and self.error:
            return f"{self.name} could not be started: {self.error}"
        return f"{self.name} is {self.status}" if self.status in ("paused", "dead", "removing") else ""

    @property
    def _last_exit(self) -> str:
        return f"exited with {self.exit_code}" if self.status != "running" else "running for the moment"


class Containers:
    """Reads and removes the containers of the Compose project `stack`; raises one of the Engine's FAILURES."""

    def __init__(self, api: docker.APIClient, stack: str, *, deadline: float) -> None:
        self._api = api
        self._stack = stack
        self._deadline = deadline

    def all(self) -> list[Container]:
        """Those of its services, by name; what `compose run` made is none of them."""
        listed = self._api.containers(all=True, filters={"label": [f"{PROJECT_LABEL}={self._stack}"]})
        found = []
        for item in listed:
            labels = item.get("Labels") or {}
            if labels.get(SERVICE_LABEL) and labels.get(ONE_OFF_LABEL) != "True":
                try:
                    found.append(_container(self._api.inspect_container(item["Id"])))
                except docker.errors.NotFound:
                    continue  # removed since it was listed
        return sorted(found, key=lambda each: each.name)

    def remove(self, containers: Iterable[Container], output: Output) -> None:
        """Stop and remove them; their volumes stay."""
        usual = self._api.timeout
        for each in containers:
            output.line(f" Container {each.name}  Removing")
            # The answer comes when it has ended, for which it may have a long time.
            self._api.timeout = max(usual, self._deadline - time.monotonic())
            try:
                self._api.stop(each.id)
                self._api.remove_container(each.id)
            except docker.errors.NotFound:
                pass  # somebody was quicker
            finally:
                self._api.timeout = usual
            output.line(f" Container {each.name}  Removed")

    def show_logs(self, containers: Iterable[Container], output: Output) -> None:
        """The last lines that these containers wrote, into the output."""
        for each in list(containers)[:SHOWN_LOGS]:
            try:
                raw = self._api.logs(each.id, stdout=True, stderr=True, tail=LOG_LINES)
            except FAILURES as error:
                output.line(f"The log of {each.name} can't be read: {clean(error, limit=300)}")
                continue
            text = raw.decode("utf-8", "replace").strip("\n")
            output.line(f"Last lines of {each.name}:" if text else f"{each.name} wrote nothing.")
            for line in text.splitlines():
                output.line(f"  {line}")

    def image(self, reference: str) -> Mapping[str, Any] | None:
        """The image of this name, digest or id; None where the host has none."""
        try:
            found: Mapping[str, Any] = self._api.inspect_image(reference)
        except docker.errors.NotFound:
            return None
        return found


@contextmanager
def containers_of(docker_host: str, stack: str, *, deadline: float) -> Iterator[Containers]:
    """The containers of the project on that Engine; an Engine that fails meanwhile is a CommandError."""
    with asked(docker_host) as api:
        yield Containers(api, stack, deadline=deadline)


class Watch:
    """Judges whether a project's containers run, look by look, from what they were before."""

    def __init__(self, before: Iterable[Container]) -> None:
        self._settled = {(each.id, each.started_at) for each in before if each.status == "running"}
        self._restarts = {each.id: each.restart_count for each in before}
        self._first_seen: dict[tuple[str, str], float] = {}

    def problems(self, containers: Iterable[Container]) -> list[tuple[Container, str]]:
        """(the container, what is wrong with it), for each with which something is."""
        found = []
        for each in containers:
            earlier = self._restarts.get(each.id, 0)
            # A start by hand has Docker count from 0 again.
            restarts = each.restart_count - earlier if each.restart_count >= earlier else each.restart_count
            if text := each.problem(restarts):
                found.append((each, text))
        return found

    def waits_for(self, containers: Iterable[Container]) -> list[str]:
        """What is not known yet, in words; empty once all run, are healthy or are done."""
        now = time.monotonic()
        waiting = []
        for each in containers:
            start = (each.id, each.started_at)
            if each.is_done or each.health == "healthy":
                continue
            if each.status != "running" or each.health == "starting":
                waiting.append(f"{each.name} is {each.health or each.status}")
            elif (
                start not in self._settled and now - self._first_seen.setdefault(start, now) < SETTLE_SECONDS
            ):
                waiting.append(f"{each.name} has just started")
        return waiting


def _container(inspected: Mapping[str, Any]) -> Container:
    state = inspected.get("State") or {}
    labels = (inspected.get("Config") or {}).get("Labels") or {}
    policy = (inspected.get("HostConfig") or {}).get("RestartPolicy") or {}
    return Container(
        id=str(inspected["Id"]),
        name=clean(str(inspected.get("Name") or "").removeprefix("/")),
        service=clean(labels.get(SERVICE_LABEL)),
        image_id=str(inspected.get("Image") or ""),
        status=str(state.get("Status") or ""),
        health=str((state.get("Health") or {}).get("Status") or "").replace("none", ""),
        exit_code=int(state.get("ExitCode") or 0),
        error=clean(state.get("Error"), limit=300),
        restart_policy=str(policy.get("Name") or "no"),
        restart_count=int(inspected.get("RestartCount") or 0),
        started_at=str(state.get("StartedAt") or ""),
    )
