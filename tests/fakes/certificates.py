"""Certificates of a private authority, for servers in tests."""

import ssl
from dataclasses import dataclass
from datetime import datetime

import trustme


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a server needs to speak TLS, and what a client needs to believe it."""

    server: ssl.SSLContext
    ca_pem: str


def certificate_for(*names: str, expired_since: datetime | None = None) -> Certificate:
    """Return a certificate for these host names or addresses, of an authority that nobody else uses."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    leaf = authority.issue_cert(*names, not_after=expired_since, key_type=trustme.KeyType.ECDSA)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return Certificate(context, authority.cert_pem.bytes().decode())
