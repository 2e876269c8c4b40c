"""A snapshot as List shows it: with what is known beside its manifest."""

from dataclasses import dataclass
from enum import StrEnum

from services.backup.snapshot import Snapshot, State


class Copy(StrEnum):
    """How it is with the copy of a snapshot off the machine."""

    NONE = "none"
    """None is made: there is no place, the snapshot is not proven, or not encrypted as the settings say."""
    WAITING = "waiting"
    COPIED = "copied"
    ONLY_COPY = "only_copy"
    """It lies only there: Verify and Restore fetch it first."""
    UNKNOWN = "unknown"
    """The place could not be looked at since the service was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A snapshot, why it is kept, where it lies, and whether it can be opened here."""

    snapshot: Snapshot
    keep_reasons: tuple[str, ...] = ()
    """Why the policy of the settings keeps it; none when the next Prune would remove it."""
    copy: Copy = Copy.NONE
    locked: bool = False
    """Encrypted under a key that this service was not given."""

    @property
    def state(self) -> State:
        """Return what is known about its soundness; one that cannot be opened is locked, whatever was known."""
        return State.LOCKED if self.locked and not self.snapshot.damage else self.snapshot.state
