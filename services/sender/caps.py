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

HOUR_MINUTES = 60
DAY_MINUTES = 24 * 60
_NO_LIMIT = 1 << 60
_READING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Caps:
    """Most messages per time; 0 means no limit."""

    per_second_count: int = 0
    per_minute_count: int = 0
    per_hour_count: int = 0
    per_day_count: int = 0

    def __bool__(self) -> bool:
        """Say whether there is any limit."""
        return bool(self.per_second_count or self.per_minute_count or self.per_hour_count or self.per_day_count)


@dataclass(frozen=True, slots=True)
class CapReached:
    """A cap that leaves no room, and when it will at the earliest."""

    until: datetime
    reason: str


def minute_of(instant: datetime) -> int:
    """Return the whole minutes since 1970, as `account_usage` counts them."""
    return int(instant.timestamp()) // 60


class _Rolling:
    """Counts events of the last seconds, to the microsecond."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._stamps: deque[float] = deque()
        self._last = 0.0

    def add(self, stamp: float) -> None:
        self._stamps.append(stamp)

    def remove(self, stamp: float) -> None:
        with suppress(ValueError):  # it has left the window, or the clock was set in between
            self._stamps.remove(stamp)

    def count(self, stamp: float) -> int:
        if stamp < self._last - 1:
            back = self._last - stamp  # the clock was set back: keep the distances
            self._stamps = deque(old - back for old in self._stamps)
        self._last = stamp
        while self._stamps and self._stamps[0] <= stamp - self._seconds:
            self._stamps.popleft()
        return len(self._stamps)

    def leaves_at(self, position: int) -> float:
        """Return when the event at this position, oldest first, has left the window."""
        return self._stamps[position] + self._seconds if position < len(self._stamps) else float("inf")


@dataclass(frozen=True, slots=True)
class _Sums:
    """What is stored, added up for the minute in which it is asked."""

    minute: int
    others: int  # in this minute and the last, without what this process has sent
    hour: int
    day: int


class Usage:
    """Counts the messages of one account against its caps."""

    def __init__(self, caps: Caps) -> None:
        """Start with nothing stored: call `take_reading` before the first message."""
        self._caps = caps
        self._sharers = 1
        self._second, self._minute = _Rolling(1), _Rolling(60)
        self._on_the_way = 0
        self._stored: Mapping[int, int] = {}
        self._finished: dict[int, int] = {}  # since the last reading, by minute
        self._finished_while_reading: dict[int, int] = {}
        self._own: dict[int, int] = {}  # finished by this process in the last minutes
        self._sums: _Sums | None = None
        # So many more can be taken without counting anew: as time passes the counts only fall.
        self._headroom = 0
        self._reached: CapReached | None = None

    @property
    def caps(self) -> Caps:
        """Return the caps in force."""
        return self._caps

    @caps.setter
    def caps(self, caps: Caps) -> None:
        self._caps = caps
        self._headroom, self._reached = 0, None

    def has_room(self, now: datetime) -> bool:
        """Say whether one more message may be taken now."""
        return self._headroom > 0 or self.reached(now) is None

    def reached(self, now: datetime) -> CapReached | None:
        """Return the cap that leaves no room now, the one that lasts longest; None when there is room."""
        if not self._caps or self._headroom > 0:
            return None
        if self._reached is None or now >= self._reached.until:
            self._headroom, self._reached = self._count(now)
        return self._reached

    def next_room(self, now: datetime) -> datetime | None:
        """Return when there is room at the earliest; None when there is room now."""
        reached = self.reached(now)
        return reached.until if reached else None

    def take(self, now: datetime) -> None:
        """Count a message that is admitted."""
        self._on_the_way += 1
        self._headroom -= 1
        if self._caps.per_second_count:
            self._second.add(now.timestamp())
        if self._caps.per_minute_count:
            self._minute.add(now.timestamp())

    def give_back(self, admitted_at: datetime) -> None:
        """Forget a message that never came to its final dot."""
        self._on_the_way -= 1
        self._second.remove(admitted_at.timestamp())
        self._minute.remove(admitted_at.timestamp())
        self._headroom, self._reached = 0, None

    def finish(self, now: datetime, *, admitted_at: datetime) -> None:
        """Count a message whose intent is stored: from now on the stored counts know it.

        Its minute begins anew, for the server has it only now. Its second does not: at a second's length that would
        make the rate as low as the server is slow.
        """
        self._on_the_way -= 1
        if self._caps.per_minute_count:
            self._minute.remove(admitted_at.timestamp())
            self._minute.add(now.timestamp())
        if not self._caps:
            return
        minute = minute_of(now)
        for counts in (self._finished, self._finished_while_reading, self._own):
            counts[minute] = counts.get(minute, 0) + 1

    def begin_reading(self) -> None:
        """Note that the stored counts are about to be read: what finishes from now on may be missing."""
        self._finished_while_reading = {}

    def take_reading(self, stored: Mapping[int, int], *, sharers: int = 1) -> None:
        """Replace the stored counts (messages per minute, see `minute_of`) by what was read.

        `sharers` is how many processes use the account: each keeps to its share of a second.
        """
        self._stored, self._sharers = stored, max(sharers, 1)
        self._finished, self._finished_while_reading = self._finished_while_reading, {}
        self._sums, self._headroom, self._reached = None, 0, None

    def _count(self, now: datetime) -> tuple[int, CapReached | None]:
        """Return how many more may be taken, and when it is none, the cap that lasts longest."""
        stamp, sums = now.timestamp(), self._summed(minute_of(now))
        unread = self._on_the_way + sum(self._finished.values())
        headroom, longest = _NO_LIMIT, None
        for limit, room, name, until in (
            self._second_cap(stamp),
            self._minute_cap(stamp, sums),
            self._window_cap(self._caps.per_hour_count, sums.hour, unread, (HOUR_MINUTES, "hour"), stamp),
            self._window_cap(self._caps.per_day_count, sums.day, unread, (DAY_MINUTES, "24 hours"), stamp),
        ):
            headroom = min(headroom, room)
            if room <= 0 and (longest is None or until > longest[0]):
                longest = (until, f"{limit} per {name} reached")
        if longest is None:
            return headroom, None
        return 0, CapReached(_instant(max(longest[0], stamp)), longest[1])

    def _second_cap(self, stamp: float) -> tuple[int, int, str, float]:
        limit = self._caps.per_second_count
        if not limit:
            return 0, _NO_LIMIT, "", 0.0
        count = self._second.count(stamp)
        room = max(limit // self._sharers, 1) - count
        return limit, room, "second", self._second.leaves_at(-room) if room <= 0 else 0.0

    def _minute_cap(self, stamp: float, sums: _Sums) -> tuple[int, int, str, float]:
        limit = self._caps.per_minute_count
        if not limit:
            return 0, _NO_LIMIT, "", 0.0
        own = self._minute.count(stamp)
        room = limit - own - sums.others
        # What is stored knows no seconds: the older of its two minutes leaves as a whole.
        others_leave = (sums.minute + 1) * 60 if sums.others else float("inf")
        if self._sharers > 1:
            # What the others send between two readings is not seen: each keeps to its share.
            share = max(limit // self._sharers, 1) - own
            if share < room:
                return limit, share, "minute", self._minute.leaves_at(-share) if share <= 0 else 0.0
        return limit, room, "minute", min(self._minute.leaves_at(-room), others_leave) if room <= 0 else 0.0

    def _window_cap(
        self, limit: int, stored: int, unread: int, window: tuple[int, str], stamp: float
    ) -> tuple[int, int, str, float]:
        """Return the room under a cap of an hour or a day; `window` is its length in minutes, and its name."""
        if not limit:
            return 0, _NO_LIMIT, "", 0.0
        window_minutes, name = window
        left = limit - stored
        room = left - unread
        if room > 0 and self._sharers > 1:
            # The same here, of what was left at the last reading; the last few are dealt out by the book.
            share = max(left // self._sharers, 1) - unread
            return limit, share, name, stamp + _READING_SECONDS if share <= 0 else 0.0
        until = self._left_at(int(stamp) // 60, window_minutes, 1 - room) if room <= 0 else 0.0
        return limit, room, name, until

    def _left_at(self, minute: int, window_minutes: int, over: int) -> float:
        """Return when enough stored minutes have left the window to make room for one message."""
        for at in sorted(known for known in self._stored if known >= minute - window_minutes):
            over -= self._stored[at]
            if over <= 0:
                return (at + window_minutes + 1) * 60
        return (minute + window_minutes + 1) * 60

    def _summed(self, minute: int) -> _Sums:
        if self._sums is None or self._sums.minute != minute:
            others = hour = day = 0
            for at, count in self._stored.items():
                if at >= minute - DAY_MINUTES:
                    day += count
                    hour += count if at >= minute - HOUR_MINUTES else 0
                    others += count if at >= minute - 1 else 0
            self._own = {at: count for at, count in self._own.items() if at >= minute - 1}
            # This process counts its own to the second; only those that were read are among the stored ones.
            others -= sum(count - self._finished.get(at, 0) for at, count in self._own.items())
            self._sums = _Sums(minute, max(others, 0), hour, day)
        return self._sums


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=1)
