"""Brings a stack up, and says what doing so would change.

Compose's own `up --wait` is not used: it calls a job that ended well a failure and a container that crashes after
its start a success. So Compose starts the containers, and they are looked at here until it is known.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Optional

from dockmesh.agent import images
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.containers import Container, Containers, Watch, containers_of
from dockmesh.agent.document import JSON
from dockmesh.agent.images import Service
from dockmesh.agent.process import Ended

LOOK_SECONDS = 0.5
_KEPT_VOLUME = "exists but doesn't match configuration"
UNTOUCHED = "nothing was changed"


# Calls Compose on the stack's files. With a function for its output only its errors go into the command's.
Compose = Callable[[Sequence[str], Optional[Callable[[str], None]]], Ended]


@dataclass(frozen=True)
class Removal:
    """Containers of one service that a deploy would remove without replacing them."""

    service: str
    containers: tuple[Container, ...]
    # Of how many of them; fewer than there are where the file only asks for fewer.
    count: int

    @property
    def is_whole(self) -> bool:
        return self.count == len(self.containers)

    def document(self) -> JSON:
        return {
            "service": self.service,
            "containers": [each.name for each in self.containers],
            "count": self.count,
        }

    def __str__(self) -> str:
        names = ", ".join(each.name for each in self.containers)
        return f"{self.service} ({names})" if self.is_whole else f"{self.count} of {self.service} ({names})"


class Rollout:
    """One `up` of a stack. `lay_over` lays a Compose file over the stack's own for the calls that follow."""

    def __init__(
        self,
        command: Run,
        compose: Compose,
        *,
        stack: str,
        docker_host: str,
        lay_over: Callable[[str], None],
    ) -> None:
        self._command = command
        self._compose = compose
        self._stack = stack
        self._docker_host = docker_host
        self._lay_over = lay_over

    def preview(self) -> JSON:
        """Write what Compose would do; the result names the services and what would be removed."""
        services, known = self._services()
        with self._containers() as found:
            removals = _removals(found.all(), services, known)
            _, built = images.to_fetch(services, found)
        self._step("--dry-run", "up", "--detach")
        if built:
            self._command.output.line(
                f"Would be built: {', '.join(built)}; made anew where the image becomes another one."
            )
        for each in removals:
            self._command.output.line(f"Would be removed, once that is confirmed: {each}")
        return _described(services, removals)

    def run(self) -> JSON:
        """Bring the stack up; the result has what ran. Raises CommandError, whose details say what was changed."""
        details: JSON = {}
        with self._containers() as found:
            with untouched(details):
                services, known = self._services()
                before = found.all()
                removals = _removals(before, services, known)
                details |= _described(services, removals)
                wanted = images.pins(self._command.payload.get("images", []))
                services = self._with_pins(services, wanted, found)
                self._fetch(services, found)
                self._check(removals)
            try:
                self._start(found, services, removals, before)
            except CommandError as error:
                details["is_changed"] = _starts(found.all()) != _starts(before)
                text = str(error) if details["is_changed"] else f"{error}; {UNTOUCHED}"
                raise CommandError(text, exit_code=error.exit_code, details=details) from None
            after = found.all()
            return {
                **details,
                "is_changed": _starts(after) != _starts(before),
                "images": images.what_runs(after, services, found, self._command.output),
            }

    def _containers(self) -> AbstractContextManager[Containers]:
        return containers_of(self._docker_host, self._stack, deadline=self._command.deadline)

    def _services(self) -> tuple[list[Service], set[str]]:
        """(the services that `up` is about, the names of all that the file has, of other profiles too)."""
        services = self._config()
        everything = self._config("--profile", "*")
        return (
            [_service(name, body, self._stack) for name, body in services.items()],
            {*services, *everything},
        )

    def _config(self, *options: str) -> Mapping[str, Any]:
        text: list[str] = []
        ended = self._compose([*options, "config", "--format", "json"], text.append)
        _raise_unless_done(ended, "config", UNTOUCHED)
        try:
            services = json.loads("".join(text))["services"]
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(
                f"Compose's own reading of the file can't be read: {error}; {UNTOUCHED}"
            ) from None
        return services if isinstance(services, dict) else {}

    def _with_pins(
        self, services: list[Service], wanted: Mapping[str, images.Pin], found: Containers
    ) -> list[Service]:
        if not wanted:
            return services
        exact = images.pinned(services, wanted, found)
        self._lay_over(json.dumps(images.override(services, exact), indent=1) + "\n")
        for each in exact:
            if each.name in wanted:
                self._command.output.line(f"{each.name}: {each.image}")
        return exact

    def _fetch(self, services: Sequence[Service], found: Containers) -> None:
        pulled, built = images.to_fetch(services, found)
        for action, names in (("pull", pulled), ("build", built)):
            if names:
                self._step(action, *names, after=UNTOUCHED)

    def _check(self, removals: Sequence[Removal]) -> None:
        """Refuse to remove what nobody has confirmed."""
        confirmed = self._command.payload.get("remove", [])
        if not isinstance(confirmed, list):
            raise CommandError("payload: remove must be a list of services")
        refused = [each for each in removals if each.service not in confirmed]
        if refused:
            raise CommandError(
                f"This would remove {'; '.join(map(str, refused))}, which was not confirmed; {UNTOUCHED}"
            )

    def _start(
        self,
        found: Containers,
        services: Sequence[Service],
        removals: Sequence[Removal],
        before: Sequence[Container],
    ) -> None:
        # What has become one fewer is left to Compose, which knows which of them it can do without.
        for each in removals:
            if each.is_whole:
                found.remove(each.containers, self._command.output)
        seen: list[str] = []

        def note(text: str) -> None:
            seen.append(text)
            self._command.output.write(text)

        ended = self._compose(["up", "--detach", "--no-build", "--pull", "missing"], note)
        if _KEPT_VOLUME in "".join(seen):
            self._command.output.line("No: a volume is never made anew, since its data would be lost.")
        _wait(self._command, found, before, ended, services={each.name for each in services})
        there = {each.service for each in found.all()}
        absent = [each.name for each in services if each.image and each.replicas and each.name not in there]
        if absent:
            raise CommandError(f"There is no container of {', '.join(absent)}")

    def _step(self, *arguments: str, after: str = "") -> None:
        ended = self._compose(arguments, None)
        _raise_unless_done(ended, arguments[0].removeprefix("--"), after)


