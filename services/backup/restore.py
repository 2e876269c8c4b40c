"""Restore: bring a snapshot back while the services work, forget no fact, and send nothing twice."""

import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mailer.clock import Clock
from mailer.errors import Aborted, DataLoss, MailerError
from mailer.log import get_logger
from services.backup import carry
from services.backup.campaigns import held_campaigns
from services.backup.connect import connected, interruptible
from services.backup.create import require_space, size_with_wal
from services.backup.job import Job, Phase
from services.backup.live import DamagedLive, LiveState, alone, is_damaged, look, translated, used
from services.backup.offline import arriving_path, put_in_place
from services.backup.pack import damaged
from services.backup.pre_restore import PreRestore
from services.backup.proof import count_rows, read_incarnation, read_revisions, table_names
from services.backup.restore_book import Entry, RestoreBook, Restored, TableChange
from services.backup.snapshot import Snapshot
from services.backup.stage import Stages, attach, editing, page_size_of, rebuild
from services.backup.swap import Swap
from services.backup.vault import Vault

log = get_logger(__name__)

_CHECKPOINT_PATIENCE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Ahead:
    """What was carried before others had to wait, and how many messages the stage knew as sent before."""

    carried_rows: int
    sent: int


class Restorer:
    """Restores snapshots of one store into one database. Methods block: call them in a thread."""

    def __init__(
        self,
        *,
        vault: Vault,
        live: Path,
        stages: Stages,
        clock: Clock,
        lock_limit_seconds: float,
        find: Callable[[str, Job], Snapshot] | None = None,
    ) -> None:
        """Keep what it works with; no restore keeps writers waiting for longer than the limit.

        `find` returns a snapshot of the store, which it may have to fetch first.
        """
        self._vault = vault
        self._live = live
        self._clock = clock
        self._lock_limit_seconds = lock_limit_seconds
        self._stages = stages
        self._find = find or (lambda snapshot_id, _: vault.get(snapshot_id))
        self._book = RestoreBook(vault.directory / "restores")
        self._pre_restore = PreRestore(vault=vault, live=live, clock=clock)

    def sweep(self) -> None:
        """Remove what a killed restore left beside the live database."""
        try:
            with self._vault.exclusive():
                arriving_path(self._live).unlink(missing_ok=True)
                self._book.sweep()
                self._settle_book()
        except Aborted:
            return  # another process is at work: whoever comes next sweeps

    def plan(self, snapshot_id: str, job: Job) -> Restored:
        """Return what a restore would do: all of it is done on the stage, which is then thrown away."""
        snapshot = self._vault.get(snapshot_id)
        state = look(self._live)
        with self._staged(snapshot, state, job) as stage, editing(stage) as connection:
            if state in {LiveState.USABLE, LiveState.EMPTY}:
                try:
                    with used(self._live), translated():
                        ahead = self._prepare(connection, job)
                        return self._carry(connection, snapshot, job, ahead, incarnation="")
                except DamagedLive:
                    pass
            return self._doubt(connection, snapshot, incarnation="")

    def restore(self, snapshot_id: str, job: Job, *, request_id: str) -> Restored:
        """Restore, or return what an earlier call of the same id did.

        Raises Aborted (BACKUP_BUSY), AlreadyExists (REQUEST_ID_REUSED), NotFound, InvalidArgument, DataLoss
        (the snapshot is damaged), FailedPrecondition (a newer schema on either side, another engine, no space, a
        file that others have open), Unavailable (busy). The live database is as it was, unless the message says so.
        """
        entry = self._book.find(request_id, snapshot_id=snapshot_id)
        if entry is not None and entry.done:
            return entry.restored
        with self._vault.exclusive():
            self._vault.sweep()
            self._settle_book()
            entry = self._book.find(request_id, snapshot_id=snapshot_id)
            if entry is not None and entry.done:
                return entry.restored
            draft = Entry(
                request_id=request_id,
                snapshot_id=snapshot_id,
                done=False,
                restored=Restored(snapshot_id=snapshot_id, incarnation=uuid.uuid4().hex),
            )
            return self._restore(self._find(snapshot_id, job), draft, job)

    def _restore(self, snapshot: Snapshot, draft: Entry, job: Job) -> Restored:
        state = look(self._live)
        if state in {LiveState.USABLE, LiveState.EMPTY}:
            try:
                return self._online(snapshot, draft, state, job)
            except DamagedLive as error:
                if not is_damaged(self._live):
                    raise damaged(snapshot, str(error)) from error
                log.warning("the live database cannot be read", error=str(error))
                state = LiveState.DAMAGED
        return self._offline(snapshot, draft, state, job)

    def _online(self, snapshot: Snapshot, draft: Entry, state: LiveState, job: Job) -> Restored:
        """Replace the content under the feet of everybody who has the database open."""
        restored, before = draft.restored, None

        def under_lock(limited: Job) -> None:
            nonlocal restored, before
            if state is LiveState.USABLE:
                before = self._pre_restore.take(limited, restored_id=snapshot.snapshot_id)
            restored = self._carry(stage, snapshot, limited, ahead, incarnation=restored.incarnation)
            restored = replace(restored, pre_restore_snapshot_id=before.snapshot_id if before else "")
            self._book.write(replace(draft, restored=restored))

        try:
            with (
                self._staged(snapshot, state, job) as path,
                used(self._live),
                translated(),
                editing(path) as stage,
                connected(self._live, mode="rw", timeout=0) as live,
            ):
                ahead = self._prepare(stage, job)
                swap = Swap(
                    stage=stage,
                    live=live,
                    clock=self._clock,
                    under_lock=under_lock,
                    lock_limit_seconds=self._lock_limit_seconds,
                )
                seconds = swap.run(job)
                restored = replace(restored, write_lock_seconds=seconds)
                self._close(draft, restored)
        except BaseException:
            if before is not None and not self._has_happened(draft):
                self._vault.remove(before.snapshot_id)
            raise
        self._settle(restored)
        if before is not None:
            self._pre_restore.prove(before, job)
        return restored

    def _offline(self, snapshot: Snapshot, draft: Entry, state: LiveState, job: Job) -> Restored:
        """Put a file where none can be opened, while nobody has it open.

        Services let go of a missing file by themselves, of a damaged one when they stop.
        """
        with self._staged(snapshot, state, job) as path, alone(self._live, job):
            with editing(path) as stage:
                restored = self._doubt(stage, snapshot, incarnation=draft.restored.incarnation)
            self._book.write(replace(draft, restored=restored))
            put_in_place(path, self._live, self._clock.now())
            self._close(draft, restored)
        return restored

    @contextmanager
    def _staged(self, snapshot: Snapshot, state: LiveState, job: Job) -> Iterator[Path]:
        """Give the stage of a snapshot, with pages of the size that the live database has."""
        sizes = 2 * snapshot.plain_size_bytes + 2 * size_with_wal(self._live)
        require_space(self._vault.directory, sizes)
        if self._live.parent.exists():
            require_space(self._live.parent, sizes)
        with self._stages.staged(snapshot, job) as stage:
            if not self._has_pages(state) or page_size_of(self._live) == page_size_of(stage):
                yield stage
                return
            with self._vault.scratch("rebuilt") as rebuilt:
                rebuild(stage, rebuilt, page_size_of(self._live), job)
                yield rebuilt

    def _has_pages(self, state: LiveState) -> bool:
        """Say whether the live file has a page size already: one without tables may have, one of 0 bytes has not."""
        return state in {LiveState.USABLE, LiveState.EMPTY} and self._live.stat().st_size > 0

    def _prepare(self, stage: sqlite3.Connection, job: Job) -> Ahead:
        """Do to the stage what can be done before anybody has to wait."""
        with self._attached(stage, job):
            sent = carry.count_sent(stage)
            return Ahead(carried_rows=carry.carry_ahead(stage), sent=sent)

    def _carry(
        self, stage: sqlite3.Connection, snapshot: Snapshot, job: Job, ahead: Ahead, *, incarnation: str
    ) -> Restored:
        """Carry over what must not be forgotten and hold the runs, in the stage; returns the report."""
        job.step(Phase.CARRYING)
        with self._attached(stage, job):
            live_counts = count_rows(stage, table_names(stage, schema="live"), schema="live")
            carried = ahead.carried_rows + carry.carry(stage, self._clock.now())
            sent_since = carry.count_sent(stage) - ahead.sent
            held, campaigns = carry.hold_runs(stage), held_campaigns(stage)
            self._renew(stage, incarnation)
        return Restored(
            snapshot_id=snapshot.snapshot_id,
            tables=_changes(live_counts, snapshot.row_counts),
            held_run_ids=tuple(held),
            held_campaign_ids=tuple(campaigns),
            sent_since_count=sent_since,
            carried_row_count=carried,
            incarnation=incarnation,
        )

    @contextmanager
    def _attached(self, stage: sqlite3.Connection, job: Job) -> Iterator[None]:
        """Let the stage see the live database as `live`, as it is at one instant, in one transaction.

        Raises FailedPrecondition for one that a newer version works on.
        """
        attach(stage, self._live)
        try:
            with _transaction(stage), interruptible(stage, job):
                # Asked again each time: another process may have migrated it meanwhile.
                self._stages.refuse_newer_live(read_revisions(stage, schema="live"))
                yield
        finally:
            stage.execute("DETACH DATABASE live")

    def _doubt(self, stage: sqlite3.Connection, snapshot: Snapshot, *, incarnation: str) -> Restored:
        """Make the stage fit for a world in which nobody knows what was sent since; returns the report."""
        with _transaction(stage):
            carry.doubt_all(stage)
            held, campaigns = carry.hold_runs(stage), held_campaigns(stage)
            self._renew(stage, incarnation)
        return Restored(
            snapshot_id=snapshot.snapshot_id,
            tables=_changes({}, snapshot.row_counts),
            held_run_ids=tuple(held),
            held_campaign_ids=tuple(campaigns),
            incarnation=incarnation,
        )

    def _renew(self, stage: sqlite3.Connection, incarnation: str) -> None:
        if incarnation:
            carry.renew_identity(stage, incarnation, self._clock.now())

    def _settle(self, restored: Restored) -> None:
        """Look at the restored database and bring it from the journal into the file."""
        try:
            with translated(), connected(self._live, mode="rw", timeout=_CHECKPOINT_PATIENCE_SECONDS) as live:
                _empty_journal(live)
                problem = live.execute("PRAGMA quick_check(1)").fetchone()[0]
        except MailerError as error:
            message = (
                f"The database was restored, but cannot be looked at: {error.message.rstrip('.')}. Mend that, and "
                "repeat this call with the same request_id: it restores nothing a second time."
            )
            raise MailerError(error.code, error.reason, message, error.metadata) from error
        if problem != "ok":
            raise DataLoss(
                f"The database was restored but is not sound: {problem}. Restore another snapshot; the state "
                f"before is {restored.pre_restore_snapshot_id or 'lost'}.",
                reason="RESTORED_NOT_SOUND",
            )

    def _close(self, draft: Entry, restored: Restored) -> None:
        """Write down that a restore has happened. Where that fails, it has happened all the same."""
        try:
            self._book.write(replace(draft, done=True, restored=restored))
        except OSError as error:
            log.warning("the restore is written down later", snapshot_id=draft.snapshot_id, error=str(error))

    def _settle_book(self) -> None:
        """Close the entries of restores that were cut short, before another one gives the database its identity.

        Later nobody could tell that they happened, and repeating them would undo the other. Only under the lock
        of the store.
        """
        entries = self._book.unfinished()
        incarnation = self._live_incarnation() if entries else ""
        for entry in entries:
            if entry.restored.incarnation == incarnation:
                self._close(entry, entry.restored)
            elif incarnation:
                self._book.forget(entry)

    def _has_happened(self, entry: Entry) -> bool:
        """Say whether a restore that was cut short had committed: then the database has its incarnation."""
        return self._live_incarnation() == entry.restored.incarnation

    def _live_incarnation(self) -> str:
        """Return the identity of the live database, '' when it cannot be read."""
        if not self._live.exists():
            return ""
        try:
            with connected(self._live, mode="rw") as live:
                return read_incarnation(live)
        except sqlite3.Error:
            return ""


def _empty_journal(live: sqlite3.Connection) -> None:
    try:
        live.execute("PRAGMA journal_mode=WAL")
        live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        # Somebody reads: the next checkpoint of any process does it.
        log.info("the journal is emptied later", error=str(error))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _changes(live: dict[str, int], snapshot: Mapping[str, int]) -> tuple[TableChange, ...]:
    return tuple(TableChange(table, live.get(table, 0), snapshot.get(table, 0)) for table in sorted({*live, *snapshot}))
