"""The options that say when a campaign fires, and the schedule that they make."""

from dataclasses import dataclass
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from mailer.cli.account_options import duration
from mailer.cli.failure import usage
from mailer.cli.local_time import Fold, TimeProblem, parse_instant, parse_zone
from mailer.v1 import scheduler_pb2
from mailer.wire import to_timestamp

_WHEN = "When"

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

    def to_schedule(self) -> scheduler_pb2.Schedule | None:
        """Return the schedule; None when nothing was said. Raises Failure for what cannot be meant."""
        chosen = [name for name, given in (("--at", self.at), ("--now", self.now), ("--cron", self.cron)) if given]
        if len(chosen) > 1:
            raise usage(f"{' and '.join(chosen)} exclude each other: choose one.")
        if not chosen:
            if self.zone or self.fold or self.max_lateness:
                raise usage("--zone, --fold and --max-lateness need a time: add --at, --cron or --now.")
            return None
        schedule = scheduler_pb2.Schedule()
        zone = self._zone()
        try:
            if self.at:
                schedule.send_time.CopyFrom(to_timestamp(parse_instant(self.at, zone=zone, fold=self.fold)))
        except TimeProblem as problem:
            raise usage(f"--at {problem}.") from None
        if self.fold and not self.at:
            raise usage("--fold belongs to --at: leave it out.")
        if self.cron:
            if zone is None:
                raise usage("--cron does not say where: add --zone Europe/Berlin, or --zone UTC.")
            schedule.cron, schedule.time_zone = self.cron, zone.key
        elif self.now and zone is not None:
            raise usage("--now needs no --zone: leave it out.")
        if self.max_lateness:
            schedule.max_lateness.CopyFrom(duration(self.max_lateness, "--max-lateness"))
        return schedule

    def required(self) -> scheduler_pb2.Schedule:
        """Return the schedule; raises Failure when nothing was said."""
        schedule = self.to_schedule()
        if schedule is None:
            raise usage('say when: --now, --at "2026-12-01 09:00" --zone Europe/Berlin, or --cron.')
        return schedule

    def _zone(self) -> ZoneInfo | None:
        if self.zone is None:
            return None
        try:
            return parse_zone(self.zone)
        except TimeProblem as problem:
            raise usage(f"--zone {problem}.") from None
