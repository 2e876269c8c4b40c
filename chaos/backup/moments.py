"""The instants by name at which the backup service kills itself.

They exist only in the memory of a process of a test: production code has no switch for them.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import wraps
from typing import Any

from services.backup import create, keeper, pre_restore, pruning, restore, restore_book, stage, swap, vault
from services.backup.job import Job, Phase


class Operation(StrEnum):
    """What the service is asked for."""

    START = "start"
    CREATE = "create"
    RESTORE = "restore"
    PRUNE = "prune"
    VERIFY = "verify"


class Moment(StrEnum):
    """An operation, and how far it has come: one of its phases, or what it is about to do."""

    START_SWEEPING = "start: sweeping the store"
    START_SETTLING = "start: sweeping beside the database"
    CREATE_COPYING = "create: copying"
    CREATE_CHECKING = "create: checking"
    CREATE_PACKING = "create: packing"
    CREATE_VERIFYING = "create: verifying"
    CREATE_PUBLISHING = "create: before the renames"
    CREATE_BETWEEN_RENAMES = "create: between the renames"
    CREATE_PUBLISHED = "create: after the renames"
    RESTORE_VERIFYING = "restore: verifying"
    RESTORE_MIGRATING = "restore: migrating the stage"
    RESTORE_LOCKING = "restore: before the lock"
    RESTORE_COPYING = "restore: copying"
    RESTORE_PACKING = "restore: packing"
    RESTORE_BETWEEN_RENAMES = "restore: between the renames"
    RESTORE_CARRYING = "restore: carrying"
    RESTORE_WRITING_DOWN = "restore: before an entry in its book"
    RESTORE_SWAPPING = "restore: in the middle of the swap"
    RESTORE_SETTLING = "restore: after the commit"
    RESTORE_PROVING = "restore: before the proof of the state before"
    PRUNE_REMOVING = "prune: in the middle of a removal"
    VERIFY_VERIFYING = "verify: verifying"
    VERIFY_CHECKING = "verify: checking"
    VERIFY_RECORDING = "verify: before the record"

    @property
    def operation(self) -> Operation:
        """Return the operation in which it lies."""
        return Operation(self.partition(":")[0])


_PHASES = {
    Moment.CREATE_COPYING: Phase.COPYING,
    Moment.CREATE_CHECKING: Phase.CHECKING,
    Moment.CREATE_PACKING: Phase.PACKING,
    Moment.CREATE_VERIFYING: Phase.VERIFYING,
    Moment.RESTORE_VERIFYING: Phase.VERIFYING,
    Moment.RESTORE_COPYING: Phase.COPYING,
    Moment.RESTORE_PACKING: Phase.PACKING,
    Moment.RESTORE_CARRYING: Phase.CARRYING,
    Moment.VERIFY_VERIFYING: Phase.VERIFYING,
    Moment.VERIFY_CHECKING: Phase.CHECKING,
}
_BEFORE: dict[Moment, tuple[object, str]] = {
    Moment.START_SWEEPING: (vault.Vault, "sweep"),
    Moment.START_SETTLING: (restore.Restorer, "sweep"),
    Moment.CREATE_PUBLISHING: (vault.Vault, "publish"),
    Moment.CREATE_BETWEEN_RENAMES: (vault, "replace_file"),
    Moment.CREATE_PUBLISHED: (vault.Vault, "_unmark"),
    Moment.RESTORE_MIGRATING: (stage.Stages, "_migrate"),
    Moment.RESTORE_LOCKING: (swap.Swap, "run"),
    Moment.RESTORE_BETWEEN_RENAMES: (vault, "replace_file"),
    Moment.RESTORE_WRITING_DOWN: (restore_book.RestoreBook, "write"),
    Moment.RESTORE_SWAPPING: (swap.Swap, "_after_step"),
    Moment.RESTORE_SETTLING: (restore.Restorer, "_settle"),
    Moment.RESTORE_PROVING: (pre_restore.PreRestore, "prove"),
    Moment.PRUNE_REMOVING: (vault, "sync_directory"),
    Moment.VERIFY_RECORDING: (vault.Vault, "record"),
}
_OPERATIONS: dict[Operation, tuple[object, str]] = {
    Operation.START: (keeper.Keeper, "open"),
    Operation.CREATE: (create.Creator, "create"),
    Operation.RESTORE: (restore.Restorer, "restore"),
    Operation.PRUNE: (pruning, "prune"),
    Operation.VERIFY: (keeper, "verify"),
}

PASSINGS: dict[Moment, int] = {
    Moment.CREATE_COPYING: 2,
    Moment.CREATE_CHECKING: 3,
    Moment.CREATE_PACKING: 4,
    Moment.CREATE_VERIFYING: 4,
    Moment.RESTORE_VERIFYING: 4,
    Moment.RESTORE_COPYING: 4,
    Moment.RESTORE_PACKING: 4,
    Moment.RESTORE_WRITING_DOWN: 2,
    Moment.RESTORE_SWAPPING: 12,
    Moment.PRUNE_REMOVING: 6,
    Moment.VERIFY_CHECKING: 3,
}
"""How often a moment is passed at least where that is more than once, by a database of some megabytes."""


class _Fuse:
    """Counts passings while the operation runs, and burns out."""

    def __init__(self, moment: Moment, passing: int) -> None:
        self._moment = moment
        self._left = passing
        self._is_lit = moment.operation is Operation.START  # there is one start, and all of it counts

    @contextmanager
    def lit(self) -> Iterator[None]:
        self._is_lit = True
        try:
            yield
        finally:
            self._is_lit = False

    def passed(self) -> None:
        if not self._is_lit:
            return
        self._left -= 1
        if self._left <= 0:
            os.write(sys.stderr.fileno(), f"failpoint {self._moment}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: Moment, *, passing: int) -> None:
    """Let this process kill itself when the moment comes for the `passing`th time in one life, counted from 1."""
    fuse = _Fuse(moment, passing)
    if moment.operation is not Operation.START:
        _wrap(*_OPERATIONS[moment.operation], fuse.lit)
    if moment in _PHASES:
        _wrap_report(_PHASES[moment], fuse)
    else:
        _call_before(*_BEFORE[moment], fuse.passed)


def _wrap_report(phase: Phase, fuse: _Fuse) -> None:
    true_report = Job.report

    def report(job: Job, reported: Phase, done_bytes: int = 0, total_bytes: int = 0) -> None:
        true_report(job, reported, done_bytes, total_bytes)
        if reported is phase:
            fuse.passed()

    Job.report = report  # type: ignore[assignment, method-assign]


def _wrap(owner: object, name: str, around: Callable[[], Any]) -> None:
    true = getattr(owner, name)

    @wraps(true)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with around():
            return true(*args, **kwargs)

    setattr(owner, name, wrapped)


def _call_before(owner: object, name: str, before: Callable[[], None]) -> None:
    true = getattr(owner, name)

    @wraps(true)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before()
        return true(*args, **kwargs)

    setattr(owner, name, wrapped)
