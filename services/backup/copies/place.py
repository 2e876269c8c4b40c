"""Where copies lie: a flat folder of named files, each of them whole or not there at all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from mailer.errors import DataLoss, FailedPrecondition, NotFound, Unavailable

CHUNK_BYTES = 1 << 20

Moved = Callable[[int], None]
"""Told how many bytes have been moved so far; may raise to stop the transfer, which then leaves nothing."""


@dataclass(frozen=True, slots=True)
class Lying:
    """A file at a place."""

    size_bytes: int
    version: str
    """Changes when the content does."""


class Place(Protocol):
    """What every kind of place can do. Methods block; they raise what the functions below return."""

    def names(self) -> dict[str, Lying]:
        """Return the files that lie here whole; none of folders, and none that is still being written."""
        ...

    def put(self, name: str, source: BinaryIO, *, size_bytes: int, sha256: str, moved: Moved) -> None:
        """Store what source holds, replacing what has this name; it has arrived and is the same when this returns."""
        ...

    def get(self, name: str, target: BinaryIO, *, moved: Moved) -> None:
        """Write a file to target. Raises NotFound."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; harmless when it is not there."""
        ...

    def sweep(self) -> None:
        """Remove what uploads left that were killed. Only while nobody else uploads."""
        ...


def away(url: str, why: str) -> Unavailable:
    """Return the error for a place that may be back in a moment."""
    return Unavailable(
        f"The place of the copies, {url}, cannot be reached: {why}. Try again when it is back.",
        reason="COPIES_AWAY",
        metadata={"url": url},
    )


def refused(url: str, why: str) -> FailedPrecondition:
    """Return the error for a place that a person has to look after."""
    return FailedPrecondition(
        f"The place of the copies, {url}, cannot be used: {why}. See that it is there and has space, and that "
        "MAILER_BACKUP_COPY_URL and the credentials are right.",
        reason="COPIES_REFUSED",
        metadata={"url": url},
    )


def missing(url: str, name: str) -> NotFound:
    """Return the error for a file that is not there."""
    return NotFound(f"There is no {name} in {url}.", reason="COPY_MISSING", metadata={"url": url, "name": name})


def not_the_same(url: str, name: str) -> DataLoss:
    """Return the error for a file that is not what it should be: what was read, or what has arrived."""
    return DataLoss(
        f"{name} is not what its manifest says, here or in {url}: its SHA-256 differs. Verify the snapshot.",
        reason="COPY_NOT_THE_SAME",
        metadata={"url": url, "name": name},
    )
