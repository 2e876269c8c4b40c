"""The options that say when a campaign fires, and the schedule that they make."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from mailer.cli.account_options import duration
from mailer.cli.failure import usage
from mailer.cli.local_time import Fold, TimeProblem, parse_instant, parse_zone
from mailer.v1 import scheduler_pb2
from mailer.wire import to_timestamp

_WHEN = "When"
# Whoever types the present minute means now; the scheduler is as patient.
_JUST_NOW = timedelta(seconds=5)

At = Annotated[
    str | None,
    typer.Option(metavar="TIME", help='"2026-12-01 09:00" with --zone, or with an offset.', rich_help_panel=_WHEN),
]
Zone = Annotated[
    str | None, typer.Option(metavar="ZONE", help="IANA name, such as Europe/Berlin.", rich_help_panel=_WHEN)
]
WhichFold = Annotated[
    Fold | None, typer.Option("--fold", help="Which one, where a clock shows the time twice.", rich_help_panel=_WHEN)
]
Now = Annotated[bool, typer.Option("--now", help="Send at once.", rich_help_panel=_WHEN)]
Cron = Annotated[
    str | None, typer.Option(metavar="CRON", help='Again and again: "0 9 * * 1", with --zone.', rich_help_panel=_WHEN)
]
MaxLateness = Annotated[
    str | None,
    typer.Option(metavar="SPAN", help="Later than this it waits for a resume. Default 1h.", rich_help_panel=_WHEN),
]


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """What was said about when."""

    at: str | None
    zone: str | None
    fold: Fold | None
    now: bool
    cron: str | None
    max_lateness: str | None

    def to_schedule(self, *, now: datetime) -> scheduler_pb2.Schedule | None:
        """Return the schedule; None when nothing was said. Raises Failure for what cannot be meant."""
        chosen = [name for name, given in (("--at", self.at), ("--now", self.now), ("--cron", self.cron)) if given]
        if len(chosen) > 1:
            raise usage(f"{' and '.join(chosen)} exclude each other: choose one.")
        if not chosen:
            if self.zone or self.fold or self.max_lateness:
                raise usage("--zone, --fold and --max-lateness need a time: add --at, --cron or --now.")
            return None
        schedule = scheduler_pb2.Schedule()
        zone = self.named_zone()
        try:
            if self.at:
                moment = parse_instant(self.at, zone=zone, fold=self.fold)
                if moment < now - _JUST_NOW:
                    raise TimeProblem(f'"{self.at}" lies in the past: name a later time, or use --now instead')
                schedule.send_time.CopyFrom(to_timestamp(moment))
        except TimeProblem as problem:
            raise usage(f"--at {problem}.") from None
        if self.fold and not self.at:
            raise usage("--fold belongs to --at: leave it out.")
        if self.cron:
            if zone is None:
                raise usage("--cron does not say where: add --zone Europe/Berlin, or --zone UTC.")
            schedule.cron, schedule.time_zone = _checked(self.cron, now), zone.key
        elif self.now and zone is not None:
            raise usage("--now needs no --zone: leave it out.")
        if self.max_lateness:
            schedule.max_lateness.CopyFrom(duration(self.max_lateness, "--max-lateness"))
        return schedule

    def required(self, *, now: datetime) -> scheduler_pb2.Schedule:
        """Return the schedule; raises Failure when nothing was said."""
        schedule = self.to_schedule(now=now)
        if schedule is None:
            raise usage('say when: --now, --at "2026-12-01 09:00" --zone Europe/Berlin, or --cron.')
        return schedule

    def named_zone(self) -> ZoneInfo | None:
        """Return the zone that was named; raises Failure when there is none of that name."""
        if self.zone is None:
            return None
        try:
            return parse_zone(self.zone)
        except TimeProblem as problem:
            raise usage(f"--zone {problem}.") from None


def _checked(cron: str, now: datetime) -> str:
    from mailer.cron import CronProblem, parse_cron  # noqa: PLC0415 (slow, and most campaigns go out once)

    try:
        return parse_cron(cron, now=now).expression
    except CronProblem as problem:
        raise usage(f'--cron "{cron}" {problem}.') from None
