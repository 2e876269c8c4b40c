"""The judge of `make chaos`: it says what is broken, and nothing else."""

from collections.abc import Mapping

import pytest

from chaos.judge import Booked, Observed, Verdict, both, judge
from chaos.record import Event, Kind

ADA, BOB = "ada@one.example", "bob@two.example"
SENT, UNKNOWN, FAILED = Booked("SENT"), Booked("UNKNOWN"), Booked("FAILED")


def accepted(*addresses: str, digest: str = "d") -> tuple[Event, ...]:
    return tuple(Event(1.0, Kind.ACCEPTED, 1, address, digest) for address in addresses)


def verdict(
    events: tuple[Event, ...],
    booked: Mapping[str, Booked],
    *,
    policy: str = "at_most_once",
    deaths: tuple[float, ...] = (),
    recoveries: tuple[float, ...] = (),
) -> Verdict:
    observed = Observed(
        policy=policy, given={ADA, BOB}, events=events, booked=booked, deaths=deaths, recoveries=recoveries
    )
    return judge(observed, most_connections=2, recovery_seconds=5)


def test_when_everybody_has_one_nothing_is_broken() -> None:
    found = verdict(accepted(ADA, BOB), {ADA: SENT, BOB: SENT})
    assert found.broken == ()
    assert found.last_line == (
        '{"policy": "at_most_once", "kills": 0, "messages": 2, "accepted": 2, "lost": 0, "duplicates": 0, '
        '"falsely_sent": 0, "unknown": 0, "unknown_bound": 0, "stuck": 0, "recovery_max_s": 0.0}'
    )


@pytest.mark.parametrize(
    ("events", "booked", "broken"),
    [
        (accepted(ADA), {ADA: SENT}, "messages are lost"),
        (accepted(ADA), {ADA: SENT, BOB: SENT}, "booked as sent that the server does not have"),
        (accepted(ADA), {ADA: SENT, BOB: Booked("EXPIRED")}, "messages are lost"),
        (accepted(ADA, BOB), {ADA: SENT, BOB: FAILED}, "booked as failed that the server has"),
        (accepted(ADA), {ADA: SENT, BOB: Booked("CLAIMED")}, "stuck"),
        (accepted(ADA, BOB, BOB), {ADA: SENT, BOB: SENT}, "sent twice"),
        (accepted(ADA, BOB), {ADA: SENT, BOB: UNKNOWN}, "more is unknown than was open"),
        (accepted(ADA, BOB, "eve@x"), {ADA: SENT, BOB: SENT}, "not on the list"),
        (accepted(ADA, BOB), {ADA: SENT, BOB: SENT, "eve@x": SENT}, "nobody gave"),
        (accepted(ADA, BOB) + accepted(BOB, digest="e"), {ADA: SENT, BOB: SENT}, "differ"),
    ],
)
def test_every_broken_promise_is_named(events: tuple[Event, ...], booked: dict[str, Booked], broken: str) -> None:
    assert any(broken in promise for promise in verdict(events, booked).broken)


def test_a_copy_is_allowed_where_it_was_promised_if_it_is_flagged_and_a_dot_was_in_flight() -> None:
    cut = Event(1.0, Kind.CUT, 1)
    events = (*accepted(ADA, BOB, BOB), cut)
    assert verdict(events, {ADA: SENT, BOB: Booked("SENT", True)}, policy="at_least_once").broken == ()
    assert "flagged" in str(verdict(events, {ADA: SENT, BOB: SENT}, policy="at_least_once").broken)
    without = verdict(accepted(ADA, BOB, BOB), {ADA: SENT, BOB: Booked("SENT", True)}, policy="at_least_once")
    assert "more copies than dots" in str(without.broken)


def test_the_bound_counts_connections_that_ended_with_a_death_and_no_more_than_there_were() -> None:
    lost = tuple(Event(time, Kind.LOST, number) for number, time in enumerate((0.5, 1.0, 1.1, 1.2, 5.1)))
    figures = verdict((*accepted(ADA, BOB), *lost), {ADA: SENT, BOB: SENT}, deaths=(1.0, 5.0)).figures
    assert figures.unknown_bound == 2 + 1


def test_a_slow_recovery_is_a_broken_promise() -> None:
    found = verdict(accepted(ADA, BOB), {ADA: SENT, BOB: SENT}, recoveries=(0.5, 5.2))
    assert found.figures.recovery_max_s == 5.2
    assert "too long" in str(found.broken)


def test_two_policies_are_added_up() -> None:
    one = verdict(accepted(ADA, BOB), {ADA: SENT, BOB: SENT}, recoveries=(0.5,))
    other = verdict(accepted(ADA), {ADA: SENT, BOB: UNKNOWN}, recoveries=(2.5,))
    found = both([one, other])
    assert (found.figures.policy, found.figures.messages, found.figures.unknown) == ("both", 4, 1)
    assert found.figures.recovery_max_s == 2.5
    assert found.broken == other.broken
