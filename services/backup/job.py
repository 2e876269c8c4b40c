"""One operation under way: how far it has come, how long it may take, and whether it was told to stop."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from mailer.clock import Clock
from mailer.errors import Code, MailerError, Unavailable


class Phase(StrEnum):
    """What is being done."""

    COPYING = "copying"
    CHECKING = "checking"
    PACKING = "packing"
    VERIFYING = "verifying"
    CARRYING = "carrying"
    FETCHING = "fetching"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase has come; a total of 0 means that it is not known."""

    phase: Phase
    done_bytes: int = 0
    total_bytes: int = 0


class Job:
    """Passed through everything that takes long; whoever loops calls `step` or `check` in each round.

    Used in working threads; `stop` may be called from any thread.
    """

    def __init__(self, clock: Clock, *, limit_seconds: float, report: Callable[[Progress], None] | None = None) -> None:
        """Start the limit now; `report` is called in working threads and must neither block nor raise."""
        self._clock = clock
        self._limits = [(clock.monotonic() + limit_seconds, _late(limit_seconds))]
        self._report = report
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ask the operation to end without a trace as soon as it can."""
        self._stopped.set()

    def within(self, limit_seconds: float, error: MailerError) -> "Job":
        """Return the same operation with one more limit, starting now, that raises an error of its own."""
        part = Job.__new__(Job)
        part.__dict__ = self.__dict__ | {"_limits": [*self._limits, (self._clock.monotonic() + limit_seconds, error)]}
        return part

    def report(self, phase: Phase, done_bytes: int = 0, total_bytes: int = 0) -> None:
        """Tell whoever watches how far a phase has come."""
        if self._report is not None:
            self._report(Progress(phase, done_bytes, total_bytes))

    def check(self) -> None:
        """Raise Unavailable (told to stop) or the error of the limit that has passed."""
        if self._stopped.is_set():
            raise Unavailable("The backup service is stopping; nothing was changed.", reason="STOPPING")
        now = self._clock.monotonic()
        for ends_at, error in self._limits:
            if now >= ends_at:
                raise error

    def step(self, phase: Phase, done_bytes: int = 0, total_bytes: int = 0) -> None:
        """Do both: `report` and `check`."""
        self.report(phase, done_bytes, total_bytes)
        self.check()


def _late(limit_seconds: float) -> MailerError:
    return MailerError(
        Code.DEADLINE_EXCEEDED,
        "BACKUP_TIMED_OUT",
        f"Not finished within {limit_seconds:.3g} s; nothing was changed. Repeat it with a longer deadline.",
    )
