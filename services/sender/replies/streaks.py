"""What came before, as far as the table asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.sender.replies.verdict import History


@dataclass(frozen=True, slots=True)
class Streak:
    """How often a row applied since its first time, without a success in between."""

    count: int
    first_time: datetime


class Streaks:
    """The streaks of one account or one delivery: note what happens, clear them on success."""

    def __init__(self) -> None:
        """Begin without any."""
        self._streaks: dict[str, Streak] = {}

    def note(self, rule: str, now: datetime) -> None:
        """Count one more time that the row applied."""
        before = self._streaks.get(rule, Streak(0, now))
        self._streaks[rule] = Streak(before.count + 1, before.first_time)

    def clear(self) -> None:
        """Forget them all: something worked."""
        self._streaks.clear()

    def at(self, now: datetime) -> Mapping[str, History]:
        """Return the history as `judge` wants it. A clock that went back counts as no time at all."""
        return {
            rule: History(streak.count, max(now - streak.first_time, timedelta(0)))
            for rule, streak in self._streaks.items()
        }
