"""A scheduler on a real gRPC channel and a real database, with a sender that remembers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from prometheus_client import CollectorRegistry

from mailer.client import connect, details_of
from mailer.clock import SystemClock
from mailer.database import Database
from mailer.server import GrpcServer
from mailer.service import ServiceProcess
from mailer.v1 import scheduler_pb2, scheduler_pb2_grpc, sender_pb2, sender_pb2_grpc
from services.scheduler.__main__ import MIGRATIONS, SERVICE, build
from services.scheduler.config import SchedulerSettings
from tests.fakes.sender import FakeSender

Campaign = scheduler_pb2.Campaign
CampaignRun = scheduler_pb2.CampaignRun

_numbers = count(1)


class ShiftedClock(SystemClock):
    """The machine's clock, set forward by hand: what waits in real time still waits in real time."""

    def __init__(self) -> None:
        """Show the right time."""
        self.shift = timedelta()

    def now(self) -> datetime:
        """Return the shifted instant."""
        return super().now() + self.shift


class Scheduler:
    """One scheduler process, as far as one process of tests can have several."""

    def __init__(self, url: str, sender_port: int, clock: ShiftedClock, data_dir: Path, **settings: Any) -> None:
        """Describe it; `start` begins it."""
        self.url = url
        self.clock = clock
        self.registry = CollectorRegistry()
        self.settings = SchedulerSettings(
            **{
                "data_dir": data_dir,
                "database_url": url,
                "port": 0,
                "sender_address": f"127.0.0.1:{sender_port}",
                **settings,
            }
        )
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Open the database, listen, work."""
        self.database = await Database.open(self.url, clock=self.clock, migrations=[MIGRATIONS])
        self._stack.push_async_callback(self.database.close)
        self.server = GrpcServer(
            [SERVICE], host="127.0.0.1", port=0, clock=self.clock, registry=self.registry, drain_seconds=1
        )
        process = ServiceProcess(
            settings=self.settings,
            clock=self.clock,
            opened=self.database,
            server=self.server,
            registry=self.registry,
        )
        await self._stack.enter_async_context(build(process))
        await self.server.start()
        self._stack.push_async_callback(self.server.stop)
        self.channel = channel = connect(f"127.0.0.1:{self.server.port}")
        self._stack.push_async_callback(channel.close)
        self.stub = scheduler_pb2_grpc.SchedulerStub(channel)

    async def stop(self) -> None:
        """End it; the database stays as it is."""
        await self._stack.aclose()


@pytest.fixture
def shifted_clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
async def sender() -> AsyncIterator[FakeSender]:
    """Return the sender that remembers; `.port` is where it listens."""
    fake = FakeSender()
    async with listening(fake):
        yield fake


@asynccontextmanager
async def listening(fake: FakeSender) -> AsyncIterator[None]:
    """Let the sender be there meanwhile: always at the same port."""
    service = sender_pb2.DESCRIPTOR.services_by_name["Sender"]
    server = GrpcServer(
        [service],
        host="127.0.0.1",
        port=fake.port,
        clock=SystemClock(),
        registry=CollectorRegistry(),
        drain_seconds=0,
    )
    sender_pb2_grpc.add_SenderServicer_to_server(cast("sender_pb2_grpc.SenderServicer", fake), server.grpc)
    await server.start()
    fake.port = server.port
    try:
        yield
    finally:
        fake.gate.set()
        await server.stop()


@pytest.fixture
async def schedulers(
    database_url: str, sender: FakeSender, shifted_clock: ShiftedClock, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[Scheduler]]]:
    """Return what starts schedulers on the one database; those still running end with the test."""
    started: list[Scheduler] = []

    async def start(**settings: Any) -> Scheduler:
        port = sender.port
        one = Scheduler(database_url, port, shifted_clock, tmp_path, **settings)
        started.append(one)
        await one.start()
        return one

    yield start
    for one in started:
        await one.stop()


@pytest.fixture
async def scheduler(schedulers: Callable[..., Awaitable[Scheduler]]) -> Scheduler:
    """Return one running scheduler with small batches."""
    return await schedulers(batch_size=10)


@pytest.fixture
def stub(scheduler: Scheduler) -> "scheduler_pb2_grpc.SchedulerAsyncStub":
    return scheduler.stub


def new_request_id() -> str:
    return f"request-{next(_numbers)}"


def content(**changes: Any) -> sender_pb2.MessageContent:
    """Return content that is right but for the changes."""
    values: dict[str, Any] = {
        "from_address": sender_pb2.Mailbox(address="news@example.org", display_name="News"),
        "subject": "Hello {{ name }}",
        "text": "Dear {{ name }}",
    }
    return sender_pb2.MessageContent(**{**values, **changes})


def recipient(address: str, **variables: Any) -> sender_pb2.Recipient:
    one = sender_pb2.Recipient(address=address)
    one.variables.update(variables or {"name": address})
    return one


def people(count: int, *, start: int = 0) -> list[sender_pb2.Recipient]:
    return [recipient(f"user{number}@example.org", name=f"User {number}") for number in range(start, start + count)]


async def create_campaign(stub: "scheduler_pb2_grpc.SchedulerAsyncStub", **changes: Any) -> str:
    """Create a draft; returns its id."""
    values: dict[str, Any] = {"name": "Autumn news", "content": content(), **changes}
    answer = await stub.CreateCampaign(
        scheduler_pb2.CreateCampaignRequest(request_id=new_request_id(), campaign=Campaign(**values)), timeout=5
    )
    return answer.campaign.campaign_id


async def add(
    stub: "scheduler_pb2_grpc.SchedulerAsyncStub", campaign_id: str, given: list[sender_pb2.Recipient]
) -> scheduler_pb2.AddRecipientsResponse:
    """Add recipients in messages of 1,000."""

    def messages() -> Iterator[scheduler_pb2.AddRecipientsRequest]:
        for at in range(0, len(given), 1000):
            yield scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id, recipients=given[at : at + 1000])

    return await stub.AddRecipients(messages(), timeout=60)


async def draft(stub: "scheduler_pb2_grpc.SchedulerAsyncStub", count: int, **changes: Any) -> str:
    """Create a draft with so many recipients; returns its id."""
    campaign_id = await create_campaign(stub, **changes)
    if count:
        await add(stub, campaign_id, people(count))
    return campaign_id


async def schedule(
    stub: "scheduler_pb2_grpc.SchedulerAsyncStub", campaign_id: str, **values: Any
) -> scheduler_pb2.ScheduleCampaignResponse:
    """Schedule a campaign: now unless values say when."""
    request = scheduler_pb2.ScheduleCampaignRequest(request_id=new_request_id(), campaign_id=campaign_id)
    if values:
        request.schedule.CopyFrom(scheduler_pb2.Schedule(**values))
    return await stub.ScheduleCampaign(request, timeout=20)


async def get(stub: "scheduler_pb2_grpc.SchedulerAsyncStub", campaign_id: str) -> scheduler_pb2.Campaign:
    answer = await stub.GetCampaign(scheduler_pb2.GetCampaignRequest(campaign_id=campaign_id), timeout=20)
    return answer.campaign


async def becomes(
    stub: "scheduler_pb2_grpc.SchedulerAsyncStub",
    campaign_id: str,
    condition: Callable[[scheduler_pb2.Campaign], object],
    *,
    seconds: float = 15,
) -> scheduler_pb2.Campaign:
    """Return the campaign as soon as the condition holds for it; fails the test when it does not get there."""
    campaign = Campaign()
    try:
        async with asyncio.timeout(seconds):
            while not condition(campaign := await get(stub, campaign_id)):
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"the campaign did not become what it should: {campaign}")
    return campaign


async def reaches(
    stub: "scheduler_pb2_grpc.SchedulerAsyncStub", campaign_id: str, state: int, *, seconds: float = 15
) -> scheduler_pb2.Campaign:
    """Return the campaign as soon as it is in the state."""
    return await becomes(stub, campaign_id, lambda campaign: campaign.state == state, seconds=seconds)


def has_ended(campaign: scheduler_pb2.Campaign) -> bool:
    """Say whether the latest run of the campaign is over."""
    return campaign.latest_run.HasField("end_time")


async def eventually(condition: Callable[[], object], *, seconds: float = 15) -> None:
    """Return as soon as the condition holds; fails the test when it does not."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail("what was waited for did not happen")


@asynccontextmanager
async def refused(code: grpc.StatusCode, *, fields: set[str] | None = None, reason: str = "") -> AsyncIterator[None]:
    """Expect the block to be refused with the code, about exactly these fields, for this reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    details = details_of(caught.value)
    assert details.code is code, details
    if fields is not None:
        assert {violation.field for violation in details.violations} == fields, details
        assert all(len(violation.description) > 10 for violation in details.violations)
    if reason:
        assert details.reason == reason, details
