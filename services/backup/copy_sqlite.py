"""Copying a SQLite database that others are writing to."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mailer.clock import Clock
from mailer.errors import FailedPrecondition
from services.backup.connect import connected, interruptible
from services.backup.job import Job, Phase
from services.backup.proof import pragma, table_names

_PROBE_SECONDS = 0.05


@dataclass(slots=True)
class WriterWait:
    """The longest time that a writer had to wait for the write lock."""

    seconds: float = 0.0


def copy_database(live: Path, target: Path, job: Job) -> None:
    """Write one consistent view of the live database to target, an empty file; writers go on meanwhile.

    Raises sqlite3.Error without space, and FailedPrecondition for a database without tables: a copy of nothing must
    not count as a backup.
    """
    with connected(live, mode="rw") as connection, interruptible(connection, job):
        if not table_names(connection):
            raise FailedPrecondition(
                "The database has no tables yet: start the scheduler and the sender, or restore a snapshot.",
                reason="DATABASE_EMPTY",
            )
        total = pragma(connection, "page_count") * pragma(connection, "page_size")
        with _watched(target, total, job):
            connection.execute("VACUUM INTO ?", (str(target),))
        job.step(Phase.COPYING, total, total)


@contextmanager
def _watched(target: Path, total: int, job: Job) -> Iterator[None]:
    """Report how far the copy has grown: the statement that makes it says nothing until it is done."""
    done = threading.Event()

    def report() -> None:
        while not done.wait(_PROBE_SECONDS):
            job.report(Phase.COPYING, min(target.stat().st_size, total), total)

    watcher = threading.Thread(target=report, name="backup-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


@contextmanager
def writer_wait(live: Path, clock: Clock) -> Iterator[WriterWait]:
    """Measure, while the block runs, how long a writer waits for the write lock of the live database.

    An upper bound: it includes waiting for the other writers, as a writer of the services would.
    """
    longest, done = WriterWait(), threading.Event()

    def probe() -> None:
        with connected(live, mode="rw") as connection:
            # Once at least: a small copy is done before the first pause is over.
            while True:
                began = clock.monotonic()
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute("ROLLBACK")
                except sqlite3.OperationalError:
                    pass  # busy for longer than the timeout: that is a wait, too
                longest.seconds = max(longest.seconds, clock.monotonic() - began)
                if done.wait(_PROBE_SECONDS):
                    return

    prober = threading.Thread(target=probe, name="backup-writer-probe", daemon=True)
    prober.start()
    try:
        yield longest
    finally:
        done.set()
        prober.join()
