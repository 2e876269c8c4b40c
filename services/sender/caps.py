"""How many messages an account may still take: rolling second, minute, hour and 24 hours. Pure.

Three sources are added up. What is stored (messages per minute, of all processes and of earlier lives of this
one), read again every second. What this process has finished since that reading. And what is on its way here,
counted before anybody knows whether it will reach its final dot. Where the sources overlap for a moment they
count twice: a cap is rather reached a second early than exceeded.
"""

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_HOUR_MINUTES = 60
DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Caps:
    """Most messages per time; 0 means no limit."""

    per_second_count: int = 0
    per_minute_count: int = 0
    per_hour_count: int = 0
    per_day_count: int = 0

    def __bool__(self) -> bool:
        """Say whether there is any limit."""
        return bool(
            self.per_second_count or self.per_minute_count or self.per_hour_count or self.per_day_count
        )


@dataclass(frozen=True, slots=True)
class CapReached:
    """A cap that leaves no room, and when it will at the earliest."""

    until: datetime
    reason: str


def minute_of(instant: datetime) -> int:
    """Return the whole minutes since 1970, as `account_usage` counts them."""
    return int(instant.timestamp()) // 60


class Usage:
    """Counts the messages of one account against its caps."""

    def __init__(self, caps: Caps, stored: Mapping[int, int] | None = None) -> None:
        """Start from what is stored: messages per minute (see `minute_of`)."""
        self.caps = caps
        self.sharers = 1  # processes that use the account: each keeps to its share of a second
        self._stored: Mapping[int, int] = stored or {}
        self._finished: dict[int, int] = {}  # since the last reading, by minute
        self._finished_while_reading: dict[int, int] = {}
        self._own: dict[int, int] = {}  # finished by this process in the last minutes
        self._on_the_way = 0
        self._stamps: deque[float] = deque()  # admissions of the last minute, oldest first
        self._last = 0.0
        self._sums: tuple[int, int, int, int] | None = None  # minute, others in two minutes, hour, day

    def take(self, now: datetime) -> None:
        """Count a message that is admitted."""
        self._on_the_way += 1
        if self.caps.per_second_count or self.caps.per_minute_count:
            self._stamps.append(now.timestamp())

    def give_back(self, admitted_at: datetime) -> None:
        """Forget a message that never came to its final dot."""
        self._on_the_way -= 1
        with suppress(ValueError):  # older than a minute, or the clock was set back in between
            self._stamps.remove(admitted_at.timestamp())

    def finish(self, now: datetime) -> None:
        """Count a message whose intent is stored: from now on the stored counts know it."""
        self._on_the_way -= 1
        if not self.caps:
            return
        minute = minute_of(now)
        for counts in (self._finished, self._finished_while_reading, self._own):
            counts[minute] = counts.get(minute, 0) + 1
        if len(self._own) > 3:
            self._own = {known: count for known, count in self._own.items() if known >= minute - 2}

    def begin_reading(self) -> None:
        """Note that the stored counts are about to be read: what finishes from now on may be missing."""
        self._finished_while_reading = {}

    def take_reading(self, stored: Mapping[int, int]) -> None:
        """Replace the stored counts by what was read."""
        self._stored = stored
        self._finished, self._finished_while_reading = self._finished_while_reading, {}
        self._sums = None

    def last_day_count(self, now: datetime) -> int:
        """Return the messages of the last 24 hours, with those on their way."""
        return self._summed(now)[3] + self._unread

    def reached(self, now: datetime) -> CapReached | None:
        """Return the cap that leaves no room now, the one that lasts longest; None when there is room."""
        caps = self.caps
        if not caps:
            return None
        stamp = now.timestamp()
        found: CapReached | None = None
        if caps.per_second_count or caps.per_minute_count:
            self._drop_old_stamps(stamp)
            found = self._second_reached(stamp) or self._minute_reached(now, stamp)
        if caps.per_hour_count or caps.per_day_count:
            minute, _, hour, day = self._summed(now)
            for limit, count, minutes, name in (
                (caps.per_hour_count, hour, _HOUR_MINUTES, "hour"),
                (caps.per_day_count, day, DAY_MINUTES, "24 hours"),
            ):
                over = count + self._unread - limit + 1
                if limit and over > 0:
                    found = CapReached(self._left_at(minute, minutes, over), f"{limit} per {name} reached")
        return found

    def next_room(self, now: datetime) -> datetime | None:
        """Return when there is room at the earliest; None when there is room now."""
        reached = self.reached(now)
        return reached.until if reached else None

    @property
    def _unread(self) -> int:
        return self._on_the_way + (sum(self._finished.values()) if self._finished else 0)

    def _second_reached(self, stamp: float) -> CapReached | None:
        if not self.caps.per_second_count:
            return None
        limit, stamps = max(self.caps.per_second_count // self.sharers, 1), self._stamps
        if len(stamps) >= limit and stamps[-limit] > stamp - 1:
            return CapReached(
                _instant(stamps[-limit] + 1), f"{self.caps.per_second_count} per second reached"
            )
        return None

    def _minute_reached(self, now: datetime, stamp: float) -> CapReached | None:
        limit = self.caps.per_minute_count
        if not limit:
            return None
        minute, others, _, _ = self._summed(now)
        over = len(self._stamps) + others - limit + 1
        if over <= 0:
            return None
        own_leaves = self._stamps[over - 1] + 60 if over <= len(self._stamps) else float("inf")
        # Stored counts know no seconds: the older of the two minutes leaves as a whole.
        others_leave = (minute + 1) * 60 if others else float("inf")
        until = min(own_leaves, others_leave)
        return CapReached(_instant(max(until, stamp)), f"{limit} per minute reached")

    def _drop_old_stamps(self, stamp: float) -> None:
        if stamp < self._last - 1:
            back = self._last - stamp  # the clock was set back: keep the distances
            self._stamps = deque(old - back for old in self._stamps)
        self._last = stamp
        while self._stamps and self._stamps[0] <= stamp - 60:
            self._stamps.popleft()

    def _summed(self, now: datetime) -> tuple[int, int, int, int]:
        """Return the present minute, what others used in it and the last, and the stored hour and day."""
        minute = minute_of(now)
        if self._sums is None or self._sums[0] != minute:
            others = hour = day = 0
            for at, count in self._stored.items():
                if at >= minute - DAY_MINUTES:
                    day += count
                    if at >= minute - _HOUR_MINUTES:
                        hour += count
                        if at >= minute - 1:
                            others += count
            # Own ones are counted to the second by their stamps; only what was read can hold them.
            for at, count in self._own.items():
                if at >= minute - 1:
                    others -= count - self._finished.get(at, 0)
            self._sums = (minute, max(others, 0), hour, day)
        return self._sums

    def _left_at(self, minute: int, window_minutes: int, over: int) -> datetime:
        """Return when enough stored minutes have left the window to make room for one message."""
        oldest = minute - window_minutes
        for at in sorted(known for known in self._stored if known >= oldest):
            over -= self._stored[at]
            if over <= 0:
                return _instant((at + window_minutes + 1) * 60)
        return _instant((minute + window_minutes + 1) * 60)


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=1)
