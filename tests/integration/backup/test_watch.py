"""A schedule that is not kept shows in health and figures."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from mailer.client import connect
from mailer.errors import CannotStart
from mailer.server import GrpcServer
from services.backup.__main__ import SERVICE
from services.backup.create import Creator, Wish
from services.backup.job import Job
from services.backup.keeper import Keeper
from services.backup.metrics import BackupMetrics
from services.backup.snapshot import Trigger
from services.backup.stage import Stages
from services.backup.ticker import Ticker
from services.backup.vault import Vault
from services.backup.watch import watch
from tests.fakes.clock import FakeClock
from tests.integration.backup.conftest import make_restorer
from tests.integration.backup.mailing import MIGRATIONS, change


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def keeper(vault: Vault, live: Path, clock: FakeClock, registry: CollectorRegistry) -> Keeper:
    keeper = Keeper(
        vault=vault,
        creator=Creator(vault=vault, live=live, clock=clock),
        restorer=make_restorer(vault, live, clock=clock),
        stages=Stages(vault, MIGRATIONS),
        clock=clock,
        metrics=BackupMetrics(registry),
        limit_seconds=600,
    )
    await keeper.open()
    return keeper


async def test_a_late_snapshot_is_stale_until_one_is_taken(
    keeper: Keeper, clock: FakeClock, registry: CollectorRegistry
) -> None:
    assert await keeper.take_scheduled()
    assert not (await keeper.health()).stale
    await clock.advance(timedelta(days=1).total_seconds())
    assert (await keeper.health()).stale
    assert registry.get_sample_value("mailer_backup_stale") == 1
    assert await keeper.take_scheduled()
    assert not (await keeper.health()).stale
    assert registry.get_sample_value("mailer_backup_stale") == 0
    assert registry.get_sample_value("mailer_backup_newest_good_timestamp_seconds") == clock.now().timestamp()


async def test_a_scheduled_snapshot_that_fails_is_counted_and_said(
    keeper: Keeper, live: Path, registry: CollectorRegistry
) -> None:
    change(live, "PRAGMA application_id = 7")
    assert not await keeper.take_scheduled()
    health = await keeper.health()
    assert "another application" in health.status.failure
    labels = {"operation": "create", "outcome": "not_a_mailer_database"}
    assert registry.get_sample_value("mailer_backup_operations_total", labels) == 1


async def test_the_health_service_says_under_a_name_of_its_own_when_snapshots_stop(
    keeper: Keeper, clock: FakeClock
) -> None:
    server = GrpcServer([SERVICE], host="127.0.0.1", port=0, clock=clock, registry=CollectorRegistry(), drain_seconds=1)
    await server.start()
    watching = asyncio.create_task(watch(keeper, server, clock))
    async with connect(f"127.0.0.1:{server.port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        seen = health.Watch(health_pb2.HealthCheckRequest(service="mailer.v1.Backup.schedule"), timeout=30)
        statuses = (one.status async for one in seen if one.status != health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)

        async def next_status() -> int:
            """Return what it says next, after however many minutes."""
            task = asyncio.ensure_future(anext(statuses))
            while not task.done():
                await clock.advance(60)
                await asyncio.sleep(0.01)
            return int(await task)

        assert await next_status() == health_pb2.HealthCheckResponse.SERVING
        await clock.advance(timedelta(days=2).total_seconds())
        assert await next_status() == health_pb2.HealthCheckResponse.NOT_SERVING
        whole = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert whole.status == health_pb2.HealthCheckResponse.SERVING
        assert await keeper.take_scheduled()
        assert await next_status() == health_pb2.HealthCheckResponse.SERVING
    watching.cancel()
    await server.stop()


async def test_firings_that_were_missed_while_the_service_was_off_are_caught_up_by_one_snapshot(
    keeper: Keeper, vault: Vault, clock: FakeClock
) -> None:
    assert await keeper.take_scheduled()
    await clock.advance(timedelta(days=5).total_seconds())
    await keeper.open()
    ticker = Ticker(
        "snapshot",
        clock=clock,
        schedule=lambda: keeper.settings.schedule,
        done_until=keeper.done_until,
        action=keeper.take_scheduled,
    )
    running = asyncio.create_task(ticker.run())
    async with asyncio.timeout(20):
        while (due := ticker.next_due()) is None or due <= clock.now():
            await asyncio.sleep(0.01)
    running.cancel()
    assert due - clock.now() < timedelta(days=1)
    assert len(vault.snapshots()) == 2


async def test_a_service_that_was_off_knows_from_the_store_when_it_last_worked(
    keeper: Keeper, vault: Vault, live: Path, clock: FakeClock, job: Job
) -> None:
    snapshot = Creator(vault=vault, live=live, clock=clock).create(Wish(trigger=Trigger.CRON), job)
    (vault.directory / "status.json").unlink()
    await clock.advance(timedelta(days=3).total_seconds())
    await keeper.open()
    assert (await keeper.health()).status.success_time == snapshot.created_time
    assert (await keeper.health()).status.watched_since == clock.now()


async def test_a_clock_that_was_ahead_at_the_first_start_does_not_switch_the_schedule_off(
    keeper: Keeper, clock: FakeClock
) -> None:
    assert await keeper.take_scheduled()
    clock.step_wall_clock(-timedelta(days=400).total_seconds())
    assert keeper.done_until() < clock.now() - timedelta(days=1)
    assert (await keeper.health()).stale
    assert await keeper.take_scheduled()
    assert keeper.done_until() == clock.now()
    assert not (await keeper.health()).stale


async def test_a_service_started_when_the_clock_is_right_again_follows_its_schedule(
    keeper: Keeper, clock: FakeClock
) -> None:
    await keeper.take_scheduled()
    clock.step_wall_clock(-timedelta(days=400).total_seconds())
    await keeper.open()
    began = clock.now()
    await clock.advance(timedelta(days=2).total_seconds())
    assert keeper.done_until() == began
    assert (await keeper.health()).stale


async def test_a_snapshot_from_the_future_does_not_hide_a_fresh_one(
    keeper: Keeper, vault: Vault, live: Path, clock: FakeClock, job: Job
) -> None:
    clock.step_wall_clock(timedelta(days=400).total_seconds())
    Creator(vault=vault, live=live, clock=clock).create(Wish(trigger=Trigger.CRON), job)
    clock.step_wall_clock(-timedelta(days=399).total_seconds())
    assert await keeper.take_scheduled()
    assert not (await keeper.health()).stale


async def test_a_place_that_cannot_hold_the_store_ends_the_start_in_one_line(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper._vault, "directory", Path("/proc/no/such/folder"))
    with pytest.raises(CannotStart, match=r"cannot use /proc/no.*set MAILER_BACKUP_STORE_DIR"):
        await keeper.open()
