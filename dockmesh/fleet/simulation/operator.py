"""The person at the simulated fleet: adopts some stacks, makes some backup jobs, and has them run now and then.

Uses the REST API with a token, as anybody would; but only on the hosts that this run has enrolled. What else the
server looks after is real.
"""

import random
import threading
from collections.abc import Callable, Collection
from typing import Any

from dockmesh.fleet.simulation.agent import Client, Refused, Unreachable

# One stack in so many is managed, and as many have a backup job; but a few of each at most.
ONE_IN = 10
MOST = 50
DEPLOY_EVERY_SECONDS, BACKUP_EVERY_SECONDS = 20.0, 30.0
LOOK_EVERY_SECONDS = 2.0


class Operator:
    """Works until `stop` is set; `say` is told what it was refused."""

    def __init__(
        self, server: str, token: str, *, host_ids: Collection[int], seed: int, say: Callable[[str], None]
    ) -> None:
        self._client = Client(server)
        self._token = token
        self._host_ids = frozenset(host_ids)
        self._chance = random.Random(f"{seed}/operator")  # noqa: S311 - reproducible, not secret
        self._say = say
        self._stacks: list[int] = []
        self._jobs: list[int] = []

    def run(self, stop: threading.Event) -> None:
        """Wait for the first stacks, take some in hand, then deploy and back up at random times."""
        while not stop.wait(LOOK_EVERY_SECONDS):
            try:
                if self._take_in_hand():
                    break
            except Unreachable:
                continue
            except Refused as refused:
                self._say(f"no deploys and backups are asked for: {refused}")
                return
        # One of each at once, so that there is something to see.
        wait_deploy = wait_backup = 0.0
        while not stop.wait(1.0):
            wait_deploy, wait_backup = wait_deploy - 1.0, wait_backup - 1.0
            if wait_deploy <= 0.0:
                self._ask(self._stacks, "stacks/{}/deploy")
                wait_deploy = self._chance.expovariate(1 / DEPLOY_EVERY_SECONDS)
            if wait_backup <= 0.0:
                self._ask(self._jobs, "backup-jobs/{}/run")
                wait_backup = self._chance.expovariate(1 / BACKUP_EVERY_SECONDS)
        self._client.close()

    def _take_in_hand(self) -> bool:
        """Whether there were stacks to take."""
        found = [stack for host_id in sorted(self._host_ids)[:MOST] for stack in self._stacks_of(host_id)]
        if not found:
            return False
        count = min(max(len(found) // ONE_IN, 1), MOST)
        for stack in self._chance.sample(found, count):
            self._post(f"stacks/{stack['id']}/adopt", {"compose_file": _compose_file(stack["name"])})
            self._stacks.append(stack["id"])
            job = {
                "name": f"{stack['name']} on {stack['host']['name']}",
                "host": stack["host"]["id"],
                "source_kind": "volumes",
                "stack_name": stack["name"],
                "repository": "offsite",
            }
            self._jobs.append(self._post("backup-jobs", job)["id"])
        return True

    def _stacks_of(self, host_id: int) -> list[dict[str, Any]]:
        query = f"stacks?host={host_id}&is_managed=false&state=running&page_size=500"
        stacks = self._client.get(query, token=self._token)["results"]
        # A server that does not know this filter must not make a real stack one of ours.
        return [stack for stack in stacks if stack["host"]["id"] in self._host_ids]

    def _ask(self, ids: list[int], path: str) -> None:
        """Ask for one at random. Where one runs already it is left alone."""
        try:
            self._post(path.format(self._chance.choice(ids)), {})
        except (Refused, Unreachable):
            return

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._client.post(path, body, token=self._token)


def _compose_file(stack: str) -> str:
    return f"services:\n  app:\n    image: {stack}:latest\n    restart: unless-stopped\n"