@contextmanager
def untouched(details: JSON) -> Iterator[None]:
    """What goes wrong in here has changed nothing: a CommandError says so in its details, beside these."""
    try:
        yield
    except CommandError as error:
        error.details = {**details, "is_changed": False}
        raise


def wait_until_up(command: Run, stack: str, *, docker_host: str, services: Collection[str] | None) -> None:
    """After a restart of these services (None: of all) wait until they run, are healthy or are done.

    Raises CommandError where one is not.
    """
    with containers_of(docker_host, stack, deadline=command.deadline) as found:
        _wait(command, found, (), None, services=services)


def _wait(
    command: Run,
    found: Containers,
    before: Sequence[Container],
    ended: Ended | None,
    *,
    services: Collection[str] | None,
) -> None:
    """Look until all run, one is in trouble, or the time is over; `ended` is how `up` ended.

    Other services than these, of a profile that is not active, were not touched and don't count.
    """
    watch = Watch(before)
    failure = _failure(ended, "up") if ended else ""
    while True:
        containers = [each for each in found.all() if services is None or each.service in services]
        problems = watch.problems(containers)
        if problems or failure:
            found.show_logs([each for each, _ in problems], command.output)
            reasons = [text for _, text in problems]
            raise CommandError(
                "; ".join([failure, *reasons] if failure else reasons),
                exit_code=ended.exit_code if ended and failure else None,
            )
        waiting = watch.waits_for(containers)
        if not waiting:
            break
        if time.monotonic() >= command.deadline:
            found.show_logs(_named(containers, waiting), command.output)
            raise CommandError(f"time limit reached: {'; '.join(waiting)}")
        if command.cancelled.wait(LOOK_SECONDS):
            raise CommandError(f"{command.cancelled.reason} while the containers were waited for")
    for each in containers:
        if each.is_done:
            command.output.line(f"{each.name} has ended with 0: it is done.")


def _removals(containers: Sequence[Container], services: Sequence[Service], known: set[str]) -> list[Removal]:
    wanted = {each.name: each.replicas for each in services}
    there: dict[str, list[Container]] = {}
    for each in containers:
        there.setdefault(each.service, []).append(each)
    found = []
    for name, members in there.items():
        # A service of a profile that is not active stays as it is.
        left = wanted.get(name, len(members)) if name in known else 0
        if left < len(members):
            found.append(Removal(name, tuple(members), len(members) - left))
    return found


def _service(name: str, body: Mapping[str, Any], stack: str) -> Service:
    is_built = bool(body.get("build"))
    replicas = body.get("scale")
    if replicas is None:
        replicas = (body.get("deploy") or {}).get("replicas")
    return Service(
        name=name,
        image=str(body.get("image") or (f"{stack}-{name}" if is_built else "")),
        is_built=is_built,
        pull_policy=str(body.get("pull_policy") or ""),
        replicas=1 if replicas is None else int(replicas),
    )


def _described(services: Sequence[Service], removals: Sequence[Removal]) -> JSON:
    return {
        "services": [each.name for each in services],
        "removes": [each.document() for each in removals],
    }


def _starts(containers: Sequence[Container]) -> set[tuple[str, str]]:
    return {(each.id, each.started_at) for each in containers}


def _named(containers: Sequence[Container], waiting: Sequence[str]) -> list[Container]:
    return [each for each in containers if any(text.startswith(f"{each.name} ") for text in waiting)]


def _failure(ended: Ended, what: str) -> str:
    if ended.reason:
        return f"{what}: {ended.reason}"
    return "" if ended.exit_code == 0 else f"{what}: ended with exit code {ended.exit_code}"


def _raise_unless_done(ended: Ended, what: str, after: str) -> None:
    if failure := _failure(ended, what):
        raise CommandError(f"{failure}; {after}" if after else failure, exit_code=ended.exit_code)
