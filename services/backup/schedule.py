"""When a cron expression fires: five fields, read in a zone, right on the nights when clocks change."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter
from croniter.croniter import CroniterBadDateError

_LONGEST_EXPRESSION = 128
_FIELDS = 5
_HORIZON = timedelta(days=5 * 366)
_HOUR = 1
# R is drawn anew each time the expression is read, H from a hash: nobody could say when it fires next.
_DRAWN = re.compile(r"(?<![A-Z])[RH](?![A-Z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression and the zone it is read in. Make one with `parse`."""

    expression: str
    zone: ZoneInfo

    def next_after(self, instant: datetime) -> datetime:
        """Return the first firing after the instant, in UTC."""
        firings = croniter(self.expression, instant.astimezone(self.zone), ret_type=datetime)
        while True:
            firing: datetime = firings.get_next(datetime)
            if not self._is_second(firing):
                return firing.astimezone(UTC)

    def last_before(self, instant: datetime) -> datetime:
        """Return the last firing at or before the instant, in UTC."""
        # croniter looks strictly before, and firings are on whole minutes.
        start = (instant + timedelta(microseconds=1)).astimezone(self.zone)
        firings = croniter(self.expression, start, ret_type=datetime)
        while True:
            firing: datetime = firings.get_prev(datetime)
            if not self._is_second(firing):
                return firing.astimezone(UTC)

    def _is_second(self, firing: datetime) -> bool:
        """Say whether it repeats a firing on the night when an hour comes twice.

        croniter fires `30 2 * * *` at both half past twos. That is right for an expression that fires every
        hour, and wrong for one that names its hours.
        """
        if self.expression.split()[_HOUR].startswith("*") or not firing.fold:
            return False
        return firing.utcoffset() != firing.replace(fold=0).utcoffset()


def parse(expression: str, zone: str) -> Schedule:
    """Return the schedule. Raises ValueError, with the cure, for what cannot be used."""
    return Schedule(check_expression(expression), check_zone(zone))


def check_expression(expression: str) -> str:
    """Return the expression with single spaces. Raises ValueError with the cure."""
    fields = expression.split()
    if len(expression) > _LONGEST_EXPRESSION or len(fields) != _FIELDS:
        raise ValueError('must be five cron fields (minute hour day month weekday), for example "0 2 * * *"')
    joined = " ".join(fields)
    if _DRAWN.search(joined):
        raise ValueError("must not use R or H: they stand for values that nobody chose")
    if not croniter.is_valid(joined):
        raise ValueError('is no cron expression; for example "0 2 * * *" is every day at two')
    if not _fires(joined):
        raise ValueError("does not fire within five years: there is no such day")
    return joined


def check_zone(zone: str) -> ZoneInfo:
    """Return the zone. Raises ValueError with the cure."""
    try:
        if not zone or zone.startswith((".", "/")) or ".." in zone:
            raise ValueError
        return ZoneInfo(zone)
    except (ValueError, OSError, LookupError):
        raise ValueError('must be an IANA time zone, for example "Europe/Berlin"') from None


def _fires(expression: str) -> bool:
    if not croniter.is_valid(expression, strict=True):
        return False
    start = datetime(2026, 1, 1, tzinfo=UTC)
    try:
        first: datetime = croniter(expression, start, ret_type=datetime).get_next(datetime)
    except CroniterBadDateError:
        return False
    return first - start <= _HORIZON
