"""Rates: over the last seconds, and never out of nothing."""

from datetime import UTC, datetime, timedelta

from services.scheduler.rate import RateMeter, expected_finish

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


def test_without_two_samples_there_is_no_rate() -> None:
    meter = RateMeter()
    assert meter.per_second() == 0
    meter.add(10.0, 100)
    assert meter.per_second() == 0


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter = RateMeter()
    for second in range(60):
        meter.add(float(second), second * 10 if second < 50 else 500 + (second - 50) * 100)
    assert 99 <= meter.per_second() <= 101


def test_an_instant_says_nothing_about_speed() -> None:
    meter = RateMeter()
    meter.add(1.0, 0)
    meter.add(1.1, 50)
    assert meter.per_second() == 0


def test_another_run_begins_anew() -> None:
    meter = RateMeter()
    meter.add(0.0, 1000)
    meter.add(1.0, 0)
    assert meter.per_second() == 0


def test_the_finish_follows_from_the_rate() -> None:
    assert expected_finish(NOW, 100, 10.0) == NOW + timedelta(seconds=10)
    assert expected_finish(NOW, 100, 0.0) is None
    assert expected_finish(NOW, 0, 10.0) is None
    assert expected_finish(NOW, 10**12, 0.001) is None
