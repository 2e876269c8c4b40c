"""Which snapshots stay, and why."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.backup.retention import PRE_RESTORE_KEPT_FOR, Candidate, Policy, Verdict, decide

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def one(name: str, age: timedelta, *, verified: bool = True, pre_restore: bool = False) -> Candidate:
    return Candidate(snapshot_id=name, created_time=NOW - age, verified=verified, pre_restore=pre_restore)


def daily(count: int) -> list[Candidate]:
    return [one(f"day-{number:02}", timedelta(days=number)) for number in range(count)]


def kept(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.snapshot_id for verdict in verdicts if verdict.kept]


def test_keep_last_keeps_the_newest() -> None:
    assert kept(decide(Policy(keep_last=3), daily(10), now=NOW)) == ["day-00", "day-01", "day-02"]


def test_every_kept_snapshot_says_why_and_a_removed_one_has_no_reason() -> None:
    verdicts = decide(Policy(keep_last=2, keep_weekly=2), daily(10), now=NOW)
    assert [(verdict.snapshot_id, verdict.reasons) for verdict in verdicts[:3]] == [
        ("day-00", ("newest verified", "keep-last 1", "weekly 1")),
        ("day-01", ("keep-last 2", "weekly 2")),
        ("day-02", ()),
    ]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(keep_hourly=2), ["now", "hour"]),
        (Policy(keep_daily=2), ["now", "day"]),
        (Policy(keep_weekly=3), ["now", "day", "month"]),
        (Policy(keep_monthly=2), ["now", "month"]),
        (Policy(keep_yearly=2), ["now", "year"]),
        (Policy(keep_within=timedelta(minutes=90)), ["now", "minute", "hour"]),
    ],
)
def test_each_rule_keeps_the_newest_of_its_periods(policy: Policy, expected: list[str]) -> None:
    # NOW is a Monday, noon: the minute before it belongs to another hour, the day before to another week.
    half_past = timedelta(minutes=-30)
    now = NOW - half_past
    candidates = [
        one("now", half_past),
        one("minute", half_past + timedelta(minutes=1)),
        one("hour", half_past + timedelta(hours=1)),
        one("day", timedelta(days=1)),
        one("month", timedelta(days=40)),
        one("year", timedelta(days=400)),
    ]
    assert kept(decide(policy, candidates, now=now)) == expected


def test_a_day_begins_where_the_zone_says() -> None:
    late, early = datetime(2026, 11, 20, 22, 30, tzinfo=UTC), datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
    candidates = [
        Candidate(snapshot_id="late", created_time=late, verified=True),
        Candidate(snapshot_id="early", created_time=early, verified=True),
    ]
    assert kept(decide(Policy(keep_daily=5), candidates, now=NOW)) == ["early"]
    assert kept(decide(Policy(keep_daily=5), candidates, now=NOW, zone=ZoneInfo("Europe/Berlin"))) == [
        "early",
        "late",
    ]


def test_only_verified_snapshots_take_a_place() -> None:
    doubtful = [one(f"doubt-{number}", timedelta(hours=number), verified=False) for number in range(5)]
    verdicts = decide(Policy(keep_last=2), [*doubtful, *daily(4)[1:]], now=NOW)
    assert {"day-01", "day-02"} <= set(kept(verdicts))


def test_nothing_goes_while_nothing_is_verified() -> None:
    doubtful = [one(f"doubt-{number}", timedelta(days=number), verified=False) for number in range(5)]
    assert len(kept(decide(Policy(keep_last=1), doubtful, now=NOW))) == 5


def test_the_state_before_a_recent_restore_stays() -> None:
    recent = one("recent", PRE_RESTORE_KEPT_FOR - timedelta(seconds=1), pre_restore=True)
    old = one("old", PRE_RESTORE_KEPT_FOR, pre_restore=True)
    assert kept(decide(Policy(keep_last=1), [*daily(1), recent, old], now=NOW)) == ["day-00", "recent"]


def test_a_snapshot_from_the_future_stays_and_takes_no_place() -> None:
    future = one("future", -timedelta(days=1))
    assert kept(decide(Policy(keep_last=1), [future, *daily(2)], now=NOW)) == ["future", "day-00"]


def test_pinned_ones_and_one_in_use_stay() -> None:
    old = NOW - timedelta(days=900)
    candidates = [
        *daily(1),
        Candidate(snapshot_id="pinned", created_time=old, verified=True, pinned=True),
        Candidate(snapshot_id="used", created_time=old, verified=True, in_use=True),
        Candidate(snapshot_id="neither", created_time=old, verified=True),
    ]
    assert set(kept(decide(Policy(keep_last=1), candidates, now=NOW))) == {"day-00", "pinned", "used"}


def test_a_span_that_began_before_all_time_keeps_everything() -> None:
    policy = Policy(keep_within=timedelta(days=3_652_500))
    assert kept(decide(policy, daily(3), now=NOW)) == kept(decide(Policy(keep_last=3), daily(3), now=NOW))


def test_an_empty_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        decide(Policy(), daily(3), now=NOW)


# Hypothesis takes naive bounds and puts the zone on itself.
_FIRST, _LAST = datetime(2022, 1, 1), datetime(2027, 6, 1)  # noqa: DTZ001
policies = st.builds(
    Policy,
    keep_last=st.integers(0, 4),
    keep_hourly=st.integers(0, 4),
    keep_daily=st.integers(0, 4),
    keep_weekly=st.integers(0, 4),
    keep_monthly=st.integers(0, 4),
    keep_yearly=st.integers(0, 4),
    keep_within=st.timedeltas(timedelta(), timedelta(days=400)),
).filter(lambda policy: not policy.is_empty)
candidates_of_all_kinds = st.lists(
    st.builds(
        Candidate,
        snapshot_id=st.uuids().map(str),
        created_time=st.datetimes(_FIRST, _LAST, timezones=st.just(UTC)),
        verified=st.booleans(),
        pinned=st.booleans(),
        pre_restore=st.booleans(),
        in_use=st.booleans(),
    ),
    max_size=40,
    unique_by=lambda candidate: candidate.snapshot_id,
)


@given(policies, candidates_of_all_kinds)
def test_the_floors_hold_under_every_policy(policy: Policy, candidates: list[Candidate]) -> None:
    stays = set(kept(decide(policy, candidates, now=NOW)))
    verified = [c for c in candidates if c.verified and c.created_time <= NOW]
    if not verified:
        assert stays == {c.snapshot_id for c in candidates}
        return
    assert max(verified, key=lambda c: (c.created_time, c.snapshot_id)).snapshot_id in stays
    for c in candidates:
        recent = c.pre_restore and NOW - c.created_time < PRE_RESTORE_KEPT_FOR
        if c.pinned or c.in_use or recent or c.created_time > NOW:
            assert c.snapshot_id in stays


@given(policies, candidates_of_all_kinds)
def test_pruning_twice_removes_nothing_more(policy: Policy, candidates: list[Candidate]) -> None:
    first = set(kept(decide(policy, candidates, now=NOW)))
    left = [c for c in candidates if c.snapshot_id in first]
    assert set(kept(decide(policy, left, now=NOW))) == first


@given(policies, policies, candidates_of_all_kinds)
def test_rules_add_up(one_policy: Policy, other: Policy, candidates: list[Candidate]) -> None:
    both = Policy(
        keep_last=max(one_policy.keep_last, other.keep_last),
        keep_hourly=max(one_policy.keep_hourly, other.keep_hourly),
        keep_daily=max(one_policy.keep_daily, other.keep_daily),
        keep_weekly=max(one_policy.keep_weekly, other.keep_weekly),
        keep_monthly=max(one_policy.keep_monthly, other.keep_monthly),
        keep_yearly=max(one_policy.keep_yearly, other.keep_yearly),
        keep_within=max(one_policy.keep_within, other.keep_within),
    )
    assert set(kept(decide(both, candidates, now=NOW))) == set(kept(decide(one_policy, candidates, now=NOW))) | set(
        kept(decide(other, candidates, now=NOW))
    )


@given(policies, candidates_of_all_kinds)
def test_a_rule_keeps_at_least_as_many_verified_ones_as_it_says(policy: Policy, candidates: list[Candidate]) -> None:
    stays = set(kept(decide(policy, candidates, now=NOW)))
    verified = [c for c in candidates if c.verified and c.created_time <= NOW]
    assert len([c for c in verified if c.snapshot_id in stays]) >= min(policy.keep_last, len(verified))
    days = {c.created_time.date() for c in verified}
    kept_days = {c.created_time.date() for c in verified if c.snapshot_id in stays}
    assert len(kept_days) >= min(policy.keep_daily, len(days))
