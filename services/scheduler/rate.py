"""How fast a run sends: messages per second over the last seconds, and what follows from it."""

from collections import deque
from datetime import datetime, timedelta

WINDOW_SECONDS = 5.0
# Less than this says nothing about speed.
_LEAST_SECONDS = 0.5


class RateMeter:
    """Takes counts as they are seen; times are monotonic seconds."""

    def __init__(self) -> None:
        """Begin without a sample."""
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, at: float, count: int) -> None:
        """Note how many were sent at an instant. A count that shrinks (another run) begins anew."""
        if self._samples and count < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((at, count))
        # One sample at or before the window's start is kept: the rate is measured from there.
        while len(self._samples) > 2 and self._samples[1][0] <= at - WINDOW_SECONDS:
            self._samples.popleft()

    def per_second(self) -> float:
        """Return the messages per second; 0.0 while that cannot be said."""
        if len(self._samples) < 2:
            return 0.0
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        seconds = last_at - first_at
        return (last - first) / seconds if seconds >= _LEAST_SECONDS else 0.0


def expected_finish(now: datetime, remaining: int, per_second: float) -> datetime | None:
    """Return when the rest would be sent at this rate; None while there is none, or nothing is left."""
    if per_second <= 0 or remaining <= 0:
        return None
    seconds = remaining / per_second
    return now + timedelta(seconds=seconds) if seconds < timedelta(days=365).total_seconds() else None
