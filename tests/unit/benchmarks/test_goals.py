"""Whether a figure is what it should be."""

import pytest

from benchmarks.goals import Goal, lines


@pytest.mark.parametrize(("value", "met"), [(3.99, False), (4.0, True), (9.0, True)])
def test_a_lower_bound_is_met_from_itself_on(value: float, met: bool) -> None:
    assert Goal("ratio", at_least=4).is_met_by(value) is met


@pytest.mark.parametrize(("value", "met"), [(4.9, True), (5.0, True), (5.1, False)])
def test_an_upper_bound_is_met_up_to_itself(value: float, met: bool) -> None:
    assert Goal("seconds", at_most=5).is_met_by(value) is met


def test_a_figure_inside_another_is_found() -> None:
    (line,) = lines([Goal("spread.p99_ms", at_most=1000)], {"spread": {"p99_ms": 1200.0}})
    assert line == "missed  spread.p99_ms: 1200, wanted at most 1000"


def test_nothing_is_said_about_what_was_not_measured() -> None:
    assert lines([Goal("ratio", at_least=4), Goal("spread.p99_ms", at_most=1)], {"spread": 3}) == []
