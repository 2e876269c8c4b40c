"""The people who use Mailer meanwhile: they start campaigns, suppress addresses, and resume what a restore has held."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from time import monotonic

import grpc

from chaos.feed import Feed
from chaos.judge import Booked
from chaos.patience import patiently
from chaos.system import System
from chaos.watch import Watch
from mailer.v1 import scheduler_pb2, sender_pb2
from mailer.wire import to_duration

CAMPAIGN_SIZE = 10
PAUSE_SECONDS = 0.5
REST_SECONDS = 30.0
RETRY_DELAY = timedelta(seconds=1)
PAGE_SIZE = 1000

_Campaign = scheduler_pb2.Campaign
_UNDER_WAY = [_Campaign.STATE_SCHEDULED, _Campaign.STATE_RUNNING, _Campaign.STATE_PAUSED, _Campaign.STATE_HELD]
_WAITING = [_Campaign.STATE_PAUSED, _Campaign.STATE_HELD]
_TAKEN_BACK = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}
_KNOWN_AS_SENT = {"SENT", "UNKNOWN"}


class Campaigns:
    """Small campaigns, each to people of its own: a second copy for anybody is a broken promise."""

    def __init__(self, system: System) -> None:
        """Take the system."""
        self.suppressed: set[str] = set()
        self._watch = Watch(system.record_file)
        self._feed = Feed(system, self._watch, "at_most_once")
        self._scheduler = system.connect_scheduler()
        self._sender = system.connect_sender()
        self._count = 0

    async def prepare(self) -> None:
        """Let the sender know the SMTP server."""
        await self._feed.add_account()

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self._start_one()
            await self._suppress_one()
            await self._resume()
            await asyncio.sleep(PAUSE_SECONDS)

    async def rest(self) -> int:
        """Resume what is held until all has come to its end; returns how many campaigns have not."""
        end = monotonic() + REST_SECONDS
        while left := await self._list(_UNDER_WAY):
            if monotonic() > end:
                break
            await self._resume()
            await asyncio.sleep(PAUSE_SECONDS)
        return len(left)

    @property
    def copies(self) -> Counter[str]:
        """Return how many messages of each address the SMTP server has."""
        self._watch.look()
        return Counter(event.address for event in self._watch.events if event.kind == "accepted")

    async def forgotten(self) -> int:
        """Return how much that happened the books do not know: messages that the server has, and suppressions."""
        booked: dict[str, Booked] = await self._feed.read_books()
        unknown = [address for address in self.copies if booked.get(address, Booked("")).state not in _KNOWN_AS_SENT]
        return len(unknown) + len(self.suppressed - await self._suppressions())

    async def _start_one(self) -> None:
        self._count += 1
        number = self._count
        create = scheduler_pb2.CreateCampaignRequest(
            request_id=f"create-{number}",
            campaign=_Campaign(name=f"Chaos {number}", content=_CONTENT, options=_OPTIONS),
        )
        try:
            created = await patiently(self._scheduler.CreateCampaign, create)
            campaign_id = created.campaign.campaign_id
            people = [sender_pb2.Recipient(address=f"c{number}-{index}@post.example") for index in range(CAMPAIGN_SIZE)]
            add = scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id, recipients=people)
            await patiently(self._add_recipients, add)
            schedule = scheduler_pb2.ScheduleCampaignRequest(request_id=f"schedule-{number}", campaign_id=campaign_id)
            await patiently(self._scheduler.ScheduleCampaign, schedule)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _TAKEN_BACK:
                raise

    async def _suppress_one(self) -> None:
        address = f"never-{self._count}@post.example"
        request = sender_pb2.AddSuppressionsRequest(request_id=address, addresses=[address])
        await patiently(self._sender.AddSuppressions, request)
        self.suppressed.add(address)

    async def _resume(self) -> None:
        for campaign_id in await self._list(_WAITING):
            try:
                resume = scheduler_pb2.ResumeCampaignRequest(campaign_id=campaign_id)
                await patiently(self._scheduler.ResumeCampaign, resume)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _TAKEN_BACK:
                    raise

    async def _list(self, states: "list[_Campaign.State.ValueType]") -> list[str]:
        request = scheduler_pb2.ListCampaignsRequest(page_size=PAGE_SIZE, states=states)
        answer = await patiently(self._scheduler.ListCampaigns, request)
        return [campaign.campaign_id for campaign in answer.campaigns]

    async def _suppressions(self) -> set[str]:
        found: set[str] = set()
        token = ""
        while True:
            request = sender_pb2.ListSuppressionsRequest(page_size=PAGE_SIZE, page_token=token)
            page = await patiently(self._sender.ListSuppressions, request)
            found.update(one.address for one in page.suppressions)
            token = page.next_page_token
            if not token:
                return found

    async def _add_recipients(
        self, request: scheduler_pb2.AddRecipientsRequest, *, timeout: float
    ) -> scheduler_pb2.AddRecipientsResponse:
        return await self._scheduler.AddRecipients(_alone(request), timeout=timeout)


_CONTENT = sender_pb2.MessageContent(
    from_address=sender_pb2.Mailbox(address="news@chaos.example", display_name="Chaos"),
    subject="For {{ address }}",
    text="Hello {{ address }},\n\nthis goes out once.\n",
)
_OPTIONS = sender_pb2.DeliveryOptions(
    policy=sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE,
    retry_policy=sender_pb2.RetryPolicy(delays=[to_duration(RETRY_DELAY)]),
)


async def _alone(
    request: scheduler_pb2.AddRecipientsRequest,
) -> AsyncIterator[scheduler_pb2.AddRecipientsRequest]:
    yield request
