"""When a cron expression fires in a zone: next, as mailer.cron says, and last, which is found by the same rules."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from mailer.cron import Cron, parse_cron

LONG_AGO = datetime.min.replace(tzinfo=UTC)

_LOOKS_BACK = timedelta(days=365 * 5)
_MINUTE = timedelta(minutes=1)
# An expression is the same every day it is read: whether it ever fires is asked from a fixed day on.
_A_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_NO_PLACES = frozenset({"Factory", "localtime"})


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression and the zone it is read in. Make one with `parse`."""

    cron: Cron
    zone: ZoneInfo

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first firing after the instant, in UTC; None when there is none in five years."""
        return self.cron.next_firing(self.zone, instant)

    def last_before(self, instant: datetime) -> datetime:
        """Return the last firing at or before the instant, in UTC; LONG_AGO when there was none in five years.

        Found by halving what is left between a firing and the instant, so that one rule says when it fires.
        """
        firing = self.next_after(instant - _LOOKS_BACK)
        if firing is None or firing > instant:
            return LONG_AGO
        last, end = firing, instant
        while end - last >= _MINUTE:
            middle = last + (end - last) / 2
            firing = self.next_after(middle)
            if firing is None or firing > instant:
                end = middle
            else:
                last = firing
        return last


def parse(expression: str, zone: str) -> Schedule:
    """Return the schedule. Raises ValueError, with the cure, for what cannot be used."""
    return Schedule(parse_cron(expression, now=_A_DAY), check_zone(zone))


def check_expression(expression: str) -> str:
    """Return the expression in its one spelling. Raises ValueError with the cure."""
    return parse_cron(expression, now=_A_DAY).expression


def check_zone(zone: str) -> ZoneInfo:
    """Return the zone. Raises ValueError with the cure."""
    if zone not in _zones():
        raise ValueError('must be an IANA time zone, for example "Europe/Berlin"')
    return ZoneInfo(zone)


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    """Return the names of places and of UTC: what they mean does not depend on the machine."""
    return frozenset(available_timezones()) - _NO_PLACES
