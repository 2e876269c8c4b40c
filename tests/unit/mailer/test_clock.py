import asyncio
from datetime import timedelta

from mailer.clock import Clock, SystemClock
from tests.fakes.clock import START, FakeClock


def test_both_clocks_are_clocks() -> None:
    clocks: list[Clock] = [SystemClock(), FakeClock()]
    assert all(clock.now().utcoffset() == timedelta() for clock in clocks)


async def test_the_system_clock_waits_for_an_event_and_no_longer() -> None:
    clock, event = SystemClock(), asyncio.Event()
    assert await clock.wait(event, 0.01) is False
    event.set()
    assert await clock.wait(event, 60) is True
    assert await clock.wait(event, -1) is True


async def test_sleepers_wake_in_order_each_at_its_own_instant(clock: FakeClock) -> None:
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper("late", 5)), asyncio.create_task(sleeper("early", 2))]
    await clock.advance(10)
    await asyncio.gather(*tasks)
    assert woken == [("early", 2), ("late", 5)]
    assert clock.now() == START + timedelta(seconds=10)


async def test_a_loop_of_sleeps_runs_once_per_interval_while_time_advances(clock: FakeClock) -> None:
    ticks: list[float] = []

    async def ticker() -> None:
        while True:
            await clock.sleep(1)
            ticks.append(clock.monotonic())

    task = asyncio.create_task(ticker())
    await clock.advance(3)
    task.cancel()
    assert ticks == [1, 2, 3]


async def test_waiting_ends_by_the_event_or_by_time(clock: FakeClock) -> None:
    event = asyncio.Event()
    waiting = asyncio.create_task(clock.wait(event, 5))
    await clock.advance(4.9)
    assert not waiting.done()
    await clock.advance(0.1)
    assert await waiting is False
    waiting = asyncio.create_task(clock.wait(event, 5))
    await clock.settle()
    event.set()
    assert await waiting is True
    assert clock.sleepers == 0
