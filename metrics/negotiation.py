"""Which format and encoding a client gets. Never 406: whoever asks for something else gets text 0.0.4."""

from dataclasses import dataclass
from functools import lru_cache

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# Names need no escaping in any of these schemes, since all of ours are of the old character set; the
# answer names the scheme that was asked for, as Prometheus 3 expects it.
_ESCAPING_SCHEMES = ("allow-utf-8", "underscores", "dots", "values")
_OPENMETRICS_VERSIONS = ("", "0.0.1", "1.0.0")


@dataclass(frozen=True, slots=True)
class Format:
    """What is sent."""

    is_openmetrics: bool
    content_type: str


@lru_cache(maxsize=128)
def choose_format(accept: str) -> Format:
    """The format with the highest quality among those that we have; the first one of equals.

    RFC 9110, 12.5.1; https://prometheus.io/docs/instrumenting/content_negotiation/
    """
    best, best_quality = Format(False, TEXT), 0.0
    for media_type, parameters in _items(accept):
        quality = _quality(parameters)
        if quality <= best_quality:
            continue
        version = parameters.get("version", "")
        if media_type == "application/openmetrics-text" and version in _OPENMETRICS_VERSIONS:
            best, best_quality = Format(True, OPENMETRICS + _escaping(parameters)), quality
        elif media_type in ("text/plain", "text/*", "*/*"):
            best, best_quality = Format(False, TEXT), quality
    return best


@lru_cache(maxsize=128)
def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the client takes gzip (RFC 9110, 12.5.3); `gzip;q=0` is a no."""
    qualities = {coding: _quality(parameters) for coding, parameters in _items(accept_encoding)}
    for coding in ("gzip", "x-gzip", "*"):
        if coding in qualities:
            return qualities[coding] > 0
    return False


def _items(header: str) -> list[tuple[str, dict[str, str]]]:
    items = []
    for part in header.split(","):
        value, *parameters = part.split(";")
        pairs = (parameter.partition("=") for parameter in parameters)
        items.append((value.strip().lower(), {n.strip().lower(): v.strip().strip('"') for n, _, v in pairs}))
    return items


def _quality(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0


def _escaping(parameters: dict[str, str]) -> str:
    scheme = parameters.get("escaping", "")
    return f"; escaping={scheme}" if scheme in _ESCAPING_SCHEMES else ""
