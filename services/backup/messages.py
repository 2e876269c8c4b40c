"""Between the service's own words and those of the contract."""

from datetime import datetime, timedelta

from mailer.v1 import backup_pb2 as pb
from mailer.validation import Violations
from mailer.wire import from_duration, to_duration, to_timestamp
from services.backup.job import Phase, Progress
from services.backup.keeper import Health
from services.backup.pruning import Pruned
from services.backup.restore_book import Restored
from services.backup.retention import LONGEST_WITHIN, Policy
from services.backup.settings import Settings
from services.backup.shown import Copy, Shown
from services.backup.snapshot import State, Trigger

_STATES = {
    State.OK: pb.Snapshot.STATE_OK,
    State.DAMAGED: pb.Snapshot.STATE_DAMAGED,
    State.UNVERIFIED: pb.Snapshot.STATE_UNVERIFIED,
    State.LOCKED: pb.Snapshot.STATE_LOCKED,
}
_COPIES = {
    Copy.NONE: pb.Snapshot.COPY_STATE_UNSPECIFIED,
    Copy.WAITING: pb.Snapshot.COPY_STATE_WAITING,
    Copy.COPIED: pb.Snapshot.COPY_STATE_COPIED,
    Copy.ONLY_COPY: pb.Snapshot.COPY_STATE_ONLY_COPY,
    Copy.UNKNOWN: pb.Snapshot.COPY_STATE_UNKNOWN,
}
_TRIGGERS = {
    Trigger.MANUAL: pb.Snapshot.TRIGGER_MANUAL,
    Trigger.CRON: pb.Snapshot.TRIGGER_CRON,
    Trigger.PRE_RESTORE: pb.Snapshot.TRIGGER_PRE_RESTORE,
}
_PHASES = {
    Phase.COPYING: pb.BackupProgress.PHASE_COPYING,
    Phase.CHECKING: pb.BackupProgress.PHASE_CHECKING,
    Phase.PACKING: pb.BackupProgress.PHASE_PACKING,
    Phase.VERIFYING: pb.BackupProgress.PHASE_VERIFYING,
    Phase.CARRYING: pb.BackupProgress.PHASE_CARRYING,
    Phase.FETCHING: pb.BackupProgress.PHASE_FETCHING,
}


def snapshot_message(shown: Shown) -> pb.Snapshot:
    """Return a snapshot for the wire."""
    snapshot = shown.snapshot
    return pb.Snapshot(
        snapshot_id=snapshot.snapshot_id,
        create_time=to_timestamp(snapshot.created_time),
        trigger=_TRIGGERS[snapshot.trigger] if snapshot.packed_sha256 else pb.Snapshot.TRIGGER_UNSPECIFIED,
        state=_STATES[shown.state],
        verify_time=to_timestamp(snapshot.verified_time),
        size_bytes=snapshot.packed_size_bytes,
        database_size_bytes=snapshot.plain_size_bytes,
        sha256=snapshot.plain_sha256,
        engine=snapshot.engine,
        row_counts=snapshot.row_counts,
        pinned=snapshot.pinned,
        keep_reasons=shown.keep_reasons,
        note=snapshot.note,
        damage=snapshot.damage,
        key_id=snapshot.key_id,
        copy_state=_COPIES[shown.copy],
    )


def wanted_states(states: "list[pb.Snapshot.State.ValueType]", violations: Violations) -> frozenset[State]:
    """Return the states asked for; none mean all."""
    known = {number: state for state, number in _STATES.items()}
    if any(number not in known for number in states):
        violations.add("states", "use STATE_OK, STATE_DAMAGED, STATE_UNVERIFIED and STATE_LOCKED, or nothing for all")
    return frozenset(known[number] for number in states if number in known) or frozenset(State)


def created_message(shown: Shown) -> pb.BackupCreateResponse:
    """Return the answer of Create."""
    snapshot = shown.snapshot
    return pb.BackupCreateResponse(
        snapshot=snapshot_message(shown),
        duration=to_duration(timedelta(seconds=snapshot.duration_seconds)),
        writer_wait=to_duration(timedelta(seconds=snapshot.writer_wait_seconds)),
    )


