"""What calls and schedules ask for: each operation in a thread of its own, with a book of how it went."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from mailer.clock import Clock
from mailer.errors import Aborted, AlreadyExists, MailerError
from mailer.log import get_logger
from services.backup import drill, pruning
from services.backup.create import Creator, Wish
from services.backup.encryption import refuse_silent_end
from services.backup.job import Job, Progress
from services.backup.listing import show
from services.backup.live import translated
from services.backup.metrics import BackupMetrics
from services.backup.offsite import CopiesHealth, Offsite
from services.backup.restore import Restorer
from services.backup.restore_book import Restored
from services.backup.retention import Policy
from services.backup.schedule import check_zone
from services.backup.settings import Settings, SettingsFile
from services.backup.shown import Shown
from services.backup.snapshot import Snapshot, State, Trigger
from services.backup.stage import Stages
from services.backup.status import Status, StatusFile, is_frozen, is_stale
from services.backup.vault import Vault, cannot_use
from services.backup.verify import verify

log = get_logger(__name__)

T = TypeVar("T")
Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Health:
    """How the schedule is doing, and how the copies."""

    status: Status
    stale: bool
    copies: CopiesHealth = field(default_factory=CopiesHealth)


class Keeper:
    """Does one thing at a time to the store; `open` it first. Everything here runs in the event loop."""

    def __init__(
        self,
        *,
        vault: Vault,
        creator: Creator,
        restorer: Restorer,
        stages: Stages,
        clock: Clock,
        metrics: BackupMetrics,
        limit_seconds: float,
        offsite: Offsite | None = None,
    ) -> None:
        """Take the parts; no operation takes longer than the limit. Without `offsite` no copies are made."""
        self._vault = vault
        self._creator = creator
        self._restorer = restorer
        self._stages = stages
        self._clock = clock
        self._metrics = metrics
        self._limit_seconds = limit_seconds
        self._offsite = offsite or Offsite()
        self._settings_file = SettingsFile(vault.directory / "settings.json")
        self._status_file = StatusFile(vault.directory / "status.json")
        self._writing = asyncio.Lock()
        self._settings = Settings()
        self._status = Status()
        self._when_settings_change: list[Callable[[], None]] = []

    @property
    def settings(self) -> Settings:
        """Return the settings as they are now."""
        return self._settings

    async def open(self) -> None:
        """Read what is kept beside the snapshots, and sweep what a killed process left. Raises CannotStart."""
        try:
            await asyncio.to_thread(self._vault.open)
            await asyncio.to_thread(self._restorer.sweep)
        except OSError as error:
            raise cannot_use(self._vault.directory, error) from error
        await asyncio.to_thread(self._offsite.open)
        self._settings = await asyncio.to_thread(self._settings_file.load)
        refuse_silent_end(self._vault.keys, await self.snapshots())
        now = self._clock.now()
        status = (await asyncio.to_thread(self._status_file.load)).as_of(now)
        if status.success_time is None:
            status = status.succeeded_before(_newest(await self.snapshots(), now))
        await self._note(status)

    def on_settings_change(self, callback: Callable[[], None]) -> None:
        """Call back whenever the settings have changed."""
        self._when_settings_change.append(callback)

    def done_until(self) -> datetime:
        """Return up to when the schedule has been satisfied, as far as is known."""
        return self._status.done_until(self._clock.now())

    def drilled_until(self) -> datetime:
        """Return the same for the restore drill."""
        return self._status.drilled_until(self._clock.now())

    async def snapshots(self) -> list[Snapshot]:
        """Return all snapshots, newest first. Raises FailedPrecondition when the store cannot be read."""
        with translated():
            return await asyncio.to_thread(self._vault.snapshots)

    async def health(self) -> Health:
        """Return how the schedule is doing, and show it in the figures."""
        now = self._clock.now()
        try:
            snapshots = await self.snapshots()
        except MailerError as error:
            self._metrics.stale.set(1)
            return Health(self._status.failed(now, error.message, error.reason), stale=True)
        newest = _newest(snapshots, now)
        stale = is_stale(self._settings.schedule, newest=newest, status=self._status, now=now)
        shown = self._shown(snapshots)
        self._metrics.count_snapshots(shown)
        self._metrics.newest.set(newest.timestamp() if newest else 0)
        self._metrics.stale.set(stale)
        drilled = self._status.drill_time
        self._metrics.drill.set(drilled.timestamp() if drilled else 0)
        copies = self._offsite.health(shown, now)
        self._metrics.last_copy.set(copies.success_time.timestamp() if copies.success_time else 0)
        self._metrics.copies_late.set(copies.late)
        return Health(self._status, stale, copies)

    async def create(self, wish: Wish, *, limit_seconds: float | None = None, report: Report | None = None) -> Snapshot:
        """Return a new snapshot, or what an earlier call made; see Creator.create for what it raises."""
        try:
            with translated():
                made = await asyncio.to_thread(self._creator.made_before, wish)
            if made is not None:
                return made  # nothing has happened now: it says nothing about our health
            snapshot = await self._run("create", lambda job: self._creator.create(wish, job), limit_seconds, report)
        except (Aborted, AlreadyExists):
            raise  # somebody else is at work, or asked wrongly: says nothing about our health
        except MailerError as error:
            await self._note(self._status.failed(self._clock.now(), error.message, error.reason))
            raise
        except Exception as error:
            why = f"Create ended by a bug ({type(error).__name__}); the log says more."
            await self._note(self._status.failed(self._clock.now(), why))
            raise
        self._offsite.wake()
        self._metrics.writer_wait.labels("create").set(snapshot.writer_wait_seconds)
        await self._note(self._status.as_of(self._clock.now()).succeeded(snapshot.created_time))
        log.info(
            "snapshot taken",
            snapshot_id=snapshot.snapshot_id,
            trigger=snapshot.trigger.value,
            size_bytes=snapshot.packed_size_bytes,
            seconds=round(snapshot.duration_seconds, 3),
        )
        return snapshot

    async def prune(self, policy: Policy, *, validate_only: bool, own_only: bool = False) -> pruning.Pruned:
        """Remove what the policy does not keep, or say what that would be.

        With `own_only` no copies go that another store has made, or this one before its disk was lost.
        """
        now, zone = self._clock.now(), check_zone(self._settings.time_zone)
        frozen = is_frozen(self._status, now=now)
        what = pruning.plan if validate_only else pruning.prune

        def work(_: Job) -> pruning.Pruned:
            copies = self._offsite.look(own_only=own_only)
            pruned = what(self._vault, policy, now=now, zone=zone, frozen=frozen, copies=copies)
            return (
                pruned if validate_only else replace(pruned, removed_copies=self._offsite.remove(pruned.removed_copies))
            )

        pruned = await self._run("prune", work)
        if (pruned.removed or pruned.removed_copies) and not validate_only:
            log.info(
                "snapshots removed",
                snapshot_ids=pruned.removed,
                freed_bytes=pruned.freed_bytes,
                copies=pruned.removed_copies,
            )
        return pruned

    async def listed(self) -> list[Shown]:
        """Return all snapshots as List shows them, newest first; those that lie only off the machine, too."""
        await self._offsite.first_look(self._clock)
        return self._shown(await self.snapshots())

    async def shown(self, snapshot: Snapshot) -> Shown:
        """Return one snapshot as List would show it."""
        listed = self._shown(await self.snapshots())
        return next(
            (one for one in listed if one.snapshot.snapshot_id == snapshot.snapshot_id), Shown(snapshot=snapshot)
        )

    def _shown(self, snapshots: list[Snapshot]) -> list[Shown]:
        return show(
            snapshots,
            self._settings.policy,
            now=self._clock.now(),
            zone=check_zone(self._settings.time_zone),
            keys=self._vault.keys,
            offsite=self._offsite,
        )

    async def plan_restore(
        self, snapshot_id: str, *, limit_seconds: float | None = None, report: Report | None = None
    ) -> Restored:
        """Return what a restore would do."""

        def work(job: Job) -> Restored:
            self._offsite.bring(snapshot_id, job)
            return self._restorer.plan(snapshot_id, job)

        return await self._run("plan_restore", work, limit_seconds, report)

    async def restore(
        self,
        snapshot_id: str,
        *,
        request_id: str,
        limit_seconds: float | None = None,
        report: Report | None = None,
    ) -> Restored:
        """Restore a snapshot; see Restorer.restore for what it raises."""
        restored = await self._run(
            "restore",
            lambda job: self._restorer.restore(snapshot_id, job, request_id=request_id),
            limit_seconds,
            report,
        )
        self._offsite.wake()
        self._metrics.writer_wait.labels("restore").set(restored.write_lock_seconds)
        log.warning(
            "the database was restored",
            snapshot_id=snapshot_id,
            pre_restore_snapshot_id=restored.pre_restore_snapshot_id,
            held_runs=len(restored.held_run_ids),
            held_campaigns=len(restored.held_campaign_ids),
            incarnation=restored.incarnation,
        )
        return restored

    async def verify(self, snapshot_id: str, *, limit_seconds: float | None = None) -> Snapshot:
        """Return the snapshot with its state after the proof."""

        def prove(job: Job) -> Snapshot:
            self._offsite.bring(snapshot_id, job)
            return verify(self._vault, self._vault.get(snapshot_id), job, now=self._clock.now())

        known = await self._run("verify", prove, limit_seconds)
        self._offsite.wake()
        if known.damage:
            log.error("a snapshot is damaged", snapshot_id=snapshot_id, damage=known.damage)
        return known

    async def take_scheduled(self) -> bool:
        """Take the snapshot that is due and remove what the settings do not keep; False when it failed."""
        try:
            await self.create(Wish(trigger=Trigger.CRON))
        except MailerError as error:
            log.error("the scheduled snapshot could not be taken", error=error.message, reason=error.reason)
            return False
        try:
            await self.prune(self._settings.policy, validate_only=False, own_only=True)
        except MailerError as error:
            log.warning("old snapshots stay until the next time", error=error.message)
        return True

    async def drill(self) -> bool:
        """Restore the newest snapshot into a scratch file and look at it; False when that failed."""
        try:
            tried = await self._run("drill", lambda job: drill.drill(self._vault, self._stages, job))
        except MailerError as error:
            log.error("the restore drill failed", error=error.message, reason=error.reason)
            await self._note(self._status.drill_failed(self._clock.now(), error.message))
            return False
        log.info("the restore drill went well", snapshot_id=tried.snapshot_id)
        now = self._clock.now()
        await self._note(self._status.as_of(now).drilled(now))
        return True

    async def change_settings(self, settings: Settings) -> None:
        """Keep new settings; they are valid when this returns. They have been checked."""
        before, self._settings = self._settings, settings
        try:
            with translated():
                async with self._writing:
                    await asyncio.to_thread(self._settings_file.store, settings)
        except (OSError, MailerError):
            self._settings = before
            raise
        if (before.backup_schedule, before.drill_schedule, before.time_zone) != (
            settings.backup_schedule,
            settings.drill_schedule,
            settings.time_zone,
        ):
            await self._note(self._status.watched(self._clock.now()))
        log.info(
            "settings changed",
            schedule=settings.backup_schedule,
            zone=settings.time_zone,
            retention=settings.backup_retention,
        )
        for callback in self._when_settings_change:
            callback()

    async def _note(self, status: Status) -> None:
        self._status = status
        try:
            async with self._writing:
                await asyncio.to_thread(self._status_file.store, self._status)
        except OSError as error:
            # On a full disk, say: what has happened counts, and this process still knows it.
            log.warning("how the schedule is doing cannot be stored", error=str(error))

    async def _run(
        self,
        operation: str,
        call: Callable[[Job], T],
        limit_seconds: float | None = None,
        report: Report | None = None,
    ) -> T:
        """Run a call in a thread. Cancelled, it is stopped and waited for: nothing goes on behind our back."""
        limit = min(self._limit_seconds, limit_seconds or self._limit_seconds)
        job = Job(self._clock, limit_seconds=limit, report=report)
        began, outcome = self._clock.monotonic(), "error"
        work = asyncio.create_task(asyncio.to_thread(call, job))
        try:
            with translated():
                result = await asyncio.shield(work)
            outcome = "ok"
            return result
        except asyncio.CancelledError:
            outcome = "cancelled"
            job.stop()
            await asyncio.wait({work})
            work.exception()
            raise
        except MailerError as error:
            outcome = error.reason.lower()
            raise
        finally:
            self._metrics.operations.labels(operation, outcome).inc()
            self._metrics.seconds.labels(operation).observe(self._clock.monotonic() - began)


def _newest(snapshots: list[Snapshot], now: datetime) -> datetime | None:
    """Return when the newest good snapshot was taken, up to now; what a restore replaced does not count."""
    return next(
        (
            one.created_time
            for one in snapshots
            if one.state is State.OK and one.trigger is not Trigger.PRE_RESTORE and one.created_time <= now
        ),
        None,
    )
