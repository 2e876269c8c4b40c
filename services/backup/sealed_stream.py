"""A stream of bytes, encrypted in chunks that cannot be cut off, exchanged, altered or moved: STREAM.

After "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance" (Hoang, Reyhanitabar, Rogaway, Vizár,
2015), as age uses it: a key of its own for each stream, a counter as nonce, and the last chunk marked in its nonce.
docs/decisions/0014 has the format byte by byte. Both classes keep one chunk in memory, whatever the size.
"""

import os
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"mailer snapshot\x01"
"""Begins each stream; the last byte is the version of the format."""

CHUNK_BYTES = 1 << 16
_TAG_BYTES = 16
_SALT_BYTES = 32
_KEY_ID_BYTES = 6
_COUNTER_BYTES = 11
_HEADER_BYTES = len(MAGIC) + _KEY_ID_BYTES + _SALT_BYTES


class StreamBroken(Exception):
    """The stream is not what was written; the text says in what way."""


class Readable(Protocol):
    """What a stream is read from."""

    def read(self, size: int = -1) -> bytes:
        """Return at most so many bytes, none at the end."""
        ...


class Writable(Protocol):
    """What a stream is written to."""

    def write(self, data: bytes) -> int:
        """Take the data."""
        ...


class SealingWriter:
    """Encrypts what is written to it. Without `finish` the stream is not whole and does not open."""

    def __init__(self, target: Writable, *, key: bytes, key_id: str, name: str) -> None:
        """Begin the stream; it opens under the same key and name only."""
        header = MAGIC + bytes.fromhex(key_id) + os.urandom(_SALT_BYTES)
        self._target = target
        self._chunks = _Chunks(key, header, name)
        self._waiting = bytearray()
        target.write(header)

    def write(self, data: bytes) -> int:
        """Take more of the plain bytes."""
        self._waiting += data
        # The last chunk is marked as such, so a full one waits until it is known that more follows.
        while len(self._waiting) > CHUNK_BYTES:
            self._target.write(self._chunks.seal(bytes(self._waiting[:CHUNK_BYTES]), last=False))
            del self._waiting[:CHUNK_BYTES]
        return len(data)

    def finish(self) -> None:
        """Write the last chunk."""
        self._target.write(self._chunks.seal(bytes(self._waiting), last=True))
        self._waiting.clear()


class OpeningReader:
    """Decrypts what it reads; every byte that it returns is proven to be what was written at its place."""

    def __init__(self, source: Readable, *, key: bytes, key_id: str, name: str) -> None:
        """Read the header. Raises StreamBroken when the stream is of another kind, or of another key."""
        header = _read_fully(source, _HEADER_BYTES)
        if header[: len(MAGIC)] != MAGIC or len(header) < _HEADER_BYTES:
            raise StreamBroken("it is not encrypted in the form that its manifest says")
        if header[len(MAGIC) : len(MAGIC) + _KEY_ID_BYTES] != bytes.fromhex(key_id):
            raise StreamBroken("it is encrypted under another key than its manifest says")
        self._source = source
        self._chunks = _Chunks(key, header, name)
        self._ahead = _read_fully(source, CHUNK_BYTES + _TAG_BYTES)
        self._ended = False
        self._plain = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """Return at most so many bytes, none at the end. Raises StreamBroken."""
        while not self._plain and not self._ended:
            sealed, self._ahead = self._ahead, _read_fully(self._source, CHUNK_BYTES + _TAG_BYTES)
            self._ended = not self._ahead
            self._plain = memoryview(self._chunks.open(sealed, last=self._ended))
        if size < 0:
            size = len(self._plain)
        data, self._plain = bytes(self._plain[:size]), self._plain[size:]
        return data


class _Chunks:
    """Seals or opens the chunks of one stream in their order."""

    def __init__(self, key: bytes, header: bytes, name: str) -> None:
        salt = header[-_SALT_BYTES:]
        derived = HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"mailer snapshot stream").derive(key)
        self._cipher = AESGCM(derived)
        self._bound_to = header + name.encode()
        self._count = 0

    def seal(self, plain: bytes, *, last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(last=last), plain, self._bound_to)

    def open(self, sealed: bytes, *, last: bool) -> bytes:
        try:
            plain = self._cipher.decrypt(self._nonce(last=last), sealed, self._bound_to)
        except (InvalidTag, ValueError):
            raise StreamBroken(f"chunk {self._count} was altered, moved or cut off") from None
        if not plain and self._count > 1:
            raise StreamBroken("it ends in an empty chunk")
        return plain

    def _nonce(self, *, last: bool) -> bytes:
        nonce = self._count.to_bytes(_COUNTER_BYTES, "big") + bytes([last])
        self._count += 1
        return nonce


def _read_fully(source: Readable, size: int) -> bytes:
    """Return so many bytes, fewer only at the end."""
    parts = bytearray()
    while len(parts) < size and (part := source.read(size - len(parts))):
        parts += part
    return bytes(parts)
