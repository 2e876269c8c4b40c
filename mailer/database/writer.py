"""The one writer: a thread that runs all waiting jobs in one durable transaction, then answers them.

A commit costs an fsync however much is in it. Jobs that arrive while one group commits form the next, so the
groups grow with the load and an idle database answers at once.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from mailer.database.errors import DatabaseGone, DatabaseReplaced, DatabaseUnavailable, unavailable
from mailer.database.savepoint import begin_savepoint

_STOP = object()


@dataclass(frozen=True, slots=True)
class Job:
    """One function to run inside the group's transaction, and the future that waits for its result."""

    run: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    incarnation: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a job: a result, or the error to raise where it is awaited."""

    job: Job
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Runs jobs in groups on a thread of its own. Every job runs at most once, in the order of submission."""

    def __init__(
        self,
        *,
        connection: Callable[[], AbstractContextManager[Connection]],
        incarnation_of: Callable[[Connection], str],
        on_outcome: Callable[[BaseException | None], None],
        max_group: int,
    ) -> None:
        """Start nothing yet.

        `connection` lends a connection outside a transaction and may raise DatabaseUnavailable;
        `incarnation_of` is asked at the start of each group; `on_outcome` hears of each group, on the thread.
        """
        self._connection = connection
        self._incarnation_of = incarnation_of
        self._on_outcome = on_outcome
        self._max_group = max_group
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="database-writer", daemon=True)
        self._closing = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; raises DatabaseGone once the writer is closing."""
        if self._closing:
            raise DatabaseGone("The database is closed; the service is stopping.")
        self._queue.put(job)

    def waiting(self) -> int:
        """Return how many jobs wait for the next group."""
        return self._queue.qsize()

    def close(self) -> None:
        """Run what is queued, then end the thread; blocks until it has ended."""
        if not self._closing:
            self._closing = True
            self._queue.put(_STOP)
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        running = True
        while running:
            group = [self._queue.get()]
            while len(group) < self._max_group:
                try:
                    group.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            if group[-1] is _STOP:
                running = False
                group.pop()
            jobs = [job for job in group if not job.future.cancelled()]
            if jobs:
                _answer(self._run(jobs))

    def _run(self, jobs: list[Job]) -> list[Answer]:
        """Run one group; a failure of the database itself, or of the COMMIT, fails every job of it."""
        try:
            with self._connection() as connection, connection.begin():
                incarnation = self._incarnation_of(connection)
                alone = len(jobs) == 1
                answers = [_run_one(connection, job, incarnation, alone=alone) for job in jobs]
        except _RolledBack as only:
            self._on_outcome(None)
            return [Answer(jobs[0], error=only.error)]
        except BaseException as error:  # noqa: BLE001 (the thread must outlive whatever a driver raises)
            cause = unavailable(error) or error
            self._on_outcome(cause)
            return [Answer(job, error=_own_copy(cause)) for job in jobs]
        self._on_outcome(None)
        return answers


class _RolledBack(Exception):
    """Carries the error of a job that had the transaction to itself, and says nothing about the database."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def _run_one(connection: Connection, job: Job, incarnation: str, *, alone: bool) -> Answer:
    """Run a job in a savepoint of its own (or in the transaction, if it is the only one)."""
    if job.incarnation != incarnation:
        return Answer(job, error=DatabaseReplaced())
    savepoint = None if alone else begin_savepoint(connection)
    try:
        result = job.run(connection)
    except BaseException as error:
        # After a full disk or a failed read SQLite may have rolled the whole transaction back by itself, and
        # the jobs behind would run outside of it: then the group fails as one.
        if unavailable(error) is not None and not isinstance(error, DatabaseUnavailable):
            raise
        if savepoint is None:
            raise _RolledBack(error) from error
        savepoint.rollback()
        return Answer(job, error=error)
    if savepoint is not None:
        savepoint.commit()
    return Answer(job, result=result)


def _own_copy(error: BaseException) -> BaseException:
    """Return an error for one waiter: raised in several tasks, one object collects their tracebacks."""
    if isinstance(error, DatabaseUnavailable):
        copy = error.again()
        copy.__cause__ = error.__cause__ or error
        return copy
    return error


def _answer(answers: list[Answer]) -> None:
    """Wake the waiters with one call into each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Answer]] = {}
    for answer in answers:
        loops.setdefault(answer.job.loop, []).append(answer)
    for loop, theirs in loops.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, theirs)


def _resolve(answers: list[Answer]) -> None:
    for answer in answers:
        if answer.job.future.done():
            continue
        if isinstance(answer.error, StopIteration):  # a future refuses it
            answer.job.future.set_exception(RuntimeError("a job raised StopIteration"))
        elif answer.error is not None:
            answer.job.future.set_exception(answer.error)
        else:
            answer.job.future.set_result(answer.result)
