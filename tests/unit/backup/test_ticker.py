"""The loop that does what is due."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from services.backup.schedule import Schedule, parse
from services.backup.ticker import Ticker
from tests.fakes.clock import FakeClock

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOUR = 3600.0


@dataclass
class Work:
    """Remembers when it was done, and fails when told to."""

    clock: FakeClock
    schedule: Schedule | None
    done_until: datetime = START
    failures: int = 0
    tries: list[datetime] = field(default_factory=list)

    async def do(self) -> bool:
        self.tries.append(self.clock.now())
        if self.failures:
            self.failures -= 1
            return False
        self.done_until = self.clock.now()
        return True

    def ticker(self) -> Ticker:
        return Ticker(
            "snapshot",
            clock=self.clock,
            schedule=lambda: self.schedule,
            done_until=lambda: self.done_until,
            action=self.do,
        )


@asynccontextmanager
async def running(ticker: Ticker) -> AsyncIterator[None]:
    task = asyncio.create_task(ticker.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def hours_after_start(work: Work) -> list[float]:
    return [(at - START).total_seconds() / HOUR for at in work.tries]


async def pass_hours(clock: FakeClock, hours: float) -> None:
    for _ in range(int(hours * 60)):
        await clock.advance(60)


async def test_it_acts_at_each_firing_and_only_then() -> None:
    clock = FakeClock(START)
    work = Work(clock, parse("0 */3 * * *", "UTC"))
    async with running(work.ticker()):
        await pass_hours(clock, 7)
    assert hours_after_start(work) == [3, 6]


async def test_what_was_missed_is_caught_up_once() -> None:
    clock = FakeClock(START)
    work = Work(clock, parse("0 2 * * *", "UTC"), done_until=START - timedelta(days=5))
    async with running(work.ticker()):
        await pass_hours(clock, 1)
    assert hours_after_start(work) == [0]


async def test_a_changed_schedule_is_followed_at_once() -> None:
    clock = FakeClock(START)
    work = Work(clock, parse("0 2 * * *", "UTC"))
    ticker = work.ticker()
    async with running(ticker):
        await pass_hours(clock, 1)
        work.schedule = parse("30 13 * * *", "UTC")
        ticker.wake()
        await pass_hours(clock, 1)
    assert hours_after_start(work) == [1.5]


async def test_a_schedule_switched_off_does_nothing_until_it_is_on_again() -> None:
    clock = FakeClock(START)
    work = Work(clock, None)
    ticker = work.ticker()
    async with running(ticker):
        await pass_hours(clock, 30)
        assert ticker.next_due() is None
        work.schedule, work.done_until = parse("0 * * * *", "UTC"), clock.now()
        ticker.wake()
        await pass_hours(clock, 1)
    assert hours_after_start(work) == [31]


async def test_a_failure_is_tried_again_with_growing_pauses() -> None:
    clock = FakeClock(START)
    work = Work(clock, parse("0 13 * * *", "UTC"), failures=3)
    async with running(work.ticker()):
        await pass_hours(clock, 3)
    minutes = [round(hours * 60) for hours in hours_after_start(work)]
    assert minutes == [60, 65, 75, 95]


async def test_a_bug_in_the_action_does_not_end_the_schedule() -> None:
    clock = FakeClock(START)
    work = Work(clock, parse("0 * * * *", "UTC"))

    async def action() -> bool:
        work.tries.append(clock.now())
        raise ZeroDivisionError

    ticker = Ticker("snapshot", clock=clock, schedule=lambda: work.schedule, done_until=lambda: START, action=action)
    async with running(ticker):
        await pass_hours(clock, 2)
    assert len(work.tries) > 1
