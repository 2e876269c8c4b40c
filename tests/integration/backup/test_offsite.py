"""The service and its copies over a real channel: what List, Prune, Verify, Restore and health say of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from prometheus_client import CollectorRegistry

from mailer.client import connect, details_of
from mailer.clock import SystemClock
from mailer.server import GrpcServer
from mailer.v1 import backup_pb2 as pb
from mailer.v1 import backup_pb2_grpc
from services.backup.__main__ import SERVICE
from services.backup.copies.copier import Copier
from services.backup.copies.courier import Courier
from services.backup.copies.shelf import Shelf
from services.backup.create import Creator
from services.backup.keeper import Keeper
from services.backup.metrics import BackupMetrics
from services.backup.offsite import Offsite
from services.backup.servicer import BackupServicer
from services.backup.settings import Settings
from services.backup.shown import Copy, Shown
from services.backup.snapshot import Snapshot
from services.backup.stage import Stages
from services.backup.ticker import Ticker
from services.backup.vault import Vault
from tests.fakes.clock import START, FakeClock
from tests.integration.backup.conftest import make_restorer
from tests.integration.backup.mailing import MIGRATIONS, change, rows
from tests.integration.backup.sites import FolderSite

if TYPE_CHECKING:
    from mailer.v1.backup_pb2_grpc import BackupAsyncStub

COPIED, ONLY_COPY, WAITING = (
    pb.Snapshot.COPY_STATE_COPIED,
    pb.Snapshot.COPY_STATE_ONLY_COPY,
    pb.Snapshot.COPY_STATE_WAITING,
)


@dataclass
class Running:
    """A service with its courier at work, and a client."""

    keeper: Keeper
    client: "BackupAsyncStub"
    offsite: Offsite
    registry: CollectorRegistry

    async def create(self, request_id: str) -> pb.Snapshot:
        return (await self.client.Create(pb.BackupCreateRequest(request_id=request_id), timeout=30)).snapshot

    async def copies(self) -> "dict[str, pb.Snapshot.CopyState.ValueType]":
        answer = await self.client.List(pb.BackupListRequest(), timeout=30)
        return {one.snapshot_id: one.copy_state for one in answer.snapshots}

    async def health(self) -> pb.BackupHealth:
        return (await self.client.GetSettings(pb.BackupGetSettingsRequest(), timeout=30)).health

    async def until(self, state: "pb.Snapshot.CopyState.ValueType") -> None:
        """Wait until every snapshot is in this state."""
        async with asyncio.timeout(30):
            while set((await self.copies()).values()) != {state}:
                await asyncio.sleep(0.02)

    async def until_copied_but(self, others: set[str]) -> None:
        """Wait until every snapshot but these is copied."""
        async with asyncio.timeout(30):
            while {state for one, state in (await self.copies()).items() if one not in others} != {COPIED}:
                await asyncio.sleep(0.02)

    async def until_failed(self) -> None:
        """Wait until a copy has failed."""
        async with asyncio.timeout(30):
            while not (await self.health()).HasField("last_copy_failure_time"):
                await asyncio.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> FolderSite:
    return FolderSite(tmp_path / "mounted")


@pytest.fixture
async def running(vault: Vault, live: Path, folder: FolderSite) -> AsyncIterator[Running]:
    clock, registry = SystemClock(), CollectorRegistry()
    copier = Copier(vault=vault, shelf=Shelf(folder.place()), clock=clock)
    offsite = Offsite(copier=copier, courier=Courier(copier, clock=clock, limit_seconds=60))
    keeper = Keeper(
        vault=vault,
        creator=Creator(vault=vault, live=live, clock=clock),
        restorer=make_restorer(vault, live, find=copier.find),
        stages=Stages(vault, MIGRATIONS),
        clock=clock,
        metrics=BackupMetrics(registry),
        limit_seconds=60,
        offsite=offsite,
    )
    await keeper.open()
    ticker = Ticker(
        "snapshot", clock=clock, schedule=lambda: None, done_until=keeper.done_until, action=keeper.take_scheduled
    )
    server = GrpcServer([SERVICE], host="127.0.0.1", port=0, clock=clock, registry=registry, drain_seconds=1)
    BackupServicer(keeper=keeper, ticker=ticker, clock=clock).add_to(server.grpc)
    await server.start()
    channel = connect(f"127.0.0.1:{server.port}")
    assert offsite.courier is not None
    courier = asyncio.create_task(offsite.courier.run())
    yield Running(keeper, backup_pb2_grpc.BackupStub(channel), offsite, registry)
    courier.cancel()
    await asyncio.wait({courier})
    await channel.close()
    await server.stop()


async def test_a_new_snapshot_is_copied_without_anybody_asking(running: Running) -> None:
    snapshot = await running.create("one")
    await running.until(COPIED)
    health = await running.health()
    assert health.last_copy_time.ToDatetime() >= snapshot.create_time.ToDatetime()
    assert (health.waiting_copy_count, health.copies_late) == (0, False)
    assert running.registry.get_sample_value("mailer_backup_copies", {"copy": "copied"}) == 1
    assert (running.registry.get_sample_value("mailer_backup_last_copy_timestamp_seconds") or 0) > 0


async def test_a_create_does_not_fail_because_its_copy_does(running: Running, folder: FolderSite) -> None:
    await running.create("one")
    await running.until(COPIED)
    folder.go()
    second = await running.create("two")
    await running.until_failed()
    assert (await running.copies())[second.snapshot_id] == WAITING
    health = await running.health()
    assert health.waiting_copy_count == 1
    assert "The place of the copies" in health.last_copy_failure
    assert not health.HasField("last_failure_time")
    folder.come_back()
    running.offsite.wake()
    await running.until(COPIED)
    assert not (await running.health()).HasField("last_copy_failure_time")


async def test_what_lies_only_there_is_listed_verified_and_restored_with_progress(
    running: Running, vault: Vault, live: Path
) -> None:
    change(live, "INSERT INTO suppressions VALUES ('ada@x', '', 0)")
    snapshot = await running.create("one")
    await running.until(COPIED)
    vault.remove(snapshot.snapshot_id)
    change(live, "DELETE FROM suppressions")
    assert await running.copies() == {snapshot.snapshot_id: ONLY_COPY}
    request = pb.BackupRestoreStreamRequest(request_id="r", snapshot_id=snapshot.snapshot_id, validate_only=True)
    events = [event async for event in running.client.RestoreStream(request, timeout=30)]
    assert events[-1].result.snapshot_id == snapshot.snapshot_id
    assert rows(live, "SELECT count(*) FROM suppressions") == [(0,)]
    vault.remove(snapshot.snapshot_id)
    verified = await running.client.Verify(pb.BackupVerifyRequest(snapshot_id=snapshot.snapshot_id), timeout=30)
    assert (verified.snapshot.state, verified.snapshot.copy_state) == (pb.Snapshot.STATE_OK, COPIED)
    vault.remove(snapshot.snapshot_id)
    await running.client.Restore(pb.BackupRestoreRequest(request_id="r", snapshot_id=snapshot.snapshot_id), timeout=30)
    assert rows(live, "SELECT address FROM suppressions") == [("ada@x",)]


async def test_a_prune_says_which_copies_went(running: Running, folder: FolderSite) -> None:
    old, new = await running.create("one"), await running.create("two")
    await running.until(COPIED)
    request = pb.BackupPruneRequest(policy=pb.RetentionPolicy(keep_last_count=1), validate_only=True)
    planned = await running.client.Prune(request, timeout=30)
    assert list(planned.removed_copy_ids) == [old.snapshot_id]
    assert set(await running.copies()) == {old.snapshot_id, new.snapshot_id}
    request.validate_only = False
    assert await running.client.Prune(request, timeout=30) == planned
    assert await running.copies() == {new.snapshot_id: COPIED}
    assert {path.split(".")[0] for path in folder.files()} == {f"a/{new.snapshot_id}"}


async def test_a_prune_while_the_place_is_away_goes_by_what_lies_here(running: Running, folder: FolderSite) -> None:
    old, new = await running.create("one"), await running.create("two")
    await running.until(COPIED)
    folder.go()
    request = pb.BackupPruneRequest(policy=pb.RetentionPolicy(keep_last_count=1))
    pruned = await running.client.Prune(request, timeout=30)
    assert (list(pruned.removed_snapshot_ids), list(pruned.removed_copy_ids)) == ([old.snapshot_id], [])
    folder.come_back()
    assert await running.copies() == {old.snapshot_id: ONLY_COPY, new.snapshot_id: COPIED}
    assert list((await running.client.Prune(request, timeout=30)).removed_copy_ids) == [old.snapshot_id]


async def test_the_schedule_leaves_what_another_store_has_copied(running: Running, vault: Vault) -> None:
    await running.keeper.change_settings(Settings(backup_retention=1))
    foreign = {(await running.create(name)).snapshot_id for name in ("one", "two")}
    await running.until(COPIED)
    copier = running.offsite.copier
    assert copier is not None
    copier._note(lambda book: book.disowning(foreign))
    for snapshot_id in foreign:
        vault.remove(snapshot_id)
    assert await running.keeper.take_scheduled()
    copies = await running.copies()
    assert {one for one, state in copies.items() if state == ONLY_COPY} == foreign
    await running.until_copied_but(foreign)
    request = pb.BackupPruneRequest(policy=pb.RetentionPolicy(keep_last_count=1))
    assert set((await running.client.Prune(request, timeout=30)).removed_copy_ids) == foreign


async def test_a_restore_from_a_place_that_is_away_says_so(running: Running, vault: Vault, folder: FolderSite) -> None:
    snapshot = await running.create("one")
    await running.until(COPIED)
    vault.remove(snapshot.snapshot_id)
    folder.go()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.client.Restore(
            pb.BackupRestoreRequest(request_id="r", snapshot_id=snapshot.snapshot_id), timeout=30
        )
    assert details_of(caught.value).reason == "COPIES_REFUSED"


def test_a_copy_is_late_when_it_fails_for_longer_than_an_hour(
    vault: Vault, folder: FolderSite, clock: FakeClock
) -> None:
    copier = Copier(vault=vault, shelf=Shelf(folder.place()), clock=clock)
    offsite = Offsite(copier=copier)
    waiting = [Shown(snapshot=Snapshot(snapshot_id="x", created_time=START), copy=Copy.WAITING)]
    later = START + timedelta(minutes=61)
    assert not offsite.health(waiting, later).late
    copier.note_bug(ZeroDivisionError())
    assert offsite.health(waiting, later).late
    assert not offsite.health(waiting, later - timedelta(minutes=2)).late
    assert not offsite.health([], later).late


class Failing(Copier):
    """Copies nothing, and remembers when it was asked."""

    def __init__(self, clock: FakeClock, vault: Vault, shelf: Shelf) -> None:
        super().__init__(vault=vault, shelf=shelf, clock=clock)
        self.asked: list[float] = []
        self._fake = clock

    def copy_all(self, job_of: Callable[[], object]) -> bool:
        self.asked.append(self._fake.monotonic())
        if len(self.asked) == 2:
            raise ZeroDivisionError
        return len(self.asked) > 6


async def test_a_place_that_stays_away_is_asked_less_and_less_often_and_a_new_snapshot_asks_at_once(
    vault: Vault, folder: FolderSite, clock: FakeClock
) -> None:
    copier = Failing(clock, vault, Shelf(folder.place()))
    courier = Courier(copier, clock=clock, limit_seconds=60)
    work = asyncio.create_task(courier.run())

    async def waiting(rounds: int) -> None:
        async with asyncio.timeout(30):
            while len(copier.asked) < rounds or not clock.sleepers:
                await asyncio.sleep(0.01)

    for rounds, pause in enumerate((15, 30, 60, 120), start=1):
        await waiting(rounds)
        await clock.advance(pause - 1)
        assert len(copier.asked) == rounds
        await clock.advance(1)
    await waiting(5)
    assert copier.asked == [0, 15, 45, 105, 225]
    assert "ZeroDivisionError" in copier.book.failure
    courier.wake()
    await waiting(6)
    assert copier.asked[-1] == 225
    work.cancel()
    await asyncio.wait({work})
