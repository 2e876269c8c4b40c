"""The options that say which snapshots stay, and the policy that they make."""

from dataclasses import dataclass
from typing import Annotated

import typer

from mailer.cli.account_options import duration
from mailer.v1 import backup_pb2

_RULES = "Rules: a snapshot stays that any of them keeps"

KeepLast = Annotated[int | None, typer.Option(min=0, metavar="N", help="The newest N.", rich_help_panel=_RULES)]
KeepHourly = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="One for each of N hours.", rich_help_panel=_RULES)
]
KeepDaily = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="One for each of N days.", rich_help_panel=_RULES)
]
KeepWeekly = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="One for each of N weeks.", rich_help_panel=_RULES)
]
KeepMonthly = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="One for each of N months.", rich_help_panel=_RULES)
]
KeepYearly = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="One for each of N years.", rich_help_panel=_RULES)
]
KeepWithin = Annotated[
    str | None, typer.Option(metavar="SPAN", help='Everything younger than "36h", "7d".', rich_help_panel=_RULES)
]


@dataclass(frozen=True, kw_only=True)
class RetentionOptions:
    """What was said about what stays; None means: nothing."""

    keep_last: int | None = None
    keep_hourly: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    keep_yearly: int | None = None
    keep_within: str | None = None

    def to_policy(self) -> backup_pb2.RetentionPolicy | None:
        """Return the policy; None when nothing was said."""
        policy = backup_pb2.RetentionPolicy()
        return policy if self.fill(policy) else None

    def fill(self, policy: backup_pb2.RetentionPolicy) -> list[str]:
        """Put what was said into the policy; returns the names of the fields."""
        counts = {
            "keep_last_count": self.keep_last,
            "keep_hourly_count": self.keep_hourly,
            "keep_daily_count": self.keep_daily,
            "keep_weekly_count": self.keep_weekly,
            "keep_monthly_count": self.keep_monthly,
            "keep_yearly_count": self.keep_yearly,
        }
        named = {field: count for field, count in counts.items() if count is not None}
        for field, count in named.items():
            setattr(policy, field, count)
        if self.keep_within is None:
            return list(named)
        policy.keep_within.CopyFrom(duration(self.keep_within, "--keep-within"))
        return [*named, "keep_within"]
