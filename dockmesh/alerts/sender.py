"""The program that speaks to receivers, to each in a process of its own: `python -m dockmesh.alerts.sender`.

A receiver is anybody's server: it may hang, drip, never end, or send us on to an address that is none of its business.
So each message is sent by a process that is ended when its time is up, that reads a bounded number of bytes, and that
looks at every address as it connects: whatever a name, a redirect or another way of writing an address led to it.

Reading Apprise takes longer than sending. So the program reads it once and then waits: its standard input is a socket,
each message there carries another socket, and for each it forks a process that answers on that. It first says
`BEGUN`, reads one JSON object (see `Order`) and answers with one: `{"error": ""}` where all went well.
It stands alone: nothing of Django, and no setting of the server's, is in it. It ends with whoever started it, and
when nothing was sent for a while.
"""

import errno
import gc
import http
import ipaddress
import json
import os
import resource
import signal
import smtplib
import socket
import ssl
import sys
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

MOST_BYTES = 256 * 1024  # that are read of an answer
MOST_MEMORY = 1024**3
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 300.0
BEGUN = b"+"

# IPv6 addresses that carry an IPv4 one.
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Refused(OSError):
    """An address that nothing is sent to, or more than is read."""


@dataclass(frozen=True)
class Order:
    """What to do. `what` is `check` (the address, without sending), `apprise` or `alertmanager`."""

    what: str
    url: str
    is_alertmanager: bool = False
    is_loopback_allowed: bool = False
    seconds: float = 10.0
    title: str = ""
    body: str = ""
    type: str = "info"
    documents: list[dict[str, Any]] = field(default_factory=list)


def main() -> None:
    """Fork a process for each socket that comes, until the standard input ends or nothing came for long."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended: none stays as a zombie
    _plugin("json://localhost")  # has Apprise read all its kinds
    import requests  # noqa: F401 (for those to come)

    gc.freeze()
    orders = socket.socket(fileno=sys.stdin.fileno())
    orders.settimeout(IDLE_SECONDS)
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(orders, 1, 1)
        except TimeoutError:
            return
        if not message:
            return
        with socket.socket(fileno=descriptors[0]) as answers:
            try:
                if os.fork() == 0:
                    os.dup2(os.open(os.devnull, os.O_RDWR), sys.stdin.fileno())
                    _serve(answers)
            except OSError:
                continue  # no process to be had now: who ordered sees the socket close


def _serve(answers: socket.socket) -> NoReturn:
    """Carry out the one order of this process, and end it."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        answers.sendall(BEGUN)
        with answers.makefile("rb") as lines:
            order = Order(**json.load(lines))
        signal.setitimer(signal.ITIMER_REAL, order.seconds)  # ends this process, whatever it does
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        socket.setdefaulttimeout(CONNECT_SECONDS)
        carry_out = {"check": _check, "apprise": _send_by_apprise, "alertmanager": _post}[order.what]
        try:
            error = carry_out(order)
        except Exception as failure:
            error = _in_words(failure)
        answers.sendall(json.dumps({"error": error}).encode())
    finally:
        os._exit(0)


def refusal(address: str, *, is_loopback_allowed: bool) -> str:
    """Why nothing is sent to this IP address; empty if it may be."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        carried = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if ip in NAT64:
            carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = carried or ip
    if ip.is_link_local:
        return "nothing is sent to link-local addresses"
    if (ip.is_loopback or ip.is_unspecified) and not is_loopback_allowed:
        return "nothing is sent to this machine itself unless DOCKMESH_ALERT_LOCAL_RECEIVERS allows it"
    return ""


def guard(*, is_loopback_allowed: bool) -> None:
    """From now on this process connects to no other address than `refusal` lets, and reads `MOST_BYTES` at most."""
    connect, connect_ex, sendto = socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto
    readinto = socket.SocketIO.readinto
    read = 0

    def checked(own: socket.socket, address: Any) -> None:
        if own.family == socket.AF_UNIX:
            if not is_loopback_allowed:
                raise Refused("nothing is sent to a socket of this machine")
        elif own.family in (socket.AF_INET, socket.AF_INET6):
            for *_, found in socket.getaddrinfo(address[0], address[1], own.family):
                if reason := refusal(str(found[0]), is_loopback_allowed=is_loopback_allowed):
                    raise Refused(reason)

    def guarded(act: Callable[..., Any]) -> Callable[..., Any]:
        def do(own: socket.socket, *arguments: Any) -> Any:
            try:
                checked(own, arguments[-1])
                return act(own, *arguments)
            except OSError as error:
                _Seen.error = error
                raise

        return do

    def bounded(own: socket.SocketIO, buffer: Any) -> int | None:
        nonlocal read
        count = readinto(own, buffer)
        read += count or 0
        if read > MOST_BYTES:
            _Seen.error = Refused(f"the answer is longer than {MOST_BYTES} bytes")
            raise _Seen.error
        return count

    acts: dict[str, Callable[..., Any]] = {"connect": connect, "connect_ex": connect_ex, "sendto": sendto}
    for name, act in acts.items():
        setattr(socket.socket, name, guarded(act))
    setattr(socket.SocketIO, "readinto", bounded)  # noqa: B010 (mypy: not to be assigned)


class _Seen:
    """What went wrong last, or what was answered: Apprise tells only that something did."""

    error: Exception | None = None
    status: int | None = None
    mail_status: int | None = None


def _watch_answers() -> None:
    """Note the status of every HTTP answer, and every error; of the mail server's answers the last bad one."""
    import requests

    send = requests.Session.send
    get_reply = smtplib.SMTP.getreply

    def noting(own: requests.Session, request: Any, **options: Any) -> Any:
        try:
            answer = send(own, request, **options)
        except Exception as error:
            _Seen.error = _Seen.error if isinstance(_Seen.error, Refused) else error
            raise
        _Seen.status = answer.status_code
        return answer

    def noting_reply(own: smtplib.SMTP) -> tuple[int, bytes]:
        code, text = get_reply(own)
        if code >= 400:
            _Seen.mail_status = code
        return code, text

    setattr(requests.Session, "send", noting)  # noqa: B010
    setattr(smtplib.SMTP, "getreply", noting_reply)  # noqa: B010


