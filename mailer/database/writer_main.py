"""`python -m mailer.database.writer_main`: the writer's process from the inside; see writer_process.py.

It does nothing by itself, has no task but the group it was given last, says nothing to the log, and ends with its
parent, however that ends.
"""

import ctypes
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import BinaryIO

import sqlalchemy

from mailer import __version__
from mailer.database.engine import locate
from mailer.database.file import DatabaseFile
from mailer.database.mark import Mark, write_mark
from mailer.database.note import Note
from mailer.database.parcel import LENGTH, pack
from mailer.database.transactions import GroupOutcome, Outcome, Task, Transactions, Unfinished
from mailer.garbage import rarely_collect_garbage

READY = b""
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True, slots=True)
class Setup:
    """What the process is told first."""

    version: str  # of the program that sends tasks
    writer_id: str
    url: str
    busy_timeout: timedelta
    modules: Sequence[str]  # with the functions that will come


class Groups:
    """Runs groups, and leaves behind what is needed to know how the last one ended."""

    def __init__(self, setup: Setup, note: Note) -> None:
        """Connect to nothing yet."""
        location = locate(setup.url)
        self._writer_id = setup.writer_id
        self._note = note
        self._file = DatabaseFile(location.path, let_go=self._let_go)
        self._transactions = Transactions(location, busy_timeout=setup.busy_timeout, file=self._file)
        self._parcel: bytes | None = None
        self._group = 0

    def run(self, group: int, tasks: Sequence[Task]) -> bytes:
        """Run a group; return what it came to."""
        self._group, self._parcel = group, None
        outcome = self._transactions.run(tasks, before_commit=self._leave_word)
        is_finished = any(isinstance(one.result, Unfinished) for one in outcome.outcomes)
        if self._parcel is not None and outcome.problem is None and not is_finished:
            return self._parcel
        try:
            return pack(outcome)
        except Exception as error:  # noqa: BLE001 (a result that is no plain data: a bug of the task)
            return pack(GroupOutcome([Outcome(error=error) for _ in tasks], outcome.incarnation))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _leave_word(self, connection: sqlalchemy.Connection, outcomes: Sequence[Outcome], incarnation: str) -> None:
        parcel = pack(GroupOutcome(outcomes, incarnation))
        self._note.write(self._group, parcel)
        write_mark(connection, Mark(self._writer_id, self._group))
        self._parcel = parcel

    def _let_go(self) -> None:
        self._transactions.disconnect()


def main(descriptor: int, note: int, parent: int) -> int:
    """Run groups until the parent has ended, or closed the connection."""
    # Ctrl-C reaches every process of a terminal: when it is time to end is the parent's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(OSError, AttributeError):  # Linux has it; elsewhere the closed connection says the same
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        return 0
    with (
        suppress(EOFError, OSError),
        os.fdopen(descriptor, "rb") as source,
        os.fdopen(os.dup(descriptor), "wb") as sink,
    ):
        setup: Setup = pickle.loads(read_parcel(source))  # noqa: S301 (from our own parent)
        problem = _prepare(setup)
        write_parcel(sink, problem.encode())
        if problem:
            return 1
        groups = Groups(setup, Note(note))
        rarely_collect_garbage()
        try:
            while True:
                group, tasks = pickle.loads(read_parcel(source))  # noqa: S301 (from our own parent)
                answer = groups.run(group, tasks)
                write_parcel(sink, answer)
        finally:
            groups.close()
    return 0


def read_parcel(source: BinaryIO) -> bytes:
    """Return the next parcel. Raises EOFError when the parent is gone."""
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (length,) = LENGTH.unpack(head)
    return source.read(length)


def write_parcel(sink: BinaryIO, parcel: bytes) -> None:
    sink.write(LENGTH.pack(len(parcel)))
    sink.write(parcel)
    sink.flush()


def _prepare(setup: Setup) -> str:
    """Return why tasks cannot be taken; nothing when they can."""
    if setup.version != __version__:
        # An update was installed under a service that runs: what it sends may mean something else by now.
        return f"Mailer {__version__} is installed, and {setup.version} is running: restart the service"
    try:
        for module in setup.modules:
            import_module(module)
    except Exception as error:  # noqa: BLE001 (whatever it is, the parent has to know)
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    # Under its own name, or what is pickled here would belong to a module that the parent does not know.
    from mailer.database.writer_main import main as _main

    sys.exit(_main(*map(int, sys.argv[1:])))
