"""Sends the chain's signed head off the machine, so that who cuts or rolls back the database can be told.

A line is a JSON object: `at`, `sequence`, `entry_hash`, `signature`. `verifyaudit --checkpoints FILE` compares.
"""

import base64
import http.client
import json
import logging
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from django.conf import settings

from dockmesh.audit.models import AuditHead
from dockmesh.core import clock, schedule

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0

_sent = 0


def send() -> None:
    """The scheduler's job: send the head if it has moved since the last time."""
    global _sent
    target = settings.DOCKMESH_AUDIT_CHECKPOINT_SINK
    head = AuditHead.objects.filter(pk=1).first() if target else None
    if head is None or head.sequence == _sent or not head.signature:
        return
    line = json.dumps(
        {
            "at": clock.now().isoformat(timespec="seconds"),
            "sequence": head.sequence,
            "entry_hash": head.entry_hash,
            "signature": head.signature,
        }
    )
    try:
        if target.startswith("/"):
            _append(target, line)
        else:
            _post(target, line)
    except (OSError, http.client.HTTPException, ValueError) as error:
        # It is tried again at the next turn, with whatever the head is then. What libraries say may hold the address,
        # and that a password.
        what = error.strerror if isinstance(error, OSError) else None
        status = f" {error.code}" if isinstance(error, urllib.error.HTTPError) else ""
        reason = what or (str(error.reason) if isinstance(error, urllib.error.URLError) else "")
        logger.error(
            "the audit checkpoint could not be sent: %s%s %s",
            type(error).__name__,
            status,
            _without_secrets(reason),
        )
        raise schedule.Failed from None
    _sent = head.sequence


def _without_secrets(text: str) -> str:
    """The text without any part of the sink's address that may be a secret."""
    parts = urlsplit(settings.DOCKMESH_AUDIT_CHECKPOINT_SINK)
    for secret in (parts.username, parts.password, parts.query, parts.path):
        if secret:
            text = text.replace(secret, "***").replace(unquote(secret), "***")
    return text[:200]


def _append(path: str, line: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, f"{line}\n".encode())
        os.fsync(handle)
    finally:
        os.close(handle)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _post(url: str, line: str) -> None:
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json"}
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = urllib.request.Request(  # noqa: S310  (env.py takes http and https only)
        url, data=line.encode(), headers=headers, method="POST"
    )
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS):
        pass
