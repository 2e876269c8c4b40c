"""How values of the contract read in a terminal."""

import re
from datetime import UTC, datetime, timedelta, tzinfo

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mailer.wire import from_duration, from_timestamp

# An SMTP server's reply must not be able to move the cursor or rename the window.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_STYLES = {
    "green": {"copied", "sent", "finished", "closed", "ok", "done", "serving", "yes"},
    "yellow": {
        "deferred",
        "paused",
        "held",
        "missed",
        "half open",
        "circuit half open",
        "unverified",
        "stalled",
        "disabled",
        "resting",
        "waiting",
        "only copy",
    },
    "red": {"failed", "open", "circuit open", "damaged", "expired", "stale", "locked"},
    "magenta": {"unknown"},
    "cyan": {"running", "dispatching", "sending", "scheduled", "active", "claimed", "dot intent"},
    "dim": {"cancelled", "suppressed", "draft", "pending"},
}


def printable(text: str) -> str:
    """Return the text without anything that a terminal would obey."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def style_of(word: str) -> str:
    """Return the colour of the word for a state."""
    return next((style for style, words in _STYLES.items() if word in words), "")


def enum_word(name: str, prefix: str) -> str:
    """Return "half open" for STATE_HALF_OPEN with the prefix "STATE_"; nothing for the unspecified value."""
    word = name.removeprefix(prefix).replace("_", " ").lower()
    return "" if word == "unspecified" else word


def instant(timestamp: Timestamp, zone: tzinfo | None = None) -> str:
    """Return the instant in the zone (default: this machine's), to the second; nothing for an unset one."""
    if timestamp == Timestamp():
        return ""
    try:
        local = from_timestamp(timestamp).astimezone(zone)
    except (ValueError, OverflowError):
        return f"{timestamp.seconds} s since 1970"
    return f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}"


def instant_here_and_there(timestamp: Timestamp, zone: tzinfo | None = None) -> str:
    """Return the instant in the zone, and in UTC where that is another time; nothing for an unset one."""
    there, here = instant(timestamp, zone), instant(timestamp, UTC)
    return there if there[:19] == here[:19] else f"{there} ({here})"


def clock_time(timestamp: Timestamp) -> str:
    """Return the time of day on this machine, with its zone; nothing for an unset one."""
    return "" if timestamp == Timestamp() else f"{from_timestamp(timestamp).astimezone():%H:%M:%S %Z}"


def span(duration: Duration) -> str:
    """Return a length of time as people say it: "0.35 s", "5 min", "2 h 30 min"; nothing for an unset one."""
    return "" if duration == Duration() else span_words(from_duration(duration))


def span_words(length: timedelta) -> str:
    """Return a length of time as people say it."""
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join([f"{count} {unit}" for count, unit in parts if count][:2])


def size(byte_count: int) -> str:
    """Return a size: "512 B", "1.5 MiB"."""
    amount = float(byte_count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def count_of(number: int, one: str, many: str = "") -> str:
    """Return "1 recipient", "1,234 recipients"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def when(moment: datetime, zone: tzinfo | None = None) -> str:
    """Return an aware instant in the zone (default: this machine's)."""
    local = moment.astimezone(zone)
    return f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}"
