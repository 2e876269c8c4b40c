"""The plan of `make chaos-backup`."""

from collections import Counter
from random import Random

import pytest

from chaos.backup.moments import _BEFORE, _PHASES, PASSINGS, Moment, Operation
from chaos.backup.plan import plan
from services.backup.job import Phase

ROUND = 36


@pytest.mark.parametrize("seed", range(20))
def test_every_three_dozen_of_kills_have_each_moment_and_random_times_in_each_operation(seed: int) -> None:
    lives = list(plan(kills=ROUND, random=Random(seed)))
    assert Counter(life.moment for life in lives if life.moment) == Counter(Moment)
    assert {life.operation for life in lives if not life.moment} == set(Operation)
    assert all(1 <= life.passing <= PASSINGS.get(life.moment, 1) for life in lives if life.moment)
    assert sorted(life.operation for life in lives if life.is_cold) == [Operation.CREATE, Operation.RESTORE]
    assert all(life.seconds > 0 for life in lives if not life.moment)


def test_a_seed_makes_one_plan() -> None:
    assert list(plan(kills=100, random=Random(7))) == list(plan(kills=100, random=Random(7)))
    assert list(plan(kills=100, random=Random(7))) != list(plan(kills=100, random=Random(8)))


def test_every_moment_is_a_phase_or_comes_before_something_that_exists() -> None:
    assert _PHASES.keys() | _BEFORE.keys() == set(Moment)
    assert all(callable(getattr(owner, name)) for owner, name in _BEFORE.values())
    # No copies are made off the machine here, so none are fetched: tests/integration/backup/test_copies.py kills those.
    assert set(_PHASES.values()) == set(Phase) - {Phase.FETCHING}
