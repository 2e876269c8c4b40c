"""Packing a database file for the store, and unpacking it again with proof that it is the same."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from mailer.errors import DataLoss
from services.backup.job import Job, Phase
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


def pack(plain: Path, packed: Path, job: Job) -> Packed:
    """Pack one file into another and return what both are; the packed one is on disk when this returns."""
    total = plain.stat().st_size
    digest, size = hashlib.sha256(), 0
    with plain.open("rb") as source, packed.open("wb") as file:
        target = _HashingFile(file)
        compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=_THREADS, write_checksum=True)
        with compressor.stream_writer(cast("BinaryIO", target), size=total, closefd=False) as writer:
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                writer.write(chunk)
                job.step(Phase.PACKING, size, total)
        file.flush()
        os.fsync(file.fileno())
    return Packed(
        plain_size_bytes=size,
        plain_sha256=digest.hexdigest(),
        packed_size_bytes=target.size,
        packed_sha256=target.digest.hexdigest(),
    )


def unpack(packed: Path, expected: Snapshot, target: Path, job: Job) -> None:
    """Write the database of a snapshot to target. Raises DataLoss unless it is the one that was packed."""
    with target.open("wb") as file:
        for chunk in _plain_chunks(packed, expected, job):
            file.write(chunk)


def read_back(packed: Path, expected: Snapshot, job: Job) -> None:
    """Read a packed copy whole. Raises DataLoss unless it is the one that was packed."""
    for _ in _plain_chunks(packed, expected, job):
        pass


def _plain_chunks(packed: Path, expected: Snapshot, job: Job) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    try:
        with packed.open("rb") as file:
            source = _HashingReader(file)
            with zstandard.ZstdDecompressor().stream_reader(cast("BinaryIO", source), closefd=False) as reader:
                while chunk := reader.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    if size > expected.plain_size_bytes:
                        raise damaged(expected, "it unpacks to more than its manifest says")
                    yield chunk
                    job.step(Phase.VERIFYING, size, expected.plain_size_bytes)
            while source.read(_CHUNK_BYTES):
                pass  # what lies behind the end of the packed stream counts for the hash too
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
