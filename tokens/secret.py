"""The text of a token: `dmt_<12 base62 id>_<40 base62 secret>_<6 base62 CRC32>`.

The checksum lets a typing error or a random text be refused without a query; the id finds the row; of the
secret only an HMAC-SHA256 under a numbered pepper is stored.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from django.conf import settings

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
MOST_ENDED = 4  # secrets of a token, older than the previous one, that are still told from guesses
ID_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 12, 40, 6
SHAPE = re.compile(r"(dm[tea])_([0-9A-Za-z]{12})_([0-9A-Za-z]{40})_([0-9A-Za-z]{6})\Z", re.ASCII)


class Kind(StrEnum):
    """What a token is for, as its prefix."""

    API = "dmt"
    ENROLLMENT = "dme"
    AGENT = "dma"


@dataclass(frozen=True)
class TokenText:
    """A whole token. Its text leaves the process once, when the token is made."""

    kind: Kind
    public_id: str
    secret: str

    def __str__(self) -> str:
        body = f"{self.kind.value}_{self.public_id}_{self.secret}"
        return f"{body}_{checksum(body)}"

    def __repr__(self) -> str:
        return f"<{self.kind.value} token {self.public_id}>"


@dataclass(frozen=True)
class Digest:
    """What is stored of a secret: hex HMAC-SHA256 and the number of the pepper it was made with."""

    value: str
    pepper: int


def generate(kind: Kind) -> TokenText:
    """A new random token: 238 bits of secret."""
    return TokenText(kind, _random(ID_LENGTH), _random(SECRET_LENGTH))


def renewed(kind: Kind, public_id: str) -> TokenText:
    """The same token with a new random secret."""
    return TokenText(kind, public_id, _random(SECRET_LENGTH))


def parse(text: str) -> TokenText | None:
    """The token in `text`, or None unless its shape and checksum are right. No query is made."""
    match = SHAPE.match(text)
    if match is None:
        return None
    kind, public_id, secret, check = match.groups()
    if not hmac.compare_digest(checksum(text[: -CHECKSUM_LENGTH - 1]), check):
        return None
    return TokenText(Kind(kind), public_id, secret)


def checksum(body: str) -> str:
    """CRC32 of `body` as six base62 digits."""
    number = zlib.crc32(body.encode("ascii"))
    digits = []
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def digest(token: TokenText) -> Digest:
    """The digest under the newest pepper. Peppers are numbered from 1 in the order of the setting."""
    peppers = settings.DOCKMESH_TOKEN_PEPPERS
    return Digest(_hmac(token, peppers[-1]), len(peppers))


def matches(token: TokenText, stored: Digest | None) -> bool:
    """Whether this is the token's digest; the same work is done where none is stored, and the answer is False."""
    return matching(token, [stored])[0]


def matching(token: TokenText, stored: Sequence[Digest | None]) -> list[bool]:
    """Of each digest whether it is the token's, compared in constant time; False in the place of None.

    One HMAC for each pepper, whatever is stored: the time taken tells nothing.
    """
    computed = [_hmac(token, pepper) for pepper in settings.DOCKMESH_TOKEN_PEPPERS]
    found = []
    for each in stored:
        pepper = each.pepper if each is not None and 1 <= each.pepper <= len(computed) else len(computed)
        is_equal = hmac.compare_digest(computed[pepper - 1], each.value if each is not None else "0" * 64)
        found.append(is_equal and each is not None)
    return found


def _hmac(token: TokenText, pepper: str) -> str:
    message = f"{token.kind.value}_{token.public_id}_{token.secret}".encode()
    return hmac.digest(pepper.encode(), message, hashlib.sha256).hex()


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
