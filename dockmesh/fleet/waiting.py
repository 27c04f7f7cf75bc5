"""The agents' waiting requests through `manage.py serve`: parked until there is a command for the host.

What is admitted, is of a host whose agent's token is right; whatever else comes, and whoever is handed commands, is
answered by the endpoint in `agent_views.py`.
"""

import logging
from collections.abc import Collection, Hashable, Sequence

from django.db import Error, close_old_connections

from dockmesh.core.errors import DomainError
from dockmesh.fleet import commands
from dockmesh.fleet.agents import known_agents
from dockmesh.fleet.ingest.batch import note_answers, plain_token
from dockmesh.fleet.ingest.documents import read_wait
from dockmesh.server.batch import Posted
from dockmesh.server.parking import Application
from tokens import secret

logger = logging.getLogger(__name__)

PATH = "/api/v1/agents/wait"
NOTHING = b'{"commands":[]}'


def admit(requests: Sequence[Posted]) -> Sequence[Hashable | None]:
    """The hosts that the requests are of; None where the endpoint is to answer. One query."""
    tokens = [_token(request) for request in requests]
    known = [token for token in tokens if token is not None]
    try:
        agents = iter(known_agents(known)) if known else iter(())
    except Error as error:
        logger.warning("%d agents can't wait: %s", len(requests), error)
        return [None] * len(requests)
    found = [next(agents) if token is not None else None for token in tokens]
    return [agent.host_id if agent is not None else None for agent in found]


def note(requests: Sequence[Posted], size: int) -> None:
    """Count those that were answered with nothing."""
    note_answers(PATH, [(request, size) for request in requests])


def _admit(requests: Sequence[Posted]) -> Sequence[Hashable | None]:
    close_old_connections()
    return admit(requests)


def _ready() -> Collection[Hashable]:
    close_old_connections()
    return commands.hosts_with_news()


# What the server calls, in the parking's thread, on a database connection that is not too old.
APPLICATION = Application(_admit, _ready, note)


def _token(request: Posted) -> secret.TokenText | None:
    token = plain_token(request)
    try:
        read_wait(request.body)
    except DomainError:
        return None
    return token
