import pytest

from services.sender.guard import Guard


def refuse(guard: Guard, count: int, domains: int, start: int = 0) -> list[object]:
    return [guard.refused(f"key{start + n}", f"d{n % domains}.example") for n in range(count)]


def test_ten_refusals_in_a_row_at_five_domains_hold_the_account() -> None:
    guard = Guard()
    trips = refuse(guard, 10, 5)
    assert trips[:9] == [None] * 9
    trip = guard.refused("after", "d0.example")
    assert trips[9] is not None
    assert trip is not None
    assert trip.refused_keys == ("after",)


def test_the_ten_that_led_to_it_are_taken_back() -> None:
    guard = Guard()
    refuse(guard, 9, 5)
    trip = guard.refused("key9", "d4.example")
    assert trip is not None
    assert trip.refused_keys == tuple(f"key{n}" for n in range(10))
    assert "release" in trip.reason


def test_one_bad_domain_does_not_hold_the_account() -> None:
    assert refuse(Guard(), 40, 4) == [None] * 40


def test_an_acceptance_ends_the_row() -> None:
    guard = Guard()
    refuse(guard, 9, 9)
    guard.accepted()
    assert refuse(guard, 9, 9) == [None] * 9


@pytest.mark.parametrize(("refused", "trips"), [(30, False), (31, True)])
def test_more_than_thirty_of_the_last_hundred_hold_the_account(refused: int, trips: bool) -> None:
    guard = Guard()
    for _ in range(100 - refused):
        guard.accepted()
    found = [guard.refused(f"key{n}", "one.example") for n in range(refused)]
    assert (found[-1] is not None) == trips


def test_only_the_last_hundred_count() -> None:
    guard = Guard()
    refuse(guard, 25, 1)
    for _ in range(80):
        guard.accepted()
    assert refuse(guard, 25, 1) == [None] * 25


def test_after_a_release_it_starts_anew() -> None:
    guard = Guard()
    refuse(guard, 10, 5)
    guard.reset()
    assert refuse(guard, 9, 9) == [None] * 9
