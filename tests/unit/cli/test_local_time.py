"""Local times, and the two nights a year on which they lie."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from mailer.cli.local_time import Fold, TimeProblem, parse_instant, parse_zone

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "hour"),
    [("2026-12-01 09:00", 8), ("2026-07-01T09:00", 7), ("2026-12-01 09:00:00.5", 8), (" 2026-12-01 09:00 ", 8)],
)
def test_a_local_time_is_read_in_its_zone(text: str, hour: int) -> None:
    assert parse_instant(text, zone=BERLIN).hour == hour
    assert parse_instant(text, zone=BERLIN).tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["2026-12-01T09:00+01:00", "2026-12-01 09:00 +0100", "2026-12-01T08:00Z", "2026-12-01T08:00:00z"]
)
def test_an_instant_with_an_offset_needs_no_zone(text: str) -> None:
    assert parse_instant(text) == datetime(2026, 12, 1, 8, tzinfo=UTC)


def test_a_local_time_without_a_zone_is_refused() -> None:
    with pytest.raises(TimeProblem, match="add --zone"):
        parse_instant("2026-12-01 09:00")


def test_a_time_that_clocks_skip_does_not_exist_and_its_neighbours_are_named() -> None:
    with pytest.raises(TimeProblem, match=r"does not exist in Europe/Berlin.*take 01:30 or 03:30"):
        parse_instant("2027-03-28 02:30", zone=BERLIN)


def test_a_time_that_comes_twice_names_both_and_asks() -> None:
    with pytest.raises(TimeProblem, match=r"comes twice.*02:30\+02:00.*02:30\+01:00.*--fold earlier"):
        parse_instant("2026-10-25 02:30", zone=BERLIN)


@pytest.mark.parametrize(("fold", "hour"), [(Fold.EARLIER, 0), (Fold.LATER, 1)])
def test_the_fold_decides_which_of_the_two_is_meant(fold: Fold, hour: int) -> None:
    assert parse_instant("2026-10-25 02:30", zone=BERLIN, fold=fold) == datetime(2026, 10, 25, hour, 30, tzinfo=UTC)


def test_the_fold_changes_nothing_where_there_is_none() -> None:
    assert parse_instant("2026-12-01 09:00", zone=BERLIN, fold=Fold.LATER).hour == 8


def test_an_offset_decides_a_fold_too() -> None:
    assert parse_instant("2026-10-25T02:30+01:00", zone=BERLIN).hour == 1


def test_an_offset_that_the_zone_does_not_have_then_is_refused() -> None:
    with pytest.raises(TimeProblem, match="disagree"):
        parse_instant("2026-12-01T09:00+02:00", zone=BERLIN)


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "2026-12-01", "09:00", "2026-13-01 09:00", "2026-02-30 09:00", "2026-12-01 25:00",
     "0001-01-01 00:00", "9999-12-31 23:59", "2026-12-01 09:00+99:00", "2026-12-01 09:00 Europe/Berlin"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(TimeProblem):
        parse_instant(text, zone=BERLIN)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("Berlin", "Europe/Berlin"), ("europe/berln", "Europe/Berlin"), ("new york", "America/New_York")],
)
def test_a_zone_that_does_not_exist_names_one_that_is_close(name: str, meant: str) -> None:
    with pytest.raises(TimeProblem, match=meant):
        parse_zone(name)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "/etc/passwd", "Europe", "x" * 5000, "a\0b"])
def test_a_zone_is_never_a_path(name: str) -> None:
    with pytest.raises(TimeProblem):
        parse_zone(name)
