"""What those who write and read all the time have written down: when each act began, and when it was done."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Act:
    """One write or read, by the clock that all processes of a machine share (`time.monotonic`)."""

    began: float
    ended: float
    refused: int  # tries before the one that was done

    @property
    def seconds(self) -> float:
        """Return how long it took, with every try."""
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Span:
    """From one moment to another, by the same clock."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """Return how long it was."""
        return self.ended - self.began

    def touched_by(self, acts: Iterable[Act]) -> list[Act]:
        """Return what was under way at any moment of it, also what had begun before or was done later."""
        return [act for act in acts if act.began <= self.ended and act.ended >= self.began]

    def done_in(self, acts: Iterable[Act]) -> list[Act]:
        """Return what was acknowledged inside it."""
        return [act for act in acts if self.began <= act.ended <= self.ended]


def line(act: Act) -> str:
    """Return an act as a line of a diary."""
    return f"{act.began:.6f} {act.ended:.6f} {act.refused}\n"


def read_acts(diary: Path) -> list[Act]:
    """Return all acts of a diary that is being written; a last line that is half there is left for later."""
    whole, _, _ = diary.read_text(encoding="ascii").rpartition("\n")
    return [
        Act(float(began), float(ended), int(refused)) for began, ended, refused in map(str.split, whole.splitlines())
    ]
