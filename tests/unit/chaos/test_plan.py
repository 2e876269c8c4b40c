"""The plan of `make chaos`."""

from collections import Counter
from random import Random

import pytest

from chaos.plan import Kind, plan
from services.sender.failpoints import Window


@pytest.mark.parametrize("seed", range(20))
def test_every_dozen_of_kills_has_each_window_and_every_other_way_to_die(seed: int) -> None:
    lives = list(plan(kills=12, random=Random(seed)))
    assert sum(life.kill_count for life in lives) == 12
    assert Counter(life.window for life in lives if life.window) == Counter(Window)
    assert Counter(life.kind for life in lives) == {Kind.AT_WINDOW: 8, Kind.WITH_SCHEDULER: 1, Kind.COLD: 1}
    assert sum(life.kills_scheduler_first for life in lives) == 1
    assert sum(life.freezes_companion for life in lives) == 1
    assert sum(life.pauses_campaigns for life in lives) == 1
    assert [life.kind for life in lives if life.kills_writer] == [Kind.COLD]
    assert [life.kind for life in lives if life.kills_writer_before] == [Kind.WITH_SCHEDULER]
    assert all(life.has_companion for life in lives if life.freezes_companion or life.pauses_campaigns)


def test_a_seed_makes_one_plan() -> None:
    assert list(plan(kills=100, random=Random(7))) == list(plan(kills=100, random=Random(7)))
    assert list(plan(kills=100, random=Random(7))) != list(plan(kills=100, random=Random(8)))
