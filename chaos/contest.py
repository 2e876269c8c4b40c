"""Two living senders and the same messages: one is stopped while its claims are voided, and then it goes on with them.

Each step waits until it sees what the next one needs, so that a sender which ignores a rule does not get away by luck:
the one that is stopped has claims; the other has some of the same messages at their dots; and these dots stay
unanswered until the first one has tried them, too, and has said so in the book.
"""

import asyncio
import signal
from collections.abc import Callable, Collection
from functools import partial

from chaos.feed import Feed
from chaos.peek import Peek
from chaos.processes import Victim
from chaos.record import Kind
from chaos.system import System
from chaos.watch import Watch

FEWEST_CLAIMS = 50
FROZEN_SECONDS = 1.5  # a rescuer looks once a second
SIGNAL_SECONDS = 0.5
STEP_SECONDS = 20.0
LOOK_SECONDS = 0.02


class Contest:
    """One contest between a companion, which is stopped, and the sender that is started meanwhile."""

    def __init__(self, system: System, feed: Feed, watch: Watch, companion: Victim) -> None:
        """Take who competes, and how one looks at it."""
        self._system = system
        self._peek = Peek(system.database_file)
        self._feed = feed
        self._watch = watch
        self._companion = companion
        self._run_id = ""
        self._claimed: set[str] = set()

    async def freeze(self) -> bool:
        """Stop the companion while it has claims; False when it never had enough of them."""
        return await self._until(self._is_frozen_with_claims, seconds=STEP_SECONDS)

    async def decide(self) -> bool:
        """Let the sender take over what was claimed, then let both try it. False when it did not come to that."""
        try:
            await asyncio.sleep(FROZEN_SECONDS)
            async with asyncio.timeout(STEP_SECONDS):
                await self._feed.void_claims(self._run_id)
            contested = await self._hold_contested()
            known = self._words_about(contested)
            self._companion.signal(signal.SIGCONT)
            return bool(contested) and await self._until(
                lambda: len(self._words_about(contested) - known) >= len(contested), seconds=STEP_SECONDS
            )
        except TimeoutError:
            return False
        finally:
            self._companion.signal(signal.SIGCONT)
            self._system.release_dots()

    def _is_frozen_with_claims(self) -> bool:
        """Stop it, but not in the middle of a transaction: nobody could write until it goes on."""
        self._companion.signal(signal.SIGSTOP)
        # Until every thread stands still one of them may yet begin a transaction.
        if self._companion.is_stopped() and self._peek.is_writable():
            claims = self._peek.claims(self._companion.process_id)
            self._run_id = max(claims, key=lambda run_id: len(claims[run_id]), default="")
            self._claimed = claims.get(self._run_id, set())
            if len(self._claimed) >= FEWEST_CLAIMS:
                return True
        self._companion.signal(signal.SIGCONT)
        return False

    async def _hold_contested(self) -> set[str]:
        """Hold dots as soon as claimed messages are on their way; return those that are held, none when all passed."""
        seen_count = 0
        while await self._until(partial(self._has_passed_more_than, seen_count), seconds=STEP_SECONDS):
            seen_count = len(self._claimed & self._watch.accepted)
            start = len(self._watch.events)
            self._system.hold_dots()
            await self._until(partial(self._held_since, start), seconds=SIGNAL_SECONDS)
            if contested := self._held_since(start) & self._claimed:
                return contested
            self._system.release_dots()
        return set()

    def _has_passed_more_than(self, seen_count: int) -> bool:
        return len(self._claimed & self._watch.accepted) > seen_count

    def _held_since(self, start: int) -> set[str]:
        return {event.address for event in self._watch.events[start:] if event.kind is Kind.HELD}

    def _words_about(self, addresses: Collection[str]) -> set[str]:
        return self._peek.words(self._companion.process_id, addresses)

    async def _until(self, condition: Callable[[], object], *, seconds: float) -> bool:
        """Look until the condition holds; False when it does not come to that, or the companion has ended."""
        holds = False

        def is_over() -> bool:
            nonlocal holds
            holds = bool(condition())
            return holds or self._companion.has_ended

        await self._watch.until(is_over, seconds=seconds)
        return holds and not self._companion.has_ended
