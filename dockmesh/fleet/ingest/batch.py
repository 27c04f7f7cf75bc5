"""The batch endpoint of heartbeats under `manage.py serve`: those that wait are read and taken together.

It answers only what is right and plain. Whatever it leaves alone, the ordinary endpoint in `agent_views.py` answers:
there is the one place that explains refusals.
"""

import logging
import time
from collections.abc import Sequence

import msgspec
from django.conf import settings
from django.db import Error, close_old_connections
from msgspec import UNSET

from dockmesh.core import answered, tally
from dockmesh.core.hosts import is_allowed
from dockmesh.core.http import client
from dockmesh.fleet.ingest.documents import read_plain_heartbeat
from dockmesh.fleet.ingest.heartbeats import ACCEPTED, Beat, record_batch
from dockmesh.server.batch import Posted
from tokens import bearer, secret

logger = logging.getLogger(__name__)

PATH = "/api/v1/agents/heartbeat"

_encode = msgspec.json.Encoder().encode


def application(requests: Sequence[Posted]) -> Sequence[bytes | None]:
    """What the server calls, in the batch endpoint's thread: `answer` on a database connection that is not too old.

    While the database is away, all requests are left to the endpoint, which says so.
    """
    close_old_connections()
    try:
        return answer(requests)
    except Error as error:
        logger.warning("%d heartbeats could not be taken together: %s", len(requests), error)
        return [None] * len(requests)


def answer(requests: Sequence[Posted]) -> Sequence[bytes | None]:
    """The bodies of the answers, in the order of the requests; None where the endpoint is to answer."""
    beats: dict[str, tuple[int, Beat]] = {}
    for at, request in enumerate(requests):
        beat = _beat(request)
        if beat is not None:
            # Of two at once from the same agent the endpoint answers the second.
            beats.setdefault(beat.token.public_id, (at, beat))
    bodies: list[bytes | None] = [None] * len(requests)
    if beats:
        answers = record_batch([beat for _, beat in beats.values()])
        for (at, _), taken in zip(beats.values(), answers, strict=True):
            bodies[at] = None if taken is None else _encode(taken)
        taken_sizes = [
            (request, len(body)) for request, body in zip(requests, bodies, strict=True) if body is not None
        ]
        note_answers(PATH, taken_sizes)
        if taken_sizes:
            tally.events.add(tally.HEARTBEATS, ACCEPTED, count=len(taken_sizes))
    return bodies


def plain_token(request: Posted) -> secret.TokenText | None:
    """The agent's token that the request has; None where it has another one, or anything else is not plain about it."""
    headers = request.headers
    if (
        not is_allowed(headers.get("HOST", ""), tuple(settings.ALLOWED_HOSTS))
        or headers.get("CONTENT_TYPE", "application/json") != "application/json"
        or "CONTENT_ENCODING" in headers
    ):
        return None
    credential = bearer.bearer_of(headers.get("AUTHORIZATION"))
    token = secret.parse(credential.text) if credential is not None else None
    return token if token is not None and token.kind is secret.Kind.AGENT else None


def _beat(request: Posted) -> Beat | None:
    token = plain_token(request)
    if token is None:
        return None
    # The quick form only: whose token it is, is not known yet, and nobody else may cost much.
    heartbeat = read_plain_heartbeat(request.body)
    if heartbeat is None or heartbeat.host is not UNSET or heartbeat.host_id is not UNSET:
        return None
    return Beat(token, heartbeat)


def note_answers(path: str, answered_sizes: Sequence[tuple[Posted, int]]) -> None:
    """These requests were answered here with so many bytes: they are counted, and logged under the client's address."""
    now = time.monotonic()
    noted = []
    for request, size in answered_sizes:
        request.address, scheme = client(
            request.address,
            forwarded_for=request.headers.get("X_FORWARDED_FOR", ""),
            forwarded_proto=request.headers.get("X_FORWARDED_PROTO", ""),
        )
        seconds = now - request.arrived
        noted.append(answered.Answered(scheme or "http", len(request.body), size, seconds))
    answered.note(path, noted)
