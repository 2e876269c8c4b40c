"""What one look at the runs has found to do, and how it is done piece by piece."""

from datetime import UTC, datetime
from typing import Any, cast

from services.sender.claiming import MOST_AT_ONCE, Errand
from services.sender.turn import Turn

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)


def errand(wanted: dict[str, int], **more: Any) -> Errand:
    return Errand(life="life", worker="worker", dots=cast("Any", None), now=NOW, open_runs={}, wanted=wanted, **more)


def turn(*runs: str) -> Turn:
    return Turn([cast("Any", Claim(run_id)) for run_id in runs], frozenset(runs))


class Claim:
    def __init__(self, run_id: str) -> None:
        self.run_id = run_id


def test_a_part_is_no_more_than_is_claimed_in_one_go() -> None:
    assert errand({"a": MOST_AT_ONCE + 1}).part() == {"a": MOST_AT_ONCE}
    assert errand({"a": MOST_AT_ONCE - 10, "b": 500, "c": 500}).part() == {"a": MOST_AT_ONCE - 10, "b": 10}


def test_a_run_that_gave_what_was_wanted_is_asked_for_the_rest() -> None:
    one = errand({"a": MOST_AT_ONCE + 1})
    one.note(one.part(), turn(*["a"] * MOST_AT_ONCE))
    assert one.wanted == {"a": 1}
    one.note(one.part(), turn("a"))
    assert not one
    assert one.drained == set()


def test_a_run_that_had_less_is_drained_and_not_asked_again() -> None:
    one = errand({"a": 20, "b": 20})
    one.note(one.part(), turn(*["a"] * 19, *["b"] * 20))
    assert one.wanted == {}
    assert one.drained == {"a"}


def test_everything_beside_claims_is_done_with_the_first_part() -> None:
    one = errand({"a": MOST_AT_ONCE + 5}, stalled=["b"], returned=[cast("Any", Claim("c"))], is_due=True)
    one.note(one.part(), turn(*["a"] * MOST_AT_ONCE))
    assert (one.stalled, one.returned, one.postponed, one.is_due) == ([], [], [], False)
    assert one.wanted == {"a": 5}
