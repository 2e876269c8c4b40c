"""What works by itself: firing what is due and moving runs, in one process per database at a time.

A lock file says which. Another scheduler stands by, answers calls, and takes over when the first one is gone.
Without the lock nothing would be sent twice either: runs are unique per slot and batches have ids.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from sqlalchemy import Connection, func, select

from mailer.clock import Clock
from mailer.database import Database, DatabaseUnavailable
from mailer.idempotency import forget_before
from mailer.lockfile import LockFile
from mailer.log import get_logger
from services.scheduler import restored, tables
from services.scheduler.campaign_states import OVER, CampaignState
from services.scheduler.conductor import Conductor
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.progress import Progress
from services.scheduler.ticker import Ticker

log = get_logger(__name__)

TAKE_OVER_SECONDS = 0.5
HOUSEKEEPING_SECONDS = 30.0
ANSWERS_KEPT = timedelta(days=30)

_COUNTED = frozenset(CampaignState) - OVER - {CampaignState.DRAFT}


class Engine:
    """Runs ticker and conductor while this process leads."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        metrics: SchedulerMetrics,
        *,
        lock: LockFile,
        ticker: Ticker,
        conductor: Conductor,
        progress: Progress,
        poll_seconds: float,
    ) -> None:
        """Take what works; nothing begins before `run`."""
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._lock = lock
        self._ticker = ticker
        self._conductor = conductor
        self._progress = progress
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()
        self._adopted = False
        database.on_replaced(self._begin_anew)

    @property
    def leading(self) -> bool:
        """Say whether this process fires and hands over."""
        return self._lock.held

    def wake(self) -> None:
        """Look at once what was decided or scheduled."""
        self._ticker.wake()
        self._woken.set()

    async def run(self) -> None:
        """Wait for the lock, then work, for ever."""
        try:
            self._metrics.leading.set(0)
            while not self._lock.acquire():
                await self._clock.sleep(TAKE_OVER_SECONDS)
            self._metrics.leading.set(1)
            log.info("this scheduler leads", lock=str(self._lock.path))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ticking())
                tasks.create_task(self._refreshing())
                tasks.create_task(self._repeatedly(self._keep_house, HOUSEKEEPING_SECONDS))
        finally:
            await self._conductor.stop()
            self._lock.release()

    async def _ticking(self) -> None:
        # A restored campaign must stand where its runs stand before anything of it can be due.
        while not self._adopted:
            await self._attempt(self._adopt)
            if not self._adopted:
                await self._clock.sleep(self._poll_seconds)
        await self._ticker.run()

    async def _refreshing(self) -> None:
        while True:
            self._woken.clear()
            await self._attempt(self._conductor.refresh if self._adopted else self._adopt)
            await self._clock.wait(self._woken, self._poll_seconds)

    async def _adopt(self) -> None:
        incarnation = self._database.incarnation
        # Looked for first, without the write lock: there may be many runs, and hardly ever one to adopt.
        strays = await self._database.read(restored.find_strays, incarnation)
        if strays.run_ids or strays.is_new_life:
            moved = await self._database.write_under(
                incarnation, restored.adopt, strays.run_ids, incarnation, self._clock.now()
            )
            if moved:
                log.warning("campaigns were restored: they stand where their runs stand", campaigns=moved)
        self._adopted = True
        await self._conductor.refresh()

    def _begin_anew(self) -> None:
        self._adopted = False
        self._conductor.drop_all()
        self._progress.forget()
        self.wake()

    async def _keep_house(self) -> None:
        forget = self._clock.now() - ANSWERS_KEPT
        await self._database.write(forget_before, tables.requests, forget)
        counts = await self._database.read(_count_campaigns)
        for state in _COUNTED:
            self._metrics.campaigns.labels(state).set(counts.get(state, 0))

    async def _repeatedly(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            await self._attempt(work)
            await self._clock.sleep(seconds)

    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it; without the database it is done the next time."""
        try:
            await work()
        except DatabaseUnavailable as error:
            log.warning("the scheduler has to wait for the database", reason=error.message)
        except Exception:
            log.exception("the scheduler met a bug of ours; it goes on")


def _count_campaigns(connection: Connection) -> dict[str, int]:
    state = tables.campaigns.c.state
    query = select(state, func.count()).where(state.in_(list(_COUNTED))).group_by(state)
    return {row[0]: row[1] for row in connection.execute(query)}
