"""Backup services with one rule taken out. The harness has to catch them, or it proves nothing.

They exist only in the memory of a process of a test: production code has no switch for them. Each waits until it sees
that what it breaks has been used, so that it is not caught by luck.
"""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.backup.traffic import diary_of
from services.backup import pre_restore, restore, swap, vault, workroom
from services.backup.connect import connected
from services.backup.durable import move_file, replace_file
from services.backup.job import Job
from services.backup.snapshot import Snapshot

_PATIENCE_SECONDS = 10.0
_LOOK_SECONDS = 0.005
_HELD_SECONDS = 0.5  # longer than a writer pauses: then each of them waits for the lock


def copy_before_the_lock() -> None:
    """Take the state before a restore while others still write, and use it once the lock is taken."""
    take = pre_restore.PreRestore.take
    prepare = restore.Restorer._prepare
    early: list[Snapshot] = []

    def prepare_too_much(restorer: restore.Restorer, stage: sqlite3.Connection, job: Job) -> restore.Ahead:
        ahead = prepare(restorer, stage, job)
        with connected(restorer._live, mode="rw") as live:
            before = _version(live)
            early[:] = [take(restorer._pre_restore, job, restored_id="")]
            _until(lambda: _version(live) != before)
        return ahead

    restore.Restorer._prepare = prepare_too_much  # type: ignore[assignment, method-assign]
    pre_restore.PreRestore.take = lambda *_, **__: early.pop()  # type: ignore[method-assign]


def replace_the_file() -> None:
    """Put the stage in the place of the live file, and remove its journal, instead of copying pages into it."""

    def run(self: swap.Swap, job: Job) -> float:
        stage, live = (_path(connection) for connection in (self.stage, self.live))
        self.live.execute("BEGIN IMMEDIATE")
        began = self.clock.monotonic()
        self.under_lock(job)
        time.sleep(_HELD_SECONDS)
        stage.replace(live)
        for suffix in ("-wal", "-shm"):
            live.with_name(live.name + suffix).unlink(missing_ok=True)
        before = _version(self.live)
        self.live.execute("ROLLBACK")
        _until(lambda: _version(self.live) != before)
        return self.clock.monotonic() - began

    swap.Swap.run = run  # type: ignore[method-assign]


def two_transactions() -> None:
    """Begin to change the live database in a transaction of its own, before the copy that changes the rest."""
    true_run = swap.Swap.run

    def run(self: swap.Swap, job: Job) -> float:
        self.live.execute("ATTACH DATABASE ? AS stage", (str(_path(self.stage)),))
        self.live.execute("BEGIN IMMEDIATE")
        self.live.execute("UPDATE main.chaos_tally_begins SET count = (SELECT count FROM stage.chaos_tally_begins)")
        self.live.execute("COMMIT")
        self.live.execute("DETACH DATABASE stage")
        diary = diary_of(_path(self.live).parent, "reader-0")
        before = diary.stat().st_size
        _until(lambda: diary.stat().st_size > before)
        return true_run(self, job)

    swap.Swap.run = run  # type: ignore[method-assign]


def manifest_first() -> None:
    """Publish a snapshot before its copy is there."""

    def publish(self: vault.Vault, snapshot: Snapshot, packed: Path) -> None:
        replace_file(self._manifest(snapshot.snapshot_id), snapshot.to_json())
        self._unmark(snapshot.snapshot_id)  # what is done last everywhere else, and a moment to die
        move_file(packed, self._packed(snapshot.snapshot_id))

    vault.Vault.publish = publish  # type: ignore[method-assign]


def no_sweep() -> None:
    """Leave what a killed process left."""
    vault.Vault.sweep = lambda _: []  # type: ignore[assignment, method-assign]
    workroom.Workroom.sweep = lambda _: []  # type: ignore[assignment, method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    "early": copy_before_the_lock,
    "replace": replace_the_file,
    "halves": two_transactions,
    "manifest": manifest_first,
    "sweep": no_sweep,
}


def _version(connection: sqlite3.Connection) -> Any:
    """Return what changes whenever another connection has committed."""
    return connection.execute("PRAGMA data_version").fetchone()[0]


def _path(connection: sqlite3.Connection) -> Path:
    return Path(connection.execute("PRAGMA database_list").fetchone()[2])


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not condition() and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
