"""When a message that was not accepted is tried again: pure, with the time and the dice as arguments."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

DEFAULT_DELAYS = tuple(timedelta(minutes=minutes) for minutes in (5, 15, 30, 60, 120, 240))
JITTER = 0.2
QUICK_FIRST_DELAY = timedelta(seconds=1)
QUICK_MAX_DELAY = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Two tiers: quick tries in memory while the path fails, and durable ones after a temporary refusal."""

    delays: tuple[timedelta, ...] = DEFAULT_DELAYS
    quick_attempt_count: int = 3
    retry_on: tuple[str, ...] = ()

    def next_attempt(
        self,
        *,
        attempt_count: int,
        now: datetime,
        expire_time: datetime,
        random: Random,
        retry_after: timedelta | None = None,
    ) -> datetime | None:
        """Return when to try again after `attempt_count` counted attempts (at least 1), or None to give up.

        A time that the server named (`retry_after`) wins over the table; a time at or after `expire_time` is too late.
        """
        if retry_after is None:
            base = self.delays[min(attempt_count, len(self.delays)) - 1]
            delay = base * random.uniform(1, 1 + JITTER)
        else:
            delay = retry_after
        at = now + delay
        return at if at < expire_time else None

    def quick_delay(self, *, tries: int, random: Random) -> float | None:
        """Return the seconds to wait before the next quick try (full jitter), or None after the last.

        `tries` counts the tries made so far, at least 1.
        """
        if tries >= self.quick_attempt_count:
            return None
        longest = min(QUICK_FIRST_DELAY * (1 << min(tries - 1, 20)), QUICK_MAX_DELAY)
        return random.uniform(0, longest.total_seconds())
