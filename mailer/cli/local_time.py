"""Local times as people write them, turned into instants without guessing.

Twice a year a wall clock skips an hour or shows it twice. Both are said, with the cure; neither is decided in silence.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from difflib import get_close_matches
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

_WRITTEN = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[ T](?P<time>\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)\s?(?P<offset>Z|[+-]\d\d:?\d\d)?",
    re.IGNORECASE,
)


class Fold(StrEnum):
    """Which of the two passages of a repeated hour is meant."""

    EARLIER = "earlier"
    LATER = "later"


class TimeProblem(ValueError):
    """The text names no instant; `str()` says why and what to write instead."""


def parse_zone(name: str) -> ZoneInfo:
    """Return the IANA time zone; raises TimeProblem with names that are close."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = {zone.casefold(): zone for zone in available_timezones()}
        tails = {zone.rpartition("/")[2]: known[zone] for zone in known}
        wanted = name.casefold().replace(" ", "_")
        close = [known[each] for each in get_close_matches(wanted, known, n=2)]
        close += [tails[each] for each in get_close_matches(wanted, tails, n=1) if tails[each] not in close]
        hint = f"write {' or '.join(close)}" if close else 'write an IANA name such as "Europe/Berlin"'
        raise TimeProblem(f'"{name}" is no time zone: {hint}') from None


def parse_instant(text: str, *, zone: ZoneInfo | None = None, fold: Fold | None = None) -> datetime:
    """Return the instant in UTC.

    "2026-12-01 09:00" is read in `zone`; "2026-12-01T09:00+01:00" and "...Z" say their offset themselves. `fold`
    decides an hour that the zone has twice. Raises TimeProblem.
    """
    local, offset = _parts(text)
    if offset is not None:
        return _at_offset(text, local, offset, zone)
    if zone is None:
        raise TimeProblem(
            f'"{text}" does not say where: add --zone Europe/Berlin, or an offset as in {local:%Y-%m-%dT%H:%M}+01:00'
        )
    earlier, later = (local.replace(tzinfo=zone, fold=which) for which in (0, 1))
    if earlier.utcoffset() == later.utcoffset():
        return earlier.astimezone(UTC)
    # In a gap a clock never shows the time: going to UTC and back comes out elsewhere.
    after = earlier.astimezone(UTC).astimezone(zone)
    if after.replace(tzinfo=None) != local:
        before = later.astimezone(UTC).astimezone(zone)
        raise TimeProblem(
            f"{local:%Y-%m-%d %H:%M} does not exist in {zone.key}: clocks skip that hour; "
            f"take {before:%H:%M} or {after:%H:%M}"
        )
    if fold is None:
        raise TimeProblem(
            f"{local:%Y-%m-%d %H:%M} comes twice in {zone.key}: {earlier.isoformat(timespec='minutes')} and "
            f"{later.isoformat(timespec='minutes')}; add --fold earlier or --fold later, or write the offset"
        )
    return (earlier if fold is Fold.EARLIER else later).astimezone(UTC)


def _parts(text: str) -> tuple[datetime, timezone | None]:
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        raise TimeProblem(f'"{text}" is no time: write "2026-12-01 09:00" with --zone, or 2026-12-01T09:00+01:00')
    try:
        local = datetime.fromisoformat(f"{match['date']}T{match['time']}")
    except ValueError as error:
        raise TimeProblem(f'"{text}" is no time that exists: {error}') from None
    if not 1970 <= local.year <= 9998:
        raise TimeProblem(f'"{text}" is not in our times: write a year from 1970 to 9998')
    written = match["offset"]
    if written is None:
        return local, None
    if written in {"Z", "z"}:
        return local, UTC
    hours, minutes = int(written[1:3]), int(written[-2:])
    if hours > 23 or minutes > 59:
        raise TimeProblem(f'"{written}" is no offset from UTC: write one such as +01:00')
    span = timedelta(hours=hours, minutes=minutes)
    return local, timezone(-span if written[0] == "-" else span)


def _at_offset(text: str, local: datetime, offset: timezone, zone: ZoneInfo | None) -> datetime:
    """Return the instant, provided that the zone, when one is named too, has that offset then."""
    instant = local.replace(tzinfo=offset).astimezone(UTC)
    if zone is not None and (there := instant.astimezone(zone)).replace(tzinfo=None) != local:
        raise TimeProblem(
            f'"{text}" and --zone {zone.key} disagree: at that instant it is {there.isoformat(timespec="minutes")} '
            "there; leave one of the two out"
        )
    return instant
