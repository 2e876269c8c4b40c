"""Tasks that may run in the writer's process, and some that are the end of it. There, and nowhere else."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection, text

from mailer.database import Unfinished, portable, writer_main
from mailer.database.engine import driver
from mailer.errors import FieldViolation, InvalidArgument, ResourceExhausted

MODULE = __name__


def create(connection: Connection) -> None:
    """Make the table of things: not portable."""
    connection.execute(text("CREATE TABLE things (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE)"))


def names(connection: Connection) -> list[str]:
    """Return the things in the order in which they came."""
    return list(connection.execute(text("SELECT name FROM things ORDER BY number")).scalars())


def add_here(connection: Connection, name: str) -> int:
    """Add a thing; return where: not portable."""
    connection.execute(text("INSERT INTO things (name) VALUES (:name)"), {"name": name})
    return os.getpid()


@portable
def add(connection: Connection, name: str) -> int:
    """Add a thing; return the id of the process that did."""
    return add_here(connection, name)


class Finished(Unfinished):
    """Says where it was finished."""

    def __init__(self) -> None:
        """Be finished by nobody yet."""
        self.by = 0

    def finish(self) -> None:
        """Note where that is."""
        self.by = os.getpid()


@portable
def add_unfinished(connection: Connection, name: str) -> Finished:
    """Add a thing; return what is finished after the commit."""
    add_here(connection, name)
    return Finished()


@portable
def where(_: Connection) -> int:
    """Return the id of the process."""
    return os.getpid()


@portable
def add_and_fail(connection: Connection, name: str, kind: str) -> None:
    """Add a thing, and raise."""
    add_here(connection, name)
    match kind:
        case "exhausted":
            raise ResourceExhausted(
                "full", reason="QUEUE_FULL", retry_after=timedelta(seconds=3), metadata={"run_id": "r"}
            )
        case "invalid":
            raise InvalidArgument([FieldViolation("name", "is wrong")])
        case "unicode":
            "ä".encode("ascii")
        case "unpicklable":
            raise Unpicklable(lambda: None)
        case _:
            raise LookupError(kind)


class Unpicklable(Exception):
    """Holds what does not travel."""


@portable
def add_and_return_a_function(connection: Connection, name: str) -> object:
    """Add a thing, and return what does not travel."""
    add_here(connection, name)
    return lambda: None


@portable
def return_a_function(_: Connection) -> object:
    """Change nothing, and return what does not travel."""
    return lambda: None


@portable
def fill(connection: Connection, megabytes: int) -> int:
    """Write so much."""
    for _ in range(megabytes):
        connection.execute(text("INSERT INTO things (name) VALUES (hex(randomblob(524288)))"))
    return os.getpid()


@portable
def limit_pages(connection: Connection, limit: int) -> int:
    """Let the file not grow beyond so many pages more."""
    (pages,) = driver(connection).execute("PRAGMA page_count").fetchone()
    driver(connection).execute(f"PRAGMA max_page_count = {pages + limit}")
    return os.getpid()


@portable
def add_and_die(connection: Connection, name: str, parent: int) -> int:
    """Add a thing, and die before the group is committed."""
    add_here(connection, name)
    _die_beside(parent)
    return os.getpid()


@portable
def add_and_die_before_commit(connection: Connection, name: str, parent: int) -> int:
    """Add a thing; when everything is written down but the COMMIT, it is over."""
    if os.getpid() != parent:
        from sqlalchemy import event

        event.listen(connection, "commit", lambda _: _die_beside(parent))
    return add_here(connection, name)


@portable
def add_and_die_after_commit(connection: Connection, name: str, parent: int) -> int:
    """Add a thing; when the group is committed, it is over before anybody hears of it."""
    if os.getpid() != parent:
        writer_main.write_parcel = lambda *_: _die_beside(parent)
    return add_here(connection, name)


@portable
def add_and_stop_after_commit(connection: Connection, name: str, parent: int) -> int:
    """Add a thing; when the group is committed, it is stopped before anybody hears of it."""
    if os.getpid() != parent:
        writer_main.write_parcel = lambda *_: os.kill(os.getpid(), signal.SIGSTOP)
    return add_here(connection, name)


@portable
def add_and_stop(connection: Connection, name: str, parent: int) -> int:
    """Add a thing, and be stopped in the middle of the transaction, once."""
    add_here(connection, name)
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGSTOP)
    return os.getpid()


@portable
def wait_for(_: Connection, flag: str, begun: str) -> int:
    """Say that it has begun, and wait until there is a file."""
    Path(begun).touch()
    end = time.monotonic() + 20
    while not Path(flag).exists() and time.monotonic() < end:
        time.sleep(0.01)
    return os.getpid()


def _die_beside(parent: int) -> None:
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
