"""How snapshots and what is planned with them look in a terminal."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from mailer.cli.output import Column, Output, state
from mailer.cli.words import count_of, enum_word, instant, size, span
from mailer.v1 import backup_pb2

_RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def snapshot_state(snapshot: backup_pb2.Snapshot) -> str:
    """Return the word for what is known about its soundness."""
    return enum_word(backup_pb2.Snapshot.State.Name(snapshot.state), "STATE_")


def snapshot_trigger(snapshot: backup_pb2.Snapshot) -> str:
    """Return the word for why it was taken."""
    return enum_word(backup_pb2.Snapshot.Trigger.Name(snapshot.trigger), "TRIGGER_")


def snapshot_copy(snapshot: backup_pb2.Snapshot) -> str:
    """Return the word for how it is with its copy off the machine; nothing when none is made."""
    return enum_word(backup_pb2.Snapshot.CopyState.Name(snapshot.copy_state), "COPY_STATE_")


def snapshot_table(out: Output, snapshots: Iterable[backup_pb2.Snapshot]) -> RenderableType | str:
    """Return the list of snapshots."""
    columns = (
        Column("id"),
        Column("shows"),
        Column("state", is_word=True),
        Column("copy", is_word=True),
        Column("size", "right"),
        Column("taken", optional=True),
        Column("kept because", optional=True),
        Column("note", optional=True),
    )
    rows = (
        (
            one.snapshot_id,
            instant(one.create_time),
            state(snapshot_state(one)),
            state(snapshot_copy(one)),
            size(one.size_bytes),
            snapshot_trigger(one),
            ", ".join([*(["pinned"] if one.pinned else []), *one.keep_reasons]) or "the next prune removes it",
            one.damage or _locked(one) or one.note,
        )
        for one in snapshots
    )
    return out.table(columns, rows, empty="There is no snapshot yet. Take one: mailer backup create")


def _locked(snapshot: backup_pb2.Snapshot) -> str:
    is_locked = snapshot.state == backup_pb2.Snapshot.STATE_LOCKED
    return f"the service was not given key {snapshot.key_id}" if is_locked else ""


def snapshot_details(out: Output, snapshot: backup_pb2.Snapshot) -> RenderableType:
    """Return everything about one snapshot."""
    return out.fields(_details(snapshot))


def created(out: Output, answer: backup_pb2.BackupCreateResponse) -> RenderableType:
    """Return the snapshot that was taken, and what that cost."""
    cost = (("took", span(answer.duration)), ("writers waited", span(answer.writer_wait)))
    return out.fields((*_details(answer.snapshot), *cost))


def _details(snapshot: backup_pb2.Snapshot) -> list[tuple[str, str | Text]]:
    rows = sum(snapshot.row_counts.values())
    return [
        ("id", snapshot.snapshot_id),
        ("shows", instant(snapshot.create_time)),
        ("taken", snapshot_trigger(snapshot)),
        ("state", state(snapshot_state(snapshot))),
        ("damage", snapshot.damage),
        ("proven", instant(snapshot.verify_time)),
        ("size", f"{size(snapshot.size_bytes)}, the database {size(snapshot.database_size_bytes)}"),
        ("holds", f"{count_of(rows, 'row')} in {count_of(len(snapshot.row_counts), 'table')}"),
        ("sha256", snapshot.sha256),
        ("copy", snapshot_copy(snapshot)),
        ("encrypted", f"under key {snapshot.key_id}" if snapshot.key_id else ""),
        ("kept", "pinned" if snapshot.pinned else ", ".join(snapshot.keep_reasons)),
        ("note", snapshot.note),
    ]


def health_text(health: backup_pb2.BackupHealth) -> Text:
    """Return how the schedule is doing, in one line."""
    parts = [
        f"last {instant(health.last_success_time) or 'never'}",
        f"next {instant(health.next_due_time) or 'not scheduled'}",
    ]
    if health.HasField("last_drill_time"):
        parts.append(f"last drill {instant(health.last_drill_time)}")
    text = Text(f"Snapshots: {', '.join(parts)}.")
    if health.HasField("last_failure_time"):
        text.append(f" Failed {instant(health.last_failure_time)}: {health.last_failure.rstrip('.')}.", style="red")
    if health.stale:
        text.append(" The newest good one is older than the schedule says.", style="red")
    return text.append_text(_copies_text(health))


def _copies_text(health: backup_pb2.BackupHealth) -> Text:
    """Return how the copies off the machine are doing; nothing when none are made."""
    text = Text()
    if health.HasField("last_copy_time") or health.waiting_copy_count:
        text.append(f"\nCopies: last {instant(health.last_copy_time) or 'never'}")
        text.append(f", {health.waiting_copy_count} to be made." if health.waiting_copy_count else ".")
    if health.HasField("last_copy_failure_time"):
        text.append("" if text else "\nCopies:")
        text.append(
            f" Failed {instant(health.last_copy_failure_time)}: {health.last_copy_failure.rstrip('.')}.", style="red"
        )
    return text


def prune_plan(out: Output, plan: backup_pb2.BackupPruneResponse, *, done: bool) -> RenderableType:
    """Return what goes and what stays."""
    columns = (Column("snapshot"), Column(""), Column("why"))
    fate = "removed" if done else "would be removed"
    only_copies = [one for one in plan.removed_copy_ids if one not in plan.removed_snapshot_ids]
    rows = [
        *((one.snapshot_id, Text("kept", style="green"), ", ".join(one.reasons)) for one in plan.kept),
        *((one, Text(fate, style="red"), "no rule keeps it") for one in plan.removed_snapshot_ids),
        *((one, Text(f"copy {fate}", style="red"), "no rule keeps it") for one in only_copies),
    ]
    # Ids begin with the instant: one list by time reads better than two.
    rows.sort(key=lambda row: row[0], reverse=True)
    table = out.table(columns, rows, empty="There is no snapshot.")
    total = f"{count_of(len(plan.removed_snapshot_ids), 'snapshot')} {fate}, {size(plan.freed_bytes)} freed."
    if plan.removed_copy_ids:
        total += f" {count_of(len(plan.removed_copy_ids), 'copy', 'copies')} off the machine {fate}."
    return Group(table, Text(total))


def restore_plan(out: Output, plan: backup_pb2.BackupRestoreResponse, *, done: bool) -> RenderableType:
    """Return what a restore changes, or changed."""
    columns = (
        Column("table"),
        Column("rows before" if done else "rows now", "right"),
        Column("in the snapshot", "right"),
    )
    rows = ((one.table, f"{one.live_row_count:,}", f"{one.snapshot_row_count:,}") for one in plan.tables)
    return Group(
        out.table(columns, rows, empty="No table differs."),
        out.fields(
            [
                ("snapshot", plan.snapshot_id),
                ("sent since", f"{count_of(plan.sent_since_count, 'message')}, still known as sent afterwards"),
                ("carried over", count_of(plan.carried_row_count, "row")),
                ("runs held", "\n".join(plan.held_run_ids)),
                ("scheduled campaigns held", "\n".join(plan.held_campaign_ids)),
                (
                    "undo",
                    f"mailer backup restore {plan.pre_restore_snapshot_id}" if plan.pre_restore_snapshot_id else "",
                ),
                ("writers waited", span(plan.write_lock)),
                ("incarnation", plan.incarnation),
            ]
        ),
    )


def settings_view(out: Output, settings: backup_pb2.BackupSettings, health: backup_pb2.BackupHealth) -> RenderableType:
    """Return the settings and how the schedule is doing."""
    policy = settings.retention_policy
    rules = [
        f"{getattr(policy, f'keep_{rule}_count')} {rule}" for rule in _RULES if getattr(policy, f"keep_{rule}_count")
    ]
    if policy.HasField("keep_within"):
        rules.append(f"everything of the last {span(policy.keep_within)}")
    schedule = f"{settings.backup_schedule} ({settings.time_zone})" if settings.backup_schedule else "off"
    fields = out.fields(
        [
            ("schedule", schedule),
            ("keeps", f"the newest {settings.backup_retention}"),
            ("and", ", ".join(rules)),
            ("restore drill", settings.drill_schedule or "off"),
        ]
    )
    return Group(fields, health_text(health))
