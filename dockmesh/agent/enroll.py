"""Enrollment: the one-time token is exchanged for this host's own credential."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from dockmesh.agent.backoff import Backoff
from dockmesh.agent.client import Answer, ServerClient
from dockmesh.agent.config import Settings
from dockmesh.agent.errors import EXIT_REFUSED, EXIT_TLS, ServerError, StartError, TlsError
from dockmesh.agent.state import Credential, StateDir, token_hash
from dockmesh.agent.stopping import Stopping

log = logging.getLogger("dockmesh.agent")

_TOKEN = re.compile(r"dme_[0-9A-Za-z]{12}_[0-9A-Za-z]{40}_[0-9A-Za-z]{6}")


def first_enrollment(
    settings: Settings,
    state: StateDir,
    client: ServerClient,
    stopping: Stopping,
    forget: Callable[[], None],
) -> Credential | None:
    """Enrol this host, trying for as long as the server can't be reached; None if stopped meanwhile.

    `forget` as with `enroll`. Raises StartError where another try would not help: no token, token refused, certificate not trusted.
    """
    token = _checked(settings, state)
    backoff = Backoff()
    while not stopping.is_set:
        try:
            return enroll(settings, state, client, token, forget)
        except TlsError as error:
            raise StartError(str(error), code=EXIT_TLS) from None
        except ServerError as error:
            if error.status in (401, 403):
                raise StartError(
                    "the server refused the enrollment token: it is unknown, expired or already used"
                    " (it works once)",
                    code=EXIT_REFUSED,
                ) from None
            if 300 <= error.status < 500 and error.status not in (408, 425, 429):
                raise StartError(f"enrollment failed: {error}") from None
            wait = backoff.failed(retry_after=error.retry_after)
            log.warning("Enrollment waits: %s; next try in %.0f s", error, wait)
            stopping.wait(wait)
    return None


def enroll(
    settings: Settings, state: StateDir, client: ServerClient, token: str, forget: Callable[[], None]
) -> Credential:
    """One try; saves the credential. Raises ServerError.

    `forget` is called unless the server says that this is a host it knows (a renewal): commands of another host, or
    of a server that counts anew, must neither hide this one's nor be reported to it.
    """
    body: dict[str, object] = {"hostname": settings.name}
    if settings.labels:
        body["labels"] = dict(settings.labels)
    answer = client.post("enroll", body, token=token)
    credential = _credential(settings.server, answer, token)
    # Before the credential is there to be used, so that a stop in between leaves no foreign journal with it.
    if answer.body.get("is_renewal") is not True:
        forget()
    state.save_credential(credential)
    log.info("Enrolled at %s as host %r", credential.server, credential.host_name)
    return credential


def _credential(server: str, answer: Answer, token: str) -> Credential:
    host = answer.body.get("host")
    agent_token = answer.body.get("agent_token")
    if not isinstance(host, dict) or not isinstance(host.get("id"), int) or not isinstance(agent_token, str):
        raise ServerError(f"{server} gave an answer without host and agent_token: is this a dockmesh server?")
    return Credential(
        server=server,
        host_id=host["id"],
        host_name=str(host.get("name", "")),
        agent_token=agent_token,
        enrollment_token_sha256=token_hash(token),
    )


def _checked(settings: Settings, state: StateDir) -> str:
    token = settings.enrollment_token()
    if not token:
        raise StartError(
            f"this host is not enrolled ({state.credential_path} is not there): give --enrollment-token,"
            " from the server's page Add host or from its command enrollmenttoken"
        )
    if not _TOKEN.fullmatch(token):
        raise StartError(
            "the enrollment token is not one: expected dme_… as the server printed it", code=EXIT_REFUSED
        )
    return token
