"""The agents' endpoints: plain Django views, since a heartbeat has no time for more."""

import logging
import uuid
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import msgspec
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from dockmesh.core import busy, tally
from dockmesh.core.errors import DomainError, Forbidden, NotFound
from dockmesh.core.problems import answer_for, problem_answer
from dockmesh.core.strictjson import MAX_INTEGER
from dockmesh.env import digits
from dockmesh.fleet import commands, services
from dockmesh.fleet.agents import Agent, authenticate
from dockmesh.fleet.ingest.documents import (
    Heartbeat,
    read_enrollment,
    read_heartbeat,
    read_log_piece,
    read_result,
    read_wait,
)
from dockmesh.fleet.ingest.heartbeats import record_heartbeat
from dockmesh.fleet.services import logs
from tokens import bearer, refusals

logger = logging.getLogger(__name__)

View = Callable[..., HttpResponse]


def agent_endpoint(view: View) -> View:
    """POST of a JSON body by a program with a bearer token of its own; every refusal is a problem answer."""

    @csrf_exempt
    @wraps(view)
    def endpoint(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if request.method != "POST":
            return problem_answer(405, "Only POST is allowed here.", headers={"Allow": "POST"})
        try:
            return view(request, **kwargs)
        except bearer.Refused as refused:
            return bearer.refusal_response(refused)
        except DomainError as error:
            return answer_for(error)
        except RequestDataTooBig:
            return problem_answer(413, f"The body is over {settings.DOCKMESH_MAX_BODY_BYTES} bytes.")
        except (OperationalError, InterfaceError) as error:
            detail, seconds = busy.in_words(error)
            logger.error("%s (%s)", detail, error)
            return problem_answer(503, detail, headers={"Retry-After": seconds})

    setattr(endpoint, "methods", ("post",))  # noqa: B010  (read by metrics.routes)
    return endpoint


class _UnsupportedMedia(DomainError):
    status = 415
    title = "Unsupported media type"


@agent_endpoint
def enroll(request: HttpRequest) -> HttpResponse:
    """`POST /api/v1/agents/enroll`: an enrollment token for a host and its agent's token."""
    address = request.META.get("REMOTE_ADDR", "")
    try:
        token = services.authenticate_enrollment(request.headers.get("Authorization"), address=address)
        document = read_enrollment(_body(request))
        host, agent_token = services.enroll(
            token=token, hostname=document.hostname, labels=document.labels, address=address
        )
    except bearer.Refused as refused:
        refusals.note_visitor(address, why=f"enrollment: {refused.reason.value}", path=request.path)
        raise
    answer = _json(
        {
            "host": {"id": host.pk, "name": host.name},
            "agent_token": agent_token,
            "is_renewal": token.is_renewal,
            "heartbeat_interval_seconds": settings.DOCKMESH_HEARTBEAT_INTERVAL,
        },
        status=201,
    )
    answer["Cache-Control"] = "no-store"
    return answer


def _counted(view: View) -> View:
    """Counts how heartbeats end: as the answer's status says, refused or failed."""

    @wraps(view)
    def endpoint(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        result = "failed"
        try:
            answer = view(request, **kwargs)
            if answer.status_code < 500:
                result = getattr(answer, "heartbeat_status", "refused")
            return answer
        finally:
            tally.events.add(tally.HEARTBEATS, result)

    return endpoint


@_counted
@agent_endpoint
def heartbeat(request: HttpRequest) -> HttpResponse:
    """`POST /api/v1/agents/heartbeat`."""
    agent = _agent(request)
    document = read_heartbeat(_body(request))
    _check_identity(agent, document)
    try:
        answer = record_heartbeat(agent=agent, heartbeat=document, is_numbered=_knows_numbers_only(request))
    except NotFound:
        # Removed since the token was looked up: from now on the token is unknown.
        raise bearer.bad_token(bearer.Reason.UNKNOWN, address=agent.address) from None
    response = _json(answer)
    setattr(response, "heartbeat_status", answer.status)  # noqa: B010  (read by `_counted`)
    return response


@agent_endpoint
def wait(request: HttpRequest) -> HttpResponse:
    """`POST /api/v1/agents/wait`: the commands that are queued for the host now.

    Where there are none, `manage.py serve` parks the request before it comes here (`waiting.py`); under another server
    the answer is there at once, and the agent comes again a little later.
    """
    agent = _agent(request)
    read_wait(_body(request))
    offers: Sequence[dict[str, Any]] = ()
    if agent.has_commands:
        try:
            offers = commands.fetch(host_id=agent.host_id, is_numbered=_knows_numbers_only(request))
        except NotFound:
            raise bearer.bad_token(bearer.Reason.UNKNOWN, address=agent.address) from None
    return _json({"commands": offers})


@agent_endpoint
def command_result(request: HttpRequest, id: str) -> HttpResponse:
    """`POST /api/v1/agents/commands/{id}/result`: `accepted`, or `known` for a report sent again."""
    agent = _agent(request)
    result, document = read_result(_body(request))
    try:
        is_new = commands.finish(
            host_id=agent.host_id,
            key=_command_key(id),
            result=commands.CommandResult(
                is_success=result.result == "success",
                duration_seconds=result.duration_seconds,
                exit_code=result.exit_code,
                output=result.output,
                error=result.error,
                document=document,
            ),
        )
    except Forbidden:
        refusals.note(agent.principal, why="the result of another host's command", path=request.path)
        raise
    return _json({"status": "accepted" if is_new else "known"})


@agent_endpoint
def log_piece(request: HttpRequest, id: str) -> HttpResponse:
    """`POST /api/v1/agents/logs/{id}`: lines for whoever reads that log; whether to go on, and after how long."""
    agent = _agent(request)
    piece = read_log_piece(_body(request))
    try:
        session_id = uuid.UUID(id)
    except ValueError:
        raise NotFound("There is no such reading of a log.") from None
    pause = logs.take_piece(
        host_id=agent.host_id, session_id=session_id, number=piece.number, text=piece.text
    )
    return _json({"status": "end"} if pause is None else {"status": "go_on", "pause_seconds": pause})


def _knows_numbers_only(request: HttpRequest) -> bool:
    """Whether this is dockmesh's own agent of the version before, which takes no command whose id is not a number.

    It sends nothing else that tells it from a program that knows the protocol as it is.
    """
    name = request.META.get("HTTP_USER_AGENT", "")
    return name.startswith("dockmesh-agent/") and "command-uuids" not in name


def _command_key(text: str) -> commands.Key:
    if (number := digits(text, most=MAX_INTEGER)) is not None:
        return number
    try:
        return uuid.UUID(text)
    except ValueError:
        raise NotFound("There is no such command.") from None


def _agent(request: HttpRequest) -> Agent:
    return authenticate(request.META.get("HTTP_AUTHORIZATION"), address=request.META.get("REMOTE_ADDR", ""))


def _body(request: HttpRequest) -> bytes:
    """The JSON body, uncompressed and within the limit."""
    encoding = request.META.get("HTTP_CONTENT_ENCODING", "")
    if encoding and encoding.lower() != "identity":
        raise _UnsupportedMedia("The body must not be compressed.")
    if request.content_type not in ("application/json", ""):
        raise _UnsupportedMedia("The body must be application/json.")
    return request.body


def _check_identity(agent: Agent, document: Heartbeat) -> None:
    """The token says which host this is; a document that names another is refused, and that is audited."""
    named = document.host if isinstance(document.host, dict) else {"": document.host}
    claims = [document.host_id, named.get("id"), named.get("name"), named.get("")]
    own = {agent.host_id, str(agent.host_id), agent.host_name}
    for claim in claims:
        if isinstance(claim, int | str) and claim not in own:
            refusals.note(agent.principal, why="reports as another host", path="/api/v1/agents/heartbeat")
            raise Forbidden("The token is another host's.")


_encode = msgspec.json.Encoder().encode


def _json(body: object, *, status: int = 200) -> HttpResponse:
    return HttpResponse(_encode(body), status=status, content_type="application/json")
