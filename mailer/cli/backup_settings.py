"""`mailer backup settings`: when snapshots are taken, and which are kept."""

from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from mailer.cli.backup_view import settings_view
from mailer.cli.retention_options import (
    KeepDaily,
    KeepHourly,
    KeepMonthly,
    KeepWeekly,
    KeepWithin,
    KeepYearly,
    RetentionOptions,
)
from mailer.cli.session import QUICK, Session
from mailer.v1 import backup_pb2


async def settings(
    context: typer.Context,
    *,
    schedule: Annotated[
        str | None, typer.Option(metavar="CRON", help='When, such as "0 2 * * *"; "off" switches it off.')
    ] = None,
    zone: Annotated[str | None, typer.Option(metavar="ZONE", help="Where the schedules are read.")] = None,
    retention: Annotated[int | None, typer.Option(metavar="N", help="Keep the newest N.")] = None,
    drill: Annotated[
        str | None, typer.Option(metavar="CRON", help='When a restore is rehearsed; "off" switches it off.')
    ] = None,
    keep_hourly: KeepHourly = None,
    keep_daily: KeepDaily = None,
    keep_weekly: KeepWeekly = None,
    keep_monthly: KeepMonthly = None,
    keep_yearly: KeepYearly = None,
    keep_within: KeepWithin = None,
) -> None:
    """Show the settings, or change those that are named; valid at once.

    Example: mailer backup settings --schedule "0 3 * * *" --zone Europe/Berlin --retention 14
    """
    session = Session(context)
    changed = backup_pb2.BackupSettings()
    retention_options = RetentionOptions(
        keep_hourly=keep_hourly,
        keep_daily=keep_daily,
        keep_weekly=keep_weekly,
        keep_monthly=keep_monthly,
        keep_yearly=keep_yearly,
        keep_within=keep_within,
    )
    paths = []
    plain = {
        "backup_schedule": _cron(schedule),
        "time_zone": zone,
        "backup_retention": retention,
        "drill_schedule": _cron(drill),
    }
    for field, value in plain.items():
        if value is not None:
            setattr(changed, field, value)
            paths.append(field)
    async with session.backup() as backup:
        answer = await backup.GetSettings(backup_pb2.BackupGetSettingsRequest(), timeout=QUICK)
        # The rules are stored as a whole: what is not named stays as it is.
        changed.retention_policy.CopyFrom(answer.settings.retention_policy)
        if retention_options.fill(changed.retention_policy):
            paths.append("retention_policy")
        if not paths:
            session.out.answer(answer, lambda: settings_view(session.out, answer.settings, answer.health))
            return
        request = backup_pb2.BackupUpdateSettingsRequest(settings=changed, update_mask=FieldMask(paths=paths))
        updated = await backup.UpdateSettings(request, timeout=QUICK)
    session.out.answer(updated, lambda: settings_view(session.out, updated.settings, updated.health))


def _cron(text: str | None) -> str | None:
    return "" if text == "off" else text
