"""The database as the services see it: run a function that writes or reads, hear when it is gone."""

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection

from mailer.clock import Clock
from mailer.database.engine import Location, locate, read_engine
from mailer.database.errors import (
    DatabaseFull,
    DatabaseGone,
    DatabaseReplaced,
    DatabaseUnavailable,
    DatabaseUnusable,
    cannot_be_used,
    unavailable,
    wrote_in_a_read,
)
from mailer.database.file import DatabaseFile
from mailer.database.identity import ensure_identity
from mailer.database.mark import is_marked
from mailer.database.migrate import Migrations, migrate_all
from mailer.database.portability import is_portable
from mailer.database.probes import look, touch
from mailer.database.transactions import GroupOutcome, Outcome, Task, Transactions, finished
from mailer.database.writer import Job, Writer
from mailer.database.writer_process import NotPortable, WriterLost, WriterProcess
from mailer.log import get_logger

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_WAL_RESET_FIXED = (3, 51, 3)
# A disk with less is full: a row may still fit into the log, a batch does not.
_LEAST_FREE_BYTES = 1024 * 1024


class Database:
    """An open database. Make one per process with `open`, and `close` it last."""

    def __init__(
        self,
        location: Location,
        *,
        busy_timeout: timedelta,
        readers: int,
        max_group: int,
    ) -> None:
        """Use `open` instead."""
        self.location = location
        self._file = _guarded(location.path, self._disconnect) if location.is_sqlite else None
        self._transactions = Transactions(location, busy_timeout=busy_timeout, file=self._file)
        self._read_engine = read_engine(location, busy_timeout=busy_timeout, connections=readers)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="database-reader")
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="database-writer")
        self._writer = Writer(run=self._run, give=self._give, max_group=max_group)
        self._writer_process: WriterProcess | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._incarnation = ""
        self._problem: DatabaseUnavailable | None = None
        self._when_replaced: list[Callable[[], None]] = []
        self._when_health_changes: list[Callable[[bool], None]] = []

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Clock,
        migrations: Sequence[Migrations] = (),
        busy_timeout: timedelta = timedelta(seconds=5),
        readers: int = 4,
        max_group: int = 256,
        portable_modules: Sequence[str] = (),
    ) -> Self:
        """Return the database, created when missing, with the tables of the owners up to date.

        With `portable_modules` the portable functions in them write to SQLite from a process of their own.
        Raises DatabaseUnusable with one line: not ours, newer than this program, locked, not creatable.
        """
        location = locate(url)
        await asyncio.to_thread(migrate_all, url, migrations, busy_timeout=busy_timeout)
        if location.is_sqlite:
            _report_sqlite_version()
        database = cls(location, busy_timeout=busy_timeout, readers=readers, max_group=max_group)
        try:
            database._incarnation = await asyncio.to_thread(database._ensure_identity, clock)
        except BaseException:
            database._dispose()
            raise
        if portable_modules and location.is_sqlite:
            database._writer_process = WriterProcess(
                url, busy_timeout=busy_timeout, modules=portable_modules, clock=clock
            )
            await database._writer_process.start()
        database._writer.start()
        return database

    @property
    def incarnation(self) -> str:
        """Return the id of the content as last seen; a restore changes it."""
        return self._incarnation

    @property
    def healthy(self) -> bool:
        """Say whether the database did what it was last asked to do."""
        return self._problem is None

    @property
    def problem(self) -> DatabaseUnavailable | None:
        """Return what is wrong with the database, None while it is healthy."""
        return self._problem

    @property
    def writer_process_id(self) -> int | None:
        """Return the id of the process that writes for this one; None where there is none."""
        return self._writer_process.process_id if self._writer_process is not None else None

    @property
    def waiting(self) -> int:
        """Return how many writes wait for the next transaction."""
        return self._writer.waiting()

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run fn(connection, ...) in a write transaction; returns its result after the durable COMMIT.

        It runs at most once, on another thread, together with other writes but undone alone when it raises:
        it must not commit, keep the connection or touch state of the event loop. Raises what fn raises, or
        DatabaseUnavailable (Busy, Full, Gone, Replaced) when nothing was changed. A cancelled caller may find
        the write done.
        """
        return await self.write_under(self._incarnation, fn, *args, **kwargs)

    async def write_under(
        self, incarnation: str, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Write as the end of work begun under that incarnation; DatabaseReplaced when it is over."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._writer.submit(Job(Task(fn, args, kwargs, incarnation), future, is_portable(fn)))
        return await future

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run fn(connection, ...) on a read-only connection with one consistent view; returns its result.

        It sees every write that was answered before. Raises what fn raises, or DatabaseUnavailable.
        """
        if self._closed:
            raise DatabaseGone("The database is closed; the service is stopping.")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, partial(self._read, fn, args, kwargs))

    async def probe(self) -> bool:
        """Ask the database whether it works, and notice a replaced one; returns `healthy`. Never raises."""
        try:
            await self.write(look if self.healthy else touch)
            if self._is_full():
                self._note(DatabaseFull())  # also for a service that has nothing to write at present
        except DatabaseReplaced:
            pass  # noted where it was seen
        except DatabaseUnavailable as error:
            self._note(error)
        except Exception as error:
            log.exception("the database failed in an unknown way")
            self._note(DatabaseGone(f"The database failed: {error}"))
        return self.healthy

    def on_replaced(self, callback: Callable[[], None]) -> None:
        """Call back in the event loop whenever the content was replaced: forget what was read before."""
        self._when_replaced.append(callback)

    def on_health_change(self, callback: Callable[[bool], None]) -> None:
        """Call back in the event loop with `healthy` whenever it changes."""
        self._when_health_changes.append(callback)

    async def close(self) -> None:
        """Finish the queued writes, then let go of the file. Later calls raise DatabaseGone."""
        self._closed = True
        await self._writer.close()
        if self._writer_process is not None:
            await self._writer_process.close()
        await asyncio.to_thread(self._write_thread.shutdown, wait=True)
        await asyncio.to_thread(self._readers.shutdown, wait=True)
        self._dispose()

    def _dispose(self) -> None:
        self._disconnect()
        if self._file is not None:
            self._file.close()

    def _disconnect(self) -> None:
        self._transactions.disconnect()
        self._read_engine.dispose()

    def _ensure_identity(self, clock: Clock) -> str:
        try:
            with self._transactions.connection() as connection, connection.begin():
                return ensure_identity(connection, clock.now())
        except Exception as error:
            cause = unavailable(error)
            if cause is None:
                raise
            raise DatabaseUnusable(cannot_be_used(self.location, cause)) from error

    def _read(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        try:
            with self._in_use(), self._read_engine.begin() as connection:
                return fn(connection, *args, **kwargs)
        except Exception as error:
            cause = unavailable(error)
            if cause is None or wrote_in_a_read(error):
                raise
            self._note(cause)
            if cause is error:
                raise
            raise cause from error

    async def _run(self, tasks: Sequence[Task]) -> GroupOutcome:
        """Run a group on the writer's thread."""
        if self._writer_process is not None and not self._writer_process.is_ready:
            await self._writer_process.look_after()
        return self._noted(await self._loop.run_in_executor(self._write_thread, self._transactions.run, tasks))

    def _give(self, tasks: Sequence[Task]) -> Awaitable[GroupOutcome] | None:
        """Give a group to the writer's process; None where there is none, or none yet, or where it cannot travel."""
        process = self._writer_process
        if process is None or not process.is_ready:
            return None
        try:
            return self._outcome_of(process.give(tasks), tasks)
        except NotPortable:
            return None

    async def _outcome_of(self, answer: Awaitable[GroupOutcome], tasks: Sequence[Task]) -> GroupOutcome:
        try:
            outcome = await answer
        except WriterLost as lost:
            return self._noted(await self._loop.run_in_executor(self._write_thread, self._after_loss, lost, tasks))
        if outcome.problem is not None:
            # Where the file is lost, this process lets go of it as well, or nobody could put another in its place.
            with suppress(DatabaseUnavailable), self._in_use():
                pass
        return self._noted(outcome)

    def _after_loss(self, lost: WriterLost, tasks: Sequence[Task]) -> GroupOutcome:
        """Answer for a process that did not: what it had committed counts, and what it had not is done here."""
        if lost.outcome is None:
            return self._transactions.run(tasks)
        try:
            with self._transactions.connection() as connection:
                is_committed = is_marked(connection, lost.mark)
        except Exception as error:  # noqa: BLE001 (whatever a driver raises is answered)
            cause = unavailable(error) or DatabaseGone()
            log.error("what the process that ended wrote last is not known: all is read anew", cause=str(error))
            self._in_loop(self._tell_replaced)
            return GroupOutcome([Outcome(error=cause.again()) for _ in tasks], None, cause)
        return finished(lost.outcome) if is_committed else self._transactions.run(tasks)

    def _noted(self, outcome: GroupOutcome) -> GroupOutcome:
        """Remember how a group went, before it is answered."""
        present = outcome.incarnation
        if present is not None and present != self._incarnation:
            log.warning("the database was replaced", before=self._incarnation, now=present)
            self._incarnation = present
            self._tell_replaced()
        self._note(outcome.problem)
        return outcome

    def _tell_replaced(self) -> None:
        for callback in self._when_replaced:
            callback()

    def _in_use(self) -> AbstractContextManager[None]:
        return nullcontext() if self._file is None else self._file.in_use()

    def _note(self, outcome: BaseException | None) -> None:
        """Remember how the last attempt went; called on any thread."""
        if isinstance(outcome, DatabaseReplaced) or (
            outcome is not None and not isinstance(outcome, DatabaseUnavailable)
        ):
            return
        if outcome is None and isinstance(self._problem, DatabaseFull) and self._is_full():
            return
        before, self._problem = self._problem, outcome
        if (before is None) == (outcome is None):
            return
        if outcome is not None:
            log.error("the database does not work", reason=outcome.reason, cause=outcome.message)
        else:
            log.info("the database works again")
        healthy = outcome is None
        self._in_loop(lambda: [callback(healthy) for callback in self._when_health_changes])

    def _is_full(self) -> bool:
        return self.location.is_sqlite and shutil.disk_usage(self.location.path.parent).free < _LEAST_FREE_BYTES

    def _in_loop(self, call: Callable[[], object]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)


def _guarded(path: Path, let_go: Callable[[], None]) -> DatabaseFile:
    def say(is_another: bool) -> None:
        log.warning("the database file was taken up again", exchanged=is_another)

    return DatabaseFile(path, let_go=let_go, on_taken_up=say)


def _report_sqlite_version() -> None:
    if (3, 7, 0) <= sqlite3.sqlite_version_info < _WAL_RESET_FIXED:
        log.warning(
            "this SQLite has a rare WAL-reset bug with several connections; 3.51.3 or later is better (README, Limits)",
            sqlite_version=sqlite3.sqlite_version,
        )
    else:
        log.info("SQLite in use", sqlite_version=sqlite3.sqlite_version)
