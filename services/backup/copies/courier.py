"""The loop that copies snapshots after they were taken, and tries again while the place is away."""

import asyncio

from mailer.clock import Clock
from mailer.log import get_logger
from services.backup.copies.copier import Copier
from services.backup.job import Job

log = get_logger(__name__)

# What others do at the place is seen at least so often.
_LOOKS_EVERY_SECONDS = 300.0
_FIRST_RETRY_SECONDS = 15.0
_LONGEST_RETRY_SECONDS = 600.0


class Courier:
    """Copies what waits, one snapshot at a time."""

    def __init__(self, copier: Copier, *, clock: Clock, limit_seconds: float) -> None:
        """Take who does it; no copy takes longer than the limit."""
        self._copier = copier
        self._clock = clock
        self._limit_seconds = limit_seconds
        self._news = asyncio.Event()
        self._job: Job | None = None
        self._failures = 0
        self.looked = asyncio.Event()
        """Set once the place was looked at for the first time, well or badly."""

    def wake(self) -> None:
        """Look at once: there is a new snapshot."""
        self._news.set()

    async def run(self) -> None:
        """Run until cancelled; a copy under way is stopped and waited for."""
        while True:
            self._news.clear()
            done = await self._round()
            self.looked.set()
            await self._clock.wait(self._news, self._pause(done=done))

    async def _round(self) -> bool:
        work = asyncio.create_task(asyncio.to_thread(self._copier.copy_all, self._next_job))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if self._job is not None:
                self._job.stop()
            await asyncio.wait({work})
            work.exception()
            raise
        except Exception as error:
            # Copies must outlive whatever one round meets.
            log.exception("copying ended by a bug")
            self._copier.note_bug(error)
            return False

    def _next_job(self) -> Job:
        self._job = Job(self._clock, limit_seconds=self._limit_seconds)
        return self._job

    def _pause(self, *, done: bool) -> float:
        if done:
            self._failures = 0
            return _LOOKS_EVERY_SECONDS
        pause = min(_FIRST_RETRY_SECONDS * 2.0**self._failures, _LONGEST_RETRY_SECONDS)
        self._failures = min(self._failures + 1, 20)
        log.warning("copying is tried again later", why=self._copier.book.failure, seconds=pause)
        return pause
