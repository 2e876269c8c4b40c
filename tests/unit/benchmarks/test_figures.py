"""Medians, percentiles, and the table that shows them."""

from collections.abc import Mapping

from benchmarks.latencies import distribution, percentile
from benchmarks.report import table
from benchmarks.rounds import Spread, interleave


def test_a_spread_has_its_median_and_both_ends() -> None:
    spread = Spread((5.0, 1.0, 3.0))
    assert (spread.lowest, spread.median, spread.highest) == (1.0, 3.0, 5.0)


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 201)]
    assert [percentile(values, percent) for percent in (0, 50, 99, 100)] == [1.0, 100.0, 198.0, 200.0]


def test_a_distribution_is_in_milliseconds() -> None:
    assert distribution([0.001] * 99 + [0.5]) == {"p50_ms": 1.0, "p99_ms": 1.0, "max_ms": 500.0}


async def test_rounds_take_turns_and_begin_with_another_row_each_time() -> None:
    order: list[str] = []

    async def measured(name: str) -> Mapping[str, float]:
        order.append(name)
        return {"rate": float(len(order))}

    series = await interleave({"a": lambda: measured("a"), "b": lambda: measured("b")}, 2)
    assert order == ["a", "b", "b", "a"]
    assert series["a"]["rate"].values == (1.0, 4.0)


def test_a_table_shows_the_spread_and_where_a_row_has_no_such_figure() -> None:
    lines = table(
        {"ours": {"rate": Spread((1000.0, 2000.0, 3000.0))}, "theirs": {}}, {"rate": "messages/s"}
    ).splitlines()
    assert [line.split() for line in lines] == [["messages/s"], ["ours", "2,000", "(1,000-3,000)"], ["theirs", "-"]]
