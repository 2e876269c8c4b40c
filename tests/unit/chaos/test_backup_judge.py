"""The judge of `make chaos-backup`: each broken promise is named, and nothing else."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from chaos.backup.diary import Written
from chaos.backup.judge import Observed, judge

WRITES = [Written(number, "era", float(number), number + 0.001 * number) for number in range(101)]
GOOD = Observed(
    kills=Counter({"create: copying": 2}),
    creates=[(0.0, 200.0)],
    locks=[0.5, 0.25],
    looks=10,
    writes=WRITES,
    copies={"ada@x": 1},
)


def test_all_is_well_where_nothing_is_amiss() -> None:
    verdict = judge(GOOD)
    assert verdict.broken == ()
    assert (verdict.figures.kills, verdict.figures.restores, verdict.figures.restore_write_lock_s) == (2, 2, 0.5)
    assert json.loads(verdict.last_line)["acknowledged_lost"] == 0


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        ({"mixed": 1}, "a mix of two states"),
        ({"lost": {"here": 2, "there": 0}}, "2 in here"),
        ({"bad_listed": {"mailer_1"}}, "mailer_1"),
        ({"leftovers": ["work/copy"]}, "work/copy"),
        ({"copies": {"ada@x": 2}}, "second copy"),
        ({"unfinished": 1}, "did not come to their end"),
        ({"looks": 0}, "nobody read"),
        ({"writes": []}, "nobody wrote"),
        ({"copies": {}}, "nothing was sent"),
        ({"surprises": ["the sender ended by itself"]}, "ended by itself"),
    ],
)
def test_each_broken_promise_is_named(change: dict[str, Any], promise: str) -> None:
    (broken,) = judge(replace(GOOD, **change)).broken
    assert promise in broken


def test_only_writes_that_were_under_way_during_a_create_are_timed() -> None:
    assert judge(GOOD).figures.writer_p99_ms_during_create == 99.0
    assert judge(replace(GOOD, creates=[(3.5, 10.02)])).figures.writer_p99_ms_during_create == 10.0
    assert judge(replace(GOOD, creates=[])).figures.writer_p99_ms_during_create == 0.0
