"""Which keys snapshots are encrypted and opened with, and what is said when one is missing."""

from collections.abc import Iterable

from mailer.errors import CannotStart, FailedPrecondition
from mailer.snapshot_key import SnapshotKey
from services.backup.sealed_stream import OpeningReader, Readable, SealingWriter, Writable
from services.backup.snapshot import Snapshot


class Keys:
    """The keys that the service was given: none, or one that encrypts and others that only open."""

    def __init__(self, keys: Iterable[SnapshotKey] = (), *, off: bool = False) -> None:
        """Take the keys, the encrypting one first; where encryption was switched off all of them only open."""
        known = tuple(keys)
        self.off = off
        self._sealing = known[0] if known and not off else None
        self._by_id = {key.id: key for key in known}

    @property
    def sealing_id(self) -> str:
        """Return the id of the key that new snapshots are encrypted with, '' when they are not."""
        return self._sealing.id if self._sealing else ""

    def can_open(self, snapshot: Snapshot) -> bool:
        """Say whether a snapshot can be read: it is not encrypted, or its key is known."""
        return not snapshot.key_id or snapshot.key_id in self._by_id

    def require(self, snapshot: Snapshot) -> None:
        """Raise FailedPrecondition (SNAPSHOT_KEY_MISSING) for a snapshot that cannot be read."""
        if not self.can_open(snapshot):
            raise FailedPrecondition(
                f"Snapshot {snapshot.snapshot_id} is encrypted under key {snapshot.key_id}, which this service was "
                "not given; nothing was changed. Add the key to MAILER_BACKUP_ENCRYPTION_KEY_FILE and start the "
                "service again.",
                reason="SNAPSHOT_KEY_MISSING",
                metadata={"snapshot_id": snapshot.snapshot_id, "key_id": snapshot.key_id},
            )

    def writer(self, target: Writable, snapshot_id: str) -> SealingWriter | None:
        """Return what encrypts a new snapshot into target; None when snapshots are not encrypted."""
        if self._sealing is None:
            return None
        return SealingWriter(target, key=self._sealing.key, key_id=self._sealing.id, name=snapshot_id)

    def reader(self, source: Readable, snapshot: Snapshot) -> Readable:
        """Return what a snapshot's packed copy reads as: decrypted where it is encrypted.

        Raises FailedPrecondition (SNAPSHOT_KEY_MISSING) and StreamBroken.
        """
        self.require(snapshot)
        if not snapshot.key_id:
            return source
        key = self._by_id[snapshot.key_id]
        return OpeningReader(source, key=key.key, key_id=key.id, name=snapshot.snapshot_id)


NO_KEYS = Keys()
"""Nothing is encrypted, and what is encrypted cannot be opened."""


def silent_end(keys: Keys, snapshots: Iterable[Snapshot]) -> str:
    """Return what to set where encryption would end without anybody having said so: the setting got lost.

    Nothing when all is well.
    """
    newest = max((one for one in snapshots if one.packed_sha256), key=lambda one: one.created_time, default=None)
    if newest is None or not newest.key_id or keys.sealing_id or keys.off:
        return ""
    return (
        f"the newest snapshot is encrypted (key {newest.key_id}) and no key is set: set "
        "MAILER_BACKUP_ENCRYPTION_KEY_FILE, or MAILER_BACKUP_ENCRYPTION=off to go on without encryption"
    )


def refuse_silent_end(keys: Keys, snapshots: Iterable[Snapshot]) -> None:
    """Raise CannotStart with what to set where encryption would end silently."""
    problem = silent_end(keys, snapshots)
    if problem:
        raise CannotStart(problem)
