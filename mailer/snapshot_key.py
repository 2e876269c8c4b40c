"""The keys that encrypt snapshots: 32 bytes in base64, kept apart from what they encrypt."""

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass, field
from typing import Self

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class SnapshotKey:
    """One AES-256 key; its id is derived from it, so a file of keys needs no names."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a key of another length."""
        if len(self.key) != _KEY_BYTES:
            raise ValueError(f"a key has {_KEY_BYTES} bytes in base64, this one has {len(self.key)}")

    @property
    def id(self) -> str:
        """Return the name under which snapshots refer to this key; tells nothing about it."""
        return hashlib.sha256(b"mailer snapshot key id" + self.key).hexdigest()[:12]

    @classmethod
    def generate(cls) -> Self:
        """Return a new random key."""
        return cls(os.urandom(_KEY_BYTES))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the key written as base64; raises ValueError, which does not quote it, when it is none."""
        try:
            return cls(base64.b64decode(text.strip(), altchars=b"-_", validate=True))
        except binascii.Error:
            raise ValueError(f"a key has {_KEY_BYTES} bytes in base64, this one is no base64") from None

    def to_text(self) -> str:
        """Return the key as base64."""
        return base64.b64encode(self.key).decode()


def read_keys(text: str) -> tuple[SnapshotKey, ...]:
    """Return the keys written one per line, # comments allowed; the first one encrypts.

    Raises ValueError for a line that is no key, and when there is none at all.
    """
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    keys = tuple(SnapshotKey.from_text(line) for line in lines if line)
    if not keys:
        raise ValueError("there is no key in it")
    return keys
