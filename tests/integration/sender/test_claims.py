"""Claims that may not be made or used any more: a run was paused, the database was restored, a worker ends."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from mailer.clock import SystemClock
from mailer.database import Database, DatabaseUnavailable
from mailer.database.identity import renew_incarnation
from mailer.database.types import to_microseconds
from mailer.lockfile import is_owner_gone
from mailer.v1 import sender_pb2
from services.sender import account_store, book, doubt, outbox, runs, tables
from services.sender.counts import Changes
from services.sender.entries import Intent
from services.sender.states import RunState
from services.sender.worker import Worker
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import Accept, Raw, SmtpServer, Until

PEOPLE = [f"p{number}@d{number % 7}.example" for number in range(20)]
AT_LEAST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_LEAST_ONCE)
NOW = SystemClock().now()


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[SenderService]:
    """Return a sender that has nobody to send through."""
    async with sender_service(tmp_path) as running:
        await running.send(*PEOPLE)
        yield running


def claim(connection: Connection, worker: str = "somebody") -> list[outbox.Claimed]:
    changes = Changes()
    claimed = outbox.claim(connection, run_id="run", most=5, worker=worker, now=NOW, changes=changes)
    changes.apply(connection)
    return claimed


@pytest.mark.parametrize("state", [RunState.PAUSED, RunState.HELD, RunState.CANCELLED])
async def test_nothing_is_claimed_of_a_run_that_has_stopped_since_it_was_looked_up(
    idle: SenderService, state: RunState
) -> None:
    await idle.database.write(lambda connection: runs.set_state(connection, "run", state, reason="", now=NOW))
    assert await idle.database.write(claim) == []


async def test_what_a_worker_has_claimed_is_put_back_whole_when_it_ends(idle: SenderService) -> None:
    await idle.database.write(claim)
    await idle.database.write(outbox.take_back_all, "somebody", NOW)
    assert set((await idle.states()).values()) == {"PENDING"}
    assert (await idle.run()).counts.pending_count == len(PEOPLE)


async def test_refusals_of_a_suspended_account_are_not_taken_back_into_a_cancelled_run(idle: SenderService) -> None:
    await idle.database.write(lambda connection: connection.execute(update(tables.deliveries).values(state="failed")))
    await idle.database.write(
        lambda connection: runs.set_state(connection, "run", RunState.CANCELLED, reason="", now=NOW)
    )
    keys = tuple(one.delivery_id for one in (await idle.deliveries()).values())
    taken = await idle.database.write(
        lambda connection: doubt.take_back_refused(connection, keys, now=NOW, changes=Changes())
    )
    assert taken == 0
    assert set((await idle.states()).values()) == {"FAILED"}


async def test_the_probe_of_a_dead_worker_is_free_at_once(idle: SenderService) -> None:
    account_id = await idle.add_account(1)
    accounts = tables.accounts
    claimed = update(accounts).values(probe_worker="dead", probe_until=NOW + timedelta(minutes=2))
    await idle.database.write(lambda connection: connection.execute(claimed))
    await idle.database.write(account_store.free_probes, ["dead"])
    account = await idle.database.read(account_store.get, account_id)
    assert account.circuit.probe_worker is None


async def test_an_identity_that_cannot_be_entered_leaves_the_old_one_as_it_is(tmp_path: Path) -> None:
    async with sender_service(tmp_path):
        pass  # makes the tables
    clock = SystemClock()
    database = await Database.open(
        f"sqlite:///{tmp_path}/mailer.db", clock=clock, busy_timeout=timedelta(milliseconds=50)
    )
    worker = Worker(database, clock, directory=tmp_path / "locks")
    await worker.start()
    before = worker.worker_id
    other = await Database.open(f"sqlite:///{tmp_path}/mailer.db", clock=clock)
    gate = asyncio.Event()
    is_locked = asyncio.Event()
    locked = asyncio.create_task(other.write(_wait_for, asyncio.get_running_loop(), is_locked, gate))
    await is_locked.wait()
    with pytest.raises(DatabaseUnavailable):
        await worker.become_another()
    assert worker.worker_id == before
    assert not is_owner_gone(tmp_path / "locks" / f"{before}.lock")
    gate.set()
    await locked
    old = await worker.become_another()
    old.release()
    assert is_owner_gone(tmp_path / "locks" / f"{before}.lock")
    worker.stop()
    await other.close()
    await database.close()


def _wait_for(_: Connection, loop: asyncio.AbstractEventLoop, begun: asyncio.Event, gate: asyncio.Event) -> None:
    loop.call_soon_threadsafe(begun.set)
    asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(20)


async def test_a_message_at_its_dot_while_the_database_is_restored_is_sent_once(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with SmtpServer() as server, sender_service(tmp_path) as sender:
        server.on("DOT", [Accept(), Until(gate), Raw(b"250 ok\r\n")])
        await sender.add_account(server.port, max_connection_count=1)
        await sender.send(*PEOPLE, options=AT_LEAST_ONCE)
        await server.until(lambda: len(server.accepted) == 1)
        await sender.database.write(_restore)
        await sender.database.probe()
        for _ in range(300):
            await sender.tick()
        await sender.stub.ResumeRun(sender_pb2.ResumeRunRequest(run_id="run"), timeout=5)
        gate.set()
        await sender.done()
        assert sorted(mail.recipients[0] for mail in server.accepted) == sorted(PEOPLE)
        assert not any(one.possible_duplicate for one in (await sender.deliveries()).values())


def _restore(connection: Connection) -> None:
    """Do to the database what a restore does to a run that is under way."""
    runs.set_state(connection, "run", RunState.HELD, reason="restored", now=NOW)
    renew_incarnation(connection, NOW)


@pytest.mark.parametrize("caps", [{"per_day_count": 7}, {"per_hour_count": 7}])
async def test_the_last_few_under_a_cap_are_dealt_out_exactly_between_two_senders(
    idle: SenderService, caps: dict[str, int]
) -> None:
    account_id = await idle.add_account(1, caps=sender_pb2.AccountCaps(**caps))
    granted = []
    for worker in ("one", "other"):
        claimed = await idle.database.write(claim, worker)
        intents = [Intent(one.id, one.token, one.run_id, account_id, to_microseconds(NOW)) for one in claimed]
        granted.append(len(await idle.database.write(book.write_intents, intents, Changes())))
    assert granted == [5, 2]
