"""Speaking to receivers: each time by a process of its own (`sender.py`), which is ended when its time is up."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from dockmesh.alerts.models import Channel, Notification
from dockmesh.core.sealed import UnsealError, unseal

logger = logging.getLogger(__name__)

URL_PURPOSE = "notification address"
SEND_SECONDS = 10.0
CHECK_SECONDS = 5.0


class NotSent(Exception):
    """The receiver could not be told; the text says why and holds no address."""


def check(kind: str, url: str) -> str:
    """Why this can't be a receiver's address; empty if it can."""
    return _ordered(CHECK_SECONDS, what="check", url=url, is_alertmanager=kind == Channel.Kind.ALERTMANAGER)


def send(channel: Channel, message: Notification) -> None:
    """Send one message by Apprise; raises `NotSent`."""
    _send(channel, what="apprise", title=message.title, body=message.body, type=message.type)


def post(channel: Channel, documents: Sequence[dict[str, Any]]) -> None:
    """Post alerts to an Alertmanager; raises `NotSent`."""
    _send(channel, what="alertmanager", documents=list(documents))


def _send(channel: Channel, **order: Any) -> None:
    try:
        url = unseal(channel.sealed_url, purpose=URL_PURPOSE)
    except UnsealError as error:
        raise NotSent(str(error)) from None
    if reason := _ordered(SEND_SECONDS, url=url, **order):
        raise NotSent(reason)


def _ordered(seconds: float, **order: Any) -> str:
    """What the sender answers: what went wrong, or nothing. The order goes by a pipe: no list of processes shows it."""
    order |= {"seconds": seconds, "is_loopback_allowed": settings.DOCKMESH_ALERT_LOCAL_RECEIVERS}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dockmesh.alerts.sender"],
            cwd=settings.BASE_DIR,
            env={name: value for name, value in os.environ.items() if not name.startswith("DOCKMESH_")},
            input=json.dumps(order).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
        return str(json.loads(done.stdout)["error"])
    except subprocess.TimeoutExpired:
        return f"no answer within {seconds:g} s"
    except (OSError, ValueError) as error:
        logger.error("The process that speaks to receivers failed: %s", type(error).__name__)
        return "the message could not be sent from here; the server's log says more"
