from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.caps import Caps, Usage, minute_of
from tests.fakes.clock import START

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def send(usage: Usage, now: datetime, count: int = 1) -> int:
    """Send as many as have room, up to `count`; return how many went."""
    for sent in range(count):
        if not usage.has_room(now):
            return sent
        usage.take(now)
        usage.finish(now, admitted_at=now)
    return count


def stored(*parts: tuple[datetime, int]) -> dict[int, int]:
    return {minute_of(at): count for at, count in parts}


def test_without_caps_there_is_always_room() -> None:
    usage = Usage(Caps())
    assert send(usage, START, 10_000) == 10_000
    assert usage.next_room(START) is None


@pytest.mark.parametrize(
    ("caps", "window"),
    [
        (Caps(per_second_count=5), SECOND),
        (Caps(per_minute_count=5), MINUTE),
        (Caps(per_hour_count=5), HOUR),
        (Caps(per_day_count=5), DAY),
    ],
)
def test_a_full_window_has_no_room_until_the_time_it_names(caps: Caps, window: timedelta) -> None:
    usage = Usage(caps)
    assert send(usage, START, 100) == 5
    until = usage.next_room(START)
    assert until is not None
    assert window <= until - START <= window + MINUTE + SECOND
    assert not usage.has_room(until - timedelta(milliseconds=2))
    usage.begin_reading()
    usage.take_reading(stored((START, 5)))
    assert usage.has_room(max(until, START + window + MINUTE))


def test_seconds_and_minutes_roll_and_do_not_jump() -> None:
    usage = Usage(Caps(per_second_count=2))
    assert send(usage, START + timedelta(milliseconds=900), 9) == 2
    assert send(usage, START + timedelta(milliseconds=1100), 9) == 0
    assert send(usage, START + timedelta(milliseconds=1901), 9) == 2


def test_the_real_rate_comes_close_to_the_one_that_was_set() -> None:
    usage = Usage(Caps(per_second_count=100))
    sent = sum(send(usage, START + timedelta(milliseconds=step), 1) for step in range(10_000))
    assert 985 <= sent <= 1000


def test_the_reason_names_the_cap_that_lasts_longest() -> None:
    usage = Usage(Caps(per_second_count=1, per_hour_count=1))
    send(usage, START)
    reached = usage.reached(START)
    assert reached is not None
    assert reached.reason == "1 per hour reached"


@pytest.mark.parametrize("cap", ["per_second_count", "per_minute_count", "per_hour_count", "per_day_count"])
def test_a_message_on_its_way_counts_and_is_forgotten_when_it_came_to_nothing(cap: str) -> None:
    usage = Usage(Caps(**{cap: 1}))
    usage.take(START)
    assert not usage.has_room(START)
    usage.give_back(START)
    assert usage.has_room(START)


def test_a_restart_finds_the_day_as_full_as_it_was() -> None:
    usage = Usage(Caps(per_day_count=10))
    usage.take_reading(stored((START - 23 * HOUR, 4), (START - 25 * HOUR, 100), (START, 3)))
    assert send(usage, START, 100) == 3


def test_a_restart_does_not_double_the_minute_either() -> None:
    usage = Usage(Caps(per_minute_count=10))
    usage.take_reading(stored((START, 7)))
    assert send(usage, START + SECOND, 100) == 3


def test_what_other_processes_send_is_seen_at_the_next_reading() -> None:
    usage = Usage(Caps(per_hour_count=10))
    usage.begin_reading()
    usage.take_reading(stored((START, 6)))
    assert send(usage, START, 1) == 1
    usage.begin_reading()
    usage.take_reading(stored((START, 10)))
    assert not usage.has_room(START)


def test_own_messages_count_once_when_they_come_back_from_the_database() -> None:
    usage = Usage(Caps(per_minute_count=10, per_hour_count=10, per_day_count=10))
    assert send(usage, START, 4) == 4
    usage.begin_reading()
    usage.take_reading(stored((START, 4)))
    assert send(usage, START, 100) == 6


def test_what_ends_while_the_counts_are_read_is_not_forgotten() -> None:
    usage = Usage(Caps(per_hour_count=10))
    usage.begin_reading()
    assert send(usage, START, 4) == 4
    usage.take_reading({})
    assert send(usage, START, 100) == 6


def test_processes_share_a_second() -> None:
    usage = Usage(Caps(per_second_count=10))
    usage.take_reading({}, sharers=3)
    assert send(usage, START, 100) == 3
    usage = Usage(Caps(per_second_count=2))
    usage.take_reading({}, sharers=5)
    assert send(usage, START, 100) == 1


def test_new_caps_are_in_force_at_once() -> None:
    usage = Usage(Caps(per_hour_count=1))
    send(usage, START)
    assert not usage.has_room(START)
    usage.caps = Caps(per_hour_count=2)
    assert usage.has_room(START)
    usage.caps = Caps(per_hour_count=1)
    assert not usage.has_room(START)


def test_a_clock_set_back_does_not_stop_a_minute_for_hours() -> None:
    usage = Usage(Caps(per_second_count=1, per_minute_count=5))
    now = START
    for _ in range(5):
        send(usage, now)
        now += SECOND
    earlier = now - 2 * HOUR
    usage.take_reading({})
    assert not usage.has_room(earlier)
    assert usage.has_room(earlier + 2 * MINUTE)


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["take", "finish", "give_back", "read"])), max_size=150))
def test_never_more_than_the_cap_in_any_window(steps: list[tuple[int, str]]) -> None:
    caps = Caps(per_second_count=3, per_minute_count=7, per_hour_count=20)
    usage = Usage(caps)
    book: dict[int, int] = {}
    now, on_the_way, counted = START, [], []
    for wait, step in steps:
        now += timedelta(seconds=wait / 10)
        if step == "take" and usage.has_room(now):
            usage.take(now)
            on_the_way.append(now)
        elif step == "finish" and on_the_way:
            counted.append(on_the_way.pop(0))
            usage.finish(now, admitted_at=counted[-1])
            book[minute_of(now)] = book.get(minute_of(now), 0) + 1
        elif step == "give_back" and on_the_way:
            usage.give_back(on_the_way.pop())
        elif step == "read":
            usage.begin_reading()
            usage.take_reading(dict(book))
    for limit, window in ((3, SECOND), (7, MINUTE), (20, HOUR)):
        for start in counted:
            assert sum(start <= at < start + window for at in counted) <= limit
