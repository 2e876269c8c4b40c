"""What a sender may send that was started again: of a campaign only what its scheduler has spoken of since.

A pause or a cancellation that was decided while no sender ran is on its way; until it can have arrived, nothing of the
campaign goes out. A sender whose scheduler says nothing goes on by itself after a moment.
"""

from mailer.clock import Clock
from services.sender.runs import Run

GRACE_SECONDS = 1.5


class GoAhead:
    """Remembers which runs were spoken of in this life of the sender."""

    def __init__(self, clock: Clock) -> None:
        """Take the clock; `begin` starts the moment of grace."""
        self._clock = clock
        self._ends = float("inf")
        self._heard: set[str] = set()

    def begin(self) -> None:
        """Begin to send: from now on the scheduler has its moment."""
        self._ends = self._clock.monotonic() + GRACE_SECONDS

    def hear(self, run_id: str) -> bool:
        """Let a run go on: batches of it come in, or somebody says so. True when it may have waited for that."""
        if self._is_over or run_id in self._heard:
            return False
        self._heard.add(run_id)
        return True

    def has(self, run: Run) -> bool:
        """Say whether messages of the run may go out. A run without a campaign has nobody who could speak of it."""
        return self._is_over or not run.campaign_id or run.run_id in self._heard

    @property
    def _is_over(self) -> bool:
        return self._clock.monotonic() >= self._ends
