"""The whole sender in this process: real channel, real database, real SMTP; only the time is the test's.

async with sender_service(tmp_path, clock) as sender:
    await sender.add_account(server.port)
    await sender.send("ada@example.org", "bob@example.org")
    assert await sender.states() == {"ada@example.org": "SENT", "bob@example.org": "SENT"}
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import services.sender
from mailer.client import connect
from mailer.clock import Clock, SystemClock
from mailer.database import Database, Migrations
from mailer.health import ask
from mailer.metrics import new_registry
from mailer.secrets import SealingKey, Secret
from mailer.server import GrpcServer
from mailer.service import ServiceProcess, watch_database
from mailer.v1 import sender_pb2, sender_pb2_grpc
from services.sender.__main__ import PORTABLE_MODULES, build
from services.sender.config import SenderSettings
from tests.fakes.clock import FakeClock

MIGRATIONS = Migrations("sender", Path(services.sender.__file__).parent / "migrations")
KEY = SealingKey.generate().to_text()
CONTENT = sender_pb2.MessageContent(
    from_address=sender_pb2.Mailbox(address="news@sender.example", display_name="News"),
    subject="For {{ name|default('you') }}",
    text="Hello {{ name|default('you') }}",
)
PATIENCE = 20.0


@dataclass(slots=True)
class SenderService:
    """What a test talks to, and what it looks into."""

    stub: "sender_pb2_grpc.SenderAsyncStub"
    database: Database
    clock: Clock
    address: str
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    async def add_account(self, port: int, name: str = "main", **more: Any) -> str:
        """Add an account at a port of this machine; return its id."""
        usual: dict[str, Any] = {"host": "127.0.0.1", "port": port, "tls_mode": sender_pb2.TLS_MODE_NONE}
        account = sender_pb2.Account(name=name, **usual | more)
        request = sender_pb2.CreateAccountRequest(request_id=f"account-{name}", account=account)
        return (await self.stub.CreateAccount(request, timeout=5)).account.account_id

    async def account(self, account_id: str) -> sender_pb2.Account:
        """Return an account as it is now."""
        request = sender_pb2.GetAccountRequest(account_id=account_id)
        return (await self.stub.GetAccount(request, timeout=5)).account

    async def send(self, *addresses: str, run_id: str = "run", **more: Any) -> sender_pb2.SendBatchResponse:
        """Send one batch of a run to these addresses."""
        usual: dict[str, Any] = {
            "request_id": f"batch-{next(self._numbers)}",
            "content": CONTENT,
            "recipients": [sender_pb2.Recipient(address=address) for address in addresses],
        }
        request = sender_pb2.SendBatchRequest(run_id=run_id, **usual | more)
        return await self.stub.SendBatch(request, timeout=5)

    async def deliveries(self, run_id: str = "run") -> dict[str, sender_pb2.Delivery]:
        """Return the deliveries of a run by address."""
        request = sender_pb2.ListDeliveriesRequest(run_id=run_id, page_size=1000)
        found = await self.stub.ListDeliveries(request, timeout=5)
        return {one.address: one for one in found.deliveries}

    async def states(self, run_id: str = "run") -> dict[str, str]:
        """Return where each delivery of a run stands, by address."""
        return {
            address: sender_pb2.DeliveryState.Name(one.state).removeprefix("DELIVERY_STATE_")
            for address, one in (await self.deliveries(run_id)).items()
        }

    async def run(self, run_id: str = "run") -> sender_pb2.Run:
        """Return a run."""
        return (await self.stub.GetRun(sender_pb2.GetRunRequest(run_id=run_id), timeout=5)).run

    async def until(self, condition: Callable[[sender_pb2.Run], bool], run_id: str = "run") -> sender_pb2.Run:
        """Return the run once the condition holds; fails after a while, telling how the run stood."""
        run = await self.run(run_id)
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition(run):
                    await self.tick()
                    run = await self.run(run_id)
        except TimeoutError:
            raise AssertionError(f"it never came to that; the run stands at {run}") from None
        return run

    async def until_account(
        self, condition: Callable[[sender_pb2.Account], bool], name: str = "main"
    ) -> sender_pb2.Account:
        """Return an account by its name once the condition holds; fails after a while, telling how it stood."""
        account = (await self.accounts())[name]
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition(account):
                    await self.tick()
                    account = (await self.accounts())[name]
        except TimeoutError:
            raise AssertionError(f"it never came to that; the account stands at {account}") from None
        return account

    async def accounts(self) -> dict[str, sender_pb2.Account]:
        """Return all accounts by their names."""
        found = await self.stub.ListAccounts(sender_pb2.ListAccountsRequest(), timeout=5)
        return {account.name: account for account in found.accounts}

    async def attempts(self, address: str, run_id: str = "run") -> list[sender_pb2.Attempt]:
        """Return the attempts to one address, oldest first."""
        delivery_id = (await self.deliveries(run_id))[address].delivery_id
        request = sender_pb2.GetDeliveryRequest(delivery_id=delivery_id)
        return list((await self.stub.GetDelivery(request, timeout=5)).attempts)

    async def outcomes(self, address: str, run_id: str = "run") -> list[str]:
        """Return what each attempt to one address came to, oldest first."""
        name = sender_pb2.Attempt.Outcome.Name
        return [name(one.outcome).removeprefix("OUTCOME_") for one in await self.attempts(address, run_id)]

    async def suppressed(self) -> list[str]:
        """Return the addresses that get no mail."""
        found = await self.stub.ListSuppressions(sender_pb2.ListSuppressionsRequest(), timeout=5)
        return [one.address for one in found.suppressions]

    async def health(self) -> str:
        """Return what the health service says."""
        return await ask(self.address)

    async def done(self, run_id: str = "run") -> sender_pb2.Run:
        """Return the run once all its deliveries are final."""
        return await self.until(lambda run: run.state == sender_pb2.Run.STATE_DONE, run_id)

    async def tick(self) -> None:
        """Let other threads and the network have a moment; for the sender a little time passes, too."""
        await asyncio.sleep(0.01)
        if isinstance(self.clock, FakeClock):
            await self.clock.advance(0.1)

    async def later(self, seconds: float) -> None:
        """Let time pass in small steps, so that everything that becomes due on the way also happens."""
        step = max(10, seconds / 100)
        for _ in range(int(seconds // step) + 1):
            await self.advance(step)
            await self.tick()

    async def finish(self, run_id: str = "run") -> sender_pb2.Run:
        """Let time pass until all deliveries of the run are final; fails after a real minute."""
        async with asyncio.timeout(60):
            while (run := await self.run(run_id)).state != sender_pb2.Run.STATE_DONE:
                await self.later(0)
        return run

    async def advance(self, seconds: float) -> None:
        """Let time pass for the sender."""
        assert isinstance(self.clock, FakeClock)
        await self.clock.advance(seconds)


@asynccontextmanager
async def sender_service(
    folder: Path, clock: Clock | None = None, *, has_writer_process: bool = False, **settings: Any
) -> AsyncIterator[SenderService]:
    """Run a sender over the database in the folder, made when it is not there."""
    clock = clock or SystemClock()
    known = SenderSettings(data_dir=folder, sealing_key=Secret(KEY), stop_grace=timedelta(seconds=1), **settings)
    database = await Database.open(
        f"sqlite:///{folder}/mailer.db",
        clock=clock,
        migrations=[MIGRATIONS],
        busy_timeout=known.database_busy_timeout,
        portable_modules=PORTABLE_MODULES if has_writer_process else (),
    )
    registry = new_registry()
    server = GrpcServer(
        [sender_pb2.DESCRIPTOR.services_by_name["Sender"]],
        host="127.0.0.1",
        port=0,
        clock=SystemClock(),
        registry=registry,
        drain_seconds=1,
    )
    try:
        async with build(ServiceProcess(known, clock, server, registry, database)):
            await server.start()
            watching = asyncio.create_task(watch_database(database, server, clock))
            try:
                address = f"127.0.0.1:{server.port}"
                async with connect(address) as channel:
                    yield SenderService(sender_pb2_grpc.SenderStub(channel), database, clock, address)
            finally:
                watching.cancel()
                await server.stop()
    finally:
        await database.close()
