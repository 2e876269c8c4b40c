"""What is known of a circuit: its policy, where it stands, and the part of it that is stored."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Phase(StrEnum):
    """Where a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Transition(StrEnum):
    """What an outcome did to the circuit; whatever it is has to be stored."""

    OPENED = "opened"
    REOPENED = "reopened"
    CLOSED = "closed"
    PROBE_RELEASED = "probe_released"


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """When a circuit opens and how long it rests; None means the default."""

    failure_count: int | None = None
    rest: timedelta | None = None
    max_rest: timedelta | None = None

    @property
    def failures_to_open(self) -> int:
        """Return how many failures in a row open the circuit."""
        return self.failure_count or 5

    @property
    def first_rest(self) -> timedelta:
        """Return how long it rests at first, before jitter."""
        return self.rest or timedelta(minutes=5)

    @property
    def longest_rest(self) -> timedelta:
        """Return the longest rest, before jitter; never below the first."""
        return max(self.max_rest or timedelta(minutes=30), self.first_rest)


@dataclass(frozen=True, slots=True)
class CircuitRecord:
    """What is stored of a circuit, and all that another process needs to go on with it."""

    open_until: datetime | None = None  # None while closed
    rest: timedelta = timedelta()  # the present rest without jitter, doubled by each failed probe
    failure_count: int = 0
    last_failure: str = ""
    opened_count: int = 0
    closed_count: int = 0
    probe_worker: str | None = None
    probe_until: datetime | None = None
