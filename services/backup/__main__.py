"""Starts the backup service: `python -m services.backup`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from mailer.database import Migrations
from mailer.service import ServiceProcess, run_service
from mailer.v1 import backup_pb2
from services.backup.config import BackupServiceSettings
from services.backup.copies.copier import Copier
from services.backup.copies.courier import Courier
from services.backup.copies.shelf import Shelf
from services.backup.create import Creator
from services.backup.keeper import Keeper
from services.backup.metrics import BackupMetrics
from services.backup.offsite import Offsite
from services.backup.restore import Restorer
from services.backup.servicer import BackupServicer
from services.backup.stage import Stages
from services.backup.ticker import Ticker
from services.backup.vault import Vault
from services.backup.watch import watch

_SERVICES = Path(__file__).parent.parent
# An older snapshot is brought to today's schema on the stage: by path, because services never import each other.
MIGRATIONS = tuple(Migrations(owner, _SERVICES / owner / "migrations") for owner in ("scheduler", "sender"))
SERVICE = backup_pb2.DESCRIPTOR.services_by_name["Backup"]


@asynccontextmanager
async def build(process: ServiceProcess[BackupServiceSettings]) -> AsyncIterator[None]:
    """Build the service, start its schedules, and end them."""
    vault = Vault(process.settings.store_dir, process.settings.keys())
    with vault.occupied():
        async with _working(process, vault):
            yield


@asynccontextmanager
async def _working(process: ServiceProcess[BackupServiceSettings], vault: Vault) -> AsyncIterator[None]:
    settings, clock = process.settings, process.clock
    stages = Stages(vault, MIGRATIONS)
    offsite = _offsite(process, vault)
    keeper = Keeper(
        vault=vault,
        creator=Creator(vault=vault, live=settings.live, clock=clock),
        restorer=Restorer(
            vault=vault,
            live=settings.live,
            stages=stages,
            clock=clock,
            lock_limit_seconds=settings.lock_limit.total_seconds(),
            find=offsite.copier.find if offsite.copier else None,
        ),
        stages=stages,
        clock=clock,
        metrics=BackupMetrics(process.registry),
        limit_seconds=settings.limit.total_seconds(),
        offsite=offsite,
    )
    await keeper.open()
    snapshots = Ticker(
        "snapshot",
        clock=clock,
        schedule=lambda: keeper.settings.schedule,
        done_until=keeper.done_until,
        action=keeper.take_scheduled,
    )
    drills = Ticker(
        "restore drill",
        clock=clock,
        schedule=lambda: keeper.settings.drill,
        done_until=keeper.drilled_until,
        action=keeper.drill,
    )
    keeper.on_settings_change(snapshots.wake)
    keeper.on_settings_change(drills.wake)
    BackupServicer(keeper=keeper, ticker=snapshots, clock=clock).add_to(process.server.grpc)
    loops = [snapshots.run(), drills.run(), watch(keeper, process.server, clock)]
    if offsite.courier is not None:
        loops.append(offsite.courier.run())
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


def _offsite(process: ServiceProcess[BackupServiceSettings], vault: Vault) -> Offsite:
    """Return what copies snapshots off the machine, if a place is set."""
    place = process.settings.place()
    if place is None:
        return Offsite()
    copier = Copier(vault=vault, shelf=Shelf(place), clock=process.clock)
    limit_seconds = process.settings.limit.total_seconds()
    return Offsite(copier=copier, courier=Courier(copier, clock=process.clock, limit_seconds=limit_seconds))


def main() -> int:
    """Run until told to stop; returns the exit code."""
    return run_service("backup", BackupServiceSettings, service=SERVICE, migrations=None, build=build)


if __name__ == "__main__":
    sys.exit(main())
