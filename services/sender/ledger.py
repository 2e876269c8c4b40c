"""One writer for the book: intents and results of all connections are committed together, in their order.

While one group is on its way to the disk, the next one collects. An intent is answered only after its commit; a result
is kept until it is on disk, however long the database is away, and nothing new is claimed meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from mailer.clock import Clock
from mailer.database import Database, DatabaseUnavailable
from services.sender import book
from services.sender.book import Intent, Result
from services.sender.counts import Changes
from services.sender.failpoints import Window, reached

log = structlog.get_logger(__name__)

E = TypeVar("E")
R = TypeVar("R")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


class Ledger:
    """Collects intents and results and commits them in groups."""

    def __init__(self, database: Database, clock: Clock, *, on_change: Callable[[frozenset[str]], None]) -> None:
        """Take the database; `on_change` hears which runs changed, after each commit."""
        self._database = database
        self._clock = clock
        self._on_change = on_change
        self._intents: deque[tuple[Intent, asyncio.Future[bool]]] = deque()
        self._results: deque[Result] = deque()
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._pause = 0.0

    @property
    def waiting_count(self) -> int:
        """Return how many results are not on disk yet."""
        return len(self._results)

    @property
    def is_stuck(self) -> bool:
        """Say whether the database refused the last group: nothing new may be claimed then."""
        return self._pause > 0

    async def intend(self, intent: Intent) -> bool:
        """Return True once the intent is on disk; False when the claim is lost or the disk did not take it."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._intents.append((intent, answer))
        self._wake.set()
        return await answer

    def record(self, result: Result) -> None:
        """Book a result. It is kept in memory until it is on disk."""
        self._results.append(result)
        self._settled.clear()
        self._wake.set()

    async def settle(self) -> None:
        """Return once every result recorded so far is on disk."""
        await self._settled.wait()

    async def run(self) -> None:
        """Commit groups until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._commit_group()
            if self._pause:
                await self._clock.sleep(self._pause)
                self._wake.set()

    async def _commit_group(self) -> None:
        intents, self._intents = list(self._intents), deque()
        results, self._results = list(self._results), deque()
        if not (intents or results):
            return
        # Two jobs, so that trouble with a result cannot hold up the intents; the writer commits them together.
        results_stored, _ = await asyncio.gather(self._commit_results(results), self._commit_intents(intents))
        if not results_stored:
            self._results.extendleft(reversed(results))
            self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
        else:
            self._pause = 0.0
            if not self._results:
                self._settled.set()

    async def _commit_intents(self, intents: list[tuple[Intent, asyncio.Future[bool]]]) -> None:
        if not intents:
            return
        granted: frozenset[int] = frozenset()
        try:
            granted = await self._write(book.write_intents, [intent for intent, _ in intents])
        except DatabaseUnavailable as error:
            log.warning("no intent could be stored: nothing is sent without", error=str(error), count=len(intents))
        finally:
            for intent, answer in intents:
                if not answer.done():
                    answer.set_result(intent.claimed.id in granted)

    async def _commit_results(self, results: list[Result]) -> bool:
        """Return False when the results have to be kept and written again."""
        if not results:
            return True
        try:
            await self._write(book.write_results, results)
            reached(Window.AFTER_COMMIT)
        except DatabaseUnavailable as error:
            log.warning("results wait for the database", error=str(error), count=len(results))
            return False
        except Exception:
            log.exception("a result cannot be booked as it is", count=len(results))
            await self._commit_one_by_one(results)
        return True

    async def _commit_one_by_one(self, results: list[Result]) -> None:
        """Book each result alone; one that the database refuses is booked without the words of the server."""
        for result in results:
            for form in (result, replace(result, reply_text="", description="the reply could not be stored")):
                try:
                    await self._write(book.write_results, [form])
                except DatabaseUnavailable:
                    self._results.append(form)
                except Exception:
                    log.exception("a result was refused", delivery=result.claimed.delivery_key)
                    continue
                break

    async def _write(self, entries: Callable[[Connection, list[E], Changes], R], rows: list[E]) -> R:
        """Write entries and the counts they move in one transaction, then tell who watches."""

        def job(connection: Connection) -> tuple[R, Changes]:
            changes = Changes()
            answer = entries(connection, rows, changes)
            changes.apply(connection)
            return answer, changes

        answer, changes = await self._database.write(job)
        self._on_change(changes.run_ids)
        return answer
