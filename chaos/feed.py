"""Campaigns, one after the other, so that there is always something to lose while processes are killed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta

import grpc

from chaos.judge import Booked
from chaos.patience import patiently
from chaos.system import System
from chaos.watch import Watch
from mailer.v1 import scheduler_pb2, sender_pb2
from mailer.wire import to_duration

CONNECTIONS = 8
CAMPAIGN_SIZE = 500
LOW_WATER = 1500  # more than two senders claim together: each must always find something
LOOK_SECONDS = 0.1
RETRY_DELAY = timedelta(seconds=3)  # longer than a contest takes: what it defers is not sent again in its midst
PAGE_SIZE = 1000

POLICIES = {
    "at_most_once": sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE,
    "at_least_once": sender_pb2.DELIVERY_POLICY_AT_LEAST_ONCE,
}
_ENDED = frozenset({scheduler_pb2.Campaign.STATE_FINISHED, scheduler_pb2.Campaign.STATE_CANCELLED})


class Feed:
    """The operator: adds an account, starts campaigns, pauses and resumes them, and reads the books at the end."""

    def __init__(self, system: System, watch: Watch, policy: str) -> None:
        """Take the system; `policy` is what is promised to every message."""
        self.given: set[str] = set()
        self._sender = system.connect_sender()
        self._first_sender = system.connect_sender("sender")
        self._scheduler = system.connect_scheduler()
        self._smtp_port = system.ports["smtp"]
        self._watch = watch
        self._options = sender_pb2.DeliveryOptions(
            policy=POLICIES[policy],
            retry_policy=sender_pb2.RetryPolicy(delays=[to_duration(RETRY_DELAY)]),
        )
        self._running: list[str] = []
        self._campaign_count = 0

    async def add_account(self) -> None:
        """Let the senders know the SMTP server."""
        request = sender_pb2.CreateAccountRequest(
            request_id="account",
            account=sender_pb2.Account(
                name="chaos",
                host="127.0.0.1",
                port=self._smtp_port,
                tls_mode=sender_pb2.TLS_MODE_NONE,
                max_connection_count=CONNECTIONS,
                circuit_policy=sender_pb2.CircuitPolicy(rest=to_duration(timedelta(seconds=1))),
            ),
        )
        await patiently(self._sender.CreateAccount, request)

    async def run(self) -> None:
        """Start campaigns until cancelled: never fewer messages on their way than the low-water mark."""
        while True:
            self._watch.look()
            if len(self.given) - len(self._watch.accepted) < LOW_WATER:
                await self.start_campaign()
            else:
                await asyncio.sleep(LOOK_SECONDS)

    async def start_campaign(self) -> None:
        """Start one campaign; every call is repeated, under the same request id, until it is answered."""
        self._campaign_count += 1
        number = self._campaign_count
        create = scheduler_pb2.CreateCampaignRequest(
            request_id=f"create-{number}",
            campaign=scheduler_pb2.Campaign(name=f"Chaos {number}", content=_CONTENT, options=self._options),
        )
        created = await patiently(self._scheduler.CreateCampaign, create)
        campaign_id = created.campaign.campaign_id
        addresses = [f"m{number}-{index}@d{index % 40}.example" for index in range(CAMPAIGN_SIZE)]
        recipients = [sender_pb2.Recipient(address=address) for address in addresses]
        add = scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id, recipients=recipients)
        await patiently(self._add_recipients, add)
        self.given.update(addresses)
        schedule = scheduler_pb2.ScheduleCampaignRequest(request_id=f"schedule-{number}", campaign_id=campaign_id)
        await patiently(self._scheduler.ScheduleCampaign, schedule)
        self._running.append(campaign_id)

    async def pause_and_resume(self) -> None:
        """Pause what is under way, and resume it at once."""
        for campaign in await self._unfinished():
            pause = scheduler_pb2.PauseCampaignRequest(campaign_id=campaign.campaign_id)
            resume = scheduler_pb2.ResumeCampaignRequest(campaign_id=campaign.campaign_id)
            with suppress_if_too_late():
                await patiently(self._scheduler.PauseCampaign, pause)
                await patiently(self._scheduler.ResumeCampaign, resume)

    async def void_claims(self, run_id: str) -> None:
        """Pause and resume at the first sender: it takes over what the other one, which is frozen, has claimed."""
        with suppress_if_too_late():
            await patiently(self._first_sender.PauseRun, sender_pb2.PauseRunRequest(run_id=run_id))
            await patiently(self._first_sender.ResumeRun, sender_pb2.ResumeRunRequest(run_id=run_id))

    async def is_finished(self) -> bool:
        """Say whether every campaign has come to its end; what has stopped with a sender's run is resumed."""
        unfinished = await self._unfinished()
        for campaign in unfinished:
            if campaign.state == scheduler_pb2.Campaign.STATE_PAUSED:
                resume = scheduler_pb2.ResumeCampaignRequest(campaign_id=campaign.campaign_id)
                with suppress_if_too_late():
                    await patiently(self._scheduler.ResumeCampaign, resume)
        return not unfinished

    async def read_books(self) -> dict[str, Booked]:
        """Return what the sender says about every message."""
        booked: dict[str, Booked] = {}
        token = ""
        while True:
            request = sender_pb2.ListDeliveriesRequest(page_size=PAGE_SIZE, page_token=token)
            page = await patiently(self._sender.ListDeliveries, request)
            for one in page.deliveries:
                state = sender_pb2.DeliveryState.Name(one.state).removeprefix("DELIVERY_STATE_")
                booked[one.address] = Booked(state, one.possible_duplicate)
            token = page.next_page_token
            if not token:
                return booked

    async def _add_recipients(
        self, request: scheduler_pb2.AddRecipientsRequest, *, timeout: float
    ) -> scheduler_pb2.AddRecipientsResponse:
        return await self._scheduler.AddRecipients(_alone(request), timeout=timeout)

    async def _unfinished(self) -> list[scheduler_pb2.Campaign]:
        unfinished = []
        for campaign_id in list(self._running):
            request = scheduler_pb2.GetCampaignRequest(campaign_id=campaign_id)
            campaign = (await patiently(self._scheduler.GetCampaign, request)).campaign
            if campaign.state in _ENDED:
                self._running.remove(campaign_id)
            else:
                unfinished.append(campaign)
        return unfinished


@contextmanager
def suppress_if_too_late() -> Iterator[None]:
    """Ignore that what was to be paused or resumed has come to its end."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if error.code() not in {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND}:
            raise


_CONTENT = sender_pb2.MessageContent(
    from_address=sender_pb2.Mailbox(address="news@chaos.example", display_name="Chaos"),
    subject="For {{ address }}",
    text="Hello {{ address }},\n\nthis has survived.\n",
)


async def _alone(
    request: scheduler_pb2.AddRecipientsRequest,
) -> AsyncIterator[scheduler_pb2.AddRecipientsRequest]:
    yield request
