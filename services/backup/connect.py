"""Opening SQLite files.

Nobody here opens a live database with `open()`: closing such a file would drop every lock that this process
holds on it (POSIX locks belong to the process), in the middle of somebody's transaction.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mailer.errors import MailerError
from services.backup.job import Job

_BUSY_SECONDS = 5.0
_INSTRUCTIONS_BETWEEN_CHECKS = 200_000


@contextmanager
def connected(path: Path, *, mode: str, timeout: float = _BUSY_SECONDS) -> Iterator[sqlite3.Connection]:
    """Open an existing file in autocommit; mode is "rw", or "immutable" when nobody writes to it."""
    query = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    uri = f"{path.resolve().as_uri()}?{query}"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=timeout)) as connection:
        yield connection


@contextmanager
def interruptible(connection: sqlite3.Connection, job: Job) -> Iterator[None]:
    """Let the job's limit end whatever statement runs inside, with the job's own error."""
    raised: list[BaseException] = []

    def look() -> bool:
        try:
            job.check()
        except MailerError as error:
            raised.append(error)
            return True
        return False

    connection.set_progress_handler(look, _INSTRUCTIONS_BETWEEN_CHECKS)
    try:
        yield
    except sqlite3.OperationalError:
        if raised:
            raise raised[0] from None
        raise
    finally:
        connection.set_progress_handler(None, 0)
