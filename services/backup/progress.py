"""How far an operation has come, as a stream: whoever listens slowly misses steps, not the result."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

from mailer.clock import Clock
from services.backup.job import Progress

T = TypeVar("T")

_SHORTEST_PAUSE_SECONDS = 0.1
_LONGEST_SILENCE_SECONDS = 60.0


class Feed(Generic[T]):
    """Runs an operation that reports from its threads, and yields the newest report from time to time."""

    def __init__(self, clock: Clock, operation: Callable[[Callable[[Progress], None]], Awaitable[T]]) -> None:
        """Start the operation; it is given where to report to."""
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._latest: Progress | None = None
        self._news, self._ended = asyncio.Event(), asyncio.Event()
        self._task = asyncio.ensure_future(operation(self._report))
        self._task.add_done_callback(self._end)

    async def progress(self) -> AsyncGenerator[Progress, None]:
        """Yield reports until the operation has ended. Closed early, the operation is cancelled and waited for."""
        try:
            while not self._ended.is_set():
                await self._clock.wait(self._news, _LONGEST_SILENCE_SECONDS)
                self._news.clear()
                latest, self._latest = self._latest, None
                if latest is not None:
                    yield latest
                    await self._clock.wait(self._ended, _SHORTEST_PAUSE_SECONDS)
        finally:
            if not self._task.done():
                self._task.cancel()
                await asyncio.wait({self._task})

    async def result(self) -> T:
        """Return what the operation returned; raises what it raised."""
        return await self._task

    def _report(self, progress: Progress) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._take, progress)

    def _take(self, progress: Progress) -> None:
        self._latest = progress
        self._news.set()

    def _end(self, task: "asyncio.Future[T]") -> None:
        self._ended.set()
        self._news.set()
