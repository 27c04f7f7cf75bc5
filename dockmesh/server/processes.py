"""A supervisor and its children: the web process and the scheduler.

The supervisor only forks, waits and passes signals on. It holds the listening socket, so that a web
process that dies takes its own requests with it and nothing else: clients that connect in between wait
in the socket's queue for the next one.
"""

import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)

STOP_SECONDS = 27  # for the children to end by themselves
SAME_SIGNAL_SECONDS = 0.5  # some tools signal the process and its group: that is one wish, not two
QUICK_SECONDS = 5  # a child that lived less long is started again with a growing delay
LONGEST_DELAY_SECONDS = 2.0

_PR_SET_PDEATHSIG = 1


def stop_signals() -> frozenset[signal.Signals]:
    """The signals that stop the server in order. A hang-up is one, unless `nohup` had it ignored."""
    found = {signal.SIGTERM, signal.SIGINT}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        found.add(signal.SIGHUP)
    return frozenset(found)


@dataclass
class _Child:
    name: str
    run: Callable[[], None]
    pid: int = 0
    started: float = 0.0
    due: float = 0.0
    quick_ends: int = 0


class Supervisor:
    """Runs each of `children` (name → function) in a process of its own until one of `stop_signals`.

    `on_stop` is called in the supervisor when stopping begins.
    """

    def __init__(self, children: dict[str, Callable[[], None]], on_stop: Callable[[], None]) -> None:
        self._children = [_Child(name, run) for name, run in children.items()]
        self._on_stop = on_stop
        self._handled = stop_signals() | {signal.SIGCHLD}

    def run(self) -> int:
        """Returns the exit code: 0 when all children ended by themselves."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._handled)
        while True:
            now = time.monotonic()
            for child in self._children:
                if not child.pid and child.due <= now:
                    self._start(child)
            delays = [max(0.0, child.due - now) for child in self._children if not child.pid]
            received = signal.sigtimedwait(self._handled, min(delays, default=3600.0))
            if received is not None and received.si_signo != signal.SIGCHLD:
                return self._stop()
            for child in self._ended():
                self._plan_restart(child)

    def _start(self, child: _Child) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        child.started = time.monotonic()
        child.pid = os.fork()
        if child.pid:
            return
        code = 1
        try:
            _die_with(parent)
            for number in (signal.SIGINT, signal.SIGHUP):  # they reach the whole group: one stops all
                signal.signal(number, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._handled)
            child.run()
            code = 0
        except BaseException:
            logger.exception("The %s process failed", child.name)
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _ended(self) -> list[_Child]:
        ended: list[_Child] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if not pid:
                return ended
            for child in self._children:
                if child.pid == pid:
                    child.pid = 0
                    code = os.waitstatus_to_exitcode(status)
                    if code:
                        how = (
                            f"was ended by {signal.Signals(-code).name}"
                            if code < 0
                            else f"exited with {code}"
                        )
                        logger.warning("The %s process (%d) %s", child.name, pid, how)
                    ended.append(child)

    def _plan_restart(self, child: _Child) -> None:
        now = time.monotonic()
        child.quick_ends = child.quick_ends + 1 if now - child.started < QUICK_SECONDS else 0
        delay = 0.0 if child.quick_ends < 2 else min(LONGEST_DELAY_SECONDS, 0.1 * 2 ** (child.quick_ends - 2))
        child.due = now + delay

    def _stop(self) -> int:
        self._on_stop()
        self._signal_all(signal.SIGTERM)
        began = time.monotonic()
        while any(child.pid for child in self._children):
            received = signal.sigtimedwait(self._handled, max(0.0, began + STOP_SECONDS - time.monotonic()))
            self._ended()
            is_second = received is not None and received.si_signo != signal.SIGCHLD
            if received is None or (is_second and time.monotonic() - began > SAME_SIGNAL_SECONDS):
                break
        if not any(child.pid for child in self._children):
            return 0
        logger.warning("Not everything ended by itself: ending it now")
        self._signal_all(signal.SIGKILL)
        for child in self._children:
            if child.pid:
                os.waitpid(child.pid, 0)
        return 1

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.pid:
                os.kill(child.pid, number)


def _die_with(parent: int) -> None:
    """End this process when its parent does, however that ends (Linux, prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
