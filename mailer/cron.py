"""Cron expressions: which ones we accept, and when they fire next in a time zone.

croniter does the arithmetic. Around it stand the rules it lacks: exactly five fields, nothing random (R, H),
no expression that never fires, and one firing of a fixed hour on the night when clocks go back.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

MOST_CHARACTERS = 128
MOST_YEARS = 5

_FIELDS = ("minute", "hour", "day", "month", "weekday")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
# What may stand in a field besides digits and punctuation; L is the last day, W the nearest weekday.
_WORDS: tuple[set[str], ...] = (set(), set(), {"l", "w", "lw"}, set(_MONTHS), {*_WEEKDAYS, "l"})
_WORD = re.compile(r"[a-z]+")
_CHARACTERS = re.compile(r"[0-9a-z*,/#-]+")
_EVERY_HOUR = 24


class CronProblem(ValueError):
    """The text is no cron expression we can follow; `str()` says what is wrong and the cure."""


@dataclass(frozen=True)
class Cron:
    """A checked cron expression; make one with `parse_cron`."""

    expression: str

    @cached_property
    def _fires_every_hour(self) -> bool:
        hours = croniter.expand(self.expression)[0][1]
        return hours == ["*"] or len(hours) == _EVERY_HOUR

    def next_firing(self, zone: ZoneInfo, after: datetime) -> datetime | None:
        """Return the first firing later than `after` (aware) in UTC; None when there is none in five years.

        In spring a firing inside the skipped hour comes at its end. In autumn a firing inside the repeated
        hour comes once, at its first passage, unless the expression fires every hour anyway.
        """
        if after.tzinfo is None:
            raise ValueError("a naive datetime is no instant")
        try:
            firings = croniter(self.expression, after.astimezone(zone), max_years_between_matches=MOST_YEARS)
            while True:
                firing: datetime = firings.get_next(datetime)
                if self._fires_every_hour or not _is_second_passage(firing):
                    break
        except (CroniterError, OverflowError):
            return None
        instant = firing.astimezone(UTC)
        return instant if instant - after <= timedelta(days=366 * MOST_YEARS) else None


def parse_cron(expression: object, *, now: datetime) -> Cron:
    """Return the expression checked; it must fire within five years of `now`. Raises CronProblem."""
    if not isinstance(expression, str) or not expression.strip():
        raise CronProblem('is empty: write five fields, such as "0 9 * * 1" for Mondays at nine')
    if len(expression) > MOST_CHARACTERS:
        raise CronProblem(f"has {len(expression)} characters: use at most {MOST_CHARACTERS}")
    if expression.strip().startswith("@"):
        raise CronProblem('is a nickname: write five fields, such as "0 0 * * *" instead of @daily')
    fields = expression.lower().split()
    if len(fields) != len(_FIELDS):
        raise CronProblem(f"has {len(fields)} fields: write five, minute hour day month weekday, as in 0 9 * * 1")
    for name, field, words in zip(_FIELDS, fields, _WORDS, strict=True):
        _check_field(name, field, words)
    # Written with single blanks, so that one schedule has one spelling.
    cron = Cron(" ".join(fields))
    if not _is_valid(cron.expression) or cron.next_firing(ZoneInfo("UTC"), now) is None:
        raise CronProblem(
            f"never fires within {MOST_YEARS} years, or a number is out of range: correct it "
            "(minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-7)"
        )
    return cron


def next_firing(cron: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Return the first firing of a checked expression later than `after`, in UTC; see `Cron.next_firing`."""
    return Cron(cron).next_firing(zone, after)


def _check_field(name: str, field: str, words: set[str]) -> None:
    if not _CHARACTERS.fullmatch(field):
        raise CronProblem(f'the {name} "{field}" has a character that no cron field has: remove it')
    for word in _WORD.findall(field):
        if word in {"r", "h"}:
            raise CronProblem(f"the {name} is random ({word.upper()}): name a fixed one")
        if word not in words:
            raise CronProblem(f'the {name} cannot be "{word}": use numbers, or the three-letter name')


def _is_valid(expression: str) -> bool:
    return bool(croniter.is_valid(expression, strict=True))


def _is_second_passage(firing: datetime) -> bool:
    """Say whether the same wall time was there an hour before: the night when clocks go back."""
    return firing.fold == 1 and firing.utcoffset() != firing.replace(fold=0).utcoffset()
