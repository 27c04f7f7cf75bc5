"""The state folder: this host's credential, and the lock that keeps a second agent out."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from dockmesh.agent.errors import StartError

CREDENTIAL = "credential.json"


@dataclass(frozen=True)
class Credential:
    """What the enrollment gave. The enrollment token is kept as a hash only, to tell a fresh one from it."""

    server: str
    host_id: int
    host_name: str
    agent_token: str = field(repr=False)
    enrollment_token_sha256: str = ""

    def was_enrolled_with(self, enrollment_token: str) -> bool:
        return self.enrollment_token_sha256 == token_hash(enrollment_token)


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class StateDir:
    """Opens (and makes) the folder, mode 0700. Raises StartError where that is not possible."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = self._take_lock()
        except OSError as error:
            raise StartError(f"--state-dir {path}: {error.strerror}") from None

    def _take_lock(self) -> IO[str]:
        lock = (self.path / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise StartError(f"--state-dir {self.path}: another agent is using it") from None
        return lock

    def close(self) -> None:
        self._lock.close()

    @property
    def credential_path(self) -> Path:
        return self.path / CREDENTIAL

    def load_credential(self) -> Credential | None:
        """As `read_credential`."""
        return read_credential(self.credential_path)

    def save_credential(self, credential: Credential) -> None:
        write_private(self.credential_path, json.dumps(asdict(credential), indent=2) + "\n")


def read_credential(path: Path) -> Credential | None:
    """The credential, None before the first enrollment; raises StartError where it can't be read."""
    try:
        return Credential(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError):
        raise StartError(f"{path} is damaged: remove it and start with a new enrollment token") from None


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 whole or not at all, even if the machine stops in between."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
