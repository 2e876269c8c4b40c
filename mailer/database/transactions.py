"""One group of tasks in one durable transaction, each undone alone when it raises."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import ProgrammingError

from mailer.database.engine import Location, driver, write_engine
from mailer.database.errors import DatabaseGone, DatabaseReplaced, DatabaseUnavailable, unavailable
from mailer.database.file import DatabaseFile
from mailer.database.identity import READ_INCARNATION
from mailer.database.savepoint import begin_savepoint


class Task(NamedTuple):
    """A function to call with the connection and these arguments, as the end of work begun under an incarnation."""

    function: Callable[..., Any]
    arguments: Sequence[Any]
    named_arguments: Mapping[str, Any]
    incarnation: str


class Unfinished(ABC):
    """A result that has something done to it after the commit, where it came about, before anybody gets it."""

    __slots__ = ()

    @abstractmethod
    def finish(self) -> None:
        """Do it. What is raised here, whoever waits for the result gets, although the task is done."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task: a result, or the error to raise where it is awaited."""

    result: Any = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class GroupOutcome:
    """What became of a group: one outcome per task, and what was learned about the database."""

    outcomes: Sequence[Outcome]
    incarnation: str | None  # as it was found; None when it did not come so far
    problem: BaseException | None = None  # of the database itself: then every task failed by it


BeforeCommit = Callable[[Connection, Sequence[Outcome], str], None]


class Transactions:
    """Runs groups, one at a time, over a connection that takes the write lock at its start."""

    def __init__(self, location: Location, *, busy_timeout: timedelta, file: DatabaseFile | None) -> None:
        """Connect to nothing yet; `file` guards the SQLite file."""
        self._location = location
        self._engine = write_engine(location, busy_timeout=busy_timeout)
        self._file = file

    def disconnect(self) -> None:
        """Close the connection; the next group opens another."""
        self._engine.dispose()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend the connection, outside a transaction. Raises DatabaseUnavailable."""
        with self._in_use(), self._engine.connect() as connection:
            yield connection

    def run(self, tasks: Sequence[Task], *, before_commit: BeforeCommit | None = None) -> GroupOutcome:
        """Run one group; a failure of the database itself, or of the COMMIT, fails every task of it.

        `before_commit` gets the outcomes and the incarnation of a group that changed rows. It may write, too; its
        failure is the group's.
        """
        incarnation = None
        try:
            with self.connection() as connection, connection.begin():
                incarnation = self._read_incarnation(connection)
                changes = self._count_changes(connection)
                alone = len(tasks) == 1
                outcomes = [_run_one(connection, task, incarnation, alone=alone) for task in tasks]
                if before_commit is not None and self._count_changes(connection) > changes:
                    before_commit(connection, outcomes, incarnation)
        except _RolledBack as only:
            return GroupOutcome([Outcome(error=only.error)], incarnation)
        except BaseException as error:  # noqa: BLE001 (whatever a driver raises is answered)
            cause = unavailable(error) or error
            if cause is not error:
                cause.__cause__ = error
            return GroupOutcome([Outcome(error=_own_copy(cause)) for _ in tasks], incarnation, cause)
        return finished(GroupOutcome(outcomes, incarnation))

    def _in_use(self) -> AbstractContextManager[None]:
        return nullcontext() if self._file is None else self._file.in_use()

    def _count_changes(self, connection: Connection) -> int:
        return driver(connection).total_changes if self._location.is_sqlite else 0

    def _read_incarnation(self, connection: Connection) -> str:
        present = self._find_incarnation(connection)
        if not isinstance(present, str):
            raise DatabaseGone("The database has lost its identity; restore a snapshot.")
        return present

    def _find_incarnation(self, connection: Connection) -> object:
        try:
            if self._location.is_sqlite:
                row = driver(connection).execute(READ_INCARNATION).fetchone()
                return row[0] if row else None
            return connection.exec_driver_sql(READ_INCARNATION).scalar()
        except (sqlite3.OperationalError, ProgrammingError) as error:
            if unavailable(error) is not None:
                raise
            return None  # there is no such table


class _RolledBack(Exception):
    """Carries the error of a task that had the transaction to itself, and says nothing about the database."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def _run_one(connection: Connection, task: Task, incarnation: str, *, alone: bool) -> Outcome:
    """Run a task in a savepoint of its own (or in the transaction, if it is the only one)."""
    if task.incarnation != incarnation:
        return Outcome(error=DatabaseReplaced())
    savepoint = None if alone else begin_savepoint(connection)
    try:
        result = task.function(connection, *task.arguments, **task.named_arguments)
    except BaseException as error:
        # After a full disk or a failed read SQLite may have rolled the whole transaction back by itself, and
        # the tasks behind would run outside of it: then the group fails as one.
        if unavailable(error) is not None and not isinstance(error, DatabaseUnavailable):
            raise
        if savepoint is None:
            raise _RolledBack(error) from error
        savepoint.rollback()
        return Outcome(error=error)
    if savepoint is not None:
        savepoint.commit()
    return Outcome(result=result)


def finished(outcome: GroupOutcome) -> GroupOutcome:
    """Return a group that was committed with its results finished."""
    return GroupOutcome([_finished(one) for one in outcome.outcomes], outcome.incarnation, outcome.problem)


def _finished(outcome: Outcome) -> Outcome:
    if isinstance(outcome.result, Unfinished):
        try:
            outcome.result.finish()
        except Exception as error:  # noqa: BLE001 (it is handed to who waits)
            return Outcome(error=error)
    return outcome


def _own_copy(error: BaseException) -> BaseException:
    """Return an error for one waiter: raised in several places, one object collects their tracebacks."""
    if isinstance(error, DatabaseUnavailable):
        copy = error.again()
        copy.__cause__ = error.__cause__ or error
        return copy
    return error
