"""Texts that are encrypted at rest: env files, notification addresses.

Fernet (AES-128-CBC with HMAC-SHA256) under a key derived from `DOCKMESH_SECRET_KEY` by HKDF, one key for
each purpose, so that a text encrypted for one can't be passed off as another.
"""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class DecryptError(Exception):
    """The text was encrypted under another key: `DOCKMESH_SECRET_KEY` has changed."""


def encrypt(text: str, *, purpose: str) -> str:
    """The encrypted text, in ASCII."""
    return _fernet(settings.SECRET_KEY, purpose).encrypt(text.encode()).decode("ascii")


def decrypt(encrypted: str, *, purpose: str) -> str:
    """The text that `encrypt` got; raises `DecryptError`."""
    try:
        return _fernet(settings.SECRET_KEY, purpose).decrypt(encrypted.encode("ascii")).decode()
    except InvalidToken:
        raise DecryptError(
            "This was encrypted under another DOCKMESH_SECRET_KEY; enter it again, or bring the key back."
        ) from None


@lru_cache(maxsize=16)
def _fernet(secret_key: str, purpose: str) -> Fernet:
    hkdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=f"dockmesh {purpose}".encode())
    return Fernet(base64.urlsafe_b64encode(hkdf.derive(secret_key.encode())))
