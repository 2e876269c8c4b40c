"""The snapshot of the state before a restore: exact, because the restore holds the write lock meanwhile."""

from pathlib import Path

from mailer.clock import Clock
from mailer.errors import MailerError
from mailer.log import get_logger
from services.backup.connect import connected
from services.backup.copy_sqlite import copy_database
from services.backup.job import Job
from services.backup.pack import pack
from services.backup.proof import read_contents
from services.backup.snapshot import Snapshot, Trigger
from services.backup.vault import Vault
from services.backup.verify import verify

log = get_logger(__name__)


class PreRestore:
    """Takes it quickly, and proves it when nobody waits any more."""

    def __init__(self, *, vault: Vault, live: Path, clock: Clock) -> None:
        """Keep what it works with."""
        self._vault = vault
        self._live = live
        self._clock = clock

    def take(self, job: Job, *, restored_id: str) -> Snapshot:
        """Return the published snapshot of the live database as it is now; it is not verified yet.

        Every writer waits meanwhile, so nothing is checked here that can be checked later.
        """
        began, now = self._clock.monotonic(), self._clock.now()
        snapshot_id = self._vault.new_id(now)
        with self._vault.scratch("copy") as plain, self._vault.scratch("packed") as packed:
            copy_database(self._live, plain, job)
            with connected(plain, mode="immutable") as connection:
                contents = read_contents(connection)
            figures = pack(plain, packed, job, keys=self._vault.keys, snapshot_id=snapshot_id)
            snapshot = Snapshot(
                snapshot_id=snapshot_id,
                created_time=now,
                trigger=Trigger.PRE_RESTORE,
                note=f"before the restore of {restored_id}",
                application_id=contents.application_id,
                schema_revisions=contents.schema_revisions,
                incarnation=contents.incarnation,
                page_size=contents.page_size,
                text_encoding=contents.text_encoding,
                row_counts=contents.row_counts,
                plain_size_bytes=figures.plain_size_bytes,
                plain_sha256=figures.plain_sha256,
                packed_size_bytes=figures.packed_size_bytes,
                packed_sha256=figures.packed_sha256,
                key_id=figures.key_id,
                duration_seconds=self._clock.monotonic() - began,
            )
            self._vault.publish(snapshot, packed)
        return snapshot

    def prove(self, snapshot: Snapshot, job: Job) -> None:
        """Verify it after the restore. Where that fails, the restore has not: it stays unverified."""
        try:
            verify(self._vault, snapshot, job, now=self._clock.now())
        except MailerError as error:
            log.warning(
                "the pre-restore snapshot is not verified yet",
                snapshot_id=snapshot.snapshot_id,
                error=str(error),
            )
