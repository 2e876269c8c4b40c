"""`python -m services.sender`: builds the sender from its parts, and runs it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

from mailer.database import DatabaseUnavailable, Migrations
from mailer.secrets import load_keyring
from mailer.service import ServiceProcess, run_service
from mailer.v1 import sender_pb2
from services.sender import batch, book, outbox, turn
from services.sender.account_metrics import AccountMetrics
from services.sender.account_rpcs import AccountRpcs
from services.sender.bulletin import Bulletin
from services.sender.config import SenderSettings
from services.sender.connections import Connections
from services.sender.courier import Courier
from services.sender.credentials import Passwords
from services.sender.decisions import Decisions
from services.sender.delivery import Delivery
from services.sender.delivery_metrics import DeliveryMetrics
from services.sender.delivery_rpcs import DeliveryRpcs
from services.sender.dialing import dial_with
from services.sender.feeder import Feeder
from services.sender.go_ahead import GoAhead
from services.sender.intake import Intake
from services.sender.jobs import Queues
from services.sender.ledger import Ledger
from services.sender.options import read_options
from services.sender.outlook import Outlook
from services.sender.programs import Programs
from services.sender.remover import Remover
from services.sender.roster import Roster
from services.sender.run_rpcs import RunRpcs
from services.sender.servicer import SenderServicer
from services.sender.settlement import Settlement
from services.sender.smtp import Connector
from services.sender.states import Policy
from services.sender.suppressions import SuppressionRpcs
from services.sender.upkeep import Upkeep
from services.sender.verification import Verifier
from services.sender.worker import Worker

HERE = Path(__file__).parent
PORTABLE_MODULES = tuple(module.__name__ for module in (batch, book, turn))
"""With what the sender writes all the time."""


@asynccontextmanager
async def build(process: ServiceProcess[SenderSettings]) -> AsyncIterator[None]:
    """Build the sender, let it work while the server runs, and end it in good order."""
    settings, clock, database = process.settings, process.clock, process.database
    random = Random()  # noqa: S311 (jitter, no secrets)
    bulletin = Bulletin()
    queues = Queues()
    worker = Worker(database, clock, directory=_workers_directory(process))
    connections = Connections(
        clock,
        idle_seconds=settings.idle_connection.total_seconds(),
        most_messages=settings.connection_messages,
    )
    roster = Roster(
        database,
        clock,
        random,
        worker.worker_id,
        metrics=AccountMetrics(process.registry),
        on_stale_connections=connections.close_stale,
    )
    keyring = load_keyring(settings.sealing_key_file, given=settings.sealing_key)
    passwords = Passwords(keyring, settings.secrets_dir)
    dial = dial_with(Connector(), passwords)
    programs = Programs(database)
    ledger = Ledger(database, clock, on_change=bulletin.publish)
    feeder = Feeder(
        database=database,
        clock=clock,
        worker=worker,
        roster=roster,
        programs=programs,
        ledger=ledger,
        bulletin=bulletin,
        queues=queues,
        go_ahead=GoAhead(clock),
    )
    decisions = Decisions(database, clock, bulletin, ledger)
    metrics = DeliveryMetrics(
        process.registry,
        in_flight=lambda: courier.in_flight_count,
        claimed=lambda: len(queues),
        unwritten=lambda: ledger.waiting_count,
    )
    settlement = Settlement(
        clock=clock,
        random=random,
        roster=roster,
        feeder=feeder,
        ledger=ledger,
        worker_id=lambda: worker.worker_id,
        on_guard=decisions.take_back_refused,
        on_refused_content=decisions.pause_refused,
        on_told=decisions.tell,
        on_attempt=metrics.attempt_ended,
    )
    courier = Courier(
        clock=clock,
        roster=roster,
        feeder=feeder,
        ledger=ledger,
        connections=connections,
        dial=dial,
        settlement=settlement,
        # Only where whoever takes over can read which dots were on the wire: on the same machine.
        is_ahead=database.location.is_sqlite,
    )
    delivery = Delivery(
        roster=roster,
        feeder=feeder,
        ledger=ledger,
        connections=connections,
        courier=courier,
        settlement=settlement,
    )

    def decided(run_id: str) -> None:
        # If it was resumed instead, the next look opens it again.
        feeder.close(run_id)
        feeder.wake()

    def stored(run_id: str) -> None:
        feeder.go_ahead(run_id)
        feeder.wake()

    SenderServicer(
        intake=Intake(database, clock, programs, queue_limit=settings.queue_limit, on_stored=stored),
        runs=RunRpcs(
            database,
            clock,
            bulletin,
            outlook_for=_outlook(programs, roster, process),
            on_decided=decided,
            on_go_ahead=feeder.go_ahead,
        ),
        deliveries=DeliveryRpcs(database, clock, bulletin, programs, on_queued=lambda _: feeder.wake()),
        accounts=AccountRpcs(
            database, clock, roster, passwords, Verifier(clock, dial), idle_count=connections.count_of
        ),
        suppressions=SuppressionRpcs(database, clock),
    ).add_to(process.server.grpc)

    await worker.start()
    await roster.start()
    upkeep = Upkeep(database, clock, worker, connections, feeder=feeder, under_way=lambda: courier.under_way)
    remover = Remover(database, clock, kept=settings.delivery_retention)
    await upkeep.turn()
    writing = asyncio.create_task(ledger.run(), name="ledger")
    working = [
        asyncio.create_task(feeder.run(), name="feeder"),
        asyncio.create_task(delivery.run(), name="delivery"),
        asyncio.create_task(upkeep.run(), name="upkeep"),
        asyncio.create_task(remover.run(), name="remover"),
    ]
    stopping = asyncio.create_task(_end_with(process.stopping, working), name="stopping")
    for task in (writing, *working):
        # None of them ends by itself. A sender that only seems to work is worse than one that is down.
        task.add_done_callback(lambda _: process.server.request_stop())
    try:
        yield
    finally:
        stopping.cancel()
        await _cancel(working)
        await delivery.stop(settings.stop_grace.total_seconds())
        await _release(process, worker, ledger, feeder)
        await _cancel([writing])
        await roster.close()
        worker.stop()
    for task in (writing, *working):
        if not task.cancelled():
            task.result()


def _workers_directory(process: ServiceProcess[SenderSettings]) -> Path:
    """Return the folder that all senders of this database on this host share."""
    location = process.database.location
    if location.is_sqlite:
        return location.path.with_name(location.path.name + ".workers")
    return process.settings.data_dir / "workers"


def _outlook(
    programs: Programs, roster: Roster, process: ServiceProcess[SenderSettings]
) -> Callable[[str, bytes], Awaitable[Outlook]]:
    """Return what tells whether any account could take a run's messages now."""

    async def outlook_for(content_hash: str, options: bytes) -> Outlook:
        program = await programs.get(content_hash)
        allowed = read_options(sender_pb2.DeliveryOptions.FromString(options), default=Policy.AT_MOST_ONCE).account_ids
        return roster.outlook(program.from_address, allowed, process.clock.now())

    return outlook_for


async def _end_with(stopping: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Claim nothing new from the moment on at which the process begins to stop."""
    await stopping.wait()
    for task in tasks:
        task.cancel()


async def _release(process: ServiceProcess[SenderSettings], worker: Worker, ledger: Ledger, feeder: Feeder) -> None:
    """Put every result on disk and give back what was not begun, as long as the database takes it."""
    with suppress(TimeoutError, DatabaseUnavailable):
        async with asyncio.timeout(process.settings.stop_grace.total_seconds()):
            await ledger.settle()
            await feeder.return_claims()
            await process.database.write(outbox.take_back_all, worker.worker_id, process.clock.now())


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> int:
    """Run the sender; returns the exit status."""
    return run_service(
        "sender",
        SenderSettings,
        service=sender_pb2.DESCRIPTOR.services_by_name["Sender"],
        migrations=[Migrations("sender", HERE / "migrations")],
        build=build,
        portable_modules=PORTABLE_MODULES,
    )


if __name__ == "__main__":
    sys.exit(main())
