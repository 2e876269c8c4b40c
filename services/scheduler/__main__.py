"""`python -m services.scheduler`: builds the scheduler from its parts, and runs it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

from mailer.client import connect
from mailer.database import Migrations
from mailer.lockfile import LockFile
from mailer.log import get_logger
from mailer.service import ServiceProcess, run_service
from mailer.v1 import scheduler_pb2, sender_pb2, sender_pb2_grpc
from services.scheduler.campaign_rpcs import CampaignRpcs
from services.scheduler.campaign_views import CampaignViews
from services.scheduler.conductor import Conductor
from services.scheduler.config import SchedulerSettings
from services.scheduler.control_rpcs import ControlRpcs
from services.scheduler.dispatch import Dispatcher
from services.scheduler.engine import Engine
from services.scheduler.firing import BatchLimits, Fired
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.plan import PlanRpc
from services.scheduler.preview import PreviewRpc
from services.scheduler.progress import Progress
from services.scheduler.recipient_rpcs import RecipientRpcs
from services.scheduler.servicer import SchedulerServicer
from services.scheduler.template_rpcs import TemplateRpcs
from services.scheduler.ticker import Ticker
from services.scheduler.watch import WatchRpc

log = get_logger(__name__)

MIGRATIONS = Migrations("scheduler", Path(__file__).parent / "migrations")
SERVICE = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"]


@asynccontextmanager
async def build(process: ServiceProcess[SchedulerSettings]) -> AsyncIterator[None]:
    """Build the scheduler, let it work while the server runs, and end it in good order."""
    settings, clock, database = process.settings, process.clock, process.database
    random = Random()  # noqa: S311 (jitter, no secrets)
    metrics = SchedulerMetrics(process.registry)
    limits = BatchLimits(settings.batch_size, settings.batch_bytes)
    poll_seconds = settings.poll_interval.total_seconds()
    channel = connect(
        settings.sender_address,
        services=[sender_pb2.DESCRIPTOR.services_by_name["Sender"]],
        tls=settings.tls_to_sender,
    )
    sender = sender_pb2_grpc.SenderStub(channel)
    # Runs are told and asked about beside the batches, and the row is read before each try: nothing is repeated here.
    following = connect(settings.sender_address, tls=settings.tls_to_sender)
    progress = Progress(sender, clock)
    views = CampaignViews(database, progress)
    watch = WatchRpc(views, clock)
    dispatcher = Dispatcher(
        database,
        sender,
        clock,
        metrics,
        random,
        concurrent_batches=settings.concurrent_batches,
        batch_seconds=settings.batch_timeout.total_seconds(),
    )
    conductor = Conductor(
        database,
        sender_pb2_grpc.SenderStub(following),
        clock,
        dispatcher=dispatcher,
        progress=progress,
        random=random,
        on_change=watch.changed,
    )

    async def fired(runs: Sequence[Fired]) -> None:
        for run in runs:
            watch.changed(run.campaign_id)
        await conductor.refresh()

    engine = Engine(
        database,
        clock,
        metrics,
        lock=LockFile(_lock_path(process)),
        ticker=Ticker(database, clock, metrics, limits=limits, poll_seconds=poll_seconds, on_fired=fired),
        conductor=conductor,
        progress=progress,
        poll_seconds=poll_seconds,
    )
    SchedulerServicer(
        templates=TemplateRpcs(database, clock),
        campaigns=CampaignRpcs(database, clock, views),
        recipients=RecipientRpcs(database, clock),
        control=ControlRpcs(database, clock, sender, engine=engine, views=views, limits=limits),
        preview=PreviewRpc(database, clock),
        plan=PlanRpc(database, clock, sender),
        watch=watch,
    ).add_to(process.server.grpc)
    working = asyncio.create_task(engine.run(), name="engine")
    working.add_done_callback(partial(_end_process_with, process))
    ending = asyncio.create_task(_end_with(process.stopping, working), name="ending")
    try:
        yield
    finally:
        for task in (ending, working):
            task.cancel()
        await asyncio.gather(ending, working, return_exceptions=True)
        await following.close()
        await channel.close()


def _lock_path(process: ServiceProcess[SchedulerSettings]) -> Path:
    """Return the file that all schedulers of this database on this host share."""
    location = process.database.location
    if location.is_sqlite:
        return location.path.with_name(location.path.name + ".scheduler")
    return process.settings.data_dir / "scheduler.lock"


def _end_process_with(process: ServiceProcess[SchedulerSettings], working: "asyncio.Task[None]") -> None:
    """Stop a process that does not work any more: whoever supervises it starts another one."""
    if not working.cancelled() and working.exception() is not None:
        log.error("the scheduler cannot go on and stops", exc_info=working.exception())
        process.server.request_stop()


async def _end_with(stopping: asyncio.Event, working: "asyncio.Task[None]") -> None:
    """Hand nothing more over from the moment on at which the process begins to stop."""
    await stopping.wait()
    working.cancel()


def main() -> int:
    """Run the scheduler; returns the exit status."""
    return run_service("scheduler", SchedulerSettings, service=SERVICE, migrations=[MIGRATIONS], build=build)


if __name__ == "__main__":
    sys.exit(main())
