"""Who claims deliveries, and who takes over what a dead worker left.

A worker holds a lock file as long as it lives. The kernel drops the lock at the instant of its death, however it dies,
and keeps it while the process is merely stopped: age alone would rescue messages that are still being sent. Where the
lock file itself is gone (somebody cleaned the folder), the heartbeat in the database decides, slowly.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import structlog
from sqlalchemy import Connection, delete, select, update

from mailer.clock import Clock
from mailer.database import Database
from mailer.lockfile import LockFile, is_owner_gone
from services.sender import account_store, doubt
from services.sender.counts import Changes
from services.sender.dots import DotRecord, Dots, read_dots
from services.sender.tables import IS_IN_PROGRESS, deliveries, workers

log = structlog.get_logger(__name__)

HEARTBEAT = timedelta(seconds=10)
SILENT_AFTER = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Rescued:
    """What was taken over from dead workers."""

    returned: int = 0
    unknown: int = 0
    flagged: int = 0


class Worker:
    """This process as a claimer: an identity with a lock file."""

    def __init__(self, database: Database, clock: Clock, *, directory: Path) -> None:
        """Choose an identity; `directory` is shared by all senders of one database on this host."""
        self._database = database
        self._clock = clock
        self._directory = directory
        self._lock = self._new_lock()
        self._worker_id = self._lock.path.stem
        self._dots: Dots | None = None

    @property
    def worker_id(self) -> str:
        """Return the identity under which claims are made."""
        return self._worker_id

    @property
    def dots(self) -> Dots:
        """Return where dots are marked under the present identity. Raises RuntimeError before `start`."""
        if self._dots is None:
            raise RuntimeError("the worker was not started")
        return self._dots

    async def start(self) -> None:
        """Take the lock and enter the register. Call it before the first claim."""
        self._dots = await self._enter(self._lock)

    async def become_another(self) -> LockFile:
        """Take a new identity; return the lock of the old one, whose messages at their dots are still ours.

        For after a restore, whose rows may carry the old one's claims. Until that lock is released nobody else takes
        these messages over. Raises DatabaseUnavailable, and then nothing has changed.
        """
        lock = self._new_lock()
        try:
            dots = await self._enter(lock)
        except BaseException:
            lock.release()
            raise
        old, self._lock, self._dots = self._lock, lock, dots
        self._worker_id = lock.path.stem
        return old

    def stop(self) -> None:
        """Give up the identity: whatever it still claims is rescued by the next worker."""
        self._lock.release()

    async def beat(self) -> None:
        """Say that this worker lives."""
        await self._database.write(_beat, self.worker_id, self._clock.now())

    async def rescue(self) -> Rescued:
        """Take over what dead workers left, and clear their traces."""
        now = self._clock.now()
        known = await self._database.read(_others, self.worker_id)
        dead = [worker_id for worker_id, heartbeat in known.items() if self._is_dead(worker_id, heartbeat, now)]
        if not dead:
            return Rescued()
        left = {worker_id: self._dots_left_by(worker_id) for worker_id in dead}
        rescued = await self._database.write(_take_over, left, now)
        for worker_id in dead:
            self._dots_path(worker_id).unlink(missing_ok=True)
            self._path(worker_id).unlink(missing_ok=True)
        if rescued != Rescued():
            log.warning(
                "took over from senders that ended without a goodbye",
                workers=dead,
                returned=rescued.returned,
                unknown=rescued.unknown,
                flagged=rescued.flagged,
            )
        return rescued

    async def _enter(self, lock: LockFile) -> Dots:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not lock.acquire():
            raise RuntimeError(f"the lock of a new worker is taken: {lock.path}")
        dots = Dots(self._dots_path(lock.path.stem))
        await self._database.write(_register, lock.path.stem, self._clock.now())
        return dots

    def _is_dead(self, worker_id: str, heartbeat: datetime | None, now: datetime) -> bool:
        path = self._path(worker_id)
        if path.exists():
            return is_owner_gone(path)
        return heartbeat is None or now - heartbeat > SILENT_AFTER

    def _dots_left_by(self, worker_id: str) -> DotRecord | None:
        """Return what a dead worker noted; nothing without its lock: then it may live, and write a dot yet."""
        return read_dots(self._dots_path(worker_id)) if self._path(worker_id).exists() else None

    def _new_lock(self) -> LockFile:
        return LockFile(self._path(uuid4().hex))

    def _path(self, worker_id: str) -> Path:
        return self._directory / f"{worker_id}.lock"

    def _dots_path(self, worker_id: str) -> Path:
        return self._directory / f"{worker_id}.dots"


def _register(connection: Connection, worker_id: str, now: datetime) -> None:
    connection.execute(
        workers.insert().values(
            worker_id=worker_id,
            host=socket.gethostname(),
            process_id=os.getpid(),
            start_time=now,
            heartbeat_time=now,
        )
    )


def _beat(connection: Connection, worker_id: str, now: datetime) -> None:
    connection.execute(update(workers).where(workers.c.worker_id == worker_id).values(heartbeat_time=now))


def _others(connection: Connection, worker_id: str) -> dict[str, datetime | None]:
    """Return the workers that are registered, or have claims without being registered, with their last heartbeat."""
    known: dict[str, datetime | None] = {
        row.worker: None
        for row in connection.execute(select(deliveries.c.worker).where(IS_IN_PROGRESS).distinct())
        if row.worker is not None
    }
    known |= {
        row.worker_id: row.heartbeat_time
        for row in connection.execute(select(workers.c.worker_id, workers.c.heartbeat_time))
    }
    known.pop(worker_id, None)
    return known


def _take_over(connection: Connection, left: Mapping[str, DotRecord | None], now: datetime) -> Rescued:
    changes = Changes()
    totals = [0, 0, 0]
    for worker_id, dots in left.items():
        taken = doubt.rescue(connection, worker=worker_id, dots=dots, now=now, changes=changes)
        totals = [total + part for total, part in zip(totals, taken, strict=True)]
    changes.apply(connection)
    account_store.free_probes(connection, list(left))
    connection.execute(delete(workers).where(workers.c.worker_id.in_(left)))
    return Rescued(*totals)
