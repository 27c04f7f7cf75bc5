"""The application under another WSGI server: what runs beside the requests runs where they are served."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.server import ROOT

# As gunicorn does with --preload: the application is imported in the one process, and served in another.
PRELOADED = """
import os, threading, time
from wsgiref.util import setup_testing_defaults
from dockmesh.wsgi import application

def names():
    return sorted(t.name for t in threading.enumerate() if t is not threading.main_thread())

assert names() == [], names()
child = os.fork()
if child == 0:
    for _ in range(2):
        environ = {"PATH_INFO": "/livez", "HTTP_HOST": "localhost"}
        setup_testing_defaults(environ)
        statuses = []
        list(application(environ, lambda status, headers, *rest: statuses.append(status)))
        assert statuses == ["200 OK"], statuses
    print(*names(), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert names() == [], names()
"""


def test_threads_start_in_the_process_that_serves(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DOCKMESH_")}
    environment = {**clean, "DOCKMESH_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-c", PRELOADED],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["listening", "metrics-background"]
