"""One writer for the book: intents and results of all connections are committed together, in their order.

While one group is on its way to the disk, the next one collects. An intent is answered only after its commit; a result
is kept until it is on disk, however long the database is away, and nothing new is claimed meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from mailer.clock import Clock
from mailer.database import Database, DatabaseReplaced, DatabaseUnavailable
from services.sender import book
from services.sender.dots import Dot
from services.sender.entries import Acceptance, Intent, Result
from services.sender.failpoints import Window, reached
from services.sender.states import LogOutcome

log = structlog.get_logger(__name__)

GATHER_SECONDS = 0.006
"""How long what nobody waits for may wait for company: a commit costs the same for one entry as for fifty."""

_NOT_STORED = "the reply could not be stored"
_FINAL = frozenset({LogOutcome.SENT, LogOutcome.FAILED})
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


@dataclass(slots=True)
class _Asked:
    """An intent, the life of the database in which its delivery was claimed, and who waits for it."""

    intent: Intent
    life: str
    answer: asyncio.Future[bool]


@dataclass(slots=True)
class _Outcomes:
    """What attempts came to, and the dots that are forgotten once that is on disk."""

    acceptances: list[Acceptance] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.acceptances) + len(self.results)

    def put_before(self, others: "_Outcomes") -> None:
        """Add these in front of others."""
        others.acceptances[:0], others.results[:0], others.dots[:0] = self.acceptances, self.results, self.dots

    def forget_dots(self) -> None:
        for dot in self.dots:
            dot.booked()


class Ledger:
    """Collects intents and results and commits them in groups."""

    def __init__(self, database: Database, clock: Clock, *, on_change: Callable[[frozenset[str]], None]) -> None:
        """Take the database; `on_change` hears which runs changed, after each commit."""
        self._database = database
        self._clock = clock
        self._on_change = on_change
        self._asked: deque[_Asked] = deque()
        self._outcomes = _Outcomes()
        self._wake = asyncio.Event()
        self._recorded_count = 0
        self._on_their_way = 0  # results that are being written
        self._settlers: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._pause = 0.0
        self._gathering: asyncio.TimerHandle | None = None

    @property
    def waiting_count(self) -> int:
        """Return how many results are not on disk yet."""
        return len(self._outcomes) + self._on_their_way

    @property
    def is_stuck(self) -> bool:
        """Say whether the database refused the last group: nothing new may be claimed or begun then."""
        return self._pause > 0

    def intend(self, intent: Intent, *, life: str, is_urgent: bool) -> asyncio.Future[bool]:
        """Return what is True once the intent is on disk, False when the claim is lost or the disk did not take it.

        `life` is that of the database in which the delivery was claimed: in another one the claim is void.
        `is_urgent`: somebody waits for it now. Cancelled before it is on its way to the disk, it is taken back.
        """
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(intent, life, answer))
        self._gather(is_urgent=is_urgent)
        return answer

    def hurry(self) -> None:
        """Commit now: somebody waits for an intent that was not urgent."""
        self._wake.set()

    def accept(self, acceptance: Acceptance, dot: Dot | None) -> None:
        """Book that a server took a message. It is kept in memory until it is on disk, and then its dot forgotten."""
        self._outcomes.acceptances.append(acceptance)
        self._recorded(dot, is_urgent=False)

    def record(self, result: Result, dot: Dot | None = None) -> None:
        """Book any other result; see `accept`."""
        self._outcomes.results.append(result)
        # Trouble is seen at once, in the order in which it came about.
        self._recorded(dot, is_urgent=result.outcome not in _FINAL)

    async def settle(self) -> None:
        """Return once every result recorded so far is on disk; later ones are not waited for."""
        if self.waiting_count:
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._settlers.append((self._recorded_count, settled))
            self._wake.set()
            await settled

    def _recorded(self, dot: Dot | None, *, is_urgent: bool) -> None:
        self._recorded_count += 1
        if dot is not None:
            self._outcomes.dots.append(dot)
        self._gather(is_urgent=is_urgent)

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
        asked = [one for one in self._asked if not one.answer.done()]
        self._asked.clear()
        outcomes, self._outcomes = self._outcomes, _Outcomes()
        self._on_their_way = len(outcomes)
        if not (asked or outcomes):
            return await self._database.probe() if self.is_stuck else True
        is_booked = is_answered = bool(outcomes and asked) and await self._commit_together(outcomes, asked)
        if not is_booked:
            # Two jobs, so that trouble with a result cannot hold up the intents.
            is_booked, is_answered = await asyncio.gather(self._commit_outcomes(outcomes), self._commit_intents(asked))
        self._on_their_way = 0
        if not is_booked:
            outcomes.put_before(self._outcomes)
        self._wake_settlers()
        return is_booked and is_answered

    def _wake_settlers(self) -> None:
        settled_count = self._recorded_count - self.waiting_count
        while self._settlers and self._settlers[0][0] <= settled_count:
            _, settled = self._settlers.popleft()
            if not settled.done():
                settled.set_result(None)

    async def _commit_together(self, outcomes: _Outcomes, asked: Sequence[_Asked]) -> bool:
        """Write results and intents as one. Return False, and nothing is done, when that is not possible."""
        life = self._database.incarnation
        try:
            granted = await self._write(outcomes.acceptances, outcomes.results, _of_life(asked, life), life=life)
        except Exception:  # noqa: BLE001 (they are tried apart then, and that says what is wrong)
            return False
        reached(Window.AFTER_COMMIT)
        outcomes.forget_dots()
        _answer(asked, granted, life)
        return True

    async def _commit_intents(self, asked: Sequence[_Asked]) -> bool:
        """Return False when the database did not take them: then their claims stand, and nothing is sent."""
        if not asked:
            return True
        granted: frozenset[int] = frozenset()
        life = self._database.incarnation
        try:
            granted = await self._write([], [], _of_life(asked, life), life=life)
        except DatabaseReplaced:
            pass  # so are the claims
        except DatabaseUnavailable as error:
            log.warning("no intent could be stored: nothing is sent without", error=str(error), count=len(asked))
            return False
        finally:
            _answer(asked, granted, life)
        return True

    async def _commit_outcomes(self, outcomes: _Outcomes) -> bool:
        """Return False when the results have to be kept and written again."""
        if not outcomes:
            return True
        try:
            await self._write(outcomes.acceptances, outcomes.results, [])
            reached(Window.AFTER_COMMIT)
        except DatabaseUnavailable as error:
            log.warning("results wait for the database", error=str(error), count=len(outcomes))
            return False
        except Exception:
            log.exception("a result cannot be booked as it is", count=len(outcomes))
            if not await self._commit_one_by_one(outcomes):
                return False
        outcomes.forget_dots()
        return True

    async def _commit_one_by_one(self, outcomes: _Outcomes) -> bool:
        """Book each result alone; one that the database refuses is booked without the words of the server."""
        while outcomes.results:
            result = outcomes.results[0]
            bare = replace(result, reply_text="", description=_NOT_STORED)
            if not await self._commit_one([([], [form]) for form in (result, bare)]):
                return False
            del outcomes.results[0]
        while outcomes.acceptances:
            acceptance = outcomes.acceptances[0]
            plain = acceptance._replace(reply_text="", description=_NOT_STORED)
            if not await self._commit_one([([form], []) for form in (acceptance, plain)]):
                return False
            del outcomes.acceptances[0]
        return True

    async def _commit_one(self, forms: Sequence[tuple[list[Acceptance], list[Result]]]) -> bool:
        """Book one result in the first form that the database takes. Return False when it takes nothing now."""
        for acceptances, results in forms:
            try:
                await self._write(acceptances, results, [])
            except DatabaseUnavailable:
                return False
            except Exception:
                log.exception("a result was refused")
                continue
            break
        return True

    async def _write(
        self,
        acceptances: Sequence[Acceptance],
        results: Sequence[Result],
        intents: Sequence[Intent],
        *,
        life: str | None = None,
    ) -> frozenset[int]:
        """Write in one transaction, in this life of the database or in none. Return the ids that may be sent."""
        granted, run_ids = await self._database.write_under(
            life or self._database.incarnation, book.write_group, acceptances, results, intents
        )
        self._on_change(run_ids)
        return granted


def _of_life(asked: Sequence[_Asked], life: str) -> list[Intent]:
    return [one.intent for one in asked if one.life == life]


def _answer(asked: Sequence[_Asked], granted: frozenset[int], life: str) -> None:
    for one in asked:
        if not one.answer.done():
            one.answer.set_result(one.life == life and one.intent.delivery_id in granted)
