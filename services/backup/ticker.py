"""The loop that takes snapshots and drills when they are due, and follows changed settings at once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from mailer.clock import Clock
from mailer.log import get_logger
from services.backup.schedule import Schedule
from services.backup.status import missed

log = get_logger(__name__)

# The wall clock may be set, and a machine may sleep: look at it again at least so often.
_LONGEST_WAIT_SECONDS = 60.0
_FIRST_RETRY = timedelta(minutes=5)
_LONGEST_RETRY = timedelta(hours=1)


class Ticker:
    """Runs one action whenever a schedule is due; what was missed meanwhile is caught up once."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        schedule: Callable[[], Schedule | None],
        done_until: Callable[[], datetime],
        action: Callable[[], Awaitable[bool]],
    ) -> None:
        """Take the schedule as a question, because it changes, and what is due as another.

        `done_until` is when the action last succeeded, or when the schedule was set: what fired since is due.
        Where `action` returns False or raises, it is tried again after a pause that grows.
        """
        self._name = name
        self._clock = clock
        self._schedule = schedule
        self._done_until = done_until
        self._action = action
        self._changed = asyncio.Event()
        self._failures = 0
        self._not_before: datetime | None = None

    def wake(self) -> None:
        """Look again now: the settings have changed."""
        self._not_before = None
        self._changed.set()

    def next_due(self) -> datetime | None:
        """Return when the action is due next; None when it is switched off."""
        schedule, now = self._schedule(), self._clock.now()
        if schedule is None:
            return None
        if missed(schedule, since=self._done_until(), now=now):
            return max(now, self._not_before or now)
        return schedule.next_after(now)

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            self._changed.clear()
            due = self.next_due()
            if due is None:
                await self._changed.wait()
                continue
            seconds = (due - self._clock.now()).total_seconds()
            if seconds > 0:
                await self._clock.wait(self._changed, min(seconds, _LONGEST_WAIT_SECONDS))
                continue
            await self._try()

    async def _try(self) -> None:
        log.info("due", what=self._name)
        try:
            done = await self._action()
        except Exception:
            # A schedule must outlive whatever one run of it meets.
            log.exception("a scheduled operation ended by a bug", what=self._name)
            done = False
        if done:
            self._failures, self._not_before = 0, None
            return
        pause = min(_FIRST_RETRY * 2**self._failures, _LONGEST_RETRY)
        self._failures += 1
        self._not_before = self._clock.now() + pause
        log.warning("tried again later", what=self._name, retry_time=self._not_before.isoformat())
