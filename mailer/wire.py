"""Between the instants and spans of Python and those of protobuf.

On the wire an unset message means "not given", so both directions pass None through.
"""

from datetime import UTC, datetime, timedelta
from typing import overload

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@overload
def to_timestamp(instant: datetime) -> Timestamp: ...
@overload
def to_timestamp(instant: None) -> None: ...
def to_timestamp(instant: datetime | None) -> Timestamp | None:
    """Return the instant for the wire; a naive datetime is a bug and raises ValueError."""
    if instant is None:
        return None
    if instant.tzinfo is None:
        raise ValueError("a naive datetime is no instant")
    microseconds = (instant - _EPOCH) // _MICROSECOND
    seconds, rest = divmod(microseconds, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def from_timestamp(timestamp: Timestamp) -> datetime:
    """Return the instant, aware and in UTC, cut to microseconds.

    Raises ValueError when it lies outside the years 1 to 9999 or its nanoseconds are out of range.
    """
    if not 0 <= timestamp.nanos < 1_000_000_000:
        raise ValueError("nanos must lie in 0..999999999")
    try:
        return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)
    except OverflowError:
        raise ValueError("the instant must lie in the years 1 to 9999") from None


@overload
def to_duration(span: timedelta) -> Duration: ...
@overload
def to_duration(span: None) -> None: ...
def to_duration(span: timedelta | None) -> Duration | None:
    """Return the span for the wire."""
    if span is None:
        return None
    microseconds = span // _MICROSECOND
    # Seconds and nanos carry the same sign on the wire, which divmod does not give for negative spans.
    seconds, rest = divmod(abs(microseconds), 1_000_000)
    sign = -1 if microseconds < 0 else 1
    return Duration(seconds=sign * seconds, nanos=sign * rest * 1000)


def from_duration(duration: Duration) -> timedelta:
    """Return the span, cut to microseconds; raises ValueError when timedelta cannot hold it."""
    if abs(duration.nanos) >= 1_000_000_000 or duration.seconds * duration.nanos < 0:
        raise ValueError("nanos must lie in -999999999..999999999 and have the sign of seconds")
    try:
        return timedelta(seconds=duration.seconds, microseconds=int(duration.nanos / 1000))
    except OverflowError:
        raise ValueError("the span is too long") from None
