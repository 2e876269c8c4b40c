"""Putting the stage into the live database while others have it open, as one write transaction.

SQLite's backup API copies pages into the live database under its write lock: readers see the old state until
the commit and the new one after it. Once the first pages are in, no other writer can commit any more, and
everybody still reads the old state: in that moment `under_lock` keeps what must be kept. Pages of the stage
that it changes then, through the same connection, travel too.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

from mailer.clock import Clock
from mailer.database.errors import DatabaseBusy
from services.backup.job import Job, Phase
from services.backup.proof import pragma

_PAGES_AT_ONCE = 2048
_RETRY_SECONDS = 0.005
_WAITING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


@dataclass(slots=True, kw_only=True)
class Swap:
    """One run of the backup API from stage to live."""

    stage: sqlite3.Connection
    live: sqlite3.Connection
    clock: Clock
    under_lock: Callable[[Job], None]
    """Called once, with the job limited to the time that the lock may be held."""
    lock_limit_seconds: float
    _locked_at: float = field(default=0.0, init=False)
    _limited: Job | None = field(default=None, init=False)

    def run(self, job: Job) -> float:
        """Replace the content of the live database; returns for how many seconds its write lock was held.

        Whatever is raised, nothing has changed: by the job while waiting for the lock, DatabaseBusy when the
        lock would be held for too long, and whatever `under_lock` raises.
        """
        pages = pragma(self.stage, "page_count")
        if pages < 2:
            raise ValueError("a stage of one page would be committed before anything could be carried over")
        # In a rollback journal the copy would lock readers out. Databases of ours are in WAL mode; an empty
        # file is not yet.
        self.live.execute("PRAGMA journal_mode=WAL")
        self.live.execute("PRAGMA synchronous=FULL")
        self.stage.backup(
            self.live,
            pages=min(_PAGES_AT_ONCE, pages - 1),
            progress=lambda status, remaining, total: self._after_step(job, status, remaining, total),
            sleep=_RETRY_SECONDS,
        )
        return self.clock.monotonic() - self._locked_at

    def _after_step(self, job: Job, status: int, remaining: int, total: int) -> None:
        """Called after every step, also after one that found the database locked. Raising here rolls back."""
        if status == sqlite3.SQLITE_DONE:
            return  # committed: nothing may raise any more
        if status in _WAITING:
            job.check()
            return
        if self._limited is None:
            self._locked_at = self.clock.monotonic()
            self._limited = job.within(self.lock_limit_seconds, _held_too_long(self.lock_limit_seconds))
            self.under_lock(self._limited)
        size = pragma(self.stage, "page_size")
        self._limited.step(Phase.COPYING, (total - remaining) * size, total * size)


def _held_too_long(limit_seconds: float) -> DatabaseBusy:
    return DatabaseBusy(
        f"The restore would have kept writers waiting for more than {limit_seconds:g} s; nothing was "
        "changed. Raise MAILER_BACKUP_LOCK_LIMIT, or try when less is going on."
    )
