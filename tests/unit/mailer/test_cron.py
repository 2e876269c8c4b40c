"""Cron: what is accepted, and when it fires around the nights when clocks change."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from mailer.cron import CronProblem, next_firing, parse_cron

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def firings(cron: str, zone: ZoneInfo, after: datetime, count: int) -> list[str]:
    found = []
    for _ in range(count):
        later = next_firing(cron, zone, after)
        assert later is not None
        found.append(later.astimezone(zone).isoformat(timespec="minutes"))
        after = later
    return found


@pytest.mark.parametrize(
    "expression",
    [
        "* * * * *",
        "0 9 * * 1",
        "*/15 8-18 * * mon-fri",
        "0 0 l * *",
        "0 9 * * 1#2",
        "0 0 29 2 *",
        " 0  9 * * MON ",
    ],
)
def test_ordinary_expressions_are_accepted(expression: str) -> None:
    assert parse_cron(expression, now=NOW).next_firing(BERLIN, NOW) is not None


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "   ",
        "0 0 30 2 *",
        "R R * * *",
        "0 r(1-5) * * *",
        "H * * * *",
        "h h * * *",
        "0 0 * * * *",
        "0 9 * *",
        "@daily",
        "60 * * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "jan * * * *",
        "0 9 * * mo",
        "0 9 ? * *",
        "0 9 * * 1;2",
        "0 9 * * 1\x00",
        "0 9 * * \u0661",
        ",".join(["1"] * 100) + " * * * *",
        None,
        5,
    ],
)
def test_what_cannot_be_followed_is_refused_with_a_sentence(expression: object) -> None:
    with pytest.raises(CronProblem) as problem:
        parse_cron(expression, now=NOW)
    assert len(str(problem.value)) > 10


def test_an_expression_is_read_in_its_zone() -> None:
    assert next_firing("0 9 * * *", ZoneInfo("Asia/Tokyo"), NOW) == datetime(2026, 11, 3, 0, 0, tzinfo=UTC)


def test_a_fixed_hour_fires_once_when_clocks_go_back() -> None:
    after = datetime(2026, 10, 24, 12, tzinfo=BERLIN)
    assert firings("30 2 * * *", BERLIN, after, 2) == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]


def test_every_hour_fires_in_both_passages_of_the_repeated_hour() -> None:
    after = datetime(2026, 10, 25, 1, 40, tzinfo=BERLIN)
    expected = ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00", "2026-10-25T03:30+01:00"]
    assert firings("30 * * * *", BERLIN, after, 3) == expected
    assert firings("30 0-23 * * *", BERLIN, after, 3) == expected


def test_a_skipped_hour_fires_at_its_end_when_clocks_go_forward() -> None:
    after = datetime(2026, 3, 28, 12, tzinfo=BERLIN)
    assert firings("30 2 * * *", BERLIN, after, 2) == ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]


def test_a_firing_is_always_later_than_the_instant_asked_for() -> None:
    exactly = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
    assert next_firing("0 9 * * *", ZoneInfo("UTC"), exactly) == datetime(2026, 11, 3, 9, 0, tzinfo=UTC)


def test_a_naive_instant_is_a_bug() -> None:
    with pytest.raises(ValueError, match="naive"):
        next_firing("0 9 * * *", BERLIN, datetime(2026, 1, 1))  # noqa: DTZ001
