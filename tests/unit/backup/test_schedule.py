"""When a cron expression fires, also on the nights when the clocks change."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.backup.schedule import LONG_AGO, Schedule, check_expression, check_zone, parse


def firings(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    found, at = [], schedule.next_after(start)
    while at is not None and at <= end:
        found.append(at)
        at = schedule.next_after(at)
    return found


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def test_it_fires_at_the_time_of_its_zone() -> None:
    assert parse("0 2 * * *", "Europe/Berlin").next_after(utc(2026, 7, 1)) == utc(2026, 7, 2)


def test_it_fires_strictly_after_the_instant() -> None:
    assert parse("0 2 * * *", "UTC").next_after(utc(2026, 7, 1, 2)) == utc(2026, 7, 2, 2)


def test_the_last_firing_may_be_the_instant_itself() -> None:
    schedule = parse("0 2 * * *", "UTC")
    assert schedule.last_before(utc(2026, 7, 1, 2)) == utc(2026, 7, 1, 2)
    assert schedule.last_before(utc(2026, 7, 1, 1, 59)) == utc(2026, 6, 30, 2)


def test_it_fires_once_on_the_night_when_an_hour_comes_twice() -> None:
    schedule = parse("30 2 * * *", "Europe/Berlin")
    assert firings(schedule, utc(2026, 10, 24, 12), utc(2026, 10, 26, 12)) == [
        utc(2026, 10, 25, 0, 30),
        utc(2026, 10, 26, 1, 30),
    ]


def test_it_fires_once_on_the_night_when_its_hour_does_not_come() -> None:
    schedule = parse("30 2 * * *", "Europe/Berlin")
    assert firings(schedule, utc(2027, 3, 27, 12), utc(2027, 3, 29, 12)) == [
        utc(2027, 3, 28, 1),
        utc(2027, 3, 29, 0, 30),
    ]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_an_hourly_schedule_fires_every_hour_of_every_night(zone: str) -> None:
    found = firings(parse("0 * * * *", zone), utc(2026, 10, 20), utc(2026, 11, 10))
    gaps = {after - before for before, after in pairwise(found)}
    assert gaps <= {timedelta(hours=1), timedelta(minutes=30), timedelta(minutes=90)}
    assert timedelta(hours=2) not in gaps


@pytest.mark.parametrize(
    ("expression", "night"),
    [
        ("0 */2 * * *", [utc(2026, 10, 24, 22), utc(2026, 10, 25, 0), utc(2026, 10, 25, 3)]),
        ("0 0-23 * * *", [utc(2026, 10, 25, hour) for hour in range(4)]),
    ],
)
def test_hours_that_are_listed_are_told_from_every_hour_by_what_they_mean(
    expression: str, night: list[datetime]
) -> None:
    schedule = parse(expression, "Europe/Berlin")
    found = firings(schedule, utc(2026, 10, 24, 21, 30), utc(2026, 10, 25, 3))
    assert found[-len(night) :] == night
    assert [schedule.last_before(at + timedelta(seconds=59)) for at in found] == found


def test_the_last_firing_is_found_in_an_hour_that_comes_half_again() -> None:
    schedule = parse("*/20 1-3 * * *", "Australia/Lord_Howe")
    found = firings(schedule, utc(2026, 4, 4, 12), utc(2026, 4, 4, 18))
    assert utc(2026, 4, 4, 14, 40) in found
    assert [schedule.last_before(at) for at in found] == found


def test_without_a_firing_in_five_years_there_was_none() -> None:
    assert parse("0 0 29 2 *", "UTC").last_before(utc(2104, 2, 28)) == LONG_AGO


expressions = st.builds(
    lambda minute, hour, weekday: f"{minute} {hour} * * {weekday}",
    st.integers(0, 59),
    st.integers(0, 23),
    st.sampled_from(["*", "1", "0,6", "1-5"]),
)
# Hypothesis takes naive bounds and puts the zone on itself.
instants = st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "America/Santiago"])


@settings(max_examples=60, deadline=None)
@given(expressions, zones, st.integers(2026, 2028))
def test_it_fires_on_each_chosen_day_exactly_once(expression: str, zone: str, year: int) -> None:
    schedule = parse(expression, zone)
    found = firings(schedule, utc(year, 1, 1), utc(year, 12, 30))
    days = [at.astimezone(ZoneInfo(zone)).date() for at in found]
    assert len(days) == len(set(days))
    assert found == sorted(found)


@settings(max_examples=100, deadline=None)
@given(expressions, zones, instants)
def test_last_and_next_are_neighbours(expression: str, zone: str, instant: datetime) -> None:
    schedule = parse(expression, zone)
    before, after = schedule.last_before(instant), schedule.next_after(instant)
    assert after is not None
    assert before <= instant < after
    assert schedule.next_after(before) == after


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "daily",
        "@daily",
        "0 2 * *",
        "0 2 * * * *",
        "60 2 * * *",
        "R R * * *",
        "H 2 * * *",
        "r(1-5) 2 * * *",
        "h/5 2 * * *",
        "0 0 30 2 *",
        "0 0 31 4,6 *",
        "0 2 * * *\x00",
        "0 2 " + "1," * 100 + "1 * *",
    ],
)
def test_an_expression_that_cannot_fire_as_written_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"five|fires|character|random|nickname"):
        check_expression(expression)


@pytest.mark.parametrize("expression", ["0 2 * * *", "*/15 * * * *", "0 0 29 2 *", "0 3 * mar thu", "0 0 l * *"])
def test_an_expression_that_fires_is_taken(expression: str) -> None:
    assert check_expression(expression) == expression


@pytest.mark.parametrize(
    "zone",
    [
        "",
        "Foo/Bar",
        "../etc/passwd",
        "/etc/localtime",
        "Europe",
        "CEST+1",
        "\x00",
        "localtime",
        "Factory",
        "posixrules",
        "right/UTC",
    ],
)
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        check_zone(zone)
