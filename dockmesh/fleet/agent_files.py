"""What a new host fetches: the agent as one file, the script that installs it, and a build context for its image.

Made of what is installed here, in memory, at the first request; the same versions give the same bytes on every
replica, so that their checksums are the same too.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shlex
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

from django.conf import settings

PYZ = "dockmesh-agent.pyz"
# What the agent imports: the Docker SDK, requests, and what these need. In certifi's place stands a module of our own.
LIBRARIES = ("docker", "requests", "urllib3", "idna", "charset-normalizer", "tomli")
BUILD_CHARACTERS = 16
_OWN = Path("packaging", "agent")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can tell
_SHEBANG = b"#!/usr/bin/env python3\n"
_guard = threading.RLock()


@dataclass(frozen=True)
class AgentFile:
    """A file to be handed out, and its SHA-256 in hexadecimal."""

    name: str
    content: bytes
    sha256: str


def pyz() -> AgentFile:
    """The agent as a zipapp: runs with `python3 dockmesh-agent.pyz` on Python 3.9 and newer, without pip."""
    return _made_once(PYZ, make_pyz)


def build() -> str:
    """By which agents say which file they run from; empty where there is none to be handed out."""
    try:
        return pyz().sha256[:BUILD_CHARACTERS]
    except (OSError, ImportError):
        return ""


def context() -> AgentFile:
    """A gzipped tar of a Dockerfile and the zipapp, for `docker build`."""
    return _made_once("context.tar.gz", _context)


def script(base_url: str) -> AgentFile:
    """The install script of a server that is reached at `base_url`."""
    text = _packaged("install.sh").decode()
    text = text.replace("@SERVER@", shlex.quote(base_url)).replace("@SHA256@", pyz().sha256)
    return _file("install", text.encode())


def _made_once(name: str, make: Callable[[], bytes]) -> AgentFile:
    # Of many that ask at once, one makes it.
    with _guard:
        return _kept(name, make)


@cache
def _kept(name: str, make: Callable[[], bytes]) -> AgentFile:
    return _file(name, make())


def _file(name: str, content: bytes) -> AgentFile:
    return AgentFile(name, content, hashlib.sha256(content).hexdigest())


def _packaged(name: str) -> bytes:
    return (settings.BASE_DIR / _OWN / name).read_bytes()


def make_pyz() -> bytes:
    """The zipapp's bytes, made anew."""
    entries = dict([*_own_entries(), *_library_entries()])
    buffer = io.BytesIO()
    buffer.write(_SHEBANG)
    # Not compressed: how a compressor's bytes come out depends on its version.
    with zipfile.ZipFile(buffer, "a") as archive:
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, entries[name])
    return buffer.getvalue()


def _own_entries() -> Iterator[tuple[str, bytes]]:
    base = Path(settings.BASE_DIR)
    yield "dockmesh/__init__.py", (base / "dockmesh" / "__init__.py").read_bytes()
    yield "licenses/dockmesh/LICENSE", (base / "LICENSE").read_bytes()
    # The unit is written by the agent's own `install`.
    yield "dockmesh/agent/dockmesh-agent.service", _packaged("dockmesh-agent.service")
    for folder, prefix in ((base / "dockmesh" / "agent", "dockmesh/agent/"), (base / _OWN / "zipapp", "")):
        for path in folder.rglob("*.py"):
            yield prefix + path.relative_to(folder).as_posix(), path.read_bytes()


def _library_entries() -> Iterator[tuple[str, bytes]]:
    """The libraries' Python files, without what was compiled for this machine, and their licences."""
    for name in LIBRARIES:
        found = distribution(name)
        if not found.files:
            raise FileNotFoundError(f"{name} was installed without a list of its files: install it with pip")
        for file in found.files:
            path = Path(str(found.locate_file(file)))
            if file.suffix == ".py" and not file.is_absolute() and ".." not in file.parts:
                yield file.as_posix(), path.read_bytes()
            elif "licenses" in file.parts:
                yield f"licenses/{name}/{file.name}", path.read_bytes()


def _context() -> bytes:
    buffer = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", 0, buffer, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, content in (("Dockerfile", _packaged("Dockerfile")), (PYZ, pyz().content)):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
