"""Runs a program in a process group of its own, with its output streamed and its time limited."""

from __future__ import annotations

import codecs
import os
import re
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

# What a child of the agent may see of the agent's environment: nothing of the agent's own.
_PASSED = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS", "DOCKER_TLS_VERIFY",
)  # fmt: skip

STOPPED = "stopped with the agent"
GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.2
_VERSION_SECONDS = 30.0


class Cancellation(threading.Event):
    """Set where what runs is to end; `reason` says why."""

    reason = STOPPED

    def cancel(self, reason: str) -> None:
        """Set it for that reason."""
        self.reason = reason
        self.set()


@dataclass(frozen=True)
class Ended:
    """How a program ended. `reason` is empty unless it was stopped or could not be started."""

    exit_code: int | None
    reason: str


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    passed.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return passed | dict(extra or {})


def version_of(command: Sequence[str]) -> subprocess.CompletedProcess[bytes] | None:
    """How a program ended that was asked for its version, with what it said; None where it does not run or answer."""
    try:
        return subprocess.run(  # noqa: S603 - a fixed list
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def proxy_passwords() -> set[str]:
    """Those in the proxies' addresses, which the children see."""
    addresses = [value for name, value in environment().items() if name.lower().endswith("_proxy")]
    found = [re.match(r"(?:\w+://)?[^:@/]*:(.+)@", address) for address in addresses]
    return {unquote(match[1]) for match in found if match}


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    on_output: Callable[[str], None],
    deadline: float,
    cancelled: Cancellation,
    cwd: Path | None = None,
    on_stderr: Callable[[str], None] | None = None,
    output_to: int | None = None,
    on_start: Callable[[int], None] | None = None,
    keep_open: Sequence[int] = (),
    is_interrupted: bool = False,
) -> Ended:
    """Run `command` until it ends, until `deadline` (monotonic) or until `cancelled`.

    Then its whole process group is stopped: SIGTERM, and SIGKILL ten seconds later. With `is_interrupted` the
    program alone gets SIGINT first, so that it tidies up while its own children still work for it.
    `on_output` gets its output as text as it comes; its errors too unless `on_stderr` is given. With `output_to`
    the output's bytes go to that descriptor instead, which is left open. `on_start` gets the process id;
    the program inherits the descriptors `keep_open`.
    """
    try:
        child = subprocess.Popen(  # noqa: S603 - a list, never a shell
            list(command),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if output_to is None else output_to,
            stderr=subprocess.PIPE if on_stderr else subprocess.STDOUT,
            start_new_session=True,
            pass_fds=keep_open,
        )
    except OSError as error:
        return Ended(None, f"{command[0]} can't be started: {error.strerror}")
    if on_start is not None:
        on_start(child.pid)
    stop = _Stop(child, deadline, cancelled, is_interrupted=is_interrupted)
    with child, selectors.DefaultSelector() as selector:
        for pipe, sink in ((child.stdout, on_output), (child.stderr, on_stderr)):
            if pipe is not None and sink is not None:
                selector.register(pipe, selectors.EVENT_READ, _Decoder(sink))
        while selector.get_map():
            stop.check()
            # Asked before the pipes are: what it wrote before it ended is in them by now. The other way round,
            # what it writes between the two is lost.
            has_ended = child.poll() is not None
            ready = selector.select(0 if has_ended else _POLL_SECONDS)
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                key.data(data)
                if not data:
                    selector.unregister(key.fileobj)
            if not ready and has_ended:
                break  # a grandchild still holds the pipe; the command itself is done
        while child.poll() is None:
            stop.check()
            time.sleep(0.05)
    if stop.reason:
        stop.signal(signal.SIGKILL)  # whoever of the group ignored SIGTERM
    return Ended(child.returncode, stop.reason)


class _Stop:
    """Stops the process group once there is a reason to: SIGTERM (or SIGINT), after a while SIGKILL."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        deadline: float,
        cancelled: Cancellation,
        *,
        is_interrupted: bool,
    ) -> None:
        self.reason = ""
        self._child = child
        self._deadline = deadline
        self._cancelled = cancelled
        self._is_interrupted = is_interrupted
        self._kill_at = 0.0

    def check(self) -> None:
        if self.reason:
            if time.monotonic() >= self._kill_at:
                self.signal(signal.SIGKILL)
            return
        if self._cancelled.is_set():
            self.reason = self._cancelled.reason
        elif time.monotonic() >= self._deadline:
            self.reason = "time limit reached"
        else:
            return
        self._kill_at = time.monotonic() + GRACE_SECONDS
        if self._is_interrupted:
            self._child.send_signal(signal.SIGINT)
        else:
            self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._child.pid, number)
        except (ProcessLookupError, PermissionError):
            return


class _Decoder:
    def __init__(self, sink: Callable[[str], None]) -> None:
        self._sink = sink
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, data: bytes) -> None:
        text = self._decoder.decode(data, final=not data)
        if text:
            self._sink(text)
