"""What the keeper asks of the copies off the machine; where no place is set, every answer is: nothing."""

from dataclasses import dataclass
from datetime import datetime

from mailer.clock import Clock
from mailer.errors import MailerError
from mailer.log import get_logger
from services.backup.copies.copier import Copier
from services.backup.copies.courier import Courier
from services.backup.job import Job
from services.backup.pruning import NO_COPIES, Copies
from services.backup.shown import Copy, Shown
from services.backup.snapshot import Snapshot
from services.backup.status import GRACE

log = get_logger(__name__)

# How long List waits for the first look at the place.
_FIRST_LOOK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class CopiesHealth:
    """How the copies are doing."""

    success_time: datetime | None = None
    failure_time: datetime | None = None
    failure: str = ""
    waiting: int = 0
    late: bool = False
    """Copying fails, and a snapshot has been waiting for longer than that may go unnoticed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offsite:
    """A copier and its courier, or neither."""

    copier: Copier | None = None
    courier: Courier | None = None

    def open(self) -> None:
        """Read what was known before the start. Blocks."""
        if self.copier is not None:
            self.copier.open()

    def wake(self) -> None:
        """Say that there is something to copy."""
        if self.courier is not None:
            self.courier.wake()

    async def first_look(self, clock: Clock) -> None:
        """Return once the place has been looked at since the start, or could not be for a while."""
        if self.courier is not None:
            await clock.wait(self.courier.looked, _FIRST_LOOK_SECONDS)

    def bring(self, snapshot_id: str, job: Job) -> None:
        """Fetch a snapshot that lies only at the place. Blocks; raises as `Copier.find`."""
        if self.copier is not None:
            self.copier.bring(snapshot_id, job)

    def remove(self, snapshot_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Remove copies; returns those that are gone. Blocks."""
        return () if self.copier is None else tuple(self.copier.remove(snapshot_ids))

    def seen(self) -> Copies:
        """Return what lay there at the last look, and which of it the schedule may remove."""
        if self.copier is None:
            return NO_COPIES
        return Copies(snapshots=self.copier.catalogue or {}, own_ids=self.copier.book.own_ids)

    def look(self, *, own_only: bool) -> Copies:
        """Return what lies there at this moment; nothing when that cannot be said, so that nothing goes. Blocks."""
        if self.copier is None:
            return NO_COPIES
        try:
            snapshots = self.copier.look()
        except MailerError as error:
            log.warning("the copies cannot be looked at and stay", error=error.message)
            return NO_COPIES
        return Copies(snapshots=snapshots, own_ids=self.copier.book.own_ids if own_only else None)

    def copy_of(self, snapshot: Snapshot) -> Copy:
        """Return how it is with the copy of a snapshot of the store."""
        return Copy.NONE if self.copier is None else self.copier.copy_of(snapshot)

    def health(self, shown: list[Shown], now: datetime) -> CopiesHealth:
        """Return how the copies are doing."""
        if self.copier is None:
            return CopiesHealth()
        book = self.copier.book
        waiting = [one.snapshot for one in shown if one.copy in {Copy.WAITING, Copy.UNKNOWN}]
        is_late = any(now - one.created_time > GRACE for one in waiting)
        return CopiesHealth(
            success_time=book.success_time,
            failure_time=book.failure_time,
            failure=book.failure,
            waiting=len(waiting),
            late=is_late and book.failure_time is not None,
        )
