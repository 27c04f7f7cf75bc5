"""How entries are chained and signed.

Each entry holds the SHA-256 over its length-prefixed fields and the previous entry's hash, so an edit breaks
the chain. Whoever can write to the database could make the whole chain anew; the head and the checkpoint are
therefore signed (HMAC-SHA256) under the secret key, which is not in the database.
"""

import datetime
import hashlib
import hmac
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings

from dockmesh.core.text import CONTROLS, LINE_CONTROLS

GENESIS = hashlib.sha256(b"dockmesh audit chain, version 1").hexdigest()
HEAD, CHECKPOINT = "head", "checkpoint"
MAX_TEXT = 2000
MAX_BYTES = 1024  # the longest name that anything has, and less than an entry of an index of PostgreSQL takes


def clean(text: str, most: int) -> str:
    """A column's text as every database can store and index it: no control characters, at most `most`, at most 1 KiB."""
    return CONTROLS.sub("\ufffd", text)[:most].encode()[:MAX_BYTES].decode("utf-8", "ignore")


def storable(value: object) -> Any:
    """What of `changes` comes back from every database as it went in.

    PostgreSQL's jsonb writes 1e20 and 1.0 as it likes, so a whole float becomes an integer; texts lose control
    characters and what is beyond `MAX_TEXT`; what is no JSON becomes its text.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {clean(str(key), 200): storable(child) for key, child in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        children = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [storable(child) for child in children]
    return LINE_CONTROLS.sub("\ufffd", str(value))[:MAX_TEXT]


def encode_changes(changes: Mapping[str, Any]) -> str:
    """The canonical JSON of `changes`: sorted keys, no spaces, ASCII, whole floats as integers."""
    return json.dumps(storable(changes), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


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
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()


def sign(kind: str, sequence: int, digest: str) -> str:
    """Signature of a place in the chain; `kind` keeps a head's from passing for a checkpoint's."""
    return _signature(settings.SECRET_KEY, kind, sequence, digest)


def is_signed(kind: str, sequence: int, digest: str, signature: str) -> bool:
    """Whether the signature was made with the secret key or one of its fallbacks; what any other key signed does not count."""
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return any(hmac.compare_digest(_signature(key, kind, sequence, digest), signature) for key in keys)


def _signature(key: str, kind: str, sequence: int, digest: str) -> str:
    message = f"dockmesh audit {kind} 1\n{sequence}\n{digest}".encode()
    return hmac.digest(key.encode(), message, hashlib.sha256).hex()
