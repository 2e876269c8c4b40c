"""What a figure should be, and whether it is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for a figure of the last line; one inside another is named with a dot ("spread.p99_ms")."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def wanted(self) -> str:
        """Return the bound in words."""
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"

    def is_met_by(self, value: float) -> bool:
        """Say whether a value is within the bound."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


def lines(goals: Iterable[Goal], summary: Mapping[str, object]) -> list[str]:
    """Return a line per goal whose figure was measured."""
    found = []
    for goal in goals:
        value = _look_up(summary, goal.figure)
        if value is not None:
            word = "met   " if goal.is_met_by(value) else "missed"
            found.append(f"{word}  {goal.figure}: {value:g}, wanted {goal.wanted}")
    return found


def _look_up(summary: Mapping[str, object], name: str) -> float | None:
    value: object = summary
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None
