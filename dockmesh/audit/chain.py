"""How entries are chained: SHA-256 over length-prefixed fields and the previous entry's hash."""

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

GENESIS = hashlib.sha256(b"dockmesh audit chain, version 1").hexdigest()


def encode_changes(changes: Mapping[str, Any]) -> str:
    """The canonical JSON of `changes`: sorted keys, no spaces, ASCII."""
    return json.dumps(changes, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def entry_hash(
    *,
    sequence: int,
    at: datetime.datetime,
    fields: Iterable[str],
    changes: Mapping[str, Any],
    previous_hash: str,
) -> str:
    """Hex digest of one entry. `fields` are its text columns in the model's order.

    Every part is preceded by its length, so that no two different entries encode alike.
    """
    digest = hashlib.sha256()
    moment = at.astimezone(datetime.UTC).isoformat(timespec="microseconds")
    for part in (str(sequence), moment, *fields, encode_changes(changes), previous_hash):
        raw = part.encode("utf-8")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()