def restored_message(restored: Restored) -> pb.BackupRestoreResponse:
    """Return the answer of Restore."""
    return pb.BackupRestoreResponse(
        snapshot_id=restored.snapshot_id,
        pre_restore_snapshot_id=restored.pre_restore_snapshot_id,
        tables=[
            pb.BackupRestoreResponse.TableChange(
                table=change.table,
                live_row_count=change.live_row_count,
                snapshot_row_count=change.snapshot_row_count,
            )
            for change in restored.tables
        ],
        held_run_ids=restored.held_run_ids,
        held_campaign_ids=restored.held_campaign_ids,
        sent_since_count=restored.sent_since_count,
        carried_row_count=restored.carried_row_count,
        write_lock=to_duration(timedelta(seconds=restored.write_lock_seconds)),
        incarnation=restored.incarnation,
    )


def pruned_message(pruned: Pruned) -> pb.BackupPruneResponse:
    """Return the answer of Prune."""
    return pb.BackupPruneResponse(
        kept=[pb.BackupPruneResponse.Kept(snapshot_id=one.snapshot_id, reasons=one.reasons) for one in pruned.kept],
        removed_snapshot_ids=pruned.removed,
        freed_bytes=pruned.freed_bytes,
        removed_copy_ids=pruned.removed_copies,
    )


def progress_message(progress: Progress) -> pb.BackupProgress:
    """Return how far an operation has come."""
    return pb.BackupProgress(
        phase=_PHASES[progress.phase],
        done_bytes=progress.done_bytes,
        total_bytes=progress.total_bytes,
    )


def health_message(health: Health, next_due: datetime | None) -> pb.BackupHealth:
    """Return how the schedule is doing."""
    status, copies = health.status, health.copies
    return pb.BackupHealth(
        last_success_time=to_timestamp(status.success_time),
        last_failure_time=to_timestamp(status.failure_time),
        last_failure=status.failure,
        next_due_time=to_timestamp(next_due),
        stale=health.stale,
        last_drill_time=to_timestamp(status.drill_time),
        last_copy_time=to_timestamp(copies.success_time),
        last_copy_failure_time=to_timestamp(copies.failure_time),
        last_copy_failure=copies.failure,
        waiting_copy_count=copies.waiting,
        copies_late=copies.late,
    )


def settings_message(settings: Settings) -> pb.BackupSettings:
    """Return the settings for the wire."""
    rules = settings.further_rules
    policy = None
    if not rules.is_empty:
        policy = pb.RetentionPolicy(
            keep_hourly_count=rules.keep_hourly,
            keep_daily_count=rules.keep_daily,
            keep_weekly_count=rules.keep_weekly,
            keep_monthly_count=rules.keep_monthly,
            keep_yearly_count=rules.keep_yearly,
            keep_within=to_duration(rules.keep_within) if rules.keep_within else None,
        )
    return pb.BackupSettings(
        backup_schedule=settings.backup_schedule,
        time_zone=settings.time_zone,
        backup_retention=settings.backup_retention,
        retention_policy=policy,
        drill_schedule=settings.drill_schedule,
    )


def read_policy(message: pb.RetentionPolicy, violations: Violations, *, field: str) -> Policy:
    """Return the policy of a request."""
    within = timedelta()
    try:
        within = from_duration(message.keep_within)
        if within < timedelta():
            raise ValueError("must not be negative")
        if within > LONGEST_WITHIN:
            raise ValueError(f"use at most 100 years ({LONGEST_WITHIN // timedelta(seconds=1)}s)")
    except ValueError as error:
        violations.add(f"{field}.keep_within", str(error))
    return Policy(
        keep_last=message.keep_last_count,
        keep_hourly=message.keep_hourly_count,
        keep_daily=message.keep_daily_count,
        keep_weekly=message.keep_weekly_count,
        keep_monthly=message.keep_monthly_count,
        keep_yearly=message.keep_yearly_count,
        keep_within=within,
    )
