"""What this store knows of its copies across restarts: which are its own, and how copying is doing."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mailer.log import get_logger
from services.backup.durable import replace_file, unfinished

log = get_logger(__name__)

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """What has happened. None: never, as far as is known."""

    own_ids: frozenset[str] = frozenset()
    """Snapshots that this store has copied or fetched: the only ones that its schedule may remove there."""
    begun_ids: frozenset[str] = frozenset()
    """Those whose packed copy may lie there without a manifest."""
    success_time: datetime | None = None
    failure_time: datetime | None = None
    """Unset once it worked again."""
    failure: str = ""

    def began(self, snapshot_id: str) -> "Book":
        """Return the book while a snapshot is being copied."""
        return replace(self, begun_ids=self.begun_ids | {snapshot_id})

    def dropped(self, snapshot_id: str) -> "Book":
        """Return the book after what was begun has been cleared away."""
        return replace(self, begun_ids=self.begun_ids - {snapshot_id})

    def copied(self, snapshot_id: str, at: datetime) -> "Book":
        """Return the book after a snapshot has been copied."""
        return replace(self.owning(snapshot_id).dropped(snapshot_id), success_time=at)

    def owning(self, snapshot_id: str) -> "Book":
        """Return the book with one more snapshot that this store knows."""
        return replace(self, own_ids=self.own_ids | {snapshot_id})

    def disowning(self, snapshot_ids: Iterable[str]) -> "Book":
        """Return the book after snapshots have been removed there."""
        return replace(self, own_ids=self.own_ids.difference(snapshot_ids))

    def failed(self, at: datetime, why: str) -> "Book":
        """Return the book after a copy, or a look, has failed."""
        return replace(self, failure_time=at, failure=why)

    def went_well(self) -> "Book":
        """Return the book after everything there was to do has been done."""
        return replace(self, failure_time=None, failure="")


class BookFile:
    """Keeps the book beside the snapshots.

    One that cannot be read is begun anew: then nothing that lies there counts as this store's own.
    """

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self._path = path

    def load(self) -> Book:
        """Return the book as last stored."""
        unfinished(self._path).unlink(missing_ok=True)
        try:
            body: dict[str, Any] = json.loads(self._path.read_bytes())
            if body["format"] != _FORMAT:
                raise ValueError("it was written by another version")
            return Book(
                own_ids=frozenset(map(str, body["own_ids"])),
                begun_ids=frozenset(map(str, body["begun_ids"])),
                success_time=_instant(body["success_time"]),
                failure_time=_instant(body["failure_time"]),
                failure=str(body["failure"]),
            )
        except FileNotFoundError:
            return Book()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("the book of the copies cannot be read and is begun anew", error=str(error))
            return Book()

    def store(self, book: Book) -> None:
        """Keep the book, on disk when this returns."""
        body = {
            "format": _FORMAT,
            "own_ids": sorted(book.own_ids),
            "begun_ids": sorted(book.begun_ids),
            "success_time": _text(book.success_time),
            "failure_time": _text(book.failure_time),
            "failure": book.failure,
        }
        replace_file(self._path, json.dumps(body, indent=1).encode() + b"\n")


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(UTC).isoformat()


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(text)
    return instant
