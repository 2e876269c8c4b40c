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
from mailer.database import Database, DatabaseReplaced, DatabaseUnavailable
from services.sender import book
from services.sender.book import Intent, Result
from services.sender.counts import Changes
from services.sender.failpoints import Window, reached
from services.sender.states import LogOutcome

log = structlog.get_logger(__name__)

E = TypeVar("E")
R = TypeVar("R")

GATHER_SECONDS = 0.003
"""How long what nobody waits for may wait for company: a commit costs the same for one entry as for fifty."""

_FINAL = frozenset({LogOutcome.SENT, LogOutcome.FAILED})
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
        self._recorded_count = 0
        self._on_their_way = 0  # results that are being written
        self._settlers: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._pause = 0.0
        self._gathering: asyncio.TimerHandle | None = None

    @property
    def waiting_count(self) -> int:
        """Return how many results are not on disk yet."""
        return len(self._results) + self._on_their_way

    @property
    def is_stuck(self) -> bool:
        """Say whether the database refused the last group: nothing new may be claimed or begun then."""
        return self._pause > 0

    def intend(self, intent: Intent, *, is_urgent: bool) -> asyncio.Future[bool]:
        """Return what is True once the intent is on disk, False when the claim is lost or the disk did not take it.

        `is_urgent`: somebody waits for it now. Cancelled before it is on its way to the disk, it is taken back.
        """
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._intents.append((intent, answer))
        self._gather(is_urgent=is_urgent)
        return answer

    def hurry(self) -> None:
        """Commit now: somebody waits for an intent that was not urgent."""
        self._wake.set()

    def record(self, result: Result) -> None:
        """Book a result. It is kept in memory until it is on disk."""
        self._results.append(result)
        self._recorded_count += 1
        # Trouble is seen at once, in the order in which it came about.
        self._gather(is_urgent=result.outcome not in _FINAL)

    async def settle(self) -> None:
        """Return once every result recorded so far is on disk; later ones are not waited for."""
        if self.waiting_count:
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._settlers.append((self._recorded_count, settled))
            self._wake.set()
            await settled

    def _gather(self, *, is_urgent: bool) -> None:
        """Commit at once if somebody waits, and otherwise when more has had time to come."""
        if is_urgent:
            self._wake.set()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._wake.set)

    async def run(self) -> None:
        """Commit groups until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._gathering is not None:
                self._gathering.cancel()
                self._gathering = None
            works = await self._commit_group()
            self._pause = 0.0 if works else min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
            if self._pause:
                await self._clock.sleep(self._pause)
                self._wake.set()

    async def _commit_group(self) -> bool:
        """Write what has collected. Return whether the database took it."""
        intents = [(intent, answer) for intent, answer in self._intents if not answer.done()]
        self._intents.clear()
        results, self._on_their_way = list(self._results), len(self._results)
        self._results.clear()
        if not (intents or results):
            return await self._database.probe() if self.is_stuck else True
        have_results = have_intents = bool(results and intents) and await self._commit_together(results, intents)
        if not have_results:
            # Two jobs, so that trouble with a result cannot hold up the intents.
            have_results, have_intents = await asyncio.gather(
                self._commit_results(results), self._commit_intents(intents)
            )
        self._on_their_way = 0
        if not have_results:
            self._results.extendleft(reversed(results))
        self._wake_settlers()
        return have_results and have_intents

    def _wake_settlers(self) -> None:
        settled_count = self._recorded_count - self.waiting_count
        while self._settlers and self._settlers[0][0] <= settled_count:
            _, settled = self._settlers.popleft()
            if not settled.done():
                settled.set_result(None)

    async def _commit_together(self, results: list[Result], intents: list[tuple[Intent, asyncio.Future[bool]]]) -> bool:
        """Write results and intents as one. Return False, and nothing is done, when that is not possible."""
        life = self._database.incarnation
        wanted = [one for one, _ in intents if one.life == life]

        def job(connection: Connection) -> tuple[frozenset[int], frozenset[str]]:
            changes = Changes()
            book.write_results(connection, results, changes)
            granted = book.write_intents(connection, wanted, changes)
            changes.apply(connection)
            return granted, changes.run_ids

        try:
            granted, run_ids = await self._database.write_under(life, job)
        except Exception:  # noqa: BLE001 (they are tried apart then, and that says what is wrong)
            return False
        reached(Window.AFTER_COMMIT)
        _forget_dots(results)
        for intent, answer in intents:
            if not answer.done():
                answer.set_result(intent.life == life and intent.claimed.id in granted)
        self._on_change(run_ids)
        return True

    async def _commit_intents(self, intents: list[tuple[Intent, asyncio.Future[bool]]]) -> bool:
        """Return False when the database did not take them: then their claims stand, and nothing is sent."""
        if not intents:
            return True
        granted: frozenset[int] = frozenset()
        life = self._database.incarnation
        try:
            granted = await self._write(book.write_intents, [one for one, _ in intents if one.life == life], life)
        except DatabaseReplaced:
            pass  # so are the claims
        except DatabaseUnavailable as error:
            log.warning("no intent could be stored: nothing is sent without", error=str(error), count=len(intents))
            return False
        finally:
            for intent, answer in intents:
                if not answer.done():
                    answer.set_result(intent.life == life and intent.claimed.id in granted)
        return True

    async def _commit_results(self, results: list[Result]) -> bool:
        """Return False when the results have to be kept and written again."""
        if not results:
            return True
        try:
            await self._write(book.write_results, results)
            reached(Window.AFTER_COMMIT)
            _forget_dots(results)
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
                    _forget_dots([form])
                except DatabaseUnavailable:
                    self._results.append(form)
                except Exception:
                    log.exception("a result was refused", delivery=result.claimed.delivery_key)
                    continue
                break

    async def _write(
        self, entries: Callable[[Connection, list[E], Changes], R], rows: list[E], life: str | None = None
    ) -> R:
        """Write entries and the counts they move in one transaction, in this life of the database or in none."""

        def job(connection: Connection) -> tuple[R, Changes]:
            changes = Changes()
            answer = entries(connection, rows, changes)
            changes.apply(connection)
            return answer, changes

        answer, changes = await self._database.write_under(life or self._database.incarnation, job)
        self._on_change(changes.run_ids)
        return answer


def _forget_dots(results: list[Result]) -> None:
    for result in results:
        if result.dot is not None:
            result.dot.booked()
