"""The writer's second half in a process of its own, for the few tasks that a busy service writes all the time.

SQLite's driver lets go of the interpreter at every statement, and gets it back only when the event loop pauses: so two
threads of one process wait for each other most of the time. A process has an interpreter to itself.

Tasks travel there by pickle over a socket pair, and so do their outcomes. The process does nothing by itself, has no
task but the one it was given last, and ends with its parent, however that ends.
"""

import asyncio
import ctypes
import gc
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any, BinaryIO, TypeVar

from mailer.database.engine import locate
from mailer.database.errors import DatabaseGone
from mailer.database.file import DatabaseFile
from mailer.database.transactions import GroupOutcome, Outcome, Task, Transactions
from mailer.log import get_logger

log = get_logger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

_END_SECONDS = 10.0
_ANSWER_SECONDS = 60.0  # beyond what a lock may take: a process that is stuck for longer is given up
_LENGTH = struct.Struct(">Q")  # in front of each parcel
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
    """The process, seen from its parent."""

    def __init__(self, url: str, *, busy_timeout: timedelta, modules: Sequence[str]) -> None:
        """Start nothing yet."""
        self._setup = _Setup(url, busy_timeout, modules)
        self._answer_seconds = _ANSWER_SECONDS + busy_timeout.total_seconds()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._starting: asyncio.Task[None] | None = None
        self._is_ready = False

    @property
    def process_id(self) -> int | None:
        """Return its id; None while there is none."""
        return self._process.pid if self._process is not None else None

    @property
    def is_ready(self) -> bool:
        """Say whether it has started and can be given tasks."""
        return self._is_ready

    async def start(self) -> None:
        """Start it; `is_ready` says when it can be used."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._reader, self._writer = await asyncio.open_connection(sock=ours)
            self._process = subprocess.Popen(  # noqa: S603, ASYNC220 (this very module, and it takes a millisecond)
                [sys.executable, "-m", __name__, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._starting = asyncio.create_task(self._set_up())

    async def run(self, tasks: Sequence[Task]) -> GroupOutcome:
        """Let it run a group; see `Transactions.run`. Raises WriterLost."""
        parcel = pickle.dumps(tasks, pickle.HIGHEST_PROTOCOL)
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._send(parcel)
                return _unpacked(await self._receive())
        except (EOFError, OSError):  # TimeoutError is one
            self._let_go()
            raise WriterLost from None

    async def close(self) -> None:
        """Let it end, and see that it does."""
        if self._starting is not None:
            self._starting.cancel()
        process = self._process
        self._let_go()
        if process is not None:
            await asyncio.to_thread(_see_end, process)

    async def _set_up(self) -> None:
        try:
            await self._send(pickle.dumps(self._setup, pickle.HIGHEST_PROTOCOL))
            self._is_ready = await self._receive() == _READY
        except (EOFError, OSError):
            self._let_go()
            log.error("the process that writes the database did not start: this process writes alone")

    async def _send(self, parcel: bytes) -> None:
        if self._writer is None:
            raise EOFError
        self._writer.write(_LENGTH.pack(len(parcel)))
        self._writer.write(parcel)
        await self._writer.drain()

    async def _receive(self) -> bytes:
        if self._reader is None:
            raise EOFError
        (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
        return await self._reader.readexactly(length)

    def _let_go(self) -> None:
        """Close the connection, which ends the process if it still lives; one that does not hear is killed."""
        self._is_ready = False
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def _see_end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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
    with (
        suppress(EOFError, OSError),
        os.fdopen(descriptor, "rb") as source,
        os.fdopen(os.dup(descriptor), "wb") as sink,
    ):
        setup: _Setup = pickle.loads(_read(source))  # noqa: S301 (from our own parent)
        for module in setup.modules:
            import_module(module)
        location = locate(setup.url)

        def let_go() -> None:
            transactions.disconnect()

        file = DatabaseFile(location.path, let_go=let_go)
        transactions = Transactions(location, busy_timeout=setup.busy_timeout, file=file)
        _write(sink, _READY)
        gc.collect()
        gc.freeze()
        try:
            while True:
                tasks = pickle.loads(_read(source))  # noqa: S301 (from our own parent)
                _write(sink, _packed(transactions.run(tasks)))
        finally:
            file.close()
    return 0


def _read(source: BinaryIO) -> bytes:
    """Return the next parcel. Raises EOFError when the parent is gone."""
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    return source.read(length)


def _write(sink: BinaryIO, parcel: bytes) -> None:
    sink.write(_LENGTH.pack(len(parcel)))
    sink.write(parcel)
    sink.flush()


if __name__ == "__main__":
    # Under its own name, or what is pickled here would belong to a module that the parent does not know.
    from mailer.database.writer_process import main as _main

    sys.exit(_main(int(sys.argv[1]), int(sys.argv[2])))
