"""What was typed into a form and sent after the session had ended: it goes through sign-in and comes back filled in.

It is kept by whoever sends it, encrypted, and after sign-in in the session until its page is shown. Secrets are left out.
"""

import json
import zlib
from base64 import b85decode, b85encode
from collections.abc import Container

from django.http import HttpRequest, QueryDict

from dockmesh.core.encrypted import DecryptError, decrypt, encrypt

PURPOSE = "kept form"
MOST_CHARACTERS = 500_000
_KEY = "kept_form"
_SECRET_WORDS = ("password", "secret", "csrfmiddlewaretoken")


def pack(request: HttpRequest, *, without: Container[str]) -> str:
    """The posted fields but these, with their page's path, encrypted; empty if that is too long to be kept."""
    fields = [
        (name, values)
        for name, values in request.POST.lists()
        if name not in without and not any(word in name for word in _SECRET_WORDS)
    ]
    text = json.dumps([request.path, fields])
    packed = encrypt(b85encode(zlib.compress(text.encode())).decode("ascii"), purpose=PURPOSE)
    return packed if len(packed) <= MOST_CHARACTERS else ""


def put(request: HttpRequest, packed: str) -> None:
    """Keep in the session what `pack` made, until its page is shown."""
    if packed and len(packed) <= MOST_CHARACTERS:
        request.session[_KEY] = packed


def take(request: HttpRequest) -> QueryDict | None:
    """What the session keeps for the request's page, once."""
    packed = request.session.get(_KEY)
    if not packed:
        return None
    try:
        path, fields = json.loads(zlib.decompress(b85decode(decrypt(packed, purpose=PURPOSE))))
    except (DecryptError, UnicodeEncodeError):
        del request.session[_KEY]
        return None
    if path != request.path:
        return None
    del request.session[_KEY]
    posted = QueryDict(mutable=True)
    for name, values in fields:
        posted.setlist(name, values)
    return posted
