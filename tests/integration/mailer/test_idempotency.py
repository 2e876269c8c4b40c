"""Request ids on a real database."""

from collections.abc import Callable

import pytest
from google.protobuf.struct_pb2 import Struct
from google.rpc.error_details_pb2 import RequestInfo
from sqlalchemy import Column, Connection, Integer, MetaData, Table, func, insert, select

from mailer.database import Database
from mailer.errors import AlreadyExists
from mailer.idempotency import RequestKey, forget_before, request_key, request_table, run_once
from tests.fakes.clock import FakeClock

METADATA = MetaData()
EFFECTS = Table("effects", METADATA, Column("id", Integer, primary_key=True))
REQUESTS = request_table(METADATA, "test")


@pytest.fixture
async def tables(database: Database) -> Database:
    await database.write(METADATA.create_all)
    return database


def effect(connection: Connection) -> RequestInfo:
    number = connection.execute(insert(EFFECTS).returning(EFFECTS.c.id)).scalar_one()
    return RequestInfo(request_id=str(number))


def failing(connection: Connection) -> RequestInfo:
    effect(connection)
    raise LookupError("on purpose")


def effects(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(EFFECTS)).scalar_one()


def key(request_id: str, body: str = "", method: str = "Create") -> RequestKey:
    request = Struct()
    request["body"] = body
    return request_key(method, request, request_id)


async def once(
    database: Database,
    clock: FakeClock,
    which: RequestKey,
    run: Callable[[Connection], RequestInfo] = effect,
) -> RequestInfo:
    return await database.write(run_once, REQUESTS, which, run, response_type=RequestInfo, now=clock.now())


async def test_the_same_call_twice_has_one_effect_and_one_answer(tables: Database, clock: FakeClock) -> None:
    first = await once(tables, clock, key("id-1"))
    second = await once(tables, clock, key("id-1"))
    assert first == second
    assert await tables.read(effects) == 1


@pytest.mark.parametrize("other", [key("id-1", body="other"), key("id-1", method="Delete")])
async def test_an_id_with_another_body_is_refused(other: RequestKey, tables: Database, clock: FakeClock) -> None:
    await once(tables, clock, key("id-1"))
    with pytest.raises(AlreadyExists) as caught:
        await once(tables, clock, other)
    assert caught.value.reason == "REQUEST_ID_REUSED"
    assert await tables.read(effects) == 1


async def test_without_an_id_every_call_counts(tables: Database, clock: FakeClock) -> None:
    await once(tables, clock, key(""))
    await once(tables, clock, key(""))
    assert await tables.read(effects) == 2


async def test_a_call_that_failed_can_be_repeated(tables: Database, clock: FakeClock) -> None:
    with pytest.raises(LookupError):
        await once(tables, clock, key("id-1"), failing)
    assert await tables.read(effects) == 0
    await once(tables, clock, key("id-1"))
    assert await tables.read(effects) == 1


async def test_old_answers_are_forgotten_oldest_first(tables: Database, clock: FakeClock) -> None:
    for number in range(3):
        await once(tables, clock, key(f"id-{number}"))
        await clock.advance(60)
    assert await tables.write(forget_before, REQUESTS, clock.now(), limit=2) == 2
    await once(tables, clock, key("id-2"))
    assert await tables.read(effects) == 3
    await once(tables, clock, key("id-0"))
    assert await tables.read(effects) == 4
