"""When a campaign fires: checked once, then plain arithmetic with `now` as an argument."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from mailer.cron import Cron, CronProblem, parse_cron

DEFAULT_LATENESS = timedelta(minutes=60)
LONGEST_LATENESS = timedelta(days=30)
LATEST = timedelta(days=366 * 5)
_LOOKS_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=35), timedelta(days=366 * 6))
CLOCK_TOLERANCE = timedelta(seconds=5)
"""How far in the past a send_time may lie: clocks of two machines differ, and calls take time."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One instant (`send_time`), or again and again (`cron` in `time_zone`)."""

    send_time: datetime | None = None
    cron: str = ""
    time_zone: str = ""
    max_lateness: timedelta = DEFAULT_LATENESS

    @property
    def is_recurring(self) -> bool:
        """Say whether it fires more than once."""
        return bool(self.cron)

    def first_due(self, now: datetime) -> datetime | None:
        """Return when it fires first: `send_time` however late that is, or the next slot of the cron."""
        return self.next_slot(now) if self.cron else self.send_time

    def next_slot(self, after: datetime) -> datetime | None:
        """Return the first slot of a recurring schedule later than `after`; None when there is none."""
        return Cron(self.cron).next_firing(ZoneInfo(self.time_zone), after) if self.cron else None

    def due_times(self, now: datetime, *, count: int = 5) -> list[datetime]:
        """Return the next firings, at most `count`."""
        times: list[datetime] = []
        due = self.first_due(now)
        while due is not None and len(times) < count:
            times.append(due)
            due = self.next_slot(due)
        return times

    def slot_to_fire(self, due: datetime, now: datetime) -> datetime:
        """Return the slot that fires at `now` when `due` has come.

        A recurring campaign whose slots passed while the run before was under way, or while nothing ran, fires
        only for the latest of them.
        """
        # From ever further back, so that a cron of every minute is not followed through a whole year.
        for window in _LOOKS_BACK:
            begin = max(due, now - window)
            slot = due if begin == due else None
            later = self.next_slot(begin)
            while later is not None and later <= now:
                slot, later = later, self.next_slot(later)
            if slot is not None:
                return slot
        return due

    def is_missed(self, slot: datetime, now: datetime) -> bool:
        """Say whether the slot is too long ago to fire by itself."""
        return now - slot > self.max_lateness


def check_schedule(schedule: Schedule, now: datetime) -> tuple[Schedule, list[tuple[str, str]]]:
    """Return the schedule in its one spelling, and every problem as (field, what is wrong and the cure)."""
    problems: list[tuple[str, str]] = []
    cron = schedule.cron
    if schedule.send_time is not None:
        if schedule.send_time < now - CLOCK_TOLERANCE:
            problems.append(("send_time", "lies in the past: name a later instant, or leave it out to send now"))
        elif schedule.send_time > now + LATEST:
            problems.append(("send_time", "is more than five years away: name an earlier instant"))
    if cron:
        try:
            cron = parse_cron(cron, now=now).expression
        except CronProblem as problem:
            problems.append(("cron", str(problem)))
        if not schedule.time_zone:
            problems.append(("time_zone", 'is missing: name the zone the cron is read in, as in "Europe/Berlin"'))
        elif (wrong := _zone_problem(schedule.time_zone)) is not None:
            problems.append(("time_zone", wrong))
    elif schedule.time_zone:
        problems.append(("time_zone", "belongs to a cron: leave it out, an instant names its own offset"))
    if not timedelta() < schedule.max_lateness <= LONGEST_LATENESS:
        problems.append(("max_lateness", "use more than 0 seconds and at most 30 days (2592000s)"))
    return Schedule(schedule.send_time, cron, schedule.time_zone, schedule.max_lateness), problems


def _zone_problem(name: str) -> str | None:
    zones = _zones()
    if name in zones:
        return None
    close = get_close_matches(name[:64], zones, n=1)
    hint = f'did you mean "{close[0]}"?' if close else 'write an IANA name such as "Europe/Berlin" or "UTC"'
    return f"is not a known time zone: {hint}"


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
