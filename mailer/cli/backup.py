"""`mailer backup`: snapshots of the database, and the way back."""

from functools import partial
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.progress import DownloadColumn

from mailer.cli.backup_key import new_key
from mailer.cli.backup_settings import settings
from mailer.cli.backup_view import (
    created,
    health_text,
    prune_plan,
    restore_plan,
    snapshot_details,
    snapshot_state,
    snapshot_table,
)
from mailer.cli.command import Commands
from mailer.cli.exit_code import ExitCode
from mailer.cli.failure import Failure
from mailer.cli.listing import Limit, collect, print_list
from mailer.cli.question import Yes, confirm
from mailer.cli.retention_options import (
    KeepDaily,
    KeepHourly,
    KeepLast,
    KeepMonthly,
    KeepWeekly,
    KeepWithin,
    KeepYearly,
    RetentionOptions,
)
from mailer.cli.session import QUICK, Session
from mailer.cli.words import enum_word
from mailer.v1 import backup_pb2, backup_pb2_grpc, scheduler_pb2

commands = Commands("Snapshots of the database: taken while everything works, and restored without sending twice.")
commands.command("settings")(settings)
commands.command("new-key")(new_key)

_HOURS = 6 * 3600.0

Which = Annotated[
    str,
    typer.Argument(
        metavar="SNAPSHOT",
        help="Id of the snapshot, or: latest, the newest one. Those that a restore made of the state before it have "
        "to be named.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]


@commands.command()
async def create(
    context: typer.Context,
    *,
    note: Annotated[str, typer.Option(help="A remark kept with it.")] = "",
    pinned: Annotated[bool, typer.Option("--pin", help="Keep it whatever the rules say.")] = False,
    request_id: Annotated[str | None, typer.Option(metavar="ID", help="Makes the call repeatable.")] = None,
) -> None:
    """Take a snapshot; it is on disk, read back and proven when the command ends.

    Example: mailer backup create --note "before the update"
    """
    session = Session(context)
    request = backup_pb2.BackupCreateStreamRequest(request_id=request_id or uuid4().hex, note=note, pinned=pinned)
    async with session.backup() as backup:
        answer = await _with_progress(session, backup.CreateStream(request, timeout=_HOURS))
    session.out.answer(answer, lambda: created(session.out, answer))


@commands.command("list")
async def list_snapshots(context: typer.Context, *, limit: Limit = 100) -> None:
    """List the snapshots, newest first, and how the schedule is doing.

    Example: mailer backup list
    """
    session = Session(context)
    async with session.backup() as backup:
        request = backup_pb2.BackupListRequest()
        table = partial(snapshot_table, session.out)
        answer = await print_list(session.out, backup.List, request, "snapshots", table, limit=limit)
    if not session.out.as_json:
        session.out.print(health_text(answer.health))


@commands.command()
async def verify(context: typer.Context, snapshot: Which) -> None:
    """Read a snapshot whole and prove it; exit status 6 when it is damaged.

    Example: mailer backup verify latest
    """
    session = Session(context)
    async with session.backup() as backup:
        request = backup_pb2.BackupVerifyRequest(snapshot_id=await _snapshot_id(backup, snapshot))
        answer = await backup.Verify(request, timeout=_HOURS)
    session.out.answer(answer, lambda: snapshot_details(session.out, answer.snapshot))
    if snapshot_state(answer.snapshot) != "ok":
        raise typer.Exit(ExitCode.UNVERIFIED)


@commands.command()
async def prune(
    context: typer.Context,
    *,
    keep_last: KeepLast = None,
    keep_hourly: KeepHourly = None,
    keep_daily: KeepDaily = None,
    keep_weekly: KeepWeekly = None,
    keep_monthly: KeepMonthly = None,
    keep_yearly: KeepYearly = None,
    keep_within: KeepWithin = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove the snapshots that no rule keeps; without a rule, those of the settings apply.

    Example: mailer backup prune --keep-last 7 --keep-weekly 4 --dry-run
    """
    session = Session(context)
    options = RetentionOptions(
        keep_last=keep_last,
        keep_hourly=keep_hourly,
        keep_daily=keep_daily,
        keep_weekly=keep_weekly,
        keep_monthly=keep_monthly,
        keep_yearly=keep_yearly,
        keep_within=keep_within,
    )
    async with session.backup() as backup:
        policy = options.to_policy() or await _policy_of_settings(backup)
        answer = await backup.Prune(backup_pb2.BackupPruneRequest(policy=policy, validate_only=True), timeout=_HOURS)
        done = False
        if (answer.removed_snapshot_ids or answer.removed_copy_ids) and not dry_run:
            if _shows_plan(session, yes=yes):
                session.out.ask_about(prune_plan(session.out, answer, done=False))
            confirm("Remove them?", yes=yes)
            answer = await backup.Prune(backup_pb2.BackupPruneRequest(policy=policy), timeout=_HOURS)
            done = True
    session.out.answer(answer, lambda: prune_plan(session.out, answer, done=done))


@commands.command()
async def restore(
    context: typer.Context,
    snapshot: Which,
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    request_id: Annotated[str | None, typer.Option(metavar="ID", help="Makes the call repeatable.")] = None,
) -> None:
    """Bring a snapshot back while the services stay connected.

    What was sent since then stays known, unfinished runs wait until a person resumes them, and the state before is
    kept as a snapshot of its own.

    Example: mailer backup restore latest --dry-run
    """
    session = Session(context)
    key = request_id or uuid4().hex
    async with session.backup() as backup:
        wanted = await _snapshot_id(backup, snapshot)
        if dry_run or _shows_plan(session, yes=yes):
            request = backup_pb2.BackupRestoreStreamRequest(
                request_id=f"{key}:plan", snapshot_id=wanted, validate_only=True
            )
            plan = await _with_progress(session, backup.RestoreStream(request, timeout=_HOURS))
            if dry_run:
                session.out.answer(plan, lambda: restore_plan(session.out, plan, done=False))
                return
            session.out.ask_about(restore_plan(session.out, plan, done=False))
            confirm(f"Restore {wanted}?", yes=yes)
        stream = backup.RestoreStream(
            backup_pb2.BackupRestoreStreamRequest(request_id=key, snapshot_id=wanted), timeout=_HOURS
        )
        answer = await _with_progress(session, stream)
    session.out.answer(answer, lambda: restore_plan(session.out, answer, done=True))
    if answer.held_run_ids or answer.held_campaign_ids:
        session.out.note("Campaigns are held: resume or cancel them, see mailer campaign list --state held.")
        for command in await _resuming(session):
            session.out.note(f"  {command}")


def _shows_plan(session: Session, *, yes: bool) -> bool:
    """Say whether people see what would be done before it is; a script that reads JSON reads what was done."""
    return not (yes and session.out.as_json)


async def _resuming(session: Session) -> list[str]:
    """Return what to type for each campaign that is held; nothing when the scheduler cannot tell."""
    request = scheduler_pb2.ListCampaignsRequest(states=[scheduler_pb2.Campaign.STATE_HELD])
    try:
        async with session.scheduler() as scheduler:
            held = await collect(scheduler.ListCampaigns, request, "campaigns")
    except Failure:
        return []
    return [f"mailer campaign resume {one.campaign_id}    # {one.name}" for one in held.campaigns]


async def _with_progress(session: Session, stream: Any) -> Any:
    """Show how far a stream of progress has come; returns the result that it ends with."""
    result = None
    try:
        with session.out.progress(DownloadColumn(binary_units=True)) as bars:
            task = bars.add_task("Beginning", total=None)
            async for event in stream:
                if event.WhichOneof("event") == "result":
                    result = event.result
                    continue
                phase = backup_pb2.BackupProgress.Phase.Name(event.progress.phase)
                bars.update(
                    task,
                    description=enum_word(phase, "PHASE_").capitalize(),
                    completed=event.progress.done_bytes,
                    total=event.progress.total_bytes or None,
                )
    finally:
        stream.cancel()
    assert result is not None
    return result


async def _snapshot_id(backup: "backup_pb2_grpc.BackupAsyncStub", wanted: str) -> str:
    """Return the id, with "latest" for the newest one that is not known to be damaged.

    Nor one of the state before a restore: right after a restore that is the newest, and would undo it.
    """
    if wanted != "latest":
        return wanted
    states = [backup_pb2.Snapshot.STATE_OK, backup_pb2.Snapshot.STATE_UNVERIFIED]
    usable = await collect(backup.List, backup_pb2.BackupListRequest(states=states), "snapshots")
    for snapshot in usable.snapshots:
        if snapshot.trigger != backup_pb2.Snapshot.TRIGGER_PRE_RESTORE:
            return snapshot.snapshot_id
    raise Failure(await _why_no_latest(backup, usable), ExitCode.NOT_FOUND)


async def _why_no_latest(backup: "backup_pb2_grpc.BackupAsyncStub", usable: backup_pb2.BackupListResponse) -> str:
    if usable.snapshots:
        return "there are only snapshots of the state before a restore: name one, mailer backup list shows them."
    every = await backup.List(backup_pb2.BackupListRequest(page_size=1), timeout=QUICK)
    if every.snapshots:
        return "every snapshot is damaged or locked: mailer backup list says why."
    return "there is no snapshot yet: mailer backup create takes one."


async def _policy_of_settings(backup: "backup_pb2_grpc.BackupAsyncStub") -> backup_pb2.RetentionPolicy:
    kept = (await backup.GetSettings(backup_pb2.BackupGetSettingsRequest(), timeout=QUICK)).settings
    policy = backup_pb2.RetentionPolicy()
    policy.CopyFrom(kept.retention_policy)
    policy.keep_last_count = kept.backup_retention
    return policy
