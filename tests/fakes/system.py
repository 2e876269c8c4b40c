"""The three services as processes of their own, which a test can kill and start again."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from demo.system import System
from mailer.clock import SystemClock
from mailer.inbox import Entry, Event, Inbox, read_journal
from mailer.v1 import scheduler_pb2, sender_pb2

CONTENT = sender_pb2.MessageContent(
    from_address=sender_pb2.Mailbox(address="news@sender.example"),
    subject="For {{ name }}",
    text="Hello {{ name }}",
)
PATIENCE = 40.0


class Operator:
    """What a person does with the system, in few words."""

    def __init__(self, system: System, inbox: Inbox) -> None:
        """Take the running system and the inbox that its accounts lead to."""
        self.system = system
        self.inbox = inbox

    async def add_account(self, listener: str, **more: object) -> str:
        """Add an account at one of the inbox's listeners; return its id."""
        account = sender_pb2.Account(
            name=listener,
            host="127.0.0.1",
            port=self.inbox.listener(listener).port,
            tls_mode=sender_pb2.TLS_MODE_NONE,
        )
        for field, value in more.items():
            getattr(account, field).CopyFrom(value)
        request = sender_pb2.CreateAccountRequest(request_id=uuid4().hex, account=account)
        return (await self.system.sender.CreateAccount(request, timeout=10)).account.account_id

    async def campaign(self, count: int, *, content: sender_pb2.MessageContent = CONTENT) -> str:
        """Make a campaign with so many recipients, and start it now; return its id."""
        created = await self.system.scheduler.CreateCampaign(
            scheduler_pb2.CreateCampaignRequest(
                request_id=uuid4().hex, campaign=scheduler_pb2.Campaign(name=uuid4().hex, content=content)
            ),
            timeout=10,
        )
        campaign_id = created.campaign.campaign_id
        await self.system.scheduler.AddRecipients(_requests(campaign_id, count), timeout=60)
        await self.system.scheduler.ScheduleCampaign(
            scheduler_pb2.ScheduleCampaignRequest(request_id=uuid4().hex, campaign_id=campaign_id), timeout=10
        )
        return campaign_id

    async def progress(self, campaign_id: str) -> scheduler_pb2.Campaign:
        """Return a campaign as it is now."""
        request = scheduler_pb2.GetCampaignRequest(campaign_id=campaign_id)
        return (await self.system.scheduler.GetCampaign(request, timeout=10, wait_for_ready=True)).campaign

    async def finished(self, campaign_id: str) -> scheduler_pb2.Campaign:
        """Return the campaign once it has ended."""
        async with asyncio.timeout(PATIENCE):
            while True:
                campaign = await self.progress(campaign_id)
                if campaign.state == scheduler_pb2.Campaign.STATE_FINISHED:
                    return campaign
                await asyncio.sleep(0.1)

    async def account(self, account_id: str) -> sender_pb2.Account:
        """Return an account as it is now."""
        request = sender_pb2.GetAccountRequest(account_id=account_id)
        return (await self.system.sender.GetAccount(request, timeout=10, wait_for_ready=True)).account

    async def opened(self, account_id: str) -> sender_pb2.Account:
        """Return the account once its circuit is open."""
        async with asyncio.timeout(PATIENCE):
            while True:
                account = await self.account(account_id)
                if account.circuit.state == sender_pb2.Circuit.STATE_OPEN:
                    return account
                await asyncio.sleep(0.05)

    async def arrived(self, count: int) -> None:
        """Return once the inbox has accepted so many messages."""
        async with asyncio.timeout(PATIENCE):
            while len(self.accepted()) < count:
                await asyncio.sleep(0.02)

    def accepted(self) -> list[Entry]:
        """Return what the inbox has accepted so far."""
        return [entry for entry in read_journal(self.inbox.directory) if entry.event is Event.ACCEPTED]

    def copies(self) -> dict[str, int]:
        """Return how many messages each address has."""
        found: dict[str, int] = {}
        for entry in self.accepted():
            for recipient in entry.recipients:
                found[recipient] = found.get(recipient, 0) + 1
        return found

    async def kill(self, name: str) -> None:
        """Kill a service, and wait until it is gone."""
        await self.system.end(name, signal.SIGKILL)

    async def start(self, name: str) -> None:
        """Start a service again on its port, and wait until it serves."""
        await self.system.start(name)


async def _requests(campaign_id: str, count: int) -> AsyncIterator[scheduler_pb2.AddRecipientsRequest]:
    for start in range(0, count, 500):
        request = scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id)
        for number in range(start, min(start + 500, count)):
            recipient = request.recipients.add(address=f"p{number}@post.example")
            recipient.variables.update({"name": f"Person {number}"})
        yield request


@asynccontextmanager
async def running_system(folder: Path, *listeners: str, delay: float = 0.0) -> AsyncIterator[Operator]:
    """Run the services and an inbox with these listeners, which take `delay` seconds for a message."""
    inbox = Inbox(folder / "inbox", SystemClock())
    for listener in listeners:
        inbox.add(listener, delay=delay)
    async with inbox, System(folder) as system:
        yield Operator(system, inbox)
