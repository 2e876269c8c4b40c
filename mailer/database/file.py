"""The SQLite file under an open database: noticed when it is removed or exchanged, let go of, taken up again.

SQLite itself would go on writing into the removed file, unseen, and would mix the log of the old file (-wal)
into a new one of the same name.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mailer.database.engine import check_ours
from mailer.database.errors import DatabaseGone, DatabaseUnusable
from mailer.lockfile import LockFile

Inode = tuple[int, int]


def users_lock_path(path: Path) -> Path:
    """Return the lock file that every process shares while it has the SQLite file open.

    Whoever replaces the file takes this lock for itself alone, and removes -wal and -shm with the old file.
    """
    return path.with_name(path.name + ".users")


class DatabaseFile:
    """Counts who uses the file; all of them gone, a lost file is let go of and its successor taken up."""

    def __init__(
        self, path: Path, *, let_go: Callable[[], None], on_taken_up: Callable[[bool], None] = lambda _: None
    ) -> None:
        """Take the path and what closes every idle connection.

        `on_taken_up` hears that the file is back, and whether it is another one.
        """
        self._path = path
        self._wal = Path(f"{path}-wal")
        self._let_go = let_go
        self._on_taken_up = on_taken_up
        self._lock = LockFile(users_lock_path(path))
        self._guard = threading.Lock()
        self._users = 0
        self._inode: Inode | None = None
        self._last: tuple[Inode | None, Inode | None] = (None, None)
        self._lost = False

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the file for the block; raises DatabaseGone while it is missing or not ours."""
        with self._guard:
            self._enter()
        try:
            yield
        finally:
            with self._guard:
                self._users -= 1
                if self._lost and self._users == 0:
                    self._detach()

    def close(self) -> None:
        """Let go of the file for good."""
        with self._guard:
            self._detach()

    def _enter(self) -> None:
        present = _inode_of(self._path)
        if self._inode is not None and present != self._inode:
            if not self._lost and _inode_of(self._wal) != self._last[1]:
                # Judged while we still hold the old log open: once it is closed, a new one may get its number.
                self._last = (self._last[0], None)
            self._lost = True
            if self._users == 0:
                self._detach()
        if present is None or self._lost:
            raise DatabaseGone(f"The database file {self._path} is missing; put it back or restore it.")
        if self._inode is None:
            self._attach(present)
        if self._last[1] is None:
            self._last = (present, _inode_of(self._wal))
        self._users += 1

    def _attach(self, present: Inode) -> None:
        before, wal = self._last
        if before not in {None, present} and wal is not None and _inode_of(self._wal) == wal:
            raise DatabaseGone(
                f"The database file was exchanged beside {self._wal.name} of the old one: stop all services, "
                f"remove {self._wal.name} and {self._path.name}-shm, and start again."
            )
        if not self._lock.acquire(shared=True):
            raise DatabaseGone("The database is being restored; the service goes on when that is done.")
        try:
            check_ours(self._path)
        except (DatabaseUnusable, sqlite3.Error, OSError) as error:
            self._lock.release()
            raise DatabaseGone(f"The database file cannot be used: {error}") from error
        if before is not None:
            self._on_taken_up(before != present)
        self._inode, self._last = present, (present, None)

    def _detach(self) -> None:
        self._let_go()
        self._lock.release()
        self._inode, self._lost = None, False


def _inode_of(path: Path) -> Inode | None:
    try:
        status = os.stat(path)  # noqa: PTH116 (asked for every transaction)
    except OSError:
        return None
    return status.st_dev, status.st_ino
