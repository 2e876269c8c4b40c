"""The one writer: all waiting jobs run in one durable transaction, then they are answered.

A commit costs an fsync however much is in it. Jobs that arrive while one group commits form the next, so the
groups grow with the load and an idle database answers at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mailer.database.errors import DatabaseGone
from mailer.database.transactions import GroupOutcome, Outcome, Task

RunGroup = Callable[[Sequence[Task]], Awaitable[GroupOutcome]]
GiveGroup = Callable[[Sequence[Task]], Awaitable[GroupOutcome] | None]

MOST_GIVEN = 2
"""So many groups the other process may have: it begins the next one while the last answer is on its way."""


@dataclass(frozen=True, slots=True)
class Job:
    """One task, the future that waits for its outcome, and whether another process may run it."""

    task: Task
    future: "asyncio.Future[Any]"
    is_portable: bool


class Writer:
    """Runs jobs in groups, one after the other. Every job runs at most once, in the order of submission."""

    def __init__(self, *, run: RunGroup, give: GiveGroup, max_group: int) -> None:
        """Start nothing yet.

        `run` runs a group here; `give` gives one to another process, or returns None when it has to be run here.
        """
        self._run = run
        self._give = give
        self._max_group = max_group
        self._jobs: deque[Job] = deque()
        self._given: deque[asyncio.Task[None]] = deque()  # groups that the other process has
        self._wake = asyncio.Event()
        self._closing = False
        self._working: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to work."""
        self._working = asyncio.create_task(self._work())

    def submit(self, job: Job) -> None:
        """Queue a job; raises DatabaseGone once the writer is closing."""
        if self._closing:
            raise DatabaseGone("The database is closed; the service is stopping.")
        self._jobs.append(job)
        self._wake.set()

    def waiting(self) -> int:
        """Return how many jobs wait for the next group."""
        return len(self._jobs)

    async def close(self) -> None:
        """Run what is queued, then end."""
        self._closing = True
        self._wake.set()
        if self._working is not None:
            await self._working

    async def _work(self) -> None:
        while True:
            await self._wait_for_given(MOST_GIVEN - 1)
            jobs = self._next_group()
            if jobs:
                await self._begin(jobs)
            elif self._closing:
                await self._wait_for_given(0)
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    def _next_group(self) -> list[Job]:
        """Take the first jobs, as far as they run in one place."""
        group: list[Job] = []
        while self._jobs and len(group) < self._max_group:
            if group and self._jobs[0].is_portable != group[0].is_portable:
                break
            job = self._jobs.popleft()
            if not job.future.cancelled():
                group.append(job)
        return group

    async def _begin(self, jobs: Sequence[Job]) -> None:
        """Give a group away, or run it: never beside another one."""
        tasks = [job.task for job in jobs]
        outcome = self._give(tasks) if jobs[0].is_portable else None
        if outcome is not None:
            self._given.append(asyncio.create_task(_finish(jobs, outcome)))
        else:
            await self._wait_for_given(0)
            await _finish(jobs, self._run(tasks))

    async def _wait_for_given(self, most: int) -> None:
        """Wait until the other process has no more groups than that."""
        while self._given and (len(self._given) > most or self._given[0].done()):
            await self._given[0]
            self._given.popleft()


async def _finish(jobs: Sequence[Job], outcome: Awaitable[GroupOutcome]) -> None:
    """Wait for the outcome of a group, and answer its jobs."""
    try:
        outcomes = (await outcome).outcomes
    except Exception as error:  # noqa: BLE001 (nobody may wait for ever)
        outcomes = [Outcome(error=error) for _ in jobs]
    for job, one in zip(jobs, outcomes, strict=True):
        with suppress(asyncio.InvalidStateError):  # nobody waits any more
            _answer(job.future, one)


def _answer(future: "asyncio.Future[Any]", outcome: Outcome) -> None:
    if isinstance(outcome.error, StopIteration):  # a future refuses it
        future.set_exception(RuntimeError("a job raised StopIteration"))
    elif outcome.error is not None:
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome.result)
