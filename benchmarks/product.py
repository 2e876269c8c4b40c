"""The product as it is shipped, under measure: scheduler and sender processes over a database of their own."""

import asyncio
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

from benchmarks.content import CONTENT, FROM, address_of, values_of
from benchmarks.usage import Usage, read_usage
from demo.system import System
from mailer.v1 import scheduler_pb2, sender_pb2

AT_MOST_ONCE = sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE
AT_LEAST_ONCE = sender_pb2.DELIVERY_POLICY_AT_LEAST_ONCE
Policy: TypeAlias = "sender_pb2.DeliveryPolicy.ValueType"

WORKROOM = Path("data/bench")
WARM_UP_MESSAGES = 500
STREAM_MESSAGE = 500
LOOK_SECONDS = 0.01
PATIENCE_SECONDS = 60.0  # without a single message booked

_SENT = """
SELECT run_counts.state, sum(delivery_count) FROM sender_runs JOIN run_counts USING (run_id)
WHERE campaign_id = ? GROUP BY run_counts.state
"""


class Stuck(RuntimeError):
    """The product does not send what it should; `str()` says where its deliveries stand."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What sending a campaign took, from the call that starts it to the commit that books its last message."""

    messages: int
    seconds: float
    cpu_seconds: Mapping[str, float]  # by process
    usage: Mapping[str, Usage]  # by process, at the end

    @property
    def rate(self) -> float:
        """Return messages per second."""
        return self.messages / self.seconds

    @property
    def cpu_us(self) -> float:
        """Return microseconds on a core per message, of all processes together."""
        return sum(self.cpu_seconds.values()) / self.messages * 1e6

    def figures(self) -> dict[str, float]:
        """Return all figures by name."""
        named = {"rate": self.rate, "cpu_us": self.cpu_us}
        named |= {f"cpu_us_{name}": value / self.messages * 1e6 for name, value in self.cpu_seconds.items()}
        named |= {f"peak_rss_mb_{name}": usage.peak_rss_mb for name, usage in self.usage.items()}
        return named


@dataclass(slots=True)
class Product:
    """A running system with one account."""

    system: System
    database: Path
    names: tuple[str, ...]
    _next_number: int = field(default=0)

    async def add_account(self, port: int, *, connections: int) -> str:
        """Add an account that leads to a sink on this machine; return its id."""
        account = sender_pb2.Account(
            name=f"sink on {port}",
            host="127.0.0.1",
            port=port,
            tls_mode=sender_pb2.TLS_MODE_NONE,
            max_connection_count=connections,
        )
        request = sender_pb2.CreateAccountRequest(request_id=uuid4().hex, account=account)
        return (await self.system.sender.CreateAccount(request, timeout=10)).account.account_id

    async def prepare(self, count: int, policy: Policy = AT_MOST_ONCE) -> str:
        """Store a campaign with so many recipients, each with values of its own; return its id."""
        created = await self.system.scheduler.CreateCampaign(
            scheduler_pb2.CreateCampaignRequest(
                request_id=uuid4().hex,
                campaign=scheduler_pb2.Campaign(
                    name=f"{count} from {FROM}",
                    content=CONTENT,
                    options=sender_pb2.DeliveryOptions(policy=policy),
                ),
            ),
            timeout=10,
        )
        campaign_id = created.campaign.campaign_id
        numbers = range(self._next_number, self._next_number + count)
        self._next_number += count
        answer = await self.system.scheduler.AddRecipients(requests(campaign_id, numbers), timeout=600)
        assert answer.accepted_count == count
        return campaign_id

    async def start(self, campaign_id: str) -> None:
        """Start a campaign now."""
        await self.system.scheduler.ScheduleCampaign(
            scheduler_pb2.ScheduleCampaignRequest(request_id=uuid4().hex, campaign_id=campaign_id), timeout=10
        )

    async def send(self, campaign_id: str, count: int) -> Sent:
        """Start a campaign, and wait until its last message is booked as sent. Raises Stuck."""
        before = self.usage()
        began = time.perf_counter()
        await self.start(campaign_id)
        await self.booked(campaign_id, count)
        seconds = time.perf_counter() - began
        after = self.usage()
        used = {name: after[name].cpu_seconds - before[name].cpu_seconds for name in self.names}
        return Sent(count, seconds, used, after)

    async def booked(self, campaign_id: str, count: int) -> None:
        """Wait until so many messages of a campaign are booked as sent, for any reader of the database."""
        with closing(self._reader()) as connection:
            sent, last_change = 0, time.monotonic()
            while sent < count:
                await asyncio.sleep(LOOK_SECONDS)
                states = _states(connection, campaign_id)
                if states.get("sent", 0) != sent:
                    sent, last_change = states["sent"], time.monotonic()
                elif time.monotonic() - last_change > PATIENCE_SECONDS:
                    raise Stuck(f"no message was booked for {PATIENCE_SECONDS:.0f} s; deliveries by state: {states}")

    async def finished(self) -> None:
        """Wait until the scheduler calls every campaign finished."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answer = await self.system.scheduler.ListCampaigns(scheduler_pb2.ListCampaignsRequest(), timeout=10)
                if {campaign.state for campaign in answer.campaigns} <= {scheduler_pb2.Campaign.STATE_FINISHED}:
                    return
                await asyncio.sleep(0.1)

    def count_booked(self, campaign_id: str) -> int:
        """Return how many messages of a campaign are booked as sent."""
        with closing(self._reader()) as connection:
            return _states(connection, campaign_id).get("sent", 0)

    def _reader(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=5)

    def usage(self) -> dict[str, Usage]:
        """Return what each process has used so far."""
        return {name: read_usage(self.system.process_id(name)) for name in self.names}


@asynccontextmanager
async def running(
    name: str,
    port: int | None = None,
    *,
    connections: int = 10,
    senders: int = 1,
    backup: bool = False,
    warm_up: int = WARM_UP_MESSAGES,
    environment: Mapping[str, str] | None = None,
    modules: Mapping[str, str] | None = None,
) -> AsyncIterator[Product]:
    """Run the product over an empty folder, with an account at the port, after it has sent a few messages."""
    names = ("scheduler", "sender", *(f"sender-{number}" for number in range(2, senders + 1)))
    names += ("backup",) if backup else ()
    directory = (WORKROOM / name).absolute()
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    system = System(directory, names=names, environment=environment or {}, modules=modules or {})
    async with system:
        product = Product(system, directory / "mailer.db", names)
        if port is not None:
            await product.add_account(port, connections=connections)
            if warm_up:
                await product.send(await product.prepare(warm_up), warm_up)
        yield product
    shutil.rmtree(directory)


def _states(connection: sqlite3.Connection, campaign_id: str) -> dict[str, int]:
    return dict(connection.execute(_SENT, (campaign_id,)).fetchall())


async def requests(campaign_id: str, numbers: Iterable[int]) -> AsyncIterator[scheduler_pb2.AddRecipientsRequest]:
    """Yield recipients in the messages of a stream."""
    request = scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id)
    for number in numbers:
        add_recipient(request.recipients.add(), number)
        if len(request.recipients) == STREAM_MESSAGE:
            yield request
            request = scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id)
    if request.recipients:
        yield request


def add_recipient(recipient: sender_pb2.Recipient, number: int) -> None:
    """Fill in one person."""
    recipient.address = address_of(number)
    values = values_of(number)
    recipient.display_name = values["name"]
    for name, value in values.items():
        recipient.variables.fields[name].string_value = value
