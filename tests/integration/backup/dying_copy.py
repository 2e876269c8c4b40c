"""A process that copies what waits in a store to a place and kills itself in the middle.

`python -m tests.integration.backup.dying_copy <store> <where>`, with the settings of the place in the environment.
`where` is "copying:2" (the second report of progress), "between the two" files, or "after both".
"""

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from mailer.clock import SystemClock
from mailer.config import load
from services.backup.config import BackupServiceSettings
from services.backup.copies import s3
from services.backup.copies.book import Book
from services.backup.copies.copier import Copier
from services.backup.copies.shelf import Shelf
from services.backup.job import Job, Progress
from services.backup.vault import Vault
from tests.integration.backup.sites import PART_BYTES


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _main(store: str, where: str) -> None:
    _, _, wanted = where.partition(":")
    reports = 0

    def report(_: Progress) -> None:
        nonlocal reports
        reports += 1
        if reports == int(wanted or 0):
            _die()

    if where == "between the two":
        Shelf.commit = _die  # type: ignore[method-assign]
    if where == "after both":
        Book.copied = _die  # type: ignore[method-assign, assignment]
    s3.S3Place = partial(s3.S3Place, smallest_part_bytes=PART_BYTES)  # type: ignore[misc, assignment]
    settings = load(BackupServiceSettings)
    place = settings.place()
    assert place is not None
    copier = Copier(vault=Vault(Path(store)), shelf=Shelf(place), clock=SystemClock())
    copier.open()
    copier.copy_all(lambda: Job(SystemClock(), limit_seconds=60, report=report))


if __name__ == "__main__":
    _main(*sys.argv[1:])
