"""A process that takes or restores a snapshot and kills itself in the middle.

`python -m tests.integration.backup.dying create|restore <database> <store> <where> [<snapshot id>]`

`where` is a phase and which report of it ("packing:1"), "swap:" and after how many steps of the copy into the live
database, or a moment named below.
"""

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mailer.clock import SystemClock
from services.backup import offline, restore, swap, vault
from services.backup.create import Creator, Wish
from services.backup.job import Job, Progress
from services.backup.restore_book import RestoreBook
from services.backup.snapshot import Trigger
from services.backup.vault import Vault
from tests.integration.backup.conftest import make_restorer


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Dying(swap.Swap):
    """A swap that gets no further than so many steps."""

    steps = 0

    def _after_step(self, job: Job, status: int, remaining: int, total: int) -> None:
        super()._after_step(job, status, remaining, total)
        self.steps -= 1
        if self.steps == 0:
            _die()


def _at(where: str) -> Callable[[Progress], None]:
    phase, _, wanted = where.partition(":")
    if phase == "swap":
        return lambda _: None
    seen: Counter[str] = Counter()

    def report(progress: Progress) -> None:
        seen[progress.phase] += 1
        if progress.phase == phase and seen[phase] == int(wanted or 1):
            _die()

    return report


_BEFORE: dict[str, tuple[object, str]] = {
    "between the renames": (vault, "replace_file"),
    "before the entry": (RestoreBook, "write"),
    "after the commit": (restore.Restorer, "_settle"),
    "before the file is in place": (offline, "_set_aside"),
    "while the file is missing": (os, "link"),
    "after the file is in place": (restore.Restorer, "_close"),
}


def _main(operation: str, live: str, directory: str, where: str, snapshot_id: str = "") -> None:
    if where in _BEFORE:
        place, name = _BEFORE[where]
        setattr(place, name, _die)
    if where.startswith("swap:"):
        _Dying.steps = int(where.removeprefix("swap:"))
        restore.Swap = _Dying  # type: ignore[attr-defined]
    swap._PAGES_AT_ONCE = 200  # so that there is a middle, also of a small database
    job = Job(SystemClock(), limit_seconds=60, report=_at(where))
    store = Vault(Path(directory))
    if operation == "create":
        Creator(vault=store, live=Path(live), clock=SystemClock()).create(Wish(trigger=Trigger.MANUAL), job)
    else:
        make_restorer(store, Path(live)).restore(snapshot_id, job, request_id="r")


if __name__ == "__main__":
    _main(*sys.argv[1:])
