"""A snapshot as List shows it: with what is known beside its manifest."""

from dataclasses import dataclass

from services.backup.snapshot import Snapshot, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A snapshot, why it is kept, and whether it can be opened here."""

    snapshot: Snapshot
    keep_reasons: tuple[str, ...] = ()
    """Why the policy of the settings keeps it; none when the next Prune would remove it."""
    locked: bool = False
    """Encrypted under a key that this service was not given."""

    @property
    def state(self) -> State:
        """Return what is known about its soundness; one that cannot be opened is locked, whatever was known."""
        return State.LOCKED if self.locked and not self.snapshot.damage else self.snapshot.state
