"""Whose certificates the agent takes: those that the machine trusts, unless --ca-file says otherwise."""

from __future__ import annotations

import os

EXPECTED = "/etc/ssl/certs/ca-certificates.crt"
# What requests, curl and OpenSSL are told by; then Debian and what comes of it, Red Hat and what comes of it, SUSE, Alpine.
_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_BUNDLES = (
    EXPECTED,
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def system_bundle() -> str:
    """The machine's file of trusted certificates; empty where it has none in any of the usual places."""
    named = [os.environ.get(name, "") for name in _VARIABLES]
    return next((path for path in (*named, *_BUNDLES) if path and os.path.isfile(path)), "")
