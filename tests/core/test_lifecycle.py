"""A signal to stop ends a process whatever its main thread is in the middle of."""

import subprocess
import sys

PROGRAM = """
import os, signal, threading
from dockmesh.core import lifecycle

stopping = threading.Event()
lifecycle.stop_at((signal.SIGTERM,), stopping.set)
with stopping._cond:  # as in the midst of stopping.wait(), or of the first signal's stopping.set()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
assert stopping.wait(30)
"""


def test_a_signal_may_come_while_the_main_thread_holds_the_lock_of_what_it_waits_for() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
