"""How long accounts with caps take for so many messages: plain arithmetic for a plan."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Caps:
    """What an account takes at most; 0 means no limit."""

    per_second: int = 0
    per_minute: int = 0
    per_hour: int = 0
    per_day: int = 0

    @property
    def is_unlimited(self) -> bool:
        """Say whether nothing bounds the account."""
        return not (self.per_second or self.per_minute or self.per_hour or self.per_day)

    def sent_within(self, seconds: float) -> float:
        """Return how many messages fit into a span that begins with fresh windows."""
        windows = ((self.per_second, 1), (self.per_minute, 60), (self.per_hour, 3600), (self.per_day, 86400))
        # A window's share is there at its start, so a span touches one window more than it has whole ones.
        return min((cap * (seconds // length + 1) for cap, length in windows if cap), default=float("inf"))


def time_to_send(count: int, accounts: Iterable[Caps]) -> timedelta | None:
    """Return how long the accounts together need for so many; None when no cap bounds them, or there is none."""
    bounded = list(accounts)
    if not bounded or any(account.is_unlimited for account in bounded):
        return None
    low, high = 0, 1
    while _sent(bounded, high) < count:
        low, high = high, high * 2
        if high > 10 * 366 * 86400:
            return None
    while low < high:
        middle = (low + high) // 2
        if _sent(bounded, middle) >= count:
            high = middle
        else:
            low = middle + 1
    return timedelta(seconds=low)


def _sent(accounts: list[Caps], seconds: int) -> float:
    return sum(account.sent_within(seconds) for account in accounts)
