"""The loop that fires what is due: it sleeps until the next due instant, and looks now and then all the same."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from mailer.clock import Clock
from mailer.database import Database, DatabaseUnavailable
from mailer.errors import FailedPrecondition, NotFound
from mailer.log import get_logger
from services.scheduler import campaigns, decisions, firing
from services.scheduler.campaign_states import RunState
from services.scheduler.firing import BatchLimits, Fired
from services.scheduler.lacking import check_variables_of_all
from services.scheduler.metrics import SchedulerMetrics

log = get_logger(__name__)


class Ticker:
    """Fires campaigns. `wake` it when a schedule changed; schedules changed elsewhere are seen at the next poll."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        metrics: SchedulerMetrics,
        *,
        limits: BatchLimits,
        poll_seconds: float,
        on_fired: Callable[[Sequence[Fired]], Awaitable[None]],
    ) -> None:
        """Take what firing needs; `on_fired` hears of the runs at once."""
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._poll_seconds = poll_seconds
        self._on_fired = on_fired
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look at once."""
        self._woken.set()

    async def run(self) -> None:
        """Fire what is due, for ever."""
        while True:
            self._woken.clear()
            try:
                pause = await self.tick()
            except DatabaseUnavailable as error:
                log.warning("what is due cannot be read", reason=error.message)
                pause = self._poll_seconds
            except Exception:
                log.exception("a firing failed with a bug of ours; it is tried again")
                pause = self._poll_seconds
            await self._clock.wait(self._woken, pause)

    async def tick(self) -> float:
        """Fire what is due now; returns the seconds until the next look."""
        due = await self._database.read(campaigns.due, self._clock.now())
        # Together, so that many that are due at one instant share their commits.
        outcomes = await asyncio.gather(*map(self._fire, due))
        fired = [outcome for outcome in outcomes if outcome is not None]
        if fired:
            for one in fired:
                self._tell(one)
            await self._on_fired(fired)
        next_due = await self._database.read(campaigns.next_due)
        if next_due is None:
            return self._poll_seconds
        seconds = (next_due - self._clock.now()).total_seconds()
        return min(max(seconds, 0.0), self._poll_seconds)

    async def _fire(self, campaign_id: str) -> Fired | None:
        """Fire one campaign; one that some recipient cannot get is paused, with the reason, before anything is sent."""
        try:
            # Templates may have changed since the campaign was scheduled.
            await self._database.read(check_variables_of_all, campaign_id)
            return await self._database.write(firing.fire, campaign_id, self._clock.now(), self._limits)
        except FailedPrecondition as problem:
            log.error("a campaign cannot start", campaign_id=campaign_id, reason=problem.message)
            with suppress(FailedPrecondition, NotFound):  # paused, cancelled or deleted at the same moment
                await self._database.write(decisions.pause, campaign_id, problem.message, self._clock.now())
        except NotFound:
            pass
        return None

    def _tell(self, fired: Fired) -> None:
        self._metrics.runs_started.labels(fired.state).inc()
        late = (self._clock.now() - fired.slot_time).total_seconds()
        say = log.warning if fired.state is RunState.MISSED else log.info
        say(
            "a campaign was due",
            campaign_id=fired.campaign_id,
            run_id=fired.run_id,
            state=fired.state,
            late_seconds=round(late, 3),
        )
