"""Static files without a build step or another server.

Every address holds a digest of the content, so that browsers may keep a file forever and a new version is
a new address. WhiteNoise answers them straight from the apps' `static` folders; texts are compressed once,
when first asked for.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from functools import lru_cache
from pathlib import Path
from posixpath import splitext

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.http import HttpRequest
from django.http.response import HttpResponse, HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware

DIGEST_LENGTH = 12
HASHED = re.compile(r"(?P<stem>.+)\.(?P<digest>[0-9a-f]{12})(?P<ext>\.[A-Za-z0-9]+)\Z")
COMPRESSED_TYPES = ("text/", "image/svg+xml", "application/json", "application/javascript")
LEAST_BYTES_TO_COMPRESS = 860


def _digest_of(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:DIGEST_LENGTH]


@lru_cache(maxsize=1024)
def _kept_digest(name: str) -> str:
    path = finders.find(name)
    return _digest_of(path) if isinstance(path, str) else ""


def digest(name: str) -> str:
    """The first digits of the file's SHA-256; empty where there is no such file."""
    return _kept_digest.__wrapped__(name) if settings.DEBUG else _kept_digest(name)


class HashedStorage(StaticFilesStorage):
    """`{% static "web/app.css" %}` becomes `/static/web/app.3f0c1a2b4d5e.css`."""

    def url(self, name: str | None) -> str:
        """The address of a file of an app's `static` folder."""
        found = digest(name) if name else ""
        if not name or not found:
            return super().url(name)
        stem, ext = splitext(name)
        return super().url(f"{stem}.{found}{ext}")


@lru_cache(maxsize=256)
def _compressed(path: str, modified: float) -> bytes:
    return gzip.compress(Path(path).read_bytes(), compresslevel=9, mtime=0)


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]
    """WhiteNoise over the finders, for plain and for hashed addresses."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        path = request.path_info
        if not path.startswith(self.static_prefix):
            return self.get_response(request)  # type: ignore[no-any-return]
        match = HASHED.match(path)
        plain = f"{match['stem']}{match['ext']}" if match else path
        static_file = self.find_file(plain) if self.autorefresh else self.files.get(plain)
        if static_file is None:
            return self.get_response(request)  # type: ignore[no-any-return]
        response: HttpResponseBase = self.serve(static_file, request)
        if match:
            # While replicas change versions, an old address may reach a new server: it answers with what
            # it has, and nobody keeps that.
            is_current = match["digest"] == digest(plain.removeprefix(self.static_prefix))
            response.headers["Cache-Control"] = (
                f"max-age={self.FOREVER}, public, immutable" if is_current else "no-store"
            )
        return self._compress(request, response, plain)

    def _compress(self, request: HttpRequest, response: HttpResponseBase, path: str) -> HttpResponseBase:
        content_type = response.headers.get("Content-Type", "")
        if not content_type.startswith(COMPRESSED_TYPES):
            return response
        response.headers["Vary"] = "Accept-Encoding"
        length = int(response.headers.get("Content-Length", "0"))
        if (
            request.method != "GET"
            or response.status_code != 200
            or length < LEAST_BYTES_TO_COMPRESS
            or "gzip" not in request.headers.get("Accept-Encoding", "")
        ):
            return response
        found = finders.find(path.removeprefix(self.static_prefix))
        if not isinstance(found, str):
            return response
        body = _compressed(found, Path(found).stat().st_mtime)
        smaller = HttpResponse(body, headers=dict(response.headers))
        smaller.headers["Content-Encoding"] = "gzip"
        smaller.headers["Content-Length"] = str(len(body))
        etag = response.headers.get("ETag", "")
        if etag:
            smaller.headers["ETag"] = f"W/{etag}"
        response.close()
        return smaller
