"""A clock that moves only when a test says so."""

import asyncio
import heapq
from datetime import UTC, datetime, timedelta
from itertools import count

START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


class FakeClock:
    """Implements mailer.clock.Clock; `advance` wakes the sleepers one by one, each at its own instant."""

    def __init__(self, start: datetime = START) -> None:
        """Stand still at `start`."""
        self._start = start
        self._elapsed = 0.0
        self._offset = timedelta()
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """Return the instant that the test has reached."""
        return self._start + timedelta(seconds=self._elapsed) + self._offset

    def monotonic(self) -> float:
        """Return the seconds advanced so far."""
        return self._elapsed

    @property
    def sleepers(self) -> int:
        """Return how many tasks wait for time to pass."""
        return sum(not sleeper.done() for _, _, sleeper in self._sleepers)

    def step_wall_clock(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator does; monotonic time and sleepers stay."""
        self._offset += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        """Return once the test has advanced so far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), sleeper))
        await sleeper

    async def wait(self, event: asyncio.Event, timeout: float) -> bool:
        """Return True as soon as the event is set, False when the test advances past the timeout first."""
        if event.is_set():
            return True
        tasks = (asyncio.ensure_future(event.wait()), asyncio.ensure_future(self.sleep(timeout)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return event.is_set()

    async def advance(self, seconds: float) -> None:
        """Let the seconds pass; everyone due on the way runs until it waits again before time goes on."""
        await self.settle()
        end = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, sleeper = heapq.heappop(self._sleepers)
            if sleeper.done():
                continue
            self._elapsed = max(self._elapsed, due)
            sleeper.set_result(None)
            await self.settle()
        self._elapsed = end
        await self.settle()

    async def settle(self) -> None:
        """Let every task that can run do so. Work on other threads is not waited for."""
        for _ in range(20):
            await asyncio.sleep(0)
