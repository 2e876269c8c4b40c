from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from mailer.wire import from_duration, from_timestamp, to_duration, to_timestamp


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_comes_back_as_it_went(instant: datetime) -> None:
    assert from_timestamp(to_timestamp(instant)) == instant


@given(st.timedeltas(min_value=timedelta(days=-100_000), max_value=timedelta(days=100_000)))
def test_a_span_comes_back_as_it_went(span: timedelta) -> None:
    assert from_duration(to_duration(span)) == span


def test_another_zone_is_the_same_instant() -> None:
    berlin = datetime(2026, 12, 1, 9, tzinfo=timezone(timedelta(hours=1)))
    assert from_timestamp(to_timestamp(berlin)) == datetime(2026, 12, 1, 8, tzinfo=UTC)


def test_nothing_given_stays_nothing() -> None:
    assert to_timestamp(None) is None
    assert to_duration(None) is None


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        to_timestamp(datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("timestamp", [Timestamp(seconds=10**15), Timestamp(nanos=-1), Timestamp(nanos=10**9)])
def test_a_timestamp_out_of_range_is_refused(timestamp: Timestamp) -> None:
    with pytest.raises(ValueError, match="must lie"):
        from_timestamp(timestamp)


@pytest.mark.parametrize("duration", [Duration(seconds=10**15), Duration(seconds=1, nanos=-1)])
def test_a_duration_out_of_range_is_refused(duration: Duration) -> None:
    with pytest.raises(ValueError, match=r"nanos|long"):
        from_duration(duration)
