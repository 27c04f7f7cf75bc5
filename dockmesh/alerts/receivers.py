"""Speaking to receivers: each time by a process of its own (`sender.py`), which is ended when its time is up."""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from dockmesh.alerts.models import Channel, Notification
from dockmesh.alerts.sender import BEGUN
from dockmesh.core.encrypted import DecryptError, decrypt

logger = logging.getLogger(__name__)

URL_PURPOSE = "notification address"
SEND_SECONDS = 10.0
CHECK_SECONDS = 5.0
START_SECONDS = 30.0  # for the program that forks the processes: it reads all of Apprise first
MOST_ANSWERED = 65_536


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
        url = decrypt(channel.encrypted_url, purpose=URL_PURPOSE)
    except DecryptError as error:
        raise NotSent(str(error)) from None
    if reason := _ordered(SEND_SECONDS, url=url, **order):
        raise NotSent(reason)


def _ordered(seconds: float, **order: Any) -> str:
    """What the sender answers: what went wrong, or nothing. The order goes by a socket: no list of processes shows it."""
    order |= {"seconds": seconds, "is_loopback_allowed": settings.DOCKMESH_ALERT_LOCAL_RECEIVERS}
    try:
        # A second try where the first program had just ended; once it has begun the message may have been heard.
        answer = _carried_out(order, seconds)
        if answer is None:
            answer = _carried_out(order, seconds)
        return str(json.loads(answer or b"")["error"])
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    except (OSError, ValueError) as error:
        logger.error("The process that speaks to receivers failed: %s", type(error).__name__)
        return "the message could not be sent from here; the server's log says more"


def _carried_out(order: dict[str, Any], seconds: float) -> bytes | None:
    """The answer of a process that carries the order out; None if none began it.

    Raises `TimeoutError` this long after it has begun: the time until then is this machine's, not the receiver's.
    """

    def received(most: int) -> bytes:
        ours.settimeout(max(deadline - time.monotonic(), 0.001))
        return ours.recv(most)

    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            _senders.give(theirs)
        deadline = time.monotonic() + START_SECONDS
        if received(1) != BEGUN:
            return None
        deadline = time.monotonic() + seconds
        ours.sendall(json.dumps(order).encode())
        ours.shutdown(socket.SHUT_WR)
        answer = b""
        while len(answer) < MOST_ANSWERED and (part := received(MOST_ANSWERED)):
            answer += part
        if not answer and time.monotonic() >= deadline:
            raise TimeoutError  # the process was ended for that, which may be seen first
        return answer


class _Senders:
    """The program that forks the processes: started when it is needed, and anew when it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._program: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None
        self._owner = 0

    def give(self, answers: socket.socket) -> None:
        """Have a process forked that answers on this socket."""
        with self._lock:
            if self._orders is None or self._owner != os.getpid():
                self._start()
            try:
                self._hand_over(answers)
            except ConnectionError:
                self._start()
                self._hand_over(answers)

    def _hand_over(self, answers: socket.socket) -> None:
        if self._orders is not None:
            socket.send_fds(self._orders, [b"+"], [answers.fileno()])

    def _start(self) -> None:
        if self._orders is not None:
            self._orders.close()
        if self._program is not None:
            self._program.poll()
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._owner = os.getpid()
        with theirs:
            self._program = subprocess.Popen(
                [sys.executable, "-m", "dockmesh.alerts.sender"],
                cwd=settings.BASE_DIR,
                env={name: value for name, value in os.environ.items() if not name.startswith("DOCKMESH_")},
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )


_senders = _Senders()
