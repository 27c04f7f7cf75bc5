"""Texts that are encrypted at rest: env files, notification addresses.

Fernet (AES-128-CBC with HMAC-SHA256) under a key derived from `DOCKMESH_SECRET_KEY` by HKDF, one key for
each purpose, so that a text encrypted for one can't be passed off as another. What was encrypted under one of
`DOCKMESH_SECRET_KEY_FALLBACKS` is read too, until `renew` has encrypted it anew.
"""

import base64
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.apps import apps
from django.conf import settings

ROWS = 500  # read at once

_columns: list[tuple[str, str, str]] = []


class DecryptError(Exception):
    """The text was encrypted under another key: `DOCKMESH_SECRET_KEY` has changed."""


def encrypt(text: str, *, purpose: str) -> str:
    """The encrypted text, in ASCII."""
    return _fernets(purpose).encrypt(text.encode()).decode("ascii")


def decrypt(encrypted: str, *, purpose: str) -> str:
    """The text that `encrypt` got; raises `DecryptError`."""
    try:
        return _fernets(purpose).decrypt(encrypted.encode("ascii")).decode()
    except InvalidToken:
        raise DecryptError(
            "This was encrypted under another DOCKMESH_SECRET_KEY; enter it again, or bring the key back."
        ) from None


def register(model: str, column: str, *, purpose: str) -> None:
    """Have `renew` look after a column (`"deploys.Deploy"`, `"encrypted_env_file"`); empty texts in it are not encrypted."""
    _columns.append((model, column, purpose))


def renew() -> tuple[int, int]:
    """Encrypt anew what was encrypted under a former key.

    Returns how many texts that were, and how many can be read under none of the keys: they stay as they are.
    """
    renewed = lost = 0
    for model, column, purpose in _columns:
        rows = apps.get_model(model)._default_manager
        for pk, text in _not_empty(rows, column):
            if _is_current(text, purpose):
                continue
            try:
                anew = encrypt(decrypt(text, purpose=purpose), purpose=purpose)
            except DecryptError:
                lost += 1
            else:
                renewed += rows.filter(pk=pk, **{column: text}).update(**{column: anew})
    return renewed, lost


def _not_empty(rows: Any, column: str) -> Iterator[tuple[Any, str]]:
    """A part of the rows at a time: what reads on while rows are written may see them twice."""
    last = None
    while True:
        left = rows.exclude(**{column: ""}).order_by("pk")
        found = list((left if last is None else left.filter(pk__gt=last)).values_list("pk", column)[:ROWS])
        yield from found
        if len(found) < ROWS:
            return
        last = found[-1][0]


def _is_current(text: str, purpose: str) -> bool:
    try:
        _fernet(settings.SECRET_KEY, purpose).decrypt(text.encode("ascii"))
    except InvalidToken:
        return False
    return True


def _fernets(purpose: str) -> MultiFernet:
    """The first encrypts, all decrypt."""
    return MultiFernet(
        [_fernet(key, purpose) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    )


@lru_cache(maxsize=64)
def _fernet(secret_key: str, purpose: str) -> Fernet:
    hkdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=f"dockmesh {purpose}".encode())
    return Fernet(base64.urlsafe_b64encode(hkdf.derive(secret_key.encode())))
