"""The live database as backup sees it: a file that other processes work on."""

import errno
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path

from mailer.database import users_lock_path
from mailer.database.engine import APPLICATION_ID
from mailer.database.errors import unavailable
from mailer.errors import FailedPrecondition, Unavailable
from mailer.lockfile import LockFile
from services.backup.connect import connected
from services.backup.job import Job
from services.backup.proof import pragma, table_names

_PATIENCE_SECONDS = 10.0
_RETRY_SECONDS = 0.05
_FULL = {errno.ENOSPC, errno.EDQUOT}
_UNUSABLE = {
    errno.EACCES,
    errno.EIO,
    errno.EISDIR,
    errno.ENODEV,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENXIO,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
}
_BEYOND_OPENING = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class LiveState(Enum):
    """What there is at the place of the live database."""

    USABLE = auto()
    EMPTY = auto()
    """A database without tables: nothing to keep."""
    MISSING = auto()
    DAMAGED = auto()
    """A file that SQLite cannot read."""


def look(live: Path) -> LiveState:
    """Return what there is. Raises FailedPrecondition (a file of another application), Unavailable (busy)."""
    if not live.exists():
        return LiveState.MISSING
    try:
        with translated(), connected(live, mode="rw") as connection:
            application_id, tables = pragma(connection, "application_id"), table_names(connection)
    except DamagedLive:
        return LiveState.DAMAGED
    if application_id != APPLICATION_ID and (tables or application_id):
        raise FailedPrecondition(
            f"{live.name} belongs to another application (its id is {application_id:#x}); nothing was "
            "changed. Set MAILER_DATABASE_URL to the database of Mailer.",
            reason="NOT_A_MAILER_DATABASE",
        )
    return LiveState.USABLE if tables else LiveState.EMPTY


def is_damaged(live: Path) -> bool:
    """Say whether a file that opens is damaged all the same; reads it whole."""
    try:
        with connected(live, mode="rw") as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
    except sqlite3.DatabaseError as error:
        return _class_of(error) in _BEYOND_OPENING


class DamagedLive(Exception):
    """SQLite cannot read the live database."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn what SQLite and the disk say into contract errors; DamagedLive when the file cannot be read."""
    try:
        yield
    except sqlite3.Error as error:
        if _class_of(error) in _BEYOND_OPENING:
            raise DamagedLive(str(error)) from error
        if _class_of(error) == sqlite3.SQLITE_FULL:
            raise no_space(str(error)) from error
        raise unavailable(error) or error from error
    except OSError as error:
        raise _of_the_disk(error) or error from error


def _of_the_disk(error: OSError) -> FailedPrecondition | None:
    """Return the error for what a person has to mend on the disk, None for anything else."""
    if error.errno in _FULL:
        return no_space(str(error.strerror))
    if error.errno not in _UNUSABLE:
        return None
    return FailedPrecondition(
        f"The disk does not do what is asked of it: {error.filename or 'a file'}: {error.strerror}. See that the "
        "folder of the backups is there and can be written, then repeat this call.",
        reason="STORE_UNUSABLE",
    )


def no_space(detail: str) -> FailedPrecondition:
    """Return the error for a full disk."""
    return FailedPrecondition(
        f"Not enough space for the snapshot; nothing was changed ({detail}). Free some, or Prune.",
        reason="NOT_ENOUGH_SPACE",
    )


@contextmanager
def used(live: Path) -> Iterator[None]:
    """Share the lock that every process holds while it has the database open. Raises Unavailable."""
    lock = LockFile(users_lock_path(live))
    if not lock.acquire(shared=True):
        raise Unavailable("The database is being put back; try again in a moment.", reason="DATABASE_GONE")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone(live: Path, job: Job) -> Iterator[None]:
    """Hold that lock alone: nobody has the database open, nobody opens it. Raises FailedPrecondition."""
    lock = LockFile(users_lock_path(live))
    patient = job.within(_PATIENCE_SECONDS, _in_use())
    pause = threading.Event()
    live.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    while not lock.acquire():
        patient.check()
        pause.wait(_RETRY_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _in_use() -> FailedPrecondition:
    return FailedPrecondition(
        "The database is lost or cannot be read, and it can only be put back while nobody has it open: stop "
        "the scheduler and the sender, then repeat this call.",
        reason="DATABASE_IN_USE",
    )


def _class_of(error: sqlite3.Error) -> int:
    """Return SQLite's error code without its details, which are in the higher bytes."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
