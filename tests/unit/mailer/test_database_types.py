from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, Table, create_engine, insert, select
from sqlalchemy.exc import StatementError

from mailer.database.types import Instant, from_microseconds, to_microseconds

LATER = datetime(2026, 12, 1, 9, tzinfo=timezone(timedelta(hours=1)))


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_comes_back_to_the_microsecond(instant: datetime) -> None:
    assert from_microseconds(to_microseconds(instant)) == instant


def test_a_column_of_instants_keeps_sorts_and_compares() -> None:
    table = Table("t", MetaData(), Column("at", Instant))
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        table.create(connection)
        early = datetime(1969, 7, 20, 20, 17, 40, 1, tzinfo=UTC)
        connection.execute(insert(table), [{"at": LATER}, {"at": early}, {"at": None}])
        found = connection.execute(select(table.c.at).where(table.c.at < LATER)).scalars().all()
        ordered = connection.execute(select(table.c.at).where(table.c.at.is_not(None)).order_by(table.c.at))
        assert found == [early]
        assert [instant.utcoffset() for instant in ordered.scalars()] == [timedelta(), timedelta()]
        with pytest.raises(StatementError, match="naive"):
            connection.execute(insert(table), {"at": datetime(2026, 1, 1)})  # noqa: DTZ001
    engine.dispose()
