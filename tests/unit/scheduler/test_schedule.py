"""Schedules: what is refused, when they fire, what is missed."""

from datetime import UTC, datetime, timedelta

import pytest

from services.scheduler.schedule import Schedule, check_schedule

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def problems(schedule: Schedule) -> dict[str, str]:
    return dict(check_schedule(schedule, NOW)[1])


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(),
        Schedule(send_time=NOW),
        Schedule(send_time=NOW - timedelta(seconds=4)),
        Schedule(send_time=NOW + timedelta(days=365)),
        Schedule(cron="0 9 * * mon", time_zone="Europe/Berlin"),
        Schedule(cron="*/5 * * * *", time_zone="UTC", max_lateness=timedelta(days=30)),
    ],
)
def test_a_schedule_that_can_be_followed_is_accepted(schedule: Schedule) -> None:
    assert problems(schedule) == {}


@pytest.mark.parametrize(
    ("schedule", "fields"),
    [
        (Schedule(send_time=NOW - timedelta(seconds=6)), {"send_time"}),
        (Schedule(send_time=NOW + timedelta(days=366 * 6)), {"send_time"}),
        (Schedule(send_time=NOW, time_zone="Europe/Berlin"), {"time_zone"}),
        (Schedule(cron="0 0 30 2 *", time_zone="UTC"), {"cron"}),
        (Schedule(cron="R R * * *", time_zone="UTC"), {"cron"}),
        (Schedule(cron="0 9 * * 1"), {"time_zone"}),
        (Schedule(cron="0 9 * * 1", time_zone="Europe/Berln"), {"time_zone"}),
        (Schedule(cron="0 9 * * 1", time_zone="../../etc/passwd"), {"time_zone"}),
        (Schedule(cron="0 9 * * 1", time_zone="posixrules"), {"time_zone"}),
        (Schedule(max_lateness=timedelta()), {"max_lateness"}),
        (Schedule(max_lateness=timedelta(days=31)), {"max_lateness"}),
        (Schedule(cron="1 2 3", time_zone="nowhere", max_lateness=-HOUR), {"cron", "time_zone", "max_lateness"}),
    ],
)
def test_everything_wrong_with_a_schedule_is_named_at_once(schedule: Schedule, fields: set[str]) -> None:
    assert set(problems(schedule)) == fields


def test_a_misspelt_zone_gets_a_hint() -> None:
    assert "Europe/Berlin" in problems(Schedule(cron="0 9 * * 1", time_zone="Europe/Berln"))["time_zone"]


def test_a_cron_is_kept_in_one_spelling() -> None:
    checked, _ = check_schedule(Schedule(cron="  0   9 * * MON ", time_zone="UTC"), NOW)
    assert checked.cron == "0 9 * * mon"


def test_one_instant_fires_once() -> None:
    assert Schedule(send_time=NOW + HOUR).due_times(NOW) == [NOW + HOUR]
    assert Schedule(send_time=NOW + HOUR).next_slot(NOW) is None


def test_a_cron_fires_again_and_again() -> None:
    times = Schedule(cron="0 */6 * * *", time_zone="UTC").due_times(NOW, count=3)
    assert [time.hour for time in times] == [12, 18, 0]


def test_of_the_slots_that_passed_only_the_latest_fires() -> None:
    schedule = Schedule(cron="*/10 * * * *", time_zone="UTC")
    assert schedule.slot_to_fire(NOW, NOW + timedelta(minutes=35)) == NOW + timedelta(minutes=30)
    assert schedule.slot_to_fire(NOW, NOW) == NOW


@pytest.mark.parametrize("cron", ["* * * * *", "*/7 3 * * *", "30 2 * * *", "0 9 1 * *", "* * 1 1 *", "0 0 29 2 *"])
@pytest.mark.parametrize("days", [0.01, 0.5, 3, 40, 400, 1800])
def test_the_latest_slot_is_found_however_long_nothing_ran(cron: str, days: float) -> None:
    schedule = Schedule(cron=cron, time_zone="Europe/Berlin")
    due = schedule.next_slot(NOW)
    assert due is not None
    now = due + timedelta(days=days)
    slot = schedule.slot_to_fire(due, now)
    following = schedule.next_slot(slot)
    assert due <= slot <= now
    assert following is None or following > now


def test_an_instant_that_passed_is_fired_as_what_it_is() -> None:
    assert Schedule(send_time=NOW).slot_to_fire(NOW, NOW + HOUR) == NOW


def test_a_slot_is_missed_only_beyond_its_lateness() -> None:
    schedule = Schedule(send_time=NOW, max_lateness=HOUR)
    assert not schedule.is_missed(NOW, NOW + HOUR)
    assert schedule.is_missed(NOW, NOW + HOUR + timedelta(microseconds=1))
