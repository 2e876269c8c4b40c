"""How long accounts with caps need."""

from datetime import timedelta

from services.scheduler.capacity import Caps, time_to_send


def test_without_a_cap_nothing_bounds_the_time() -> None:
    assert time_to_send(1000, [Caps(), Caps(per_second=1)]) is None
    assert time_to_send(1000, []) is None


def test_the_tightest_cap_of_an_account_decides() -> None:
    assert time_to_send(100, [Caps(per_second=10)]) == timedelta(seconds=9)
    assert time_to_send(200, [Caps(per_second=1000, per_hour=100)]) == timedelta(hours=1)
    assert time_to_send(250, [Caps(per_day=100)]) == timedelta(days=2)


def test_accounts_work_beside_each_other() -> None:
    assert time_to_send(200, [Caps(per_hour=100), Caps(per_hour=100)]) == timedelta()
    assert time_to_send(300, [Caps(per_hour=100), Caps(per_hour=100)]) == timedelta(hours=1)


def test_what_never_ends_has_no_time() -> None:
    assert time_to_send(10**9, [Caps(per_day=1)]) is None
