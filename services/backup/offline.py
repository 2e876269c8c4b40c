"""Putting a database where none can be opened: the file was lost, or is damaged beyond opening.

What lies there is set aside, never overwritten: somebody may want to rescue something from it.
"""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from mailer.errors import Aborted
from mailer.log import get_logger
from services.backup.connect import connected
from services.backup.durable import sync_directory, sync_file
from services.backup.live import translated

log = get_logger(__name__)

_BESIDE = ("", "-wal", "-shm")


def put_in_place(stage: Path, live: Path, now: datetime) -> None:
    """Make the stage the live database. The caller has made sure that nobody can have the live file open.

    Raises Aborted when a database has appeared meanwhile, and FailedPrecondition without space.
    """
    with connected(stage, mode="rw") as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    arriving = arriving_path(live)
    with translated():
        live.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        arriving.unlink(missing_ok=True)
        try:
            # The store may lie on another file system, where a rename would not do.
            shutil.copyfile(stage, arriving)
            arriving.chmod(0o600)
            sync_file(arriving)
            _set_aside(live, now)
            os.link(arriving, live)
        except FileExistsError:
            raise Aborted(
                "A database has appeared meanwhile; nothing was replaced. Repeat the call.",
                reason="DATABASE_APPEARED",
            ) from None
        finally:
            arriving.unlink(missing_ok=True)
        sync_directory(live.parent)


def arriving_path(live: Path) -> Path:
    """Return where the database lies while it is being written; left behind only by a killed restore."""
    return live.with_name(f".{live.name}.arriving")


def _set_aside(live: Path, now: datetime) -> None:
    """Rename the file and its journal: a journal left behind would be played into the new database."""
    aside = live.with_name(f"{live.name}.damaged-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}")
    for suffix in _BESIDE:
        path = live.with_name(live.name + suffix)
        if path.exists():
            path.rename(aside.with_name(aside.name + suffix))
            log.warning("set aside", file=path.name, as_file=aside.name + suffix)
    sync_directory(live.parent)
