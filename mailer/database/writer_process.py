"""The writer's second half in a process of its own, for the few tasks that a busy service writes all the time.

SQLite's driver lets go of the interpreter at every statement, and gets it back only when the event loop pauses: so two
threads of one process wait for each other most of the time. A process has an interpreter to itself.

Groups travel there by pickle over a socket pair, and so do their outcomes. Whenever that process is not to be had, the
thread writes everything, and nothing is lost but speed.
"""

import asyncio
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from mailer import __version__
from mailer.clock import Clock
from mailer.database.mark import Mark
from mailer.database.note import Note
from mailer.database.parcel import LENGTH, unpack
from mailer.database.transactions import GroupOutcome, Task
from mailer.database.writer_main import READY, Setup
from mailer.log import get_logger

log = get_logger(__name__)

_MODULE = "mailer.database.writer_main"
_START_SECONDS = 60.0
_ANSWER_SECONDS = 60.0  # beside the time for which it may wait for the database
_END_SECONDS = 10.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0
_LONG_LIFE = 60.0


class WriterLost(Exception):
    """The process ended, or was ended, before it answered. It is gone, and what it left behind tells the rest."""

    def __init__(self, mark: Mark, outcome: GroupOutcome | None) -> None:
        """Keep what is in the database if the group is, and what it came to then; None if it cannot be."""
        super().__init__()
        self.mark = mark
        self.outcome = outcome


