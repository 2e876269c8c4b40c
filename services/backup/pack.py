"""Packing a database file for the store, and unpacking it again with proof that it is the same."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from mailer.errors import DataLoss
from services.backup.encryption import NO_KEYS, Keys
from services.backup.job import Job, Phase
from services.backup.sealed_stream import StreamBroken
from services.backup.snapshot import Snapshot

_CHUNK_BYTES = 1 << 20
# Level 1 packs these databases as small as level 3 in half the time; two threads halve it again.
_LEVEL = 1
_THREADS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Sizes and hashes of a database file, as it is and packed."""

    plain_size_bytes: int
    plain_sha256: str
    packed_size_bytes: int
    packed_sha256: str
    key_id: str
    """Of the key that it is encrypted under; empty when it is not."""


class _HashingFile:
    """A file to write to that knows what went through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)


class _HashingReader:
    """A file to read from that knows what went through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def pack(plain: Path, packed: Path, job: Job, *, keys: Keys = NO_KEYS, snapshot_id: str = "") -> Packed:
    """Pack one file into another and return what both are; the packed one is on disk when this returns.

    With a key for it, what lies in the packed file is encrypted, and opens only as the snapshot of this id.
    """
    total = plain.stat().st_size
    digest, size = hashlib.sha256(), 0
    with plain.open("rb") as source, packed.open("wb") as file:
        target = _HashingFile(file)
        sealing = keys.writer(target, snapshot_id)
        compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=_THREADS, write_checksum=True)
        with compressor.stream_writer(cast("BinaryIO", sealing or target), size=total, closefd=False) as writer:
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                writer.write(chunk)
                job.step(Phase.PACKING, size, total)
        if sealing is not None:
            sealing.finish()
        file.flush()
        os.fsync(file.fileno())
    return Packed(
        plain_size_bytes=size,
        plain_sha256=digest.hexdigest(),
        packed_size_bytes=target.size,
        packed_sha256=target.digest.hexdigest(),
        key_id=keys.sealing_id,
    )


def unpack(packed: Path, expected: Snapshot, target: Path, job: Job, *, keys: Keys = NO_KEYS) -> None:
    """Write the database of a snapshot to target.

    Raises DataLoss unless it is the one that was packed, and FailedPrecondition without its key.
    """
    with target.open("wb") as file:
        for chunk in _plain_chunks(packed, expected, job, keys):
            file.write(chunk)


def read_back(packed: Path, expected: Snapshot, job: Job, *, keys: Keys = NO_KEYS) -> None:
    """Read a packed copy whole. Raises as `unpack` does."""
    for _ in _plain_chunks(packed, expected, job, keys):
        pass


def _plain_chunks(packed: Path, expected: Snapshot, job: Job, keys: Keys) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    try:
        with packed.open("rb") as file:
            source = _HashingReader(file)
            opened = keys.reader(source, expected)
            with zstandard.ZstdDecompressor().stream_reader(cast("BinaryIO", opened), closefd=False) as reader:
                while chunk := reader.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    if size > expected.plain_size_bytes:
                        raise damaged(expected, "it unpacks to more than its manifest says")
                    yield chunk
                    job.step(Phase.VERIFYING, size, expected.plain_size_bytes)
            while opened.read(_CHUNK_BYTES):
                pass  # what lies behind the end of the packed stream counts for the hash too
    except StreamBroken as error:
        raise damaged(expected, str(error)) from error
    except zstandard.ZstdError as error:
        raise damaged(expected, f"it cannot be unpacked: {error}") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise damaged(expected, "its packed copy is missing") from error
    if source.digest.hexdigest() != expected.packed_sha256:
        raise damaged(expected, "its packed copy does not match its SHA-256")
    if digest.hexdigest() != expected.plain_sha256 or size != expected.plain_size_bytes:
        raise damaged(expected, "its database does not match its SHA-256")


def damaged(snapshot: Snapshot, damage: str) -> DataLoss:
    """Return the error for a snapshot that is not what its manifest says."""
    return DataLoss(
        f"Snapshot {snapshot.snapshot_id} is damaged: {damage}. Restore another one.",
        reason="SNAPSHOT_DAMAGED",
        metadata={"snapshot_id": snapshot.snapshot_id, "damage": damage},
    )
