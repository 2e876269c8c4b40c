"""Notices an account that its provider has suspended, from refusals that blame the recipients. Pure.

A suspended account refuses everybody for good. Believing it would mark a whole list as failed, so refusals
that come in a row, or too often, hold the account, and those that led to the hold are taken back.
"""

from collections import deque
from dataclasses import dataclass

REFUSALS_IN_A_ROW = 10
DISTINCT_DOMAINS = 5
WINDOW = 100
REFUSED_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class GuardTrip:
    """Why the account is held, and which deliveries were refused in the window that led to it."""

    reason: str
    refused_keys: tuple[str, ...]


class Guard:
    """Watches the final words about recipients that one account brings home."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._row: deque[tuple[str, str]] = deque(maxlen=REFUSALS_IN_A_ROW)  # (delivery key, domain)
        self._window: deque[str] = deque(maxlen=WINDOW)  # delivery key of a refusal, "" of an acceptance
        self._refused = 0
        self._tripped: GuardTrip | None = None

    def accepted(self) -> None:
        """Note a message that the server took."""
        self._row.clear()
        self._note("")

    def refused(self, delivery_key: str, domain: str) -> GuardTrip | None:
        """Note a permanent refusal; returns what to do when there were too many.

        Once tripped, every further refusal that was on its way trips again, with itself alone to be taken
        back.
        """
        if self._tripped is not None:
            return GuardTrip(self._tripped.reason, (delivery_key,))
        self._row.append((delivery_key, domain))
        self._note(delivery_key)
        domains = {domain for _, domain in self._row}
        if len(self._row) == REFUSALS_IN_A_ROW and len(domains) >= DISTINCT_DOMAINS:
            self._tripped = GuardTrip(
                f"refused {REFUSALS_IN_A_ROW} recipients at {len(domains)} domains in a row: the provider "
                "may have suspended the account; ask it, then release the account",
                tuple(key for key, _ in self._row),
            )
        elif len(self._window) == WINDOW and self._refused > REFUSED_SHARE * WINDOW:
            self._tripped = GuardTrip(
                f"refused {self._refused} of the last {WINDOW} recipients: the list is bad or the account is "
                "suspended; look at its deliveries, then release the account",
                tuple(key for key in self._window if key),
            )
        return self._tripped

    def reset(self) -> None:
        """Forget everything: a person has released the account."""
        self._row.clear()
        self._window.clear()
        self._refused = 0
        self._tripped = None

    def _note(self, delivery_key: str) -> None:
        if len(self._window) == WINDOW and self._window[0]:
            self._refused -= 1
        self._window.append(delivery_key)
        self._refused += bool(delivery_key)