class NotPortable(Exception):
    """The arguments of a task are no plain data: it cannot travel."""


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A group that it was given, and who waits for the answer."""

    mark: Mark
    answer: "asyncio.Future[bytes]"


class WriterProcess:
    """The process, seen from its parent."""

    def __init__(self, url: str, *, busy_timeout: timedelta, modules: Sequence[str], clock: Clock) -> None:
        """Start nothing yet."""
        self._url = url
        self._busy_timeout = busy_timeout
        self._modules = modules
        self._clock = clock
        self._answer_seconds = _ANSWER_SECONDS + busy_timeout.total_seconds()
        self._process: subprocess.Popen[bytes] | None = None
        self._stream: _Stream | None = None
        self._note: Note | None = None
        self._listening: asyncio.Task[None] | None = None
        self._asked: deque[_Asked] = deque()
        self._was_silent = False
        self._is_ready = False
        self._mark = Mark("", 0)
        self._started_at = 0.0
        self._next_start = 0.0
        self._pause = 0.0
        self._is_missed = False  # and the log has said so

    @property
    def process_id(self) -> int | None:
        """Return its id; None while there is none."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start it; `is_ready` says when it can be used. Raises nothing: it is tried again later."""
        self._started_at = self._clock.monotonic()
        self._mark = Mark(uuid4().hex, 0)
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                self._stream = await asyncio.open_connection(sock=ours)
                self._note = Note.new()
                handles = (theirs.fileno(), self._note.descriptor)
                self._process = subprocess.Popen(  # noqa: S603, ASYNC220 (our own module; it takes a millisecond)
                    [sys.executable, "-m", _MODULE, *map(str, (*handles, os.getpid()))],
                    pass_fds=handles,
                    stdin=subprocess.DEVNULL,
                )
        except OSError as error:
            await self._do_without(str(error))
        else:
            self._listening = asyncio.create_task(self._listen(), name="writer's process")

    @property
    def is_ready(self) -> bool:
        """Say whether it can be given tasks."""
        return self._is_ready

    async def look_after(self) -> None:
        """Start it again a while after it ended, and give up one that does not become ready."""
        now = self._clock.monotonic()
        if self._stream is None and now >= self._next_start:
            await self.start()
        elif self._stream is not None and not self._is_ready and now - self._started_at > _START_SECONDS:
            await self._stop_listening()
            await self._do_without(f"it was not ready after {_START_SECONDS:.0f} s")

    def give(self, tasks: Sequence[Task]) -> Awaitable[GroupOutcome]:
        """Give it a group, behind those that it has; await what this returns for the outcome, which raises WriterLost.

        Raises NotPortable, and then it was given nothing.
        """
        mark = Mark(self._mark.writer_id, self._mark.group + 1)
        try:
            parcel = pickle.dumps((mark.group, tasks), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise NotPortable from error
        self._mark = mark
        asked = _Asked(mark, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        self._write(parcel)
        return self._outcome_of(asked)

    async def _outcome_of(self, asked: _Asked) -> GroupOutcome:
        done, _ = await asyncio.wait([asked.answer], timeout=self._answer_seconds)
        if not done and self._process is not None:
            self._was_silent = True
            self._process.kill()
        return unpack(await asked.answer)

    async def close(self) -> None:
        """Let it end, and see that it does."""
        await self._stop_listening()
        await self._end()

    async def _stop_listening(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        """Take what it says, from its start to its end."""
        setup = Setup(__version__, self._mark.writer_id, self._url, self._busy_timeout, self._modules)
        self._write(pickle.dumps(setup, pickle.HIGHEST_PROTOCOL))
        try:
            problem = await self._receive()
        except (EOFError, OSError):
            await self._do_without("it ended while it started")
            return
        if problem != READY:
            await self._do_without(problem.decode())
            return
        self._is_ready = True
        if self._is_missed:
            self._is_missed = False
            log.info("the process that writes the database is back")
        try:
            while True:
                answer = await self._receive()
                self._asked.popleft().answer.set_result(answer)
        except (EOFError, OSError):
            await self._bury()

    def _write(self, parcel: bytes) -> None:
        if self._stream is not None:  # otherwise it is over, and whoever listens says so
            _, writer = self._stream
            writer.write(LENGTH.pack(len(parcel)))
            writer.write(parcel)

    async def _receive(self) -> bytes:
        if self._stream is None:
            raise EOFError
        reader, _ = self._stream
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        return await reader.readexactly(length)

    async def _do_without(self, why: str) -> None:
        """Note that there is none, and say so once."""
        self._pause_before_next()
        if not self._is_missed:
            self._is_missed = True
            log.error(
                "the process that writes the database does not start: this one writes everything, more slowly, "
                "and tries again now and then",
                error=why,
            )
        await self._end(kill=True)

    async def _bury(self) -> None:
        """Let those who wait for it know what it left behind."""
        asked, self._asked = self._asked, deque()
        note, self._note = self._note, None
        status = await self._end(kill=self._was_silent)
        if self._clock.monotonic() - self._started_at >= _LONG_LIFE:
            self._pause, self._next_start = 0.0, 0.0
        else:
            self._pause_before_next()
        how = "it did not answer, and was killed" if self._was_silent else _how_it_ended(status)
        log.error("the process that writes the database has ended: another one is started", cause=how)
        self._was_silent = False
        for one in asked:
            parcel = note.read(one.mark.group) if note is not None else None
            one.answer.set_exception(WriterLost(one.mark, unpack(parcel) if parcel is not None else None))
        if note is not None:
            note.close()

    def _pause_before_next(self) -> None:
        self._next_start = self._clock.monotonic() + self._pause
        self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)

    async def _end(self, *, kill: bool = False) -> int | None:
        """Let it end, or kill it, and return its exit status once it is gone."""
        process, self._process = self._process, None
        stream, self._stream = self._stream, None
        note, self._note = self._note, None
        self._is_ready = False
        if stream is not None:
            stream[1].close()
        if note is not None:
            note.close()
        return await asyncio.to_thread(_see_end, process, kill=kill) if process is not None else None


def _see_end(process: "subprocess.Popen[bytes]", *, kill: bool) -> int:
    if kill:
        process.kill()
    try:
        return process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _how_it_ended(status: int | None) -> str:
    if status is not None and status < 0:
        return f"by signal {signal.Signals(-status).name}"
    return f"with exit status {status}"
