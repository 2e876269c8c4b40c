"""The one writer: a thread that runs all waiting jobs in one durable transaction, then answers them.

A commit costs an fsync however much is in it. Jobs that arrive while one group commits form the next, so the
groups grow with the load and an idle database answers at once.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mailer.database.errors import DatabaseGone
from mailer.database.transactions import GroupOutcome, Outcome, Task

_STOP = object()

RunGroup = Callable[[Sequence[Task]], GroupOutcome]


@dataclass(frozen=True, slots=True)
class Job:
    """One task, the future that waits for its outcome, and whether another process may run it."""

    task: Task
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    is_portable: bool


class Writer:
    """Runs jobs in groups on a thread of its own. Every job runs at most once, in the order of submission."""

    def __init__(self, *, run: RunGroup, run_portable: RunGroup, max_group: int) -> None:
        """Start nothing yet; `run` runs a group, `run_portable` one of tasks that another process may run."""
        self._run = run
        self._run_portable = run_portable
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
            for is_portable, part in groupby(jobs, key=lambda job: job.is_portable):
                self._run_part(list(part), self._run_portable if is_portable else self._run)

    def _run_part(self, jobs: list[Job], run: RunGroup) -> None:
        try:
            outcomes = run([job.task for job in jobs]).outcomes
        except BaseException as error:  # noqa: BLE001 (the thread must outlive it, and nobody wait for ever)
            outcomes = [Outcome(error=error) for _ in jobs]
        _answer(jobs, outcomes)


def _answer(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
    """Wake the waiters with one call into each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Job, Outcome]]] = {}
    for job, outcome in zip(jobs, outcomes, strict=True):
        loops.setdefault(job.loop, []).append((job, outcome))
    for loop, theirs in loops.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, theirs)


def _resolve(answers: list[tuple[Job, Outcome]]) -> None:
    for job, outcome in answers:
        if job.future.done():
            continue
        if isinstance(outcome.error, StopIteration):  # a future refuses it
            job.future.set_exception(RuntimeError("a job raised StopIteration"))
        elif outcome.error is not None:
            job.future.set_exception(outcome.error)
        else:
            job.future.set_result(outcome.result)
