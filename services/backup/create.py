"""Create: from the live database to a proven snapshot in the store."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from mailer.clock import Clock
from mailer.errors import AlreadyExists, DataLoss, FailedPrecondition
from services.backup.copy_sqlite import WriterWait, copy_database, writer_wait
from services.backup.job import Job
from services.backup.live import DamagedLive, LiveState, look, no_space, translated, used
from services.backup.pack import pack, read_back
from services.backup.proof import NotSound, prove
from services.backup.snapshot import Snapshot, Trigger
from services.backup.vault import Vault

_SPARE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody asked for."""

    trigger: Trigger
    request_id: str = ""
    request_digest: str = ""
    note: str = ""
    pinned: bool = False


class Creator:
    """Takes snapshots of one database into one store. Methods block: call them in a thread."""

    def __init__(self, *, vault: Vault, live: Path, clock: Clock) -> None:
        """Keep what it works with."""
        self._vault = vault
        self._live = live
        self._clock = clock

    def create(self, wish: Wish, job: Job) -> Snapshot:
        """Return a new, proven snapshot, or the one that an earlier call of the same id has made meanwhile.

        Raises Aborted (BACKUP_BUSY), AlreadyExists (REQUEST_ID_REUSED), FailedPrecondition (no database, no
        tables, no space), Unavailable (busy), DataLoss (the live database is damaged).
        Errors leave nothing.
        """
        with self._vault.exclusive():
            self._vault.sweep()
            return self.made_before(wish) or self._create(wish, job)

    def made_before(self, wish: Wish) -> Snapshot | None:
        """Return what an earlier call of the same id made: the manifests are the book of answers.

        Raises AlreadyExists (REQUEST_ID_REUSED).
        """
        if not wish.request_id:
            return None
        for snapshot in self._vault.snapshots():
            if snapshot.request_id == wish.request_id and snapshot.trigger is wish.trigger:
                if snapshot.request_digest != wish.request_digest:
                    raise AlreadyExists(
                        f"request_id {wish.request_id} was used for another Create: use a new one, or repeat "
                        "the same body.",
                        reason="REQUEST_ID_REUSED",
                        metadata={"request_id": wish.request_id, "snapshot_id": snapshot.snapshot_id},
                    )
                return snapshot
        return None

    def _create(self, wish: Wish, job: Job) -> Snapshot:
        match look(self._live):
            case LiveState.MISSING:
                raise FailedPrecondition(
                    "There is no database: start the scheduler and the sender, or restore a snapshot.",
                    reason="DATABASE_MISSING",
                )
            case LiveState.DAMAGED:
                raise _damaged("it cannot be read")
            case LiveState.USABLE | LiveState.EMPTY:
                pass
        require_space(self._vault.directory, 2 * size_with_wal(self._live))
        began = self._clock.monotonic()
        draft = Snapshot(
            snapshot_id=self._vault.new_id(self._clock.now()),
            created_time=self._clock.now(),
            trigger=wish.trigger,
            pinned=wish.pinned,
            note=wish.note,
            request_id=wish.request_id,
            request_digest=wish.request_digest,
        )
        try:
            with translated(), self._vault.scratch("copy") as plain, self._vault.scratch("packed") as packed:
                with used(self._live), writer_wait(self._live, self._clock) as wait:
                    copy_database(self._live, plain, job)
                proven = self._prove(draft, plain, job)
                snapshot = self._pack(proven, plain, packed, job, began=began, wait=wait)
                self._vault.publish(snapshot, packed)
                return snapshot
        except DamagedLive as error:
            raise _damaged(str(error)) from error

    def _prove(self, draft: Snapshot, plain: Path, job: Job) -> Snapshot:
        """Return the draft with what the copy holds; a live database that is not sound makes no snapshot."""
        try:
            contents = prove(plain, job)
        except NotSound as error:
            raise _damaged(str(error)) from error
        return replace(
            draft,
            application_id=contents.application_id,
            schema_revisions=contents.schema_revisions,
            incarnation=contents.incarnation,
            page_size=contents.page_size,
            text_encoding=contents.text_encoding,
            row_counts=contents.row_counts,
        )

    def _pack(
        self, proven: Snapshot, plain: Path, packed: Path, job: Job, *, began: float, wait: WriterWait
    ) -> Snapshot:
        """Return the finished snapshot: packed, on disk, read back and the same."""
        figures = pack(plain, packed, job, keys=self._vault.keys, snapshot_id=proven.snapshot_id)
        snapshot = replace(
            proven,
            plain_size_bytes=figures.plain_size_bytes,
            plain_sha256=figures.plain_sha256,
            packed_size_bytes=figures.packed_size_bytes,
            packed_sha256=figures.packed_sha256,
            key_id=figures.key_id,
            writer_wait_seconds=wait.seconds,
        )
        read_back(packed, snapshot, job, keys=self._vault.keys)
        return replace(
            snapshot,
            duration_seconds=self._clock.monotonic() - began,
            verified_time=self._clock.now(),
        )


def require_space(directory: Path, size_bytes: int) -> None:
    """Raise FailedPrecondition unless so much, and a little more, is free where the directory is."""
    free = shutil.disk_usage(directory).free
    needed = size_bytes + _SPARE_BYTES
    if free < needed:
        raise no_space(f"{needed} bytes are needed, {free} are free")


def size_with_wal(live: Path) -> int:
    """Return an upper bound of what a copy of the live database takes."""
    sizes = 0
    for path in (live, live.with_name(live.name + "-wal")):
        try:
            sizes += path.stat().st_size
        except FileNotFoundError:
            continue
    return sizes


def _damaged(detail: str) -> DataLoss:
    return DataLoss(
        f"The live database is damaged: {detail}. No snapshot was taken of it; restore one.",
        reason="DATABASE_DAMAGED",
        metadata={"damage": detail},
    )
