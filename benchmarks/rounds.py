"""Rounds: everybody in turn, again and again, so that a noisy minute meets all alike; then medians."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from statistics import median

Row = Callable[[], Awaitable[Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over all rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the middle one."""
        return median(self.values)

    @property
    def lowest(self) -> float:
        """Return the smallest."""
        return min(self.values)

    @property
    def highest(self) -> float:
        """Return the largest."""
        return max(self.values)


Series = dict[str, Spread]
"""The figures of one row by name."""


async def interleave(rows: Mapping[str, Row], rounds: int) -> dict[str, Series]:
    """Measure each row once per round; every round begins with another one."""
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in rows}
    names = list(rows)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            figures = await rows[name]()
            found[name].append(figures)
            said = ", ".join(
                f"{key} {value:,.4g}" if value < 1000 else f"{key} {value:,.0f}" for key, value in figures.items()
            )
            print(f"round {number + 1} of {rounds}  {name:28} {said}", flush=True)
    return {
        name: {key: Spread(tuple(one[key] for one in each)) for key in each[0]} for name, each in found.items() if each
    }
