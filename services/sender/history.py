"""What happened to one account before, as far as the table of replies asks for it (`replies.judge`). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.sender.replies.verdict import History


@dataclass(frozen=True, slots=True)
class _Row:
    count: int
    first: datetime
    last: datetime


class AccountHistory:
    """Counts how often a row of the table applied in a row: whatever works clears it.

    Attempts that ran side by side say a thing once: only one that began after the last was known says it
    again. Otherwise five connections that meet the same closed door would be five failures in a row.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self._rows: dict[str, _Row] = {}

    def seen_by(self, admitted_at: datetime, now: datetime) -> Mapping[str, History]:
        """Return what an attempt that began then has to know of, for `replies.judge`."""
        return {
            rule: History(row.count - (row.last > admitted_at), max(now - row.first, timedelta()))
            for rule, row in self._rows.items()
        }

    def note(self, rule: str, *, admitted_at: datetime, now: datetime) -> None:
        """Count one more time, unless the attempt began before the last time was known."""
        row = self._rows.get(rule)
        if row is None:
            self._rows[rule] = _Row(1, now, now)
        elif admitted_at >= row.last:
            self._rows[rule] = _Row(row.count + 1, row.first, now)

    def clear(self) -> None:
        """Forget everything: something worked, or a person changed the account."""
        if self._rows:
            self._rows.clear()
