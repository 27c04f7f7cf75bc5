"""What is there of a Compose project, by the labels of its containers and networks.

Each raises CommandError where the Engine can't be asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker

from dockmesh.agent import listing
from dockmesh.agent.commands import CommandError
from dockmesh.agent.engine import FAILURES, connect, explain

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
ONE_OFF_LABEL = "com.docker.compose.oneoff"


def running(docker_host: str, project: str) -> list[str]:
    """The names of the services' containers that run."""
    with asked(docker_host) as api:
        return [_name(item) for item in _of_services(api.containers(filters=_labelled(project)))]


def anything(docker_host: str, project: str) -> list[str]:
    """The names of all its containers and networks."""
    with asked(docker_host) as api:
        containers = api.containers(all=True, filters=_labelled(project))
        networks = api.networks(filters=_labelled(project))
        return [*(_name(item) for item in containers), *(item["Name"] for item in networks)]


def services(docker_host: str, project: str) -> set[str]:
    """The services that have containers, running or not."""
    with asked(docker_host) as api:
        containers = _of_services(api.containers(all=True, filters=_labelled(project)))
        return {item["Labels"].get(SERVICE_LABEL, "") for item in containers}


@contextmanager
def asked(docker_host: str) -> Iterator[docker.APIClient]:
    """The Engine's API; whatever fails on it is a CommandError."""
    try:
        client = connect(docker_host)
        try:
            yield client.api
        finally:
            client.close()
    except FAILURES as error:
        raise CommandError(explain(error, docker_host)) from None


def _labelled(project: str) -> dict[str, str]:
    return {"label": f"{PROJECT_LABEL}={project}"}


def _of_services(containers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # `compose run` is somebody at work, and no service.
    return [item for item in containers if (item.get("Labels") or {}).get(ONE_OFF_LABEL) != "True"]


def _name(item: dict[str, Any]) -> str:
    return listing.name(item) or str(item.get("Id"))[:12]