def _check(order: Order) -> str:
    """The address as a receiver's: one that Apprise knows, and none that nothing is sent to."""
    if order.is_alertmanager:
        hosts = [urllib.parse.urlsplit(order.url).hostname]
    else:
        plugin = _plugin(order.url)
        if plugin is None:
            scheme = order.url.partition("://")[0] if "://" in order.url else ""
            known = f"{scheme[:32]}://…" if scheme.isalnum() else "what stands there"
            return f"not an Apprise address: {known} is none, mailto://… or slack://… would be"
        hosts = [getattr(plugin, name, None) for name in ("host", "smtp_host")]
    is_loopback_allowed = order.is_loopback_allowed or order.is_alertmanager
    for host in hosts:
        if not isinstance(host, str) or not host:
            continue
        try:
            found = socket.getaddrinfo(host.strip("[]"), None)
        except (OSError, UnicodeError):
            continue  # it may be known later; every sending looks again
        for *_, address in found:
            if reason := refusal(str(address[0]), is_loopback_allowed=is_loopback_allowed):
                return reason
    return ""


def _send_by_apprise(order: Order) -> str:
    from apprise import Apprise, AppriseAsset

    guard(is_loopback_allowed=order.is_loopback_allowed)
    _watch_answers()
    sender = Apprise(asset=AppriseAsset(app_id="dockmesh", async_mode=False))
    plugin = _plugin(order.url)
    if plugin is None or not sender.add(plugin):
        return "not an Apprise address any more"
    if sender.notify(title=order.title, body=order.body, notify_type=cast(Any, order.type)):
        return ""
    return _why_not()


def _plugin(url: str) -> Any:
    import logging

    from apprise import Apprise

    logging.getLogger("apprise").disabled = True  # it repeats addresses
    return Apprise.instantiate(url, suppress_exceptions=True)


def _post(order: Order) -> str:
    import requests

    guard(is_loopback_allowed=True)
    _watch_answers()
    address = order.url.rstrip("/") + "/api/v2/alerts"
    try:
        answer = requests.post(address, json=order.documents, timeout=CONNECT_SECONDS, allow_redirects=False)
    except requests.RequestException:
        return _why_not()
    return "" if answer.status_code == 200 else f"the Alertmanager answered {_status(answer.status_code)}"


def _why_not() -> str:
    if isinstance(_Seen.error, Refused):
        return str(_Seen.error)
    if _Seen.mail_status is not None:
        return f"the mail server answered {_Seen.mail_status}"
    if _Seen.status is not None and not 200 <= _Seen.status < 300:
        return f"the receiver answered {_status(_Seen.status)}"
    if _Seen.error is not None:
        return _in_words(_Seen.error)
    return "the receiver did not take the message"


def _status(code: int) -> str:
    try:
        return f"{code} {http.HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


def _in_words(error: BaseException) -> str:
    """The cause at the bottom, in words that hold nothing of the address."""
    chain: list[BaseException] = []
    while error not in chain:
        chain.append(error)
        inner = [each for each in error.args if isinstance(each, BaseException)]
        reason = getattr(error, "reason", None)
        inner += [reason] if isinstance(reason, BaseException) else []
        following = error.__cause__ or error.__context__ or (inner[0] if inner else None)
        error = following or error
    for cause in reversed(chain):
        if isinstance(cause, Refused):
            return str(cause)
        if isinstance(cause, socket.gaierror):
            return "the receiver's name is not known"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the receiver's certificate does not hold: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "TLS failed"
        if isinstance(cause, TimeoutError):
            return "no answer in time"
        if isinstance(cause, MemoryError):
            return "the answer does not fit into memory"
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno in errno.errorcode:
            return _OS_ERRORS.get(cause.errno, errno.errorcode[cause.errno])
    return f"failed with {type(chain[0]).__name__}"


_OS_ERRORS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.EHOSTUNREACH: "no route to the receiver",
    errno.ENETUNREACH: "no route to the receiver",
    errno.ETIMEDOUT: "no answer in time",
}

if __name__ == "__main__":
    main()
