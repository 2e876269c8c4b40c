"""The writer's second half in a process of its own, for the few tasks that a busy service writes all the time.

SQLite's driver lets go of the interpreter at every statement, and gets it back only when the event loop pauses: so two
threads of one process wait for each other most of the time. A process has an interpreter to itself.

Tasks travel there by pickle over a socket pair, and so do their outcomes. The process does nothing by itself, has no
task but the one it was given last, and ends with its parent, however that ends.
"""

import ctypes
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from mailer.database.engine import locate
from mailer.database.errors import DatabaseGone
from mailer.database.file import DatabaseFile
from mailer.database.transactions import GroupOutcome, Outcome, Task, Transactions
from mailer.log import get_logger

log = get_logger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

_END_SECONDS = 10.0
_READY = b"ready"
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)

_portable: set[Callable[..., Any]] = set()


def portable(function: F) -> F:
    """Mark a function of a module as one that may run in the writer's process.

    It works on the connection alone; its arguments and its result are plain data, and it changes no argument.
    """
    _portable.add(function)
    return function


def is_portable(function: Callable[..., Any]) -> bool:
    """Say whether a function may run in the writer's process."""
    return function in _portable


@dataclass(frozen=True, slots=True)
class _Setup:
    """What the process is told first."""

    url: str
    busy_timeout: timedelta
    modules: Sequence[str]  # with the functions that will come


class WriterLost(DatabaseGone):
    """The writer's process ended, or does not answer: whether the last group was committed is not known."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("The process that writes the database has ended; another one is started.")


class WriterProcess:
    """The process, seen from its parent. It is used by one thread at a time."""

    def __init__(self, url: str, *, busy_timeout: timedelta, modules: Sequence[str]) -> None:
        """Start nothing yet."""
        self._setup = _Setup(url, busy_timeout, modules)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._is_ready = False
        self._guard = threading.Lock()

    @property
    def process_id(self) -> int | None:
        """Return its id; None while there is none."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it; `is_ready` says when it can be used."""
        ours, theirs = socket.socketpair()
        with theirs:
            connection = Connection(ours.detach())
            try:
                self._process = subprocess.Popen(  # noqa: S603 (this very module)
                    [sys.executable, "-m", __name__, str(theirs.fileno()), str(os.getpid())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
                connection.send(self._setup)
            except BaseException:
                connection.close()
                raise
        self._connection, self._is_ready = connection, False

    def is_ready(self) -> bool:
        """Say whether it has started and can be given tasks."""
        if self._connection is None:
            return False
        if not self._is_ready:
            try:
                self._is_ready = self._connection.poll() and self._connection.recv_bytes() == _READY
            except (EOFError, OSError):
                self._forget()
        return self._is_ready

    def run(self, tasks: Sequence[Task]) -> GroupOutcome:
        """Let it run a group; see `Transactions.run`. Raises WriterLost."""
        if self._connection is None:
            raise WriterLost
        parcel = pickle.dumps(tasks, pickle.HIGHEST_PROTOCOL)
        try:
            self._connection.send_bytes(parcel)
            answer = self._connection.recv_bytes()
        except (EOFError, OSError):
            self._forget()
            raise WriterLost from None
        return _unpacked(answer)

    def close(self) -> None:
        """Let it end, and see that it does."""
        process = self._process
        self._forget()
        if process is None:
            return
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._is_ready = None, False
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0)


def _packed(outcome: GroupOutcome) -> bytes:
    """Return the outcome as bytes; errors travel without their traceback, whatever their constructor takes."""
    outcomes = [(one.result, _taken_apart(one.error)) for one in outcome.outcomes]
    return pickle.dumps((outcomes, outcome.incarnation, _taken_apart(outcome.problem)), pickle.HIGHEST_PROTOCOL)


def _unpacked(parcel: bytes) -> GroupOutcome:
    outcomes, incarnation, problem = pickle.loads(parcel)  # noqa: S301 (from our own child)
    return GroupOutcome(
        [Outcome(result, _put_together(error)) for result, error in outcomes], incarnation, _put_together(problem)
    )


_Error = tuple[type[BaseException], tuple[Any, ...], dict[str, Any]]


def _taken_apart(error: BaseException | None) -> _Error | None:
    if error is None:
        return None
    parts = (type(error), error.args, error.__dict__)
    try:
        pickle.dumps(parts)
    except Exception:  # noqa: BLE001 (a driver's error may hold anything)
        return RuntimeError, (f"{type(error).__name__}: {error}",), {}
    return parts


def _put_together(parts: _Error | None) -> BaseException | None:
    if parts is None:
        return None
    kind, arguments, state = parts
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(state)
    return error


def main(descriptor: int, parent: int) -> int:
    """Run groups until the parent has ended, or closed the connection."""
    # Ctrl-C reaches every process of a terminal: when it is time to end is the parent's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(OSError, AttributeError):  # Linux has it; elsewhere the closed connection says the same
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        return 0
    with suppress(EOFError, OSError), Connection(descriptor) as connection:
        setup: _Setup = connection.recv()
        for module in setup.modules:
            import_module(module)
        location = locate(setup.url)

        def let_go() -> None:
            transactions.disconnect()

        file = DatabaseFile(location.path, let_go=let_go)
        transactions = Transactions(location, busy_timeout=setup.busy_timeout, file=file)
        connection.send_bytes(_READY)
        try:
            while True:
                tasks = pickle.loads(connection.recv_bytes())  # noqa: S301 (from our own parent)
                connection.send_bytes(_packed(transactions.run(tasks)))
        finally:
            file.close()
    return 0


if __name__ == "__main__":
    # Under its own name, or what is pickled here would belong to a module that the parent does not know.
    from mailer.database.writer_process import main as _main

    sys.exit(_main(int(sys.argv[1]), int(sys.argv[2])))
