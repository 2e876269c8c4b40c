"""Times to answer: the middle, the slow end, the worst."""

from collections.abc import Sequence
from math import ceil


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(ceil(len(ordered) * percent / 100) - 1, 0)]


def distribution(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50, p99 and the worst in milliseconds."""
    named = {"p50_ms": percentile(seconds, 50), "p99_ms": percentile(seconds, 99), "max_ms": max(seconds)}
    return {name: round(value * 1000, 2) for name, value in named.items()}
